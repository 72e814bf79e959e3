"""After full disks, kills and races, rerunning the command gives the same result, or fails with a clear error."""

import json
import os
import shutil
import subprocess
import sys
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers.commands import run_command
from helpers.faults import contents, different, problem_of
from helpers.live_sources import http_server
from helpers.places import PROJECT
from helpers.processes import WITH_THE_PROJECT
from helpers.readers import ACTIONS as READER_ACTIONS
from helpers.readers import reading_model
from helpers.tiny_models import tiny_processor, tiny_vit_config
from helpers.videos import numbered_frames, write_video
from safetensors.torch import load_file
from tiny_kitchen import write_kitchen, write_soft_labels, write_tiny_vit, write_video_kitchen
from tiny_language_models import write_tiny_decoder

from avt_distill.data.labels import LabelSpace
from avt_distill.evaluation.scores import LABEL_SPACE_HASH, ScoreTable

IMPORTS = """
import json
from dataclasses import asdict
from pathlib import Path
from helpers.faults import inject
"""


EVERY = int(os.environ.get("AVT_FAULTS_EVERY", "0")) or None  # overrides the value of each command
# Such as 0/2 and 1/2, for two processes that each test every second fault.
PART = tuple(map(int, os.environ.get("AVT_FAULTS_PART", "0/1").split("/")))

TRAINING = ("--max_steps", 2, "--save_strategy", "steps", "--save_steps", 1, "--use_cpu", "--disable_tqdm", "true")


@dataclass
class Command:
    """A command that writes below a folder.

    Args:
        words (`list`): Its name and options.
        every (`int`, *optional*, defaults to 1): Tests only each n-th fault.
        makes (`str`, *optional*): Code that prepares `folder` before each fault.
        distinct (`bool`, *optional*, defaults to `False`): See `inject`.
    """

    words: list
    every: int = 1
    makes: str = ""
    distinct: bool = False


@pytest.fixture(scope="module")
def kitchen(tmp_path_factory) -> Path:
    folder = write_kitchen(tmp_path_factory.mktemp("kitchen") / "data")
    write_soft_labels(folder.parent / "soft.parquet", folder)
    return folder


def faults(fork_server, tmp_path: Path, command: Command, every: int | None = None, offline: str = "1") -> dict:
    """Returns the outcomes of faults at the file operations of a command, and prints their count."""
    words, options = list(map(str, command.words)), {"every": every or command.every, "makes": command.makes}
    options |= {"part": PART, "distinct": command.distinct}
    call = f"inject({words!r}, Path({str(tmp_path / 'out')!r}), **{options!r})"
    code = f"{WITH_THE_PROJECT}{IMPORTS}\nprint(json.dumps({call}, default=asdict))"
    process = fork_server.start(code, tmp_path, HF_HUB_OFFLINE=offline, HF_TOKEN="hf_loopback")
    process.wait(timeout_s=6 * 3600)
    assert process.returncode == 0, process.stderr[-4000:]
    outcomes = json.loads(process.stdout.splitlines()[-1])
    print(f"{words[0]}, every {options['every']}: {json.dumps(outcomes, indent=1)}")
    return outcomes


def other(outcomes: dict) -> list[str]:
    return outcomes["disks_and_kills"]["other"] + outcomes["limits"]["other"]


def rows_of(kitchen: Path) -> list:
    return ["--num_frames", 4, "--tau_o", "4.0", "--cache_dir", kitchen / "cache"]


def exported(kitchen: Path, output: Path) -> Command:
    return Command(["prepare_dataset", kitchen, *rows_of(kitchen), "--export", output], every=2)


# All commands

SMALL_DEMO = """
from avt_distill.data.benchmarks.demo import generate_demo
generate_demo.__kwdefaults__.update(num_videos=20, num_recipes=20)
"""


def commands_of_rows(kitchen: Path, place: Path) -> dict[str, Command]:
    out, rows = place / "out", rows_of(kitchen)
    run_command(*exported(kitchen, place / "before").words)
    counts = ["--dataset", kitchen, *rows, "--ngram", 2, "--output_dir", out / "no"]
    counts += ["--soft_labels", out / "soft", "--splits", "train", "validation"]
    memory = ["add_feature_memory", kitchen / "features", "--so_far", "--output", out / "mean"]
    shown = ["--split", "train", "--video", "v0", "--plot", out / "teacher.png"]
    return {
        "prepare_dataset": exported(kitchen, out / "rows"),
        "prepare_dataset of demo": Command(["prepare_dataset", "demo", "--data_dir", out / "kitchen"], 3, SMALL_DEMO),
        "export_soft_labels": Command(["export_soft_labels", *counts]),
        "add_feature_memory": Command(memory),
        "inspect_teacher": Command(["inspect_teacher", kitchen.parent / "soft.parquet", kitchen, *rows, *shown]),
    }


# The computations of a reader, but not its files, are reduced, since there are many faults.
QUICK_READER = """
from avt_distill.reader import fitting
from torch.optim import LBFGS
def once(self, *arguments, _begin=LBFGS.__init__, **options):
    _begin(self, *arguments, **options | {"max_iter": 1, "max_eval": 1})
if LBFGS.__init__.__name__ != "once":
    LBFGS.__init__ = once
fitting.EVIDENCE_WEIGHTS, fitting.PRIOR_WEIGHTS = (0.1,), (0.33,)
"""


def commands_that_train(kitchen: Path, place: Path) -> dict[str, Command]:
    out, model, recipes = place / "out", write_tiny_decoder(place / "model"), place / "recipes.jsonl"
    actions = [["crack", "egg"], ["whisk", "egg"], ["add", "milk"], ["fry", "onion"]]
    lines = [{"id": str(number), "title": "", "actions": actions * (1 + number % 3)} for number in range(40)]
    recipes.write_text("".join(json.dumps(line) + "\n" for line in lines))
    student = [kitchen / "run.yaml", "--features", kitchen / "features", "--output_dir", out / "run", *TRAINING]
    teacher = ["--dataset", kitchen, "--data_dir", kitchen, *rows_of(kitchen), "--model_name_or_path", model, *TRAINING]
    teacher += ["--history_length", 3, "--held_out_fraction", 0]
    adapted = ["--model_name_or_path", model, "--recipes", recipes, "--output_dir", out / "lm", *TRAINING]
    adapted += ["--block_length", 16, "--held_out_fraction", 0.2, "--resume_from_checkpoint", "true"]
    folds = ["--cross_fit", 2, "--soft_labels", out / "soft", "--output_dir", out / "folds"]
    reader = ["--inner_folds", 2, "--beam", 50, "--distill_weight", 0, "--max_steps", 1]
    return {
        "distill": Command(["distill", *student, "--soft_labels", kitchen.parent / "soft.parquet"], every=3),
        "finetune_teacher": Command(
            ["finetune_teacher", *teacher, "--output_dir", out / "teacher", "--evaluation_split", "validation"]
        ),
        "export_soft_labels of folds": Command(["export_soft_labels", *teacher, *folds], every=2),
        "adapt_language_model": Command(["adapt_language_model", *adapted]),
        "fit_reader": Command(["fit_reader", *student, *reader], 17, QUICK_READER, distinct=True),
    }


def commands_of_scores(kitchen: Path, place: Path) -> dict[str, Command]:
    out, generator = place / "out", np.random.default_rng(0)
    sizes = {"action": 120, "verb": 97, "noun": 300}  # the challenge requires these numbers of verbs and nouns
    names = [tuple(f"{kind} {n}" for n in range(size)) for kind, size in sizes.items()]
    space = LabelSpace(*names, tuple((n % 97, 7 * n % 300) for n in range(120)))
    space.save(place / "labels.json")
    about = {LABEL_SPACE_HASH: space.content_hash}
    for name in ("a", "b"):
        scores = generator.normal(size=(12, len(space.actions))).astype(np.float32)
        ScoreTable([f"P01_{n}" for n in range(12)], scores, np.arange(12), about).save(place / f"{name}.parquet")
    measured = [place / "a.parquet", "--label_space", place / "labels.json", "--output", out / "metrics.json"]
    submission = ["--challenge", "ek100", "--sls", 1, 4, 3, "--submission", out / "submission.json"]
    sides = ["--baseline", place / "a.parquet", "--candidate", place / "b.parquet", "--num_resamples", 20]
    return {
        "evaluate": Command(["evaluate", *measured, *submission]),
        "compare_runs": Command(["compare_runs", *sides, "--output", out / "comparison.json"]),
    }


def commands_of_checkpoints(kitchen: Path, place: Path) -> dict[str, Command]:
    out = place / "out"
    reading_model(tiny_vit_config, tau_a=0.5).save_pretrained(place / "model")
    tiny_processor().save_pretrained(place / "model")
    video = write_video(place / "video.mp4", numbered_frames(40))
    recorded = load_file(PROJECT / "tests" / "parity" / "fixtures" / "i_feat_action.safetensors")
    state = {key.removeprefix("checkpoint/"): value for key, value in recorded.items() if key.startswith("checkpoint/")}
    torch.save({"model": state}, place / "checkpoint.pth")
    (place / "experiment.txt").write_text("+model.future_predictor.n_head=4\nmodel.classifier_on_past=true\n")
    converted = [place / "checkpoint.pth", out / "model", "--experiment_config", place / "experiment.txt"]
    generator = np.random.default_rng(0)
    labels = generator.integers(0, len(READER_ACTIONS), 12)
    scores = generator.normal(size=(12, len(READER_ACTIONS))) + np.eye(len(READER_ACTIONS))[labels]
    videos = [f"v{row // 2}" for row in range(12)]
    ScoreTable([str(row) for row in range(12)], scores, labels, {"split": "test"}, videos).save(
        place / "scores.parquet"
    )
    calibrated = [out / "model", "--scores", place / "scores.parquet", "--unchecked", "--error_rate", 0.5]
    copied = f"import shutil; shutil.copytree({str(place / 'model')!r}, {str(out / 'model')!r}, dirs_exist_ok=True)"
    pictures = ["--json", out / "out.json", "--timeline", out / "out.png", "--video", out / "out.mp4"]
    return {
        "anticipate": Command(["anticipate", video, "--model", place / "model", "--every", 2, *pictures]),
        "calibrate": Command(["calibrate", *calibrated], makes=copied),
        "convert_checkpoint": Command(["convert_checkpoint", *converted]),
        "export_model": Command(["export_model", place / "model", out / "programs", "--onnx"], every=5),
    }


def commands_of_videos(kitchen: Path, place: Path) -> dict[str, Command]:
    """Returns the commands of extraction, from videos and from recipes."""
    out, data, vit = place / "out", write_video_kitchen(place / "data"), write_tiny_vit(place / "vit")
    settings = {"size": {"height": 32, "width": 32}, "image_mean": [0.5] * 3, "image_std": [0.25] * 3}
    (vit / "preprocessor_config.json").write_text(json.dumps(settings))
    features = [vit, data / "videos", "--output", out / "features", "--cpu", "--num_workers", 0]
    recipes = place / "recipes.jsonl"
    words = ["Chop the onions. Boil water.", "Add the onions to the water."]
    lines = [{"id": str(n), "title": "Soup", "instructions": words[: 1 + n % 2]} for n in range(3)]
    recipes.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return {
        "extract_features": Command(["extract_features", *features]),
        "extract_recipe_actions": Command(["extract_recipe_actions", recipes, "--output", out / "a.jsonl"]),
        "extract_recipe_actions to Parquet": Command(
            ["extract_recipe_actions", recipes, "--output", out / "a.parquet"]
        ),
    }


GROUPS = {
    commands_of_rows: (
        *("prepare_dataset", "prepare_dataset of demo", "export_soft_labels", "add_feature_memory", "inspect_teacher"),
    ),
    commands_that_train: (
        *("distill", "finetune_teacher", "export_soft_labels of folds", "adapt_language_model", "fit_reader"),
    ),
    commands_of_scores: ("evaluate", "compare_runs"),
    commands_of_checkpoints: ("anticipate", "calibrate", "convert_checkpoint", "export_model"),
    commands_of_videos: ("extract_features", "extract_recipe_actions", "extract_recipe_actions to Parquet"),
}


def test_a_sample_of_faults_ends_equal_or_with_a_clear_error(kitchen, tmp_path, fork_server):
    outcomes = faults(fork_server, tmp_path, commands_of_rows(kitchen, tmp_path)["export_soft_labels"], every=9)
    assert other(outcomes) == []
    assert outcomes["disks_and_kills"]["equal"] >= 4
    assert outcomes["limits"]["equal"] >= 1


@pytest.mark.slow
@pytest.mark.parametrize(("commands", "name"), [(group, name) for group, names in GROUPS.items() for name in names])
def test_faults_at_all_file_operations_end_equal_or_with_a_clear_error(kitchen, tmp_path, fork_server, commands, name):
    assert other(faults(fork_server, tmp_path, commands(kitchen, tmp_path)[name], every=EVERY)) == []


@pytest.mark.slow
def test_faults_while_a_live_source_is_watched(kitchen, tmp_path, fork_server):
    words = commands_of_checkpoints(kitchen, tmp_path)["anticipate"].words
    stream = write_video(tmp_path / "stream.ts", numbered_frames(40), codec="libx264", g=12)
    with http_server({"stream.ts": stream.read_bytes()}) as address:
        live = ["anticipate", f"{address}/stream.ts", *words[2:4], "--json", tmp_path / "out" / "answers.json"]
        assert other(faults(fork_server, tmp_path, Command(live), every=EVERY)) == []


@pytest.mark.slow
def test_faults_while_a_student_is_pushed(kitchen, tmp_path, fork_server, hub):
    student = tmp_path / "students" / "baseline_seed42"
    given = [kitchen / "run.yaml", "--features", kitchen / "features", "--distill_weight", 0, "--max_steps", 2]
    assert run_command("distill", *given, "--output_dir", student.parent).returncode == 0
    (student / "README.md").unlink(missing_ok=True)
    makes = f"import shutil; shutil.copytree({str(student)!r}, folder / 'student')"
    push = Command(["push_to_hub", tmp_path / "out" / "student", "user/kitchen"], makes=makes)
    assert other(faults(fork_server, tmp_path, push, every=EVERY, offline="0")) == []
    empty, *pushed = hub.history["models/user/kitchen"]
    assert set(empty) == {".gitattributes"}
    assert all(commit == pushed[0] for commit in pushed)


# The demo's stages, whose faults are tested above, count as one operation each. They run in this process, so that they
# need not import the libraries for every fault. Nothing is learned here.
DEMO_IN_ONE_PROCESS = f"""{SMALL_DEMO}{QUICK_READER}
from avt_distill.__main__ import main
from avt_distill.commands import demo
from helpers.faults import Faults
def run(title, command):
    trains = command[0] in ("adapt_language_model", "finetune_teacher", "export_soft_labels", "distill", "fit_reader")
    with Faults.current.one_operation(title):
        main([*map(str, command), *(("--max_steps", "12") if trains else ())])
demo.run = run
"""


@pytest.mark.slow
def test_faults_in_the_demo(kitchen, tmp_path, fork_server):
    command = Command(["demo", "--output_dir", tmp_path / "out" / "run", "--seeds", 0], 7, DEMO_IN_ONE_PROCESS, True)
    assert other(faults(fork_server, tmp_path, command, every=EVERY)) == []


# Several processes

ONE_OF_TWO = """
import os
from pathlib import Path
from helpers.commands import avt_distill
from helpers.faults import Faults
fail_at = {fail_at} if os.environ["RANK"] == "{rank}" else None
with Faults(Path("out").absolute(), fail_at, kill=True) as faults:
    avt_distill(*{words!r})
Path("operations." + os.environ["RANK"]).write_text(str(len(faults.operations)))
"""


@pytest.mark.slow
@pytest.mark.parametrize("rank", [0, 1])
def test_a_kill_of_one_of_two_processes_ends_equal_or_with_a_clear_error(kitchen, tmp_path, fork_server, rank):
    words = list(map(str, commands_that_train(kitchen, tmp_path)["distill"].words))

    def run(fail_at: int | None = None) -> str:
        """Runs both processes, and returns their error output if one fails."""
        code = WITH_THE_PROJECT + ONE_OF_TWO.format(fail_at=fail_at, rank=rank, words=words)
        try:
            fork_server.run_several(code, tmp_path)
        except AssertionError as error:
            return "\n".join(error.args[0])
        return ""

    assert run() == ""
    expected, operations = contents(tmp_path / "out"), int((tmp_path / f"operations.{rank}").read_text())
    outcomes = Counter()
    for fail_at in range(1, operations + 1, max(operations // 8, 1)):
        shutil.rmtree(tmp_path / "out")
        run(fail_at)
        if error := run():
            assert problem_of(error) is None, (fail_at, error)
        else:
            assert different(contents(tmp_path / "out"), expected) == [], fail_at
        outcomes["clear error" if error else "equal"] += 1
    print(f"distill in two processes, kills of rank {rank}: {operations} operations, {dict(outcomes)}")


RACER = """
import time
from pathlib import Path
from avt_distill.__main__ import main
{makes}
Path("ready.{number}").touch()
while not Path("ready.0").exists() or not Path("ready.1").exists():
    time.sleep(0.001)
time.sleep({delay_s})
main({words!r})
"""


@pytest.mark.slow
@pytest.mark.parametrize(("commands", "name"), [(group, name) for group, names in GROUPS.items() for name in names])
def test_of_two_commands_at_once_one_wins_or_both_end_equal(kitchen, tmp_path, fork_server, commands, name):
    command, out = commands(kitchen, tmp_path)[name], tmp_path / "out"
    given, outcomes = {"words": list(map(str, command.words)), "makes": command.makes}, Counter()
    out.mkdir()
    (tmp_path / "ready.1").touch()
    fork_server.run(WITH_THE_PROJECT + RACER.format(number=0, delay_s=0, **given), tmp_path, HF_HUB_OFFLINE="1")
    expected = contents(out)
    for delay_s in (0, 0.05, 0.2, 0.8):
        shutil.rmtree(out)
        out.mkdir()
        for number in (0, 1):
            (tmp_path / f"ready.{number}").unlink(missing_ok=True)
        codes = [RACER.format(number=n, delay_s=n * delay_s, **given) for n in (0, 1)]
        racers = [fork_server.start(WITH_THE_PROJECT + code, tmp_path, HF_HUB_OFFLINE="1") for code in codes]
        for racer in racers:
            racer.wait()
        problems = [problem_of(racer.stderr) for racer in racers if racer.returncode]
        assert problems in ([], [None]), [racer.stderr for racer in racers]
        assert different(contents(out), expected) == []
        outcomes["one wins" if problems else "both end equal"] += 1
    print(f"two of {name}: {dict(outcomes)}")


HOLDER = """
import sys, time
from contextlib import ExitStack
from avt_distill.runs.lock import locked
with ExitStack() as stack:
    for place in sys.argv[1:]:
        stack.enter_context(locked(place, is_file=place.endswith(".jsonl")))
    print("locked", flush=True)
    time.sleep(120)
"""


@pytest.fixture(scope="module")
def busy(tmp_path_factory):
    """A folder, and a file in it, to which another process writes."""
    folder = tmp_path_factory.mktemp("busy")
    command = [sys.executable, "-c", HOLDER, str(folder), str(folder / "a.jsonl")]
    process = subprocess.Popen(
        command, env={**os.environ, "PYTHONPATH": str(PROJECT)}, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout.readline() == "locked\n"
    yield folder
    process.kill()
    process.communicate()


@pytest.mark.parametrize(
    "arguments",
    [
        ["distill", "{kitchen}/run.yaml", "--features", "{kitchen}/features", "--distill_weight", "0"],
        ["fit_reader", "{kitchen}/run.yaml", "--features", "{kitchen}/features", "--distill_weight", "0"],
        ["finetune_teacher", "{kitchen}", "--model_name_or_path", "bert", "--use_cpu", "true"],
        ["export_soft_labels", "{kitchen}", "--ngram", "2", "--soft_labels", "{busy}", "--use_cpu", "true"],
        ["adapt_language_model", "--model_name_or_path", "bert", "--recipes", "r.jsonl", "--use_cpu", "true"],
        ["extract_features", "vit", "{kitchen}", "--output", "{busy}", "--cpu"],
        ["extract_recipe_actions", "recipes.jsonl", "--output", "{busy}/a.jsonl"],
        ["prepare_dataset", "{kitchen}", "--cache_dir", "{kitchen}/cache", "--export", "{busy}"],
        ["add_feature_memory", "{kitchen}/features", "--so_far", "--output", "{busy}"],
        ["demo"],
    ],
    ids=lambda arguments: arguments[0],
)
def test_a_second_command_in_a_folder_ends_with_a_sentence(kitchen, busy, arguments):
    given = [argument.format(kitchen=kitchen, busy=busy) for argument in arguments]
    if str(busy) not in " ".join(given):
        given += ["--output_dir", str(busy)]
    before = sorted(busy.rglob("*"))
    result = run_command(*given)
    assert result.returncode == 1
    assert f"error: {busy}" in result.stderr
    assert "is in use by process" in result.stderr
    assert sorted(busy.rglob("*")) == before

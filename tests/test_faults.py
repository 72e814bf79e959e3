"""Full disks and kills at every file operation: the same command then ends equal, or with a sentence. Races, too."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from helpers.commands import run_command
from helpers.places import PROJECT
from helpers.processes import WITH_THE_PROJECT
from tiny_kitchen import write_kitchen, write_soft_labels
from tiny_language_models import write_tiny_decoder

IMPORTS = """
import json
from dataclasses import asdict
from pathlib import Path
import avt_distill.teacher.report, avt_distill.teacher.labelling, avt_distill.sharing.rows, avt_distill.student.run
import avt_distill.recipes.adaptation, avt_distill.features.extraction
from helpers.faults import inject
"""


@pytest.fixture(scope="module")
def kitchen(tmp_path_factory) -> Path:
    folder = write_kitchen(tmp_path_factory.mktemp("kitchen") / "data")
    write_soft_labels(folder.parent / "soft.parquet", folder)
    return folder


def faults(fork_server, tmp_path: Path, command: list, **options) -> dict:
    """Returns the outcomes of faults at the file operations of a command, and prints their count."""
    given = [list(map(str, command)), tmp_path / "out"]
    call = f"inject({given[0]!r}, Path({str(given[1])!r}), **{options!r})"
    code = f"{WITH_THE_PROJECT}{IMPORTS}\nprint(json.dumps(asdict({call})))"
    process = fork_server.start(code, tmp_path, HF_HUB_OFFLINE="1")
    process.wait(timeout_s=1800)
    assert process.returncode == 0, process.stderr[-4000:]
    outcomes = json.loads(process.stdout.splitlines()[-1])
    print(
        f"{command[0]}: {outcomes['equal']} equal, {outcomes['clear_error']} clear errors, other: {outcomes['other']}"
    )
    return outcomes


def exported(kitchen: Path, output: Path) -> list:
    rows = [kitchen, "--num_frames", 4, "--tau_o", "4.0", "--cache_dir", kitchen / "cache"]
    return ["prepare_dataset", *rows, "--export", output]


def test_a_sample_of_faults_ends_equal_or_with_a_sentence(kitchen, tmp_path, fork_server):
    assert run_command(*exported(kitchen, tmp_path / "before")).returncode == 0  # fills the cache
    outcomes = faults(fork_server, tmp_path, exported(kitchen, tmp_path / "out"), every=80)
    assert outcomes["other"] == []
    assert outcomes["equal"] >= 5


TRAINING = ("--max_steps", 2, "--save_strategy", "steps", "--save_steps", 1, "--use_cpu", "--disable_tqdm", "true")
TESTED = ("prepare_dataset", "export_soft_labels", "distill", "finetune_teacher", "adapt_language_model")


def all_commands(kitchen: Path, tmp_path: Path) -> dict[str, tuple[list, int]]:
    """Returns each command with, of its file operations, how many are passed over from one fault to the next."""
    out, model = tmp_path / "out", write_tiny_decoder(tmp_path / "model")
    recipes = tmp_path / "recipes.jsonl"
    actions = [["crack", "egg"], ["whisk", "egg"], ["add", "milk"], ["fry", "onion"]]
    rows = [{"id": str(number), "title": "", "actions": actions * (1 + number % 3)} for number in range(40)]
    recipes.write_text("".join(json.dumps(row) + "\n" for row in rows))
    data = ["--num_frames", 4, "--tau_o", "4.0", "--cache_dir", kitchen / "cache"]
    student = [kitchen / "run.yaml", "--features", kitchen / "features", "--output_dir", out / "run", *TRAINING]
    teacher = ["--dataset", kitchen, "--data_dir", kitchen, *data, "--model_name_or_path", model, *TRAINING]
    teacher += ["--history_length", 3, "--held_out_fraction", 0, "--evaluation_split", "validation"]
    adapted = ["--model_name_or_path", model, "--recipes", recipes, "--output_dir", out / "lm", *TRAINING]
    adapted += ["--block_length", 16, "--held_out_fraction", 0.2, "--resume_from_checkpoint", "true"]
    counts = ["--dataset", kitchen, *data, "--ngram", 2, "--soft_labels", out / "soft", "--output_dir", tmp_path / "no"]
    return {
        "prepare_dataset": (exported(kitchen, out / "rows"), 1),
        "export_soft_labels": (["export_soft_labels", *counts, "--splits", "train", "validation"], 1),
        "distill": (["distill", *student, "--soft_labels", kitchen.parent / "soft.parquet"], 10),
        "finetune_teacher": (["finetune_teacher", *teacher, "--output_dir", out / "teacher"], 10),
        "adapt_language_model": (["adapt_language_model", *adapted], 8),
        "add_feature_memory": (["add_feature_memory", kitchen / "features", "--so_far", "--output", out / "mean"], 1),
    }


@pytest.mark.slow
@pytest.mark.parametrize("name", [*TESTED, "add_feature_memory"])
def test_faults_at_all_file_operations_end_equal_or_with_a_sentence(kitchen, tmp_path, fork_server, name):
    command, every = all_commands(kitchen, tmp_path)[name]
    if name == "prepare_dataset":
        run_command(*exported(kitchen, tmp_path / "before"))
    assert faults(fork_server, tmp_path, command, every=every)["other"] == []


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

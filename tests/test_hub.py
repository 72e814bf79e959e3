"""Pushing to a Hub and using the result elsewhere, with a Hub on the loopback address."""

import json
import os
import shutil
import subprocess
import venv
from pathlib import Path

import pytest
import yaml
from helpers.places import PROJECT, require_shared
from helpers.processes import WITH_THE_PROJECT, WITHOUT_THE_PROJECT, command
from helpers.tiny_models import tiny_model, tiny_processor, tiny_vit_config
from huggingface_hub import DatasetCard, ModelCard, parse_eval_result_entries
from tiny_kitchen import write_kitchen, write_soft_labels, write_tiny_vit, write_video_kitchen

import run_distill
from avt_distill.runs.lock import locked
from modeling_avt import ActionAnticipationPipeline

PUSH_MODEL = f"""{WITH_THE_PROJECT}
from helpers.tiny_models import tiny_model, tiny_processor, tiny_vit_config
tiny_model(tiny_vit_config()).push_to_hub("user/avt")
tiny_processor().push_to_hub("user/avt")
"""
RUN = f"""{WITH_THE_PROJECT}
import run_distill
run_distill.main({{options!r}})
"""
LOAD_STUDENT = """
import json, torch
from huggingface_hub import ModelCard
from transformers import AutoModel
model = AutoModel.from_pretrained("user/kitchen", trust_remote_code=True)
stream = model.stream()
card = ModelCard.load("user/kitchen")
top1 = card.data.eval_results[0].metric_value if card.data.eval_results else None
print(json.dumps([model(video_features=torch.zeros(1, 4, 12)).logits.shape[1], top1]))
"""
LOAD_MODEL = """
import json
from transformers import AutoModel, pipeline
model = AutoModel.from_pretrained("user/avt", trust_remote_code=True)
assert type(model.config) is type(model).config_class
anticipate = pipeline("action-anticipation", model="user/avt", trust_remote_code=True)
print(json.dumps([type(model).__name__, [entry["score"] for entry in anticipate({video!r})]]))
"""
WATCH = """
import sys
import av, json
from transformers import AutoProcessor, pipeline
anticipate = pipeline("action-anticipation", model="user/avt", trust_remote_code=True)
timeline = anticipate({video!r}, every=1.0)
stream = anticipate.model.stream(AutoProcessor.from_pretrained("user/avt", trust_remote_code=True))
streamed = {{}}
with av.open({video!r}) as container:
    for frame in container.decode(video=0):
        if (answer := stream.push(frame.to_ndarray(format="rgb24"), frame.time)) is not None:
            streamed[answer[0]["at_s"]] = [entry["score"] for entry in answer]
offline = {{moment["at_s"]: [entry["score"] for entry in moment["anticipated"]] for moment in timeline}}
print(json.dumps({{"stream": streamed, "timeline": offline, "modules": [n for n in sys.modules if "." not in n]}}))
"""
LOAD_LANGUAGE_MODEL = """
from transformers import AutoModelForMaskedLM, AutoTokenizer
model, tokenizer = AutoModelForMaskedLM.from_pretrained("user/lm"), AutoTokenizer.from_pretrained("user/lm")
print(type(model).__name__, model.config.vocab_size, "egg" in tokenizer.get_vocab())
"""
FILES_OF_LANGUAGE_MODEL = {"README.md", "config.json", "model.safetensors", "tokenizer.json", "adaptation.json"}
TOKEN = "hf_given_as_an_option"
STDERR_TOO = "import sys\nsys.stderr = sys.stdout\n"
LOAD_DATA = """
import datasets, json
streamed = list(datasets.load_dataset("user/salads", split="test", streaming=True))
folds = [datasets.load_dataset("user/salads", name) for name in ("fold1", "fold2")]
assert folds[0]["test"].to_list() == streamed
names = folds[0]["test"].features["action"].names
sizes = [{split: len(rows) for split, rows in fold.items()} for fold in folds]
print(json.dumps([sizes, names, streamed[0]["history"]]))
"""


def test_a_pushed_model_loads_where_the_package_is_not(hub, video):
    hub.run(PUSH_MODEL, "here")
    pushed = set(hub.repositories["models/user/avt"])
    assert {"config.json", "model.safetensors", "modeling_avt.py", "video_preprocessor_config.json"} <= pushed
    printed = hub.run(LOAD_MODEL.format(video=str(video)), "elsewhere")
    name, scores = json.loads(printed.splitlines()[-1])
    assert name == "AVTForAnticipation"
    pipe = ActionAnticipationPipeline(model=tiny_model(tiny_vit_config()), video_processor=tiny_processor())
    assert scores == pytest.approx([entry["score"] for entry in pipe(str(video))], abs=1e-6)
    assert hub.unknown == []


def test_a_space_gets_the_model_that_it_shows(hub):
    arguments = [PROJECT / "space", "app", "--model", "user/kitchen"]
    assert hub.run(command("push_to_hub", *arguments), "here").endswith("pushed to user/app\n")
    pushed = hub.repositories["spaces/user/app"]
    assert set(pushed) >= {"README.md", "app.py", "timeline.py", "requirements.txt"}
    assert hub.variables["spaces/user/app"] == {"AVT_MODEL": "user/kitchen"}
    header = yaml.safe_load(pushed["README.md"].decode().split("---")[1])
    assert (header["sdk"], header["app_file"], header["models"]) == ("gradio", "app.py", ["user/kitchen"])
    assert f'space = ["gradio>={header["sdk_version"].rpartition(".")[0]}"]' in (PROJECT / "pyproject.toml").read_text()
    assert hub.unknown == []


@pytest.mark.slow
def test_four_packages_are_enough_to_use_what_was_pushed(hub, tmp_path):
    clip = require_shared("data", "videos", "flipping_a_pancake.mkv")
    hub.run(PUSH_MODEL, "here")
    python = tmp_path / "environment" / "bin" / "python"
    venv.create(tmp_path / "environment", with_pip=True)
    packages = ["torch", "transformers", "av", "safetensors"]
    subprocess.run([python, "-m", "pip", "install", "-q", "-c", PROJECT / "constraints.txt", *packages], check=True)
    printed = hub.run(WITHOUT_THE_PROJECT + WATCH.format(video=str(clip)), "elsewhere", python=python)
    answers = json.loads(printed.splitlines()[-1])
    assert list(answers["stream"]) == ["0.0", *answers["timeline"]]  # a timeline begins after one interval
    assert len(answers["timeline"]) > 5
    for at_s, scores in answers["timeline"].items():
        assert answers["stream"][at_s] == pytest.approx(scores, abs=1e-5)
    assert not {"datasets", "accelerate", "pandas", "torchvision", "PIL"} & set(answers["modules"])


@pytest.fixture(scope="module")
def kitchen(tmp_path_factory) -> Path:
    """Annotations, features, soft labels and a run's YAML file, see `tiny_kitchen`."""
    folder = write_kitchen(tmp_path_factory.mktemp("kitchen") / "data")
    write_soft_labels(folder.parent / "soft.parquet", folder)
    return folder


@pytest.fixture(scope="module")
def student(kitchen, tmp_path_factory) -> Path:
    """The folder of a student that was trained but not pushed."""
    folder = tmp_path_factory.mktemp("run")
    run_distill.main(run_options(kitchen, folder, "--push_to_hub=false", "--baseline=false"))
    return folder / "distilled_seed42"


def run_options(kitchen: Path, output: Path, *more: str) -> list[str]:
    named = {"features": kitchen / "features", "soft_labels": kitchen.parent / "soft.parquet", "output_dir": output}
    named |= {"push_to_hub": True, "hub_model_id": "kitchen"}
    return [str(kitchen / "run.yaml"), *(f"--{name}={value}" for name, value in named.items()), *more]


def files_of_student() -> set[str]:
    code = {path.name for path in (PROJECT / "modeling_avt").glob("*.py")} - {"__init__.py"}
    return {"README.md", "config.json", "model.safetensors", "results.json", "scores_validation.parquet"} | code


def test_a_run_pushes_a_student_with_card_and_results_and_without_checkpoints(hub, kitchen, tmp_path):
    token = "hf_given_as_an_option"
    options = run_options(kitchen, tmp_path / "run", "--save_strategy=epoch", f"--hub_token={token}")
    printed = hub.run(RUN.format(options=options), "here")
    assert printed.strip().endswith("Pushed to user/kitchen")
    pushed = hub.repositories["models/user/kitchen"]
    assert files_of_student() <= set(pushed)
    assert not any(path.startswith("checkpoint") for path in pushed)
    assert hub.tokens == {token}
    written = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert not any(token.encode() in content for content in [*pushed.values(), *(p.read_bytes() for p in written)])
    assert token not in printed
    results = json.loads((tmp_path / "run" / "distilled_seed42" / "results.json").read_text())
    shown = json.loads(hub.run(LOAD_STUDENT, "elsewhere").splitlines()[-1])
    assert shown == [4, round(results["metrics"]["action_top1_accuracy"], 2)]
    assert hub.unknown == []


def test_what_is_pushed_in_training_loads(hub, kitchen, tmp_path):
    strategies = ("every_save", "checkpoint", "all_checkpoints")
    runs = [
        run_options(kitchen, tmp_path / strategy, f"--hub_strategy={strategy}", f"--hub_model_id={strategy}")
        for strategy in strategies
    ]
    hub.run("".join(RUN.format(options=[*run, "--save_strategy=epoch", "--baseline=false"]) for run in runs), "here")
    for strategy in strategies:
        commits = hub.history[f"models/user/{strategy}"]
        assert not {"settings.json", "training_args.bin"} & {path.split("/")[-1] for files in commits for path in files}
        _, in_training, *_, finished = hub.history[f"models/user/{strategy}"]
        assert files_of_student() - set(in_training) == {"results.json", "scores_validation.parquet"}
        assert b"In training: step" in in_training["README.md"]
        assert files_of_student() <= set(finished)
        folders = {path.split("/")[0] for path in finished if "/" in path}
        expected = {"every_save": set(), "checkpoint": {"last-checkpoint"}}
        assert folders == expected[strategy] if strategy in expected else "checkpoint-3" in folders
    hub.repositories["models/user/kitchen"] = hub.history["models/user/every_save"][1]
    shown = json.loads(hub.run(LOAD_STUDENT, "elsewhere").splitlines()[-1])
    assert shown == [4, None]


def test_a_student_of_videos_that_is_pushed_in_training_answers(hub, tmp_path, video):
    folder, vit = write_video_kitchen(tmp_path / "data"), write_tiny_vit(tmp_path / "vit")
    rows = {"num_frames": 4, "tau_o": 4.0, "cache_dir": str(tmp_path / "cache")}
    head = {"head_hidden_size": 32, "head_num_layers": 1, "head_num_positions": 16}
    named = {"dataset": folder, **rows, "backbone": vit, "model_options": json.dumps(head)}
    named |= {"num_train_epochs": 2, "use_cpu": True, "distill_weight": 0, "output_dir": tmp_path / "run"}
    named |= {"push_to_hub": True, "hub_model_id": "avt", "hub_strategy": "every_save", "save_strategy": "epoch"}
    hub.run(RUN.format(options=[f"--{name}={value}" for name, value in named.items()]), "here")
    hub.repositories["models/user/avt"] = hub.history["models/user/avt"][1]
    assert "results.json" not in hub.repositories["models/user/avt"]
    printed = hub.run(LOAD_MODEL.format(video=str(video)), "elsewhere")
    name, scores = json.loads(printed.splitlines()[-1])
    assert name == "AVTForAnticipation"
    assert sum(scores) == pytest.approx(1)


def test_an_interrupted_upload_changes_nothing_and_can_be_retried(hub, student):
    push = command("push_to_hub", student, "user/kitchen")
    hub.large_files_left = 1
    printed = hub.run(push, "here", fails=True)
    error = printed[printed.index("error: ") :]
    assert error.startswith(f"error: Upload of {student} to user/kitchen failed; the repository is unchanged. Retry")
    assert "hf_loopback" not in printed
    assert set(hub.repositories["models/user/kitchen"]) == {".gitattributes"}
    assert len(hub.large_files) == 1
    hub.large_files_left = 1  # accepts the second of two large files
    assert hub.run(push, "here").endswith("pushed to user/kitchen\n")
    assert files_of_student() <= set(hub.repositories["models/user/kitchen"])


def test_only_files_of_a_student_are_pushed(hub, student, tmp_path):
    folder = tmp_path / "student"
    shutil.copytree(student, folder)
    (folder / "checkpoint-1").mkdir()
    strays = (".env", "optimizer.pt", "scheduler.pt", "rng_state_0.pth", "model.safetensors.tmp", "notes.txt", "own.py")
    strays += (
        ".model.safetensors.1.partial",
        "checkpoint-1/model.safetensors",
        "results.json.bak",
        "training_args.bin",
    )
    for name in strays:
        (folder / name).write_text("hf_secret")
    assert (folder / "settings.json").exists()
    hub.run(command("push_to_hub", folder, "user/kitchen"), "here")
    pushed = hub.repositories["models/user/kitchen"]
    assert set(pushed) == files_of_student() | {".gitattributes"}
    assert not any(str(student.parent).encode() in content for content in pushed.values())
    assert json.loads(hub.run(LOAD_STUDENT, "elsewhere").splitlines()[-1])[0] == 4


@pytest.mark.parametrize("cut", ["model.safetensors", "config.json"])
def test_half_a_checkpoint_is_not_pushed(cut, hub, student, tmp_path):
    folder = tmp_path / "student"
    shutil.copytree(student, folder)
    content = (folder / cut).read_bytes()
    (folder / cut).write_bytes(content[: len(content) // 2])
    assert "error: " in hub.run(command("push_to_hub", folder, "user/kitchen"), "here", fails=True)
    assert "models/user/kitchen" not in hub.repositories


def test_a_folder_that_a_run_writes_to_is_not_pushed(hub, student):
    card = (student / "README.md").read_text()
    for folder in (student, student.parent):  # a run locks its output_dir, which holds its students
        with locked(folder):
            printed = hub.run(command("push_to_hub", student, "user/kitchen"), "here", fails=True)
        assert f"error: {folder} is in use by process {os.getpid()} on" in printed
    assert "models/user/kitchen" not in hub.repositories
    assert (student / "README.md").read_text() == card
    assert hub.run(command("push_to_hub", student, "user/kitchen"), "here").endswith("pushed to user/kitchen\n")


def test_an_app_of_ones_own_is_pushed_without_secrets(hub, tmp_path):
    for name in ("app.py", "pages/one.html", "requirements.txt", ".env", "data.tmp", ".git/config", "token.json"):
        (tmp_path / "app" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "app" / name).write_text("x")
    hub.run(command("push_to_hub", tmp_path / "app", "app", "--model", "user/kitchen"), "here")
    pushed = set(hub.repositories["spaces/user/app"])
    assert pushed == {".gitattributes", "README.md", "app.py", "pages/one.html", "requirements.txt"}


def adaptation(folder: Path, language_model: Path, repo_id: str, **more) -> str:
    """Writes recipes, and returns code that adapts a language model to them and pushes it."""
    actions = [[["crack", "egg"], ["cut", noun], ["stir", "batter"]] for noun in ("onion", "tomato", "butter", "milk")]
    lines = [json.dumps({"id": str(n), "title": "", "actions": actions[n % 4] * (1 + n // 4)}) for n in range(40)]
    (folder / "recipes.jsonl").write_text("\n".join(lines) + "\n")
    named = {"model_name_or_path": language_model, "recipes": folder / "recipes.jsonl", "output_dir": folder / repo_id}
    named |= {"block_length": 32, "held_out_fraction": 0.1, "num_train_epochs": 1, "use_cpu": "true"}
    named |= {"push_to_hub": "true", "hub_model_id": f"user/{repo_id}", "hub_token": TOKEN, **more}
    return command("adapt_language_model", *(f"--{name}={value}" for name, value in named.items()))


def check_nothing_leaks(hub, folder: Path, printed: str, *more: Path):
    """Checks that no file or commit contains the token, no commit contains local paths, and that the token was used."""
    assert TOKEN not in printed
    assert hub.tokens == {TOKEN}
    written = [path.read_bytes() for path in folder.rglob("*") if path.is_file()]
    commits = [content for history in hub.history.values() for commit in history for content in commit.values()]
    assert not any(TOKEN.encode() in content for content in [*written, *commits])
    assert not any(str(place).encode() in content for content in commits for place in (folder, *more))
    names = {path.split("/")[-1] for history in hub.history.values() for commit in history for path in commit}
    assert not {"training_args.bin", "settings.json"} & names


def test_a_language_model_is_pushed_once_at_the_end_and_without_the_token(hub, tmp_path, tiny_encoder):
    printed = hub.run(adaptation(tmp_path, tiny_encoder, "lm", hub_strategy="end", save_steps=2), "here")
    assert printed.splitlines()[-1] == "Pushed to user/lm"
    check_nothing_leaks(hub, tmp_path, printed, tiny_encoder)
    _, finished = hub.history["models/user/lm"]
    assert set(finished) >= FILES_OF_LANGUAGE_MODEL
    assert not any("/" in path for path in finished)


def test_a_language_model_that_is_pushed_in_training_loads(hub, tmp_path, tiny_encoder):
    strategies = ("every_save", "checkpoint", "all_checkpoints")
    named = {"save_steps": 2, "max_steps": 4, "hub_always_push": "true"}  # otherwise not while one is running
    runs = [adaptation(tmp_path, tiny_encoder, strategy, hub_strategy=strategy, **named) for strategy in strategies]
    check_nothing_leaks(hub, tmp_path, hub.run("".join(runs), "here"), tiny_encoder)
    folders = {"every_save": set(), "checkpoint": {"last-checkpoint"}}
    folders["all_checkpoints"] = {"checkpoint-2", "checkpoint-4"}
    for strategy in strategies:
        _, in_training, *_, finished = hub.history[f"models/user/{strategy}"]
        assert set(in_training) >= FILES_OF_LANGUAGE_MODEL
        assert b"In training: step 2 of 4" in in_training["README.md"]
        assert b"after" not in in_training["adaptation.json"]
        assert b"In training" not in finished["README.md"]
        assert {path.split("/")[0] for path in finished if "/" in path} == folders[strategy]
        for folder in folders[strategy]:
            assert {f"{folder}/optimizer.pt", f"{folder}/trainer_state.json"} <= set(finished)
    hub.repositories["models/user/lm"] = hub.history["models/user/every_save"][1]
    assert hub.run(LOAD_LANGUAGE_MODEL, "elsewhere").splitlines()[-1] == "BertForMaskedLM 51 True"


def test_a_card_that_was_edited_is_pushed_and_kept(hub, student, tmp_path):
    folder = tmp_path / "student"
    shutil.copytree(student, folder)
    filled = (folder / "README.md").read_text()
    edited = filled.replace("Given a video", "My student: given a video")
    assert edited != filled
    (folder / "README.md").write_text(edited)
    hub.run(command("push_to_hub", folder, "user/kitchen"), "here")
    assert (folder / "README.md").read_text() == edited
    assert hub.repositories["models/user/kitchen"]["README.md"].decode() == edited
    hub.run(command("push_to_hub", folder, "user/kitchen", "--overwrite"), "here")
    body = filled.replace('"kitchen"', '"user/kitchen"').rpartition("<!--")[0]
    assert (folder / "README.md").read_text().rpartition("<!--")[0] == body


def test_license_and_results_are_pushed_and_kept(hub, student, tmp_path):
    folder = tmp_path / "student"
    shutil.copytree(student, folder)
    stated = ["--license", "cc-by-nc-4.0", "--hub_dataset", "user/salads", "--base_model", "user/vit"]
    for more in (stated, []):  # values stated once are kept
        assert "states no license" not in hub.run(
            f"{STDERR_TOO}{command('push_to_hub', folder, 'user/kitchen', *more)}", "here"
        )
        pushed = hub.repositories["models/user/kitchen"]
        data = ModelCard(pushed["README.md"].decode()).data
        assert (data.license, data.datasets, data.base_model) == ("cc-by-nc-4.0", ["user/salads"], "user/vit")
        assert set(pushed) == files_of_student() | {".gitattributes", ".eval_results/salads.yaml"}
        entries = parse_eval_result_entries(yaml.safe_load(pushed[".eval_results/salads.yaml"]))
        assert {entry.dataset_id for entry in entries} == {"user/salads"}
        metrics = {f"default_{result.metric_name}": result.metric_value for result in data.eval_results}
        shown = {name.lower().replace(" ", "_").replace("-", "_"): value for name, value in metrics.items()}
        assert {entry.task_id: entry.value for entry in entries} == shown
        assert "default_top_1_accuracy" in shown
    assert hub.unknown == []


def test_a_push_without_a_license_is_reported(hub, student):
    printed = hub.run(f"{STDERR_TOO}{command('push_to_hub', student, 'user/kitchen')}", "here")
    assert f"{student} states no license" in printed
    assert "give --license ID to avt-distill push_to_hub" in printed
    card = hub.repositories["models/user/kitchen"]["README.md"].decode()
    assert "No license is stated" in card
    assert not any(name.startswith(".eval_results") for name in hub.repositories["models/user/kitchen"])
    printed = hub.run(command("push_to_hub", student, "user/kitchen", "--license", "MIT"), "here", fails=True)
    assert "error: --license is 'MIT', which is not an identifier of a license: write mit" in printed


def test_a_card_of_ones_own_gets_the_license_and_keeps_its_text(hub, tmp_path):
    tiny_model(tiny_vit_config()).save_pretrained(tmp_path / "converted")
    (tmp_path / "converted" / "README.md").write_text("# Converted\n\nBy hand.\n")
    hub.run(command("push_to_hub", tmp_path / "converted", "user/avt", "--license", "cc-by-4.0"), "here")
    pushed = ModelCard(hub.repositories["models/user/avt"]["README.md"].decode())
    assert (pushed.data.license, pushed.text) == ("cc-by-4.0", "# Converted\n\nBy hand.\n")
    (tmp_path / "converted" / ".eval_results").mkdir()
    (tmp_path / "converted" / ".eval_results" / "own.yaml").write_text("- value: 1\n")
    printed = hub.run(command("push_to_hub", tmp_path / "converted", "user/avt"), "here", fails=True)
    assert "own.yaml holds no results as the Hub reads them" in printed
    assert ".eval_results/own.yaml" not in hub.repositories["models/user/avt"]


def test_a_hub_that_does_not_answer_gives_one_clear_error(hub, student):
    hub.stop()
    error = hub.run(command("push_to_hub", student, "user/kitchen"), "here", fails=True).splitlines()[-1]
    assert error == (
        "error: user/kitchen cannot be written: check its name, the connection, and with `hf auth whoami` the token "
        "([Errno 111] Connection refused)."
    )


def test_a_pushed_data_set_loads_and_streams_without_the_package(hub, tmp_path):
    folder = tmp_path / "salads"
    folder.mkdir()
    meta = {"actions": ["cut", "mix"], "frame_rate": 1.0, "test_videos_of_fold": {"1": ["b"], "2": ["a"]}}
    (folder / "meta.json").write_text(json.dumps(meta))
    rows = ["a,2,7,0,cut", "a,7,10,1,mix", "a,12,14,1,mix", "b,1,4,0,cut", "b,6,8,1,mix"]
    (folder / "segments.csv").write_text("\n".join(["video_id,start_frame,end_frame,action_class,action", *rows]))
    options = ["fifty_salads", "--data_dir", folder, "--push_to_hub", "salads", "--config_name"]
    push = [command("prepare_dataset", *options, "fold2", "--license", "cc-by-nc-sa-4.0")]
    push.append(command("prepare_dataset", *options, "fold1"))  # the license is kept
    printed = hub.run("".join(push), "here")
    assert printed.endswith("pushed to user/salads\n")
    sizes, names, history = json.loads(hub.run(LOAD_DATA, "elsewhere").splitlines()[-1])
    assert sizes == [{"train": 3, "test": 2}, {"train": 2, "test": 3}]
    assert names == ["cut", "mix"]
    assert history == []
    pushed = hub.repositories["datasets/user/salads"]
    card = pushed["README.md"].decode()
    assert "| fold1 | test | 2 | 1 | 0 |\n| fold2 | train | 2 | 1 | 0 |" in card
    assert str(tmp_path) not in card
    data = DatasetCard(card).data
    assert (data.license, data.language, data.size_categories) == ("cc-by-nc-sa-4.0", ["en"], ["n<1K"])
    assert [config["config_name"] for config in data.configs] == ["fold1", "fold2"]
    assert json.loads(pushed["facts/fold2.json"])["splits"]["test"] == {"rows": 3, "videos": 1, "left_out": 0}

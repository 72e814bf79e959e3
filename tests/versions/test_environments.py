"""Checkpoints of the current code in the oldest and newest environments: each kind of student, each way to use it."""

import json
import os
from pathlib import Path

import pytest
from helpers.processes import WITH_THE_PROJECT, command
from packaging.version import Version
from tiny_kitchen import write_kitchen
from versions.environments import ENVIRONMENTS, Environment, different, install, measure, pythons, row, table_of

BUILT_IN = "pipeline video-classification"
PUSH = f"""{WITH_THE_PROJECT}
from helpers.readers import reading_model
from helpers.tiny_models import tiny_model, tiny_processor, tiny_vit_config
from pathlib import Path
from tiny_language_models import write_tiny_encoder
from avt_distill.teacher.language_models import load_tokenizer, name_for_all_releases
from avt_distill.teacher.modeling_teacher import TextTeacher, TextTeacherConfig
from huggingface_hub import create_repo, upload_folder
from transformers import AutoConfig
for name, model in (("student", tiny_model(tiny_vit_config())), ("reader", reading_model(tiny_vit_config, tau_a=0.5))):
    model.push_to_hub(f"user/{{name}}")
    tiny_processor().push_to_hub(f"user/{{name}}")
encoder, texts = write_tiny_encoder(Path("encoder")), ["crack egg", "whisk egg", "fry onion"]
config = TextTeacherConfig(AutoConfig.from_pretrained(encoder), id2label=dict(enumerate(texts)), action_texts=texts)
TextTeacher(config).save_pretrained("teacher")
load_tokenizer(encoder).save_pretrained("teacher")
name_for_all_releases(Path("teacher"))
create_repo("user/teacher")
upload_folder(repo_id="user/teacher", folder_path="teacher")
"""
USE = """
import json
from datasets import load_dataset
from transformers import AutoModelForSequenceClassification, AutoTokenizer, pipeline
answers = {}
for name in ("student", "reader"):
    anticipate = pipeline("action-anticipation", model=f"user/{name}", trust_remote_code=True)
    found = sorted(anticipate(VIDEO, at=4.0), key=lambda entry: entry["label"])
    answers[name] = [entry["score"] for entry in found]
teacher = AutoModelForSequenceClassification.from_pretrained("user/teacher", trust_remote_code=True).eval()
tokenizer = AutoTokenizer.from_pretrained("user/teacher", trust_remote_code=True)
text = tokenizer("crack egg, whisk egg", return_tensors="pt")
answers["teacher"] = teacher(text["input_ids"], text["attention_mask"]).logits[0].tolist()
rows = load_dataset("user/rows", split="train")
answers["rows"] = [len(rows), rows[0]["uid"], rows.features["action"].names]
print(json.dumps(answers))
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """The folder of environments, which are kept if `AVT_ENVIRONMENTS` is set."""
    kept = os.environ.get("AVT_ENVIRONMENTS")
    return Path(kept) if kept else tmp_path_factory.mktemp("environments")


@pytest.fixture(params=["oldest", "newest"])
def environment(request) -> Environment:
    (found,) = (each for each in ENVIRONMENTS if each.name == request.param)
    if found.python not in programs():
        pytest.skip(f"no Python {found.python} here: name it in AVT_PYTHONS")
    return found


def programs() -> dict[str, str]:
    return pythons(os.environ.get("AVT_PYTHONS", "").split())


@pytest.mark.slow
def test_what_was_pushed_is_used_where_the_project_is_not(environment, folder, hub, tmp_path, video):
    kitchen = write_kitchen(tmp_path / "kitchen")
    rows = command("prepare_dataset", kitchen, "--num_frames", 4, "--tau_o", 4.0, "--push_to_hub", "user/rows")
    hub.run(PUSH + rows, "here")
    use = f"VIDEO = {str(video)!r}\n{USE}"
    expected = json.loads(hub.run(use, "elsewhere").splitlines()[-1])
    python = install(environment, programs()[environment.python], folder)
    found = json.loads(hub.run(use, "there", python=python).splitlines()[-1])
    assert found.pop("rows") == expected.pop("rows")
    for name, scores in expected.items():
        assert found[name] == pytest.approx(scores, abs=1e-5), name


@pytest.mark.slow
def test_every_student_answers_the_same_in_every_way(environment, folder):
    [(_, found)] = measure([environment], programs(), folder)
    assert not isinstance(found, str), found
    outcomes = dict(found["outcomes"])
    if Version(found["versions"]["transformers"]) < Version("5.15"):
        refusals = outcomes.pop(BUILT_IN)
        assert len(refusals) == 8  # for the students that take videos
        assert all("Use pipeline('action-anticipation')" in refusal for refusal in refusals)
    assert outcomes == {way: [] for way in outcomes}


def test_scores_that_differ_are_found():
    assert different([0.1, 0.2], [0.1, 0.2 + 9e-6]) is None
    assert different([0.1, 0.2], [0.1, 0.2002]) == "scores differ by 2.0e-04"
    assert different([0.1], [0.1, 0.2]) == "1 scores in place of 2"
    assert different("OSError: no file", [0.1]) == "OSError: no file"
    assert different("OSError: no file", "OSError: no file") is None


def test_the_table_says_what_does_not_work_and_where():
    versions = dict.fromkeys(("Python", "torch", "transformers", "numpy", "av", "huggingface-hub"), "1.0+cpu")
    worked = {"versions": versions, "students": {"a": {}, "b": {}}, "outcomes": {"stream": [], "pipeline": []}}
    failed = {**worked, "outcomes": {"stream": ["b: OSError: no file"], "pipeline": []}}
    first, second, third = ENVIRONMENTS[:3]
    text = table_of([(first, worked), (second, failed), (third, "no Python 3.9 here")])
    assert row(first, worked) in text.splitlines()
    assert row(first, worked) == f"| {first.name} | 1.0 | 1.0 | 1.0 | 1.0 | 1.0 | 1.0 | 2/2 | 2/2 |"
    assert "| 1/2 | 2/2 |" in row(second, failed)
    assert f"- {third.name}: no Python 3.9 here" in text
    assert f"- stream: OSError: no file ({second.name})" in text

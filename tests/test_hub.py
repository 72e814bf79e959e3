"""Pushing to a Hub and using what was pushed elsewhere, against a Hub on the loopback address."""

import json
import textwrap

import pytest
from conftest import PROJECT, WITHOUT_THE_PROJECT, tiny_model, tiny_processor, tiny_vit_config

from modeling_avt import ActionAnticipationPipeline

PUSH_MODEL = f"""
import sys
sys.path[:0] = [{str(PROJECT)!r}, {str(PROJECT / "tests")!r}]
from conftest import tiny_model, tiny_processor, tiny_vit_config
tiny_model(tiny_vit_config()).push_to_hub("user/avt")
tiny_processor().push_to_hub("user/avt")
"""
PUSH_STUDENT = f"""
import json, sys
from pathlib import Path
sys.path[:0] = [{str(PROJECT)!r}, {str(PROJECT / "tests")!r}, {str(PROJECT / "tests" / "avt_distill")!r}]
from conftest import tiny_config, tiny_model
from test_cards import RESULTS, SETTINGS
from avt_distill.cards import push_student, student_card
folder = Path("student")
tiny_model(tiny_config()).save_pretrained(folder)
tiny_model(tiny_config()).save_pretrained(folder / "checkpoint-7")
(folder / "results.json").write_text(json.dumps(RESULTS))
(folder / "settings.json").write_text(json.dumps(SETTINGS))
student_card(folder, "user/kitchen").save(folder / "README.md")
print(push_student(folder, "user/kitchen"))
"""
LOAD_STUDENT = """
import torch
from huggingface_hub import ModelCard
from transformers import AutoModel
model = AutoModel.from_pretrained("user/kitchen", trust_remote_code=True)
print(model(video_features=torch.zeros(1, 4, 12)).logits.shape[1])
print(ModelCard.load("user/kitchen").data.eval_results[0].metric_value)
"""
LOAD_MODEL = """
import json
from transformers import AutoModel, pipeline
model = AutoModel.from_pretrained("user/avt", trust_remote_code=True)
assert type(model.config) is type(model).config_class
anticipate = pipeline("action-anticipation", model="user/avt", trust_remote_code=True)
print(json.dumps([type(model).__name__, [entry["score"] for entry in anticipate({video!r})]]))
"""
LOAD_DATA = """
import datasets, json
streamed = list(datasets.load_dataset("user/salads", split="test", streaming=True))
loaded = datasets.load_dataset("user/salads")
assert loaded["test"].to_list() == streamed
names = loaded["test"].features["action"].names
print(json.dumps([{split: len(rows) for split, rows in loaded.items()}, names, streamed[0]["history"]]))
"""


def test_a_pushed_model_loads_where_the_package_is_not(hub, video):
    hub.run(PUSH_MODEL, "here")
    pushed = set(hub.repositories["models/user/avt"])
    assert {"config.json", "model.safetensors", "modeling_avt.py", "video_preprocessor_config.json"} <= pushed
    printed = hub.run(WITHOUT_THE_PROJECT + LOAD_MODEL.format(video=str(video)), "elsewhere")
    name, scores = json.loads(printed.splitlines()[-1])
    assert name == "AVTForAnticipation"
    pipe = ActionAnticipationPipeline(model=tiny_model(tiny_vit_config()), video_processor=tiny_processor())
    assert scores == pytest.approx([entry["score"] for entry in pipe(str(video))], abs=1e-6)
    assert hub.unknown == []


def test_a_student_is_pushed_with_card_and_results_and_without_checkpoints(hub):
    printed = hub.run(PUSH_STUDENT, "here")
    assert printed.strip().endswith("user/kitchen")
    pushed = set(hub.repositories["models/user/kitchen"])
    assert {"README.md", "results.json", "settings.json", "modeling_avt.py", "config.json"} <= pushed
    assert not any(path.startswith("checkpoint") for path in pushed)
    num_actions, top1 = hub.run(WITHOUT_THE_PROJECT + LOAD_STUDENT, "elsewhere").split()[-2:]
    assert (int(num_actions), float(top1)) == (5, 41.25)
    assert hub.unknown == []


def test_a_pushed_data_set_loads_and_streams_without_the_package(hub, tmp_path):
    folder = tmp_path / "salads"
    folder.mkdir()
    meta = {"actions": ["cut", "mix"], "frame_rate": 1.0, "test_videos_of_fold": {"1": ["b"]}}
    (folder / "meta.json").write_text(json.dumps(meta))
    rows = ["a,2,7,0,cut", "a,7,10,1,mix", "b,1,4,0,cut", "b,6,8,1,mix"]
    (folder / "segments.csv").write_text("\n".join(["video_id,start_frame,end_frame,action_class,action", *rows]))
    push = f"""
    import sys
    sys.path.insert(0, {str(PROJECT)!r})
    from scripts.prepare_dataset import main
    main(["fifty_salads", "--data_dir", {str(folder)!r}, "--push_to_hub", "user/salads"])
    """
    printed = hub.run(textwrap.dedent(push), "here")
    assert "pushed to user/salads" in printed
    sizes, names, history = json.loads(hub.run(WITHOUT_THE_PROJECT + LOAD_DATA, "elsewhere").splitlines()[-1])
    assert sizes == {"train": 2, "test": 2}
    assert names == ["cut", "mix"]
    assert history == []

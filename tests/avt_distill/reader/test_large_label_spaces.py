"""Separate verbs and nouns, and a distilled language model: what `fit_reader` does on small data only on request."""

import json
from pathlib import Path

import numpy as np
import pytest
from helpers.commands import avt_distill
from tiny_kitchen import RUN

from avt_distill.features.stores import write_features
from avt_distill.reader import run
from avt_distill.runs.folder import read_json
from modeling_avt import AVTForAnticipation

PAIRS = [(verb, noun) for verb in ("cut", "wash") for noun in ("egg", "knife", "pan")]


@pytest.fixture(scope="module")
def kitchen(tmp_path_factory) -> Path:
    """Six training and two validation videos of six actions each, in one order, with verbs and nouns."""
    folder = tmp_path_factory.mktemp("pairs") / "data"
    generator = np.random.default_rng(0)
    looks = 3 * generator.normal(size=(len(PAIRS), 8))
    lines = ["video_id,start_s,end_s,action,verb,noun,split"]
    (folder / "features").mkdir(parents=True)
    for video in range(8):
        features = generator.normal(size=(40, 8))
        for index in range(6):
            action, start_s = (video + index) % len(PAIRS), 3 + 4 * index
            verb, noun = PAIRS[action]
            split = "train" if video < 6 else "validation"
            lines.append(f"v{video},{start_s},{start_s + 3},{verb} {noun},{verb},{noun},{split}")
            features[start_s : start_s + 3] += looks[action]
        write_features(folder / "features" / f"v{video}.safetensors", features.astype(np.float32), 1.0)
    (folder / "segments.csv").write_text("\n".join(lines) + "\n")
    options = {"dataset": str(folder), "num_frames": 4, "tau_o": 4.0, "cache_dir": str(folder / "cache")}
    lines = [f"{name}: {json.dumps(value)}" for name, value in options.items()]
    (folder / "run.yaml").write_text("\n".join(lines) + RUN)
    return folder


def fit(kitchen: Path, output: Path, *more):
    given = ["--features", kitchen / "features", "--distill_weight", 0, "--inner_folds", 2, "--beam", 50]
    avt_distill(
        "fit_reader", kitchen / "run.yaml", *given, "--output_dir", output, "--transitions", "log-linear", *more
    )
    metrics = read_json(output / "reader_comparison.json")["metrics"]
    return metrics, AVTForAnticipation.from_pretrained(output / "reader_seed42")


def test_actions_of_a_large_label_space_are_read_as_verb_and_noun(kitchen, tmp_path, monkeypatch):
    monkeypatch.setattr(run, "LARGE_LABEL_SPACE", 6)
    metrics, model = fit(kitchen, tmp_path / "run", "--followers", 4)
    sizes = {"kind": "log_linear", "num_parts": 5, "parts_per_action": 2, "length": 2}
    assert model.config.reader["transitions"] == sizes
    names = [model.config.id2label[action].split() for action in range(6)]
    pairs = model.reader.transitions.action_parts.tolist()
    assert len({tuple(pair) for pair in pairs}) == 6
    for (verb, noun), (verb_part, noun_part) in zip(names, pairs, strict=True):
        assert (verb_part, noun_part) == (["cut", "wash"].index(verb), 2 + ["egg", "knife", "pan"].index(noun))
    assert metrics["reader, log-linear"]["log loss"] < metrics["probe"]["log loss"]


@pytest.mark.slow
def test_a_language_model_is_distilled_and_compared(kitchen, tiny_encoder, tmp_path):
    given = ["--dataset", kitchen, "--model_name_or_path", tiny_encoder, "--output_dir", tmp_path / "teacher"]
    given += ["--cache_dir", kitchen / "cache", "--held_out_fraction", 0, "--num_train_epochs", 1, "--use_cpu", "true"]
    avt_distill("finetune_teacher", *given, "--evaluation_split", "validation", "--history_cutoff", "started")
    metrics, model = fit(kitchen, tmp_path / "run", "--teacher", tmp_path / "teacher")
    assert {"reader, teacher", "student + reader, teacher"} <= set(metrics)
    assert model.config.reader["transitions"]["kind"] == "log_linear"
    assert metrics["reader, teacher"] != metrics["reader, log-linear"]

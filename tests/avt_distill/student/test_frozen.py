"""A frozen encoder runs once for each moment, with the same result as running it on every batch."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers.commands import avt_distill, run_command
from helpers.tiny_models import processor_of, tiny_encoder, tiny_encoder_config, tiny_model
from safetensors.torch import load_file
from tiny_kitchen import kitchen_builder, write_video_kitchen
from transformers import AutoModel

from avt_distill.student.frozen import as_ticks, frozen_features
from modeling_avt import AVTForAnticipation, AVTVideoProcessor

ROWS = {"num_frames": 3, "tau_o": 3.0}
AS_IT_IS = {"size": 36, "crop_size": 32, "train_size": [36, 36], "flip_probability": 0.0}


@pytest.fixture(scope="module")
def kitchen(tmp_path_factory) -> Path:
    return write_video_kitchen(tmp_path_factory.mktemp("videos") / "data")


def run_options(kitchen: Path, output: Path, kind: str, *more) -> list:
    eyes = kitchen.parent / kind
    if not eyes.exists():
        torch.manual_seed(0)
        AutoModel.from_config(tiny_encoder(kind)).save_pretrained(eyes)
    model = {"head_num_layers": 1, "head_num_positions": 16, "head_dropout": 0, "classifier_dropout": 0}
    model |= {} if kind == "vit" else {"clip_frame_rate": 2.0}
    given = ["--dataset", kitchen, "--cache_dir", kitchen / "cache", "--backbone", eyes, "--output_dir", output]
    for option, value in ROWS.items():
        given += [f"--{option}", value]
    given += ["--model_options", json.dumps(model), "--processor_options", json.dumps(AS_IT_IS)]
    given += ["--distill_weight", 0, "--use_cpu", "true", "--disable_tqdm", "true", "--max_steps", 3]
    return ["distill", *given, "--save_strategy", "no", "--freeze_backbone", "true", *more]


@pytest.fixture
def without_crops(monkeypatch):
    """Crops the center in training too, so that nothing is random."""
    centre = AVTVideoProcessor._views
    monkeypatch.setattr(
        AVTVideoProcessor, "_training_clip", lambda self, frames, generator: centre(self, frames, 1, False)
    )


@pytest.mark.parametrize("kind", ["vit", "videomae"])
def test_weights_and_scores_are_those_of_running_the_encoder_on_every_batch(kitchen, tmp_path, without_crops, kind):
    avt_distill(*run_options(kitchen, tmp_path / "once", kind))
    avt_distill(*run_options(kitchen, tmp_path / "always", kind, "--encode_once", "false"))
    once, always = (load_file(tmp_path / run / "baseline_seed42" / "model.safetensors") for run in ("once", "always"))
    assert once.keys() == always.keys()
    for name in once:
        torch.testing.assert_close(once[name], always[name], atol=1e-5, rtol=0)
    folder = tmp_path / "once" / "baseline_seed42"
    model = AVTForAnticipation.from_pretrained(folder)  # it takes videos, not features
    assert model.avt.backbone is not None
    assert AVTVideoProcessor.from_pretrained(folder).clip_num_frames == (4 if kind == "videomae" else None)
    measured = [
        json.loads((tmp_path / run / "baseline_seed42" / "results.json").read_text()) for run in ("once", "always")
    ]
    assert measured[0]["metrics"] == measured[1]["metrics"]


def test_the_encoder_sees_each_moment_once_in_all_epochs_and_seeds(kitchen, tmp_path, monkeypatch):
    seen, original = [], AVTForAnticipation.encode_frames
    monkeypatch.setattr(
        AVTForAnticipation, "encode_frames", lambda self, pixels: seen.append(len(pixels)) or original(self, pixels)
    )
    given = run_options(kitchen, tmp_path / "run", "vit", "--seeds", "0", "1")
    avt_distill(*given)
    rows = kitchen_builder(kitchen, **ROWS)
    moments = sum(
        len({(row.video_id, tick) for row in rows.rows(split).itertuples() for tick in as_ticks(row.frame_times)})
        for split in ("train", "validation")
    )
    assert sum(seen) == moments == 10
    seen.clear()
    avt_distill(*run_options(kitchen, tmp_path / "run", "vit", "--seeds", "0", "1", "2"))  # a third student
    assert seen == []


def test_an_interrupted_encoding_resumes_where_it_stopped(kitchen, tmp_path, monkeypatch):
    class KilledError(Exception):
        pass

    original, begun = AVTForAnticipation.encode_clips, []

    def killed(self, frames, clips):
        begun.append(len(clips))
        if len(begun) == 2:
            raise KilledError
        return original(self, frames, clips)

    with monkeypatch.context() as patches:
        patches.setattr(AVTForAnticipation, "encode_clips", killed)
        with pytest.raises(KilledError):
            avt_distill(*run_options(kitchen, tmp_path / "run", "vit"))
    (file,) = (tmp_path / "run" / "frozen_features").glob("*/*.safetensors")
    before = file.stat().st_mtime_ns
    avt_distill(*run_options(kitchen, tmp_path / "run", "vit"))
    avt_distill(*run_options(kitchen, tmp_path / "undisturbed", "vit"))
    assert file.stat().st_mtime_ns == before
    weights = [load_file(tmp_path / run / "baseline_seed42" / "model.safetensors") for run in ("run", "undisturbed")]
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])


def test_what_changed_is_encoded_anew(kitchen, tmp_path):
    """Changed video content, additional moments and other weights are each noticed."""
    model = tiny_model(tiny_encoder_config("vit"))
    processor = processor_of(model)
    builder = kitchen_builder(kitchen)
    builder.download_and_prepare()
    rows = builder.as_dataset("train")
    first = frozen_features(model, processor, [rows.select([0])], tmp_path, {"v0": "a"})
    times = np.asarray(rows[0]["frame_times"])[np.asarray(rows[0]["frame_mask"])]
    frames, distinct = processor.read_moments(rows[0]["video"], times)
    with torch.no_grad():
        expected = model.encode_clips(frames, distinct.clips)[distinct.positions].numpy()
    np.testing.assert_allclose(first.read("v0", times), expected, atol=1e-6)
    (file,) = tmp_path.glob("*/v0.safetensors")
    written = [file.stat().st_mtime_ns]
    for splits, shows in (([rows.select([0])], "a"), ([rows], "a"), ([rows], "b")):
        frozen_features(model, processor, splits, tmp_path, {"v0": shows})
        written.append(file.stat().st_mtime_ns)
    assert written[0] == written[1] < written[2] < written[3]
    torch.nn.init.normal_(model.avt.backbone.layernorm.weight)
    frozen_features(model, processor, [rows], tmp_path, {"v0": "b"})
    assert len(list(tmp_path.glob("*/v0.safetensors"))) == 2


def test_several_views_of_a_frozen_encoder_are_refused(kitchen, tmp_path):
    result = run_command(*run_options(kitchen, tmp_path / "run", "vit", "--evaluation_crops", 3))
    assert result.returncode == 1
    assert "a frozen encoder runs once, on the center: leave them out, or give --encode_once false" in result.stderr

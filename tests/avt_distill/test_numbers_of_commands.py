"""Evaluation, extraction and stores refuse numbers that are not finite, or too large to compute with."""

import math

import numpy as np
import pytest
import torch
from helpers.readers import reading_model
from helpers.tiny_models import tiny_config, tiny_model, tiny_processor, tiny_vit_config

from avt_distill.evaluation.scores import ScoreTable
from avt_distill.features.extraction import PretrainedEncoder
from avt_distill.features.stores import NpzFeatureStore, write_features
from avt_distill.reader.frames import VideoFrames, encoded_frames
from avt_distill.reader.recognition import recognized
from avt_distill.student.arguments import DistillationArguments
from avt_distill.student.trainer import DistillationTrainer

BROKEN = [math.nan, math.inf, 1e30]


def evaluated(folder, value: float, place: tuple[int, int], model=None) -> dict[str, float]:
    """Returns the losses of three rows; the feature of one row at one frame is `value`."""
    features = np.random.default_rng(0).normal(size=(3, 4, 12)).astype(np.float32)
    features[(*place, 5)] = value
    unknown, rows = torch.tensor(-100), []
    for row, mask in zip(features, ([False, False, True, True], [False, True, True, True], [True] * 4), strict=True):
        labels = {"labels": torch.tensor(1), "past_labels": torch.tensor([-100, 0, 1, 2])}
        labels |= {"verb_labels": unknown, "noun_labels": unknown}
        rows.append({"video_features": torch.from_numpy(row), "frame_mask": torch.tensor(mask), **labels})
    args = DistillationArguments(output_dir=str(folder), use_cpu=True, disable_tqdm=True, distill_weight=0.0)

    def collate(rows):
        return {name: torch.stack([row[name] for row in rows]) for name in rows[0]}

    trainer = DistillationTrainer(model or tiny_model(), args, data_collator=collate, eval_dataset=rows)
    metrics = trainer.evaluate()
    return {name: value for name, value in metrics.items() if name.endswith("loss")}


@pytest.mark.parametrize("value", BROKEN)
def test_evaluation_refuses_observed_features_and_leaves_absent_ones_out(value, tmp_path):
    expected = evaluated(tmp_path, 0.0, (0, 1))
    assert all(math.isfinite(loss) for loss in expected.values())
    assert evaluated(tmp_path, value, (0, 1)) == pytest.approx(expected)
    with pytest.raises(ValueError, match="video_features of observed frames are not finite or too large"):
        evaluated(tmp_path, value, (0, 2))


def test_evaluation_refuses_scores_that_are_not_finite(tmp_path):
    model = tiny_model()
    with torch.no_grad():
        model.avt.decoder.weight[0, 0] = math.nan
    with pytest.raises(ValueError, match="scores are not finite"):
        evaluated(tmp_path, 0.0, (0, 0), model)


def test_scores_that_are_not_finite_are_refused_with_what_to_do():
    with pytest.raises(ValueError, match=r"scores of 'b' are not finite .*: load it in float32 or bfloat16"):
        ScoreTable(["a", "b"], np.array([[0.0, 1.0], [0.0, np.nan]]))


@pytest.mark.parametrize("value", BROKEN)
def test_stores_neither_take_nor_give_features_that_cannot_be_computed_with(value, tmp_path):
    features = np.zeros((3, 4), dtype=np.float32)
    features[1, 2] = value
    with pytest.raises(ValueError, match="give finite numbers"):
        write_features(tmp_path / "a.safetensors", features, 1.0)
    np.savez(tmp_path / "all.npz", a=features)
    store = NpzFeatureStore(tmp_path / "all.npz", 1.0)
    assert store.read("a", [0.0, 2.0]).shape == (2, 4)
    with pytest.raises(ValueError, match=r"video 'a' at 1\.000 s .* is not finite, or too large"):
        store.read("a", [0.0, 1.0])


@pytest.mark.filterwarnings("error")
def test_half_precision_features_are_checked_without_an_overflow(tmp_path):
    write_features(tmp_path / "a.safetensors", np.full((1, 2), 6e4, dtype=np.float16), 1.0)
    with pytest.raises(ValueError, match="give finite numbers"):
        write_features(tmp_path / "a.safetensors", np.full((1, 2), np.inf, dtype=np.float16), 1.0)


@pytest.mark.parametrize("value", BROKEN)
def test_extraction_and_readers_refuse_features_that_a_backbone_spoils(value, tmp_path, video):
    model = tiny_model(tiny_vit_config())
    model.save_pretrained(tmp_path)
    encoder = PretrainedEncoder(tmp_path)
    read = encoded_frames(model, tiny_processor(), {"v": str(video)}, 1.0)
    assert read("v")[1].shape == (7, 32)
    with torch.no_grad():
        for backbone in (model.avt.backbone, encoder.model.backbone):
            backbone.layernorm.bias[0] = value
    for ask in (lambda: encoder(torch.rand(1, 3, 32, 32), torch.tensor([[0]])), lambda: read("v")):
        with pytest.raises(ValueError, match="Features that the backbone computed are not finite"):
            ask()


def test_recognized_frames_that_are_not_finite_are_refused():
    model, frames = reading_model(), VideoFrames(np.zeros(1), np.ones((1, 12), dtype=np.float32), np.zeros(1))
    assert recognized(model, {"v": frames})["v"].shape == (1, 4)
    with torch.no_grad():
        model.recognizer.bias[0] = math.nan
    with pytest.raises(ValueError, match="scores are not finite"):
        recognized(model, {"v": frames})


def test_a_pretrained_encoder_computes_in_its_own_type(tmp_path):
    tiny_model(tiny_vit_config()).save_pretrained(tmp_path)
    frames, positions = torch.rand(2, 3, 32, 32), torch.tensor([[0], [1]])
    features, rounded = (
        PretrainedEncoder(tmp_path, dtype)(frames, positions) for dtype in (torch.float32, torch.bfloat16)
    )
    assert rounded.dtype == np.float32
    np.testing.assert_allclose(rounded, features, atol=0.1)
    assert (rounded != features).any()


def test_features_that_are_divided_by_nothing_give_no_scores(tmp_path):
    model = tiny_model(tiny_config(standardize_features=True))
    model.avt.feature_deviation[0] = 0.0  # features become infinite
    with pytest.raises(ValueError, match="scores are not finite"):
        evaluated(tmp_path, 0.0, (0, 0), model)

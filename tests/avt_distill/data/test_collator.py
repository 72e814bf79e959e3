"""Batches of features: which rows are read, and the content of padding."""

import numpy as np
import pytest

from avt_distill.data import anticipation_builder
from avt_distill.data.collator import FeatureCollator
from avt_distill.features.stores import open_feature_store, write_features

SEGMENTS = """video_id,start_s,end_s,action
a,1.5,3,cut
a,5,6,mix
b,4,6,cut
b,9,12,
"""


@pytest.fixture
def rows(tmp_path) -> list[dict]:
    (tmp_path / "segments.csv").write_text(SEGMENTS)
    (tmp_path / "features").mkdir()
    for number, video in enumerate("ab"):
        features = (100 * number + np.arange(12, dtype=np.float32))[:, None] * np.ones(3, dtype=np.float32)
        write_features(tmp_path / "features" / f"{video}.safetensors", features, 1.0)
    builder = anticipation_builder(str(tmp_path), cache_dir=str(tmp_path / "cache"), num_frames=4, tau_o=4.0)
    return builder.rows("train").to_dict("records")


def test_features_are_those_shown_at_each_time_and_zeros_before(tmp_path, rows):
    batch = FeatureCollator(open_feature_store(tmp_path / "features"))(rows)
    assert batch["uid"] == [row["uid"] for row in rows]
    assert batch["video_features"].shape == (4, 4, 3)
    for features, mask, row in zip(batch["video_features"], batch["frame_mask"], rows, strict=True):
        expected = np.where(mask, np.floor(row["frame_times"]) + 100 * (row["video_id"] == "b"), 0)
        np.testing.assert_array_equal(features[:, 0], expected)
    assert batch["frame_mask"].sum(dim=1).tolist() == [1, 4, 4, 4]
    assert batch["labels"].tolist() == [0, 1, 0, -100]
    assert batch["past_labels"].shape == (4, 4)
    assert batch["verb_labels"].tolist() == [-100] * 4


def test_frames_named_by_number_are_those_of_the_reference(tmp_path):
    """Under `avt` with features, the sampled time is often one frame behind the number that the reference reads."""
    (tmp_path / "segments.csv").write_text("video_id,start_s,end_s,action\na,9.0,10,cut\na,7.77,8.5,mix\n")
    options = {"protocol": "avt", "source": "features", "num_frames": 4, "tau_o": 4.0, "frame_rate": 1.0}
    builder = anticipation_builder(str(tmp_path), cache_dir=str(tmp_path / "cache"), video_fps=30.0, **options)
    rows = builder.rows("train").to_dict("records")
    (tmp_path / "features").mkdir()
    features = np.repeat(np.arange(1, 331, dtype=np.float32)[:, None], 2, axis=1)  # row i is frame number i + 1
    write_features(tmp_path / "features" / "a.safetensors", features, 30.0)
    store = open_feature_store(tmp_path / "features")
    by_number = FeatureCollator(store, by_number=True)(rows)["video_features"][..., 0]
    np.testing.assert_array_equal(by_number, np.stack([row["frame_indices"] for row in rows]))
    assert (FeatureCollator(store)(rows)["video_features"][..., 0] != by_number).any()

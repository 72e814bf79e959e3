"""Frames of videos as input of a reader."""

import numpy as np
import pandas as pd
import pytest
from helpers.tiny_models import tiny_model, tiny_processor, tiny_vit_config

from avt_distill.features.stores import open_feature_store, write_features
from avt_distill.reader.frames import VideoFrames, common_rate, encoded_frames, frame_labels, stored_frames


def test_frames_between_actions_are_background_and_those_of_unnamed_ones_unknown():
    rows = [("a", 1.0, 3.0, 2), ("a", 4.0, 5.0, -100), ("b", 0.0, 9.0, 1)]
    segments = pd.DataFrame(rows, columns=["video_id", "start_s", "end_s", "action"])
    found = frame_labels("a", np.arange(7.0), segments, num_actions=3)
    assert found.tolist() == [3, 2, 2, 3, -100, 3, 3]


def frames_at(*times_s: float) -> VideoFrames:
    return VideoFrames(np.array(times_s), np.zeros((len(times_s), 1)), np.zeros(len(times_s)))


def test_videos_of_one_frame_do_not_decide_the_rate():
    assert common_rate({"a": frames_at(0.5), "b": frames_at(0.5, 1.0, 1.5), "c": frames_at(0.0, 0.5)}) == 2.0
    with pytest.raises(ValueError, match="No training video has two frames"):
        common_rate({"a": frames_at(0.5)})


def test_videos_of_different_rates_are_refused():
    with pytest.raises(ValueError, match=r"'b' have 2 frames per second and those of 'a' 4, .* --reader_frame_rate"):
        common_rate({"a": frames_at(0.0, 0.25), "b": frames_at(0.0, 0.5)})


@pytest.mark.parametrize(("frame_rate", "rows"), [(None, range(8)), (1.0, (0, 2, 4, 6)), (4.0, np.arange(16) // 2)])
def test_stored_frames_are_at_the_rate_that_is_asked_for(tmp_path, frame_rate, rows):
    features = np.arange(16, dtype=np.float32).reshape(8, 2)
    write_features(tmp_path / "a.safetensors", features, 2.0, 10.0)
    times, found = stored_frames(open_feature_store(tmp_path), frame_rate)("a")
    np.testing.assert_array_equal(found, features[list(rows)])
    np.testing.assert_allclose(times, 10 + np.arange(len(found)) / (frame_rate or 2.0))


def test_video_frames_are_encoded_as_the_model_encodes_them(video):
    model, processor = tiny_model(tiny_vit_config()), tiny_processor()
    times, found = encoded_frames(model, processor, {"numbered": str(video)}, 2.0)("numbered")
    np.testing.assert_allclose(times, np.arange(13) / 2)
    frames, distinct = processor.read_moments(video, times)
    expected = model.encode_frames(frames)[distinct.positions].detach()
    np.testing.assert_allclose(found, expected, atol=1e-5)

"""Protocol "avt" compared with frames and times recorded from the reference's data code."""

import csv
import json
from pathlib import Path

import pytest
from helpers.places import require_shared

from modeling_avt.temporal_avt import frame_indices, sample_frame_times

ROWS = json.loads((Path(__file__).parent / "fixtures" / "sampling.json").read_text())
# recording -> (source, fps of the video, frames sampled per second); EPIC-100's videos differ in fps.
RECORDINGS = {
    "egtea_training1_feats30_taua0.5_tauo10": ("features", 24.0, 1.0),
    "egtea_validation1_feats30_taua0.5_tauo10": ("features", 24.0, 1.0),
    "egtea_validation1_video24_taua0.5_tauo10": ("video", 24.0, 1.0),
    "ek100_validation_pkl_video_taua1_tauo10": ("video", None, 1.0),
    "ek100_validation_rulstmcsv_feats30_taua1_tauo10": ("features", 60.0, 1.0),
    "ek55_validation_feats30_2fps_taua1_tauo5_nosub": ("features", 60.0, 2.0),
    "ek55_validation_feats30_taua1_tauo20": ("features", 60.0, 1.0),
    "ek55csv_validation_feats30_taua1_tauo10": ("features", 60.0, 1.0),
}


@pytest.fixture(scope="module")
def ek100_fps() -> dict[str, float]:
    path = require_shared("data", "annotations", "ek100", "EPIC_100_video_info.csv")
    with path.open() as file:
        return {row["video_id"]: float(row["fps"]) for row in csv.DictReader(file)}


@pytest.mark.parametrize("recording", RECORDINGS)
def test_frames_and_times_equal_the_reference(recording, request):
    source, fps, frame_rate = RECORDINGS[recording]
    rows = [row for row in ROWS if row["recording"] == recording]
    assert rows
    for row in rows:
        video_fps = fps or request.getfixturevalue("ek100_fps")[row["video_id"]]
        sampling = (*row["window"], video_fps, frame_rate, 10, "avt", source)
        indices, mask = frame_indices(*sampling)
        times, _ = sample_frame_times(*sampling)
        assert indices.tolist() == row["frames"], row
        assert times.tolist() == row["times_s"]  # to the last digit of float32
        assert mask.all()  # the reference attends to the frames that it repeats

"""Labels of the frames that students learn to recognize."""

import numpy as np
import pytest

from avt_distill.data import anticipation_builder
from avt_distill.reader.frames import frame_labels
from avt_distill.student.training import _frame_labels

SEGMENTS = """video_id,start_s,end_s,action,split
v,2,6,cut,train
v,6,10,,train
v,12,14,mix,train
w,1,2,mix,validation
w,3,5,cut,validation
"""


@pytest.mark.parametrize("tau_a", [0.0, 1.0])
def test_students_learn_the_labels_that_readers_use(tmp_path, tau_a):
    (tmp_path / "segments.csv").write_text(SEGMENTS)
    options = {"num_frames": 10, "tau_o": 10.0, "tau_a": tau_a}
    builder = anticipation_builder(str(tmp_path), cache_dir=str(tmp_path / "cache"), **options)
    builder.download_and_prepare()
    for split in ("train", "validation"):
        rows = builder.as_dataset(split)
        labels = _frame_labels(builder, rows, split)
        for row in rows:
            mask, times_s = np.array(row["frame_mask"]), np.array(row["frame_times"], dtype=float)
            expected = frame_labels(row["video_id"], times_s, builder.annotations.splits[split], num_actions=2)
            np.testing.assert_array_equal(labels[row["uid"]], np.where(mask, expected, -100))
    labels_of = _frame_labels(builder, builder.as_dataset("train"), "train")
    of_mix = labels_of[next(row["uid"] for row in builder.as_dataset("train") if row["start_s"] == 12)]
    cut, mix, background, unknown = 0, 1, 2, -100
    shown = {
        0.0: [cut] * 3 + [unknown] * 4 + [background] * 2 + [mix],
        1.0: [cut] * 4 + [unknown] * 4 + [background] * 2,
    }
    assert of_mix.tolist() == shown[tau_a]

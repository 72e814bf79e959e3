"""Captions of an annotated video. `tests/avt_distill/commands/test_anticipate.py` writes whole videos."""

import numpy as np
import pytest
from helpers.timelines import moment

from avt_distill.pictures.annotated_video import draw_caption, write_annotated_video


def test_captions_are_as_large_before_the_first_answer():
    pytest.importorskip("matplotlib")
    before, after = (draw_caption(shown, 2.0, 240, 2) for shown in (None, moment(2.0, cut=0.8, mix=0.2)))
    assert before.shape == after.shape
    assert before.shape[1] == 240
    assert before.shape[0] % 2 == 0
    assert (before != after).any()


def test_captions_are_not_cut_off():
    pytest.importorskip("matplotlib")
    name = "take_the_very_large_cutting_board_from_the_cupboard"
    caption = draw_caption(moment(2.0, **{name: 1.0}), 2.0, 360, 1)  # as wide as an upright video
    assert (np.ptp(caption[:, [0, 1, -2, -1]], axis=0) == 0).all()  # nothing reaches the edges


def test_refuses_a_timeline_without_moments(video, tmp_path):
    with pytest.raises(ValueError, match="timeline is empty"):
        write_annotated_video(video, [], tmp_path / "out.mp4")

"""Captions of an annotated video. `tests/avt_distill/commands/test_anticipate.py` writes whole videos."""

import numpy as np
import pytest
from helpers.timelines import moment, with_history

from avt_distill.pictures.annotated_video import draw_caption, write_annotated_video


def test_captions_are_as_large_before_the_first_answer():
    pytest.importorskip("matplotlib")
    before, after = (draw_caption(shown, 2.0, 240, 2) for shown in (None, moment(2.0, cut=0.8, mix=0.2)))
    assert before.shape == after.shape
    assert before.shape[1] == 240
    assert before.shape[0] % 2 == 0
    assert (before != after).any()


def test_what_was_recognized_is_a_band_below_an_unchanged_caption():
    pytest.importorskip("matplotlib")
    now = moment(2.0, cut=0.8, mix=0.2)
    read = with_history(now, cut=0.0, a_rather_long_name_of_an_action=0.5, mix=1.0, serve=1.5)
    plain, before, nothing, band = (
        draw_caption(shown, 2.0, 360, 2, has_history=shown is not now) for shown in (now, None, with_history(now), read)
    )
    assert before.shape == nothing.shape == band.shape
    assert len(band) > len(plain)
    assert (band != nothing).any()
    assert (nothing[: len(plain) - 24] == plain[:-24]).all()  # but for the margin
    assert (np.ptp(band[:, [0, 1, -2, -1]], axis=0) == 0).all()  # nothing reaches the edges


def test_captions_are_not_cut_off():
    pytest.importorskip("matplotlib")
    name = "take_the_very_large_cutting_board_from_the_cupboard"
    caption = draw_caption(moment(2.0, **{name: 1.0}), 2.0, 360, 1)  # the width of a portrait video
    assert (np.ptp(caption[:, [0, 1, -2, -1]], axis=0) == 0).all()  # nothing reaches the edges


def test_refuses_a_timeline_without_moments(video, tmp_path):
    with pytest.raises(ValueError, match="timeline is empty"):
        write_annotated_video(video, [], tmp_path / "out.mp4")

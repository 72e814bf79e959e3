"""The streams of visitors' cameras: one per visitor, with its own clock, and deleted afterwards."""

import re

import numpy as np
import pytest
from helpers.places import PROJECT
from helpers.tiny_models import tiny_model, tiny_processor, tiny_vit_config

from avt_distill.sharing.cards import space_card
from space.live import FORGOTTEN_AFTER_S, NEW_VIDEO_AFTER_S, LiveStreams, rgb, sent_every_s

FRAME = np.zeros((48, 64, 3), dtype=np.uint8)


class Clock:
    def __init__(self):
        self.now_s = 1000.0

    def __call__(self) -> float:
        return self.now_s


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def streams(clock) -> LiveStreams:
    model, processor = tiny_model(tiny_vit_config()), tiny_processor()
    return LiveStreams(lambda: model.stream(processor), clock)


def answers(streams: LiveStreams, clock: Clock, visitor: str, seconds: list[float]) -> list:
    """Returns `at_s` of each answer to frames that arrive at these seconds after now, or `None` if none was due."""
    began_s, found = clock.now_s, []
    for second in seconds:
        clock.now_s = began_s + second
        _, answer = streams.push(visitor, FRAME)
        found.append(answer and answer[0]["at_s"])
    return found


def test_each_visitor_has_a_clock_that_begins_with_the_first_frame(streams, clock):
    assert answers(streams, clock, "ann", [0, 0.5, 1.1, 1.6, 2.2]) == [0, None, 1, None, 2]
    assert answers(streams, clock, "bob", [0, 0.5, 1.1]) == [0, None, 1]
    seen_s, _ = streams.push("ann", FRAME)
    assert seen_s == pytest.approx(3.3)
    assert len(streams) == 2


def test_a_camera_that_was_stopped_begins_a_new_video(streams, clock):
    assert answers(streams, clock, "ann", [0, 1, 2]) == [0, 1, 2]
    clock.now_s += NEW_VIDEO_AFTER_S + 0.1
    assert answers(streams, clock, "ann", [0, 1]) == [0, 1]
    assert len(streams) == 1


def test_a_visitor_who_leaves_is_forgotten(streams, clock):
    answers(streams, clock, "ann", [0, 1])
    answers(streams, clock, "bob", [0, 1])
    streams.close("ann")
    streams.close("eve")  # this visitor has no camera
    assert len(streams) == 1
    assert answers(streams, clock, "ann", [0]) == [0]


def test_cameras_that_send_nothing_are_forgotten(streams, clock):
    answers(streams, clock, "ann", [0])
    clock.now_s += FORGOTTEN_AFTER_S - 1
    answers(streams, clock, "bob", [0])
    streams.forget_idle()
    assert len(streams) == 2
    clock.now_s += 2
    streams.forget_idle()
    assert len(streams) == 1


def test_a_browser_sends_two_frames_for_each_that_is_observed():
    assert [sent_every_s(rate) for rate in (0.5, 1.0, 2.0)] == [0.5, 0.5, 0.25]


@pytest.mark.parametrize("shape", [(4, 5), (4, 5, 3), (4, 5, 4)])
def test_pictures_become_frames(shape):
    frame = rgb(np.full(shape, 7, dtype=np.uint8))
    assert frame.shape == (4, 5, 3)
    assert frame.dtype == np.uint8
    assert (frame == 7).all()
    assert frame.flags["C_CONTIGUOUS"]


def test_the_card_and_the_page_say_when_a_camera_is_forgotten():
    page, check = ((PROJECT / "space" / f"{name}.py").read_text() for name in ("app", "uploads"))
    (checked_every_s,) = re.findall(r"^CHECKED_EVERY_S = (\d+)$", check, flags=re.M)
    assert FORGOTTEN_AFTER_S + int(checked_every_s) <= 60
    card = " ".join(str(space_card("user/page", "user/model")).split())
    assert "within a minute after you stop the camera" in card
    assert "within a minute after you stop the camera" in page

"""The strip of moments: frames above answers, and names that fit."""

import numpy as np
import pytest

from avt_distill.pictures.strip import Moment, draw_strip


def moments(answer: str, *, shade: int = 0, truth: str = "crack egg", num_frames: int = 4) -> list[Moment]:
    frames = np.full((num_frames, 72, 96, 3), shade, dtype=np.uint8)
    anticipated = {"baseline": ("cut onion", 0.4), "distilled": (answer, 0.9)}
    return [Moment(frames, 2.0 * number, 2.0 * number + 0.5, truth, anticipated) for number in range(3)]


@pytest.fixture
def drawn(tmp_path):
    """Draws moments, and returns the picture."""
    pytest.importorskip("matplotlib")
    from matplotlib.image import imread

    def draw(shown: list[Moment], title: str = "kitchen_$1.mp4") -> np.ndarray:
        draw_strip(shown, title, tmp_path / "strip.png")
        return imread(tmp_path / "strip.png")

    return draw


def test_a_strip_shows_answers_and_frames(drawn):
    right, wrong = drawn(moments("crack egg")), drawn(moments("fry onion"))
    bright = drawn(moments("crack egg", shade=200))
    assert right.shape == wrong.shape == bright.shape
    half = len(right) // 2
    assert np.array_equal(right[:half], wrong[:half])  # the same frames
    assert not np.array_equal(right[half:], wrong[half:])
    assert not np.array_equal(right[:half], bright[:half])


def test_long_names_do_not_run_into_the_next_moment(drawn):
    name = "take the very large cutting board from the cupboard"
    short, long = moments("crack egg"), moments(name, truth=name)
    before, after = drawn(short), drawn([long[0], *short[1:]])
    assert before.shape == after.shape
    column = before.shape[1] // 3
    assert not np.array_equal(before[:, :column], after[:, :column])
    assert np.array_equal(before[:, column + 5 :], after[:, column + 5 :])


def test_the_title_of_a_single_moment_is_not_cut_off(drawn):
    short, long = drawn(moments("")[:1], "test"), drawn(moments("")[:1], "a test video: what comes next?" * 3)
    assert short.shape[1] == pytest.approx(long.shape[1], abs=5)
    assert len(short) + 30 < len(long)  # more lines


def test_a_single_frame_is_enough(drawn):
    assert len(drawn(moments("crack egg", num_frames=1))) < len(drawn(moments("crack egg")))


def test_refuses_no_moments(tmp_path):
    with pytest.raises(ValueError, match="moments is empty"):
        draw_strip([], "", tmp_path / "none.png")

"""The picture of a timeline: bars and frames share one time axis."""

import numpy as np
import pytest
from helpers.timelines import moment, with_history

from avt_distill.pictures.style import COLORS
from avt_distill.pictures.timeline import Film, draw_timeline, film_times

BLUE, ORANGE = (0x00, 0x72, 0xB2), (0xE6, 0x9F, 0x00)  # colors of the first two rows


def columns_of(picture: np.ndarray, color: str) -> np.ndarray:
    """Returns the number of pixels of a color in each column of a picture."""
    rgb = np.array([int(color[place : place + 2], 16) for place in (1, 3, 5)]) / 255
    return (np.abs(picture[:, :, :3] - rgb).max(-1) < 0.02).sum(0)


def test_bars_are_below_the_frames_of_their_time_as_high_as_they_are_probable(tmp_path):
    pytest.importorskip("matplotlib")
    from matplotlib.image import imread

    frame = np.full((1, 20, 30, 3), (255, 0, 0), dtype=np.uint8)
    timeline = [moment(1.0, cut=0.9, mix=0.1), moment(2.0, cut=0.5, mix=0.5), moment(3.0, mix=1.0, cut=0.0)]
    draw_timeline(timeline, Film(frame, [3.5], 4.0), "a $title$", tmp_path / "out.png")
    picture = imread(tmp_path / "out.png")
    heights = columns_of(picture, COLORS[0])  # the first row's likeliest action: cut
    edges = np.flatnonzero(np.diff((heights > 0).astype(int)))
    assert len(edges) == 4  # two bars, from 2 s and from 3 s on
    second = edges[2] - edges[0]
    assert edges[[1, 3]] - edges[[0, 2]] == pytest.approx(0.94 * second, abs=2)
    assert heights[edges[0] + 5] / heights[edges[2] + 5] == pytest.approx(0.9 / 0.5, rel=0.08)
    red = np.flatnonzero(columns_of(picture, "#FF0000"))
    assert red.mean() == pytest.approx(edges[2] + 0.5 * second, abs=2)
    assert len(red) / columns_of(picture, "#FF0000").max() == pytest.approx(30 / 20, abs=0.05)


def test_what_was_recognized_is_a_band_in_the_colors_of_the_rows(tmp_path):
    pytest.importorskip("matplotlib")
    from matplotlib.image import imread

    film = Film(np.zeros((1, 20, 30, 3), dtype=np.uint8), [3.5], 4.0)
    plain = [moment(1.0, mix=0.9, cut=0.1), moment(2.0, mix=0.2, cut=0.8)]
    nothing = [with_history(shown) for shown in plain]
    read = [nothing[0], with_history(plain[1], mix=0.0, cut=1.0)]
    sizes = {}
    for name, timeline in {"plain": plain, "nothing": nothing, "read": read}.items():
        draw_timeline(timeline, film, name, tmp_path / f"{name}.png")
        sizes[name] = imread(tmp_path / f"{name}.png").shape
    assert sizes["plain"][0] < sizes["nothing"][0]
    picture = imread(tmp_path / "read.png")
    shade = 0.15 + 0.45 * 0.8
    light = ["#" + "".join(f"{round(255 - shade * (255 - value)):02X}" for value in rgb) for rgb in (BLUE, ORANGE)]
    mix, cut = (np.flatnonzero(columns_of(picture, color) > 10) for color in light)
    assert np.ptp(mix) == pytest.approx(np.ptp(cut), rel=0.05)  # 1 s each, the second until the last moment
    assert mix.max() < cut.min()


@pytest.mark.parametrize("aspect", [0.1, 9 / 16, 16 / 9, 4.0, 20.0])
def test_frames_fit_side_by_side(aspect):
    times = film_times([moment(float(at_s)) for at_s in range(1, 600)], 1000.0, aspect)
    assert len(times) == 1 or np.diff(times).min() > 600 * 1.2 * aspect / 11  # seconds that a frame is wide
    assert times[0] == pytest.approx(601 - times[-1])


def test_no_frame_is_later_than_the_end_of_the_video():
    assert film_times([moment(5.0)], 5.0, 16 / 9).max() < 5.0


def test_long_timelines_and_many_actions_fit(tmp_path):
    pytest.importorskip("matplotlib")
    timeline = [moment(float(t), **{f"action_{t % 30:02}_of_a_very_long_name_{t % 30}": 0.9}) for t in range(1, 601)]
    times = film_times(timeline, 600.0, 16 / 9)
    assert 4 <= len(times) <= 8
    draw_timeline(timeline, Film(np.zeros((len(times), 9, 16, 3), np.uint8), times, 600.0), "t", tmp_path / "out.png")
    assert (tmp_path / "out.png").stat().st_size > 10_000


def test_refuses_a_timeline_without_moments(tmp_path):
    with pytest.raises(ValueError, match="timeline is empty"):
        draw_timeline([], Film(np.zeros((1, 2, 2, 3), np.uint8), [0.0], 1.0), "t", tmp_path / "out.png")

"""A picture of what was anticipated along a video. Matplotlib is of the extra `plots`."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from .strip import GREY, MARGIN, TITLE

# In inches: length of the axis, room for names, heights of the frames and of a row, room that a number needs.
AXIS, LABELS, FILM, ROW, NUMBER = 11.0, 2.1, 1.1, 0.5, 0.4
MAX_ROWS, LONGEST = 8, 26  # actions, and letters of their names
FULL = 0.92  # of a row: the height of a bar of probability 1
COLOURS = ("#0550ae", "#953800", "#1a7f37", "#8250df", "#bf3989", "#0e7c86", "#6e4c00", "#a40e26")


@dataclass
class Film:
    """Frames of a video, to stand above what was anticipated in it.

    Args:
        frames (`np.ndarray` of uint8, `(F, H, W, 3)`): In the order of time.
        times_s (`Sequence[float]` of length F): When each is shown.
        duration_s (`float`): Of the whole video.
    """

    frames: np.ndarray
    times_s: Sequence[float]
    duration_s: float


def film_times(timeline: Sequence[Mapping], duration_s: float, aspect: float) -> np.ndarray:
    """Returns when to take the frames that fit side by side above a timeline, in seconds.

    Args:
        timeline (`Sequence[Mapping]`): As `draw_timeline` takes it.
        duration_s (`float`): Of the video.
        aspect (`float`): Width of a frame over its height.
    """
    shown_s = timeline[-1]["starts_at_s"] + _step(timeline)
    frame_s = shown_s * max(FILM * aspect + 0.06, 0.3) / AXIS
    return np.arange(frame_s / 2, duration_s, frame_s)


def draw_timeline(timeline: Sequence[Mapping], film: Film, title: str, path: str | Path):
    """Draws what was anticipated along a video as a PNG: frames above, below them a row of bars for each action.

    A bar stands where its action was said to start, as high as it was probable; the likeliest action of a moment is
    dark. Bars and frames share one clock: below a frame stands what had been anticipated for its time.

    Args:
        timeline (`Sequence[Mapping]`): What the pipeline answers with `every`: at least one moment.
        film (`Film`): Frames of the video.
        title (`str`): What stands above.
        path (`str` or `Path`): PNG to write.

    Raises:
        ValueError: without moments.
    """
    from matplotlib.figure import Figure  # of an extra

    if not timeline:
        raise ValueError("timeline is empty: give at least one moment.")
    step, end_s = _step(timeline), timeline[-1]["starts_at_s"] + _step(timeline)
    actions, num_others = _rows(timeline)
    rows = len(actions) * ROW
    width, height = LABELS + AXIS + MARGIN, TITLE + FILM + 0.1 + rows + 0.75
    figure = Figure(figsize=(width, height), facecolor="white")
    figure.text(MARGIN / width, 1 - 0.13 / height, title, fontsize=11, va="top", parse_math=False)
    axes = figure.add_axes((LABELS / width, 0.75 / height, AXIS / width, rows / height))
    strip = figure.add_axes((LABELS / width, (0.75 + rows + 0.1) / height, AXIS / width, FILM / height))
    half_s = FILM * film.frames.shape[2] / film.frames.shape[1] / AXIS * end_s / 2
    for frame, time_s in zip(film.frames, film.times_s, strict=True):
        strip.imshow(frame, extent=(time_s - half_s, time_s + half_s, 0, 1), aspect="auto")
    strip.set(xlim=(0, end_s), ylim=(0, 1))
    strip.axis("off")
    for row, action in enumerate(actions):
        said = [
            (moment["starts_at_s"], answer["score"], rank == 0)
            for moment in timeline
            for rank, answer in enumerate(moment["anticipated"])
            if answer["label"] == action
        ]
        _draw_bars(axes, row, *map(np.array, zip(*said, strict=True)), COLOURS[row % len(COLOURS)], step)
        if step / end_s * AXIS > NUMBER:
            for start_s, score, is_likeliest in said:
                if score >= 0.005:  # else it would read 0 %
                    _write_number(axes, row, start_s + step / 2, score, is_likeliest)
    axes.axvline(film.duration_s, color=GREY, linewidth=0.8, linestyle=":")
    axes.set(xlim=(0, end_s), ylim=(len(actions), 0))
    axes.set_yticks(np.arange(len(actions)) + 0.5, map(_shortened, actions), fontsize=9.5, parse_math=False)
    axes.set_yticks(np.arange(len(actions) + 1), minor=True)
    axes.tick_params(axis="y", which="both", length=0)
    axes.grid(which="minor", axis="y", color="#d0d7de", linewidth=0.6)
    axes.set_axisbelow(True)
    axes.spines[["top", "right", "left"]].set_visible(False)
    others = f"; {num_others} further actions are left out" if num_others else ""
    tau_a = timeline[0]["starts_at_s"] - timeline[0]["at_s"]
    axes.set_xlabel(
        f"video clock in seconds: when the action starts, which was anticipated {tau_a:g} s earlier\nheight of a bar: "
        f"probability; dark: the likeliest; dotted: end of the video{others}",
        fontsize=9,
        color=GREY,
    )
    figure.savefig(path, dpi=130, format="png")


def _step(timeline: Sequence[Mapping]) -> float:
    """Returns the seconds between two moments; of a single one, those that it comes after the beginning."""
    if len(timeline) > 1:
        return timeline[1]["at_s"] - timeline[0]["at_s"]
    return max(timeline[0]["at_s"], 1.0)


def _rows(timeline: Sequence[Mapping]) -> tuple[list[str], int]:
    """Returns the actions that get a row, those first that are first likely, and how many others there are."""
    best, moment_of_best = {}, {}
    for number, moment in enumerate(timeline):
        for rank, answer in enumerate(moment["anticipated"]):
            strength = (rank == 0, answer["score"])
            if strength > best.get(answer["label"], (False, 0.0)):
                best[answer["label"]], moment_of_best[answer["label"]] = strength, number
    strongest = sorted(best, key=best.get, reverse=True)[:MAX_ROWS]
    return sorted(strongest, key=moment_of_best.get), len(best) - len(strongest)


def _draw_bars(axes, row: int, starts: np.ndarray, scores: np.ndarray, likeliest: np.ndarray, colour: str, step: float):
    for chosen, alpha in ((likeliest, 1.0), (~likeliest, 0.35)):
        heights = -FULL * scores[chosen]  # the axis points down
        axes.bar(starts[chosen], heights, step * 0.94, row + 1, align="edge", color=colour, alpha=alpha)


def _write_number(axes, row: int, middle_s: float, score: float, is_likeliest: bool):
    """Writes a probability above its bar, or into it where it is too high for that."""
    is_inside = score > 0.6
    axes.text(
        middle_s,
        row + 1 - FULL * score + (0.04 if is_inside else -0.04),
        f"{100 * score:.0f} %",
        ha="center",
        va="top" if is_inside else "bottom",
        fontsize=7.5,
        color="white" if is_inside and is_likeliest else "black",
    )


def _shortened(label: str) -> str:
    return label if len(label) <= LONGEST else label[: LONGEST - 1] + "\N{HORIZONTAL ELLIPSIS}"

"""Plots of the anticipated actions along a video."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from .style import COLORS, GREY, OTHER, SMALL_PT, picture, shortened

# In inches: width of the picture, least width of its time axis, heights of frames, of a row and of everything else, and
# width of a number.
WIDTH, AXIS, FILM, ROW, REST, NUMBER = 13.3, 11.0, 1.2, 0.5, 1.3, 0.4
BAND, LETTER = 0.3, 0.075  # height of what was recognized, and width of a letter in it
MAX_ROWS = 8
FULL = 0.7  # height of a bar of probability 1, in rows; its number is above it


@dataclass
class Film:
    """Frames of a video, drawn above what was anticipated in it.

    Args:
        frames (`np.ndarray` of uint8, `(F, H, W, 3)`): In the order of time.
        times_s (`Sequence[float]` of length F): Time of each frame.
        duration_s (`float`): Of the whole video.
    """

    frames: np.ndarray
    times_s: Sequence[float]
    duration_s: float


def film_times(timeline: Sequence[Mapping], duration_s: float, aspect: float) -> np.ndarray:
    """Returns the times, in seconds, of the frames that fit side by side above a timeline.

    Args:
        timeline (`Sequence[Mapping]`): As for `draw_timeline`.
        duration_s (`float`): Of the video.
        aspect (`float`): Width of a frame over its height.
    """
    num_frames = max(int(AXIS / max(FILM * aspect + 0.06, 0.3)), 1)
    times = (np.arange(num_frames) + 0.5) / num_frames * (timeline[-1]["starts_at_s"] + _step(timeline))
    return times[times < duration_s]


def draw_timeline(timeline: Sequence[Mapping], film: Film, title: str, path: str | Path, *, mark: str = ""):
    """Draws what was anticipated along a video as a PNG: frames above, and a row of bars for each action.

    The left edge of a bar is the anticipated start of the action and its height the probability; the likeliest action
    of each moment is solid. Bars and frames share one clock: below a frame is what had been anticipated for its time.
    With a reader, a band between the two shows the actions recognized by the last moment.

    Args:
        timeline (`Sequence[Mapping]`): The pipeline's answer with `every`: at least one moment.
        film (`Film`): Frames of the video.
        title (`str`): Text above the picture.
        path (`str` or `Path`): PNG to write.
        mark (`str`, *optional*): See `picture`.

    Raises:
        ValueError: If there are no moments.
    """
    from matplotlib.offsetbox import AnnotationBbox, OffsetImage  # of an extra

    if not timeline:
        raise ValueError("timeline is empty: give at least one moment.")
    step, tau_a = _step(timeline), timeline[0]["starts_at_s"] - timeline[0]["at_s"]
    end_s = timeline[-1]["starts_at_s"] + step
    answers, actions, num_others = _rows(timeline)
    rows, history = ROW * len(actions), timeline[-1].get("history")
    heights = [FILM, rows] if history is None else [FILM, BAND, rows]
    with picture(path, WIDTH, REST + sum(heights), title, mark=mark) as figure:
        strip, *band, axes = figure.subplots(len(heights), 1, sharex=True, height_ratios=heights)
        strip.axis("off")
        for frame, time_s in zip(film.frames, film.times_s, strict=True):
            image = OffsetImage(frame, zoom=72 * FILM / len(frame))
            strip.add_artist(AnnotationBbox(image, (time_s, 0.5), frameon=False, pad=0))
        if history is not None:
            _draw_band(band[0], history, actions, timeline[-1]["at_s"], end_s)
        row, score = answers["label"].map(actions.index), answers["score"]
        alpha = np.where(answers["likeliest"], 1.0, 0.35)
        colors = list(zip(np.take(COLORS, row), alpha, strict=True))
        bars = axes.bar(answers["start_s"], FULL * score, 0.94 * step, -1 - row, align="edge", color=colors)
        if step / end_s * AXIS > NUMBER:
            numbers = [f"{100 * share:.0f} %" if share >= 0.005 else "" for share in score]
            axes.bar_label(bars, numbers, padding=1, fontsize=SMALL_PT)
        axes.axvline(film.duration_s, color=GREY, linewidth=0.8, linestyle=":")
        axes.set(xlim=(0, end_s), ylim=(-len(actions), 0))
        axes.set_yticks(-1 - np.arange(len(actions)), map(shortened, actions), va="bottom")
        others = f"; {num_others} further actions are left out" if num_others else ""
        when = f"start of the action in seconds, anticipated {tau_a:g} s earlier"
        marks = f"height of a bar: probability; solid: the likeliest; dotted: end of the video{others}"
        axes.set_xlabel(f"{when}\n{marks}", color=GREY)


def _draw_band(axes, history: Sequence[Mapping], actions: Sequence[str], until_s: float, end_s: float):
    """Draws recognized actions from the beginning of each to that of the next, in the colors of their rows."""
    ends = [*(entry["start_s"] for entry in history), until_s][1:]
    for entry, end in zip(history, ends, strict=True):
        label, start_s, width_s = entry["label"], entry["start_s"], end - entry["start_s"]
        color = COLORS[actions.index(label)] if label in actions else OTHER
        alpha = 0.15 + 0.45 * entry["probability"]  # light enough for the text in it
        axes.barh(0, width_s, 1, start_s, align="edge", color=color, alpha=alpha)
        letters = int(width_s / end_s * AXIS / LETTER)
        if letters > 3:
            axes.text(start_s + width_s / 2, 0.5, shortened(label, letters), ha="center", va="center")
    axes.set(ylim=(0, 1))
    axes.set_yticks([0.5], [f"recognized by {until_s:g} s"])
    axes.tick_params(bottom=False)
    axes.spines["bottom"].set_visible(False)
    axes.grid(False)


def _step(timeline: Sequence[Mapping]) -> float:
    """Returns the seconds between two moments or, for a single moment, between the beginning and that moment."""
    if len(timeline) > 1:
        return timeline[1]["at_s"] - timeline[0]["at_s"]
    return max(timeline[0]["at_s"], 1.0)


def _rows(timeline: Sequence[Mapping]) -> tuple[pd.DataFrame, list[str], int]:
    """Returns the answers to draw, their actions by row, ordered by their best moments, and the number of others."""
    answers = pd.DataFrame(
        {"start_s": moment["starts_at_s"], "label": answer["label"], "score": answer["score"], "likeliest": rank == 0}
        for moment in timeline
        for rank, answer in enumerate(moment["anticipated"])
    )
    best = answers.sort_values(["likeliest", "score"], ascending=False).drop_duplicates("label")
    actions = best.head(MAX_ROWS).sort_values("start_s")["label"].tolist()
    return answers[answers["label"].isin(actions)], actions, len(best) - len(actions)

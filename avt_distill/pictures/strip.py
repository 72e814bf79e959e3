"""Pictures of what students anticipate. Matplotlib is of the extra `plots`."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

HIT, MISS, GREY = "#1a7f37", "#cf222e", "#57606a"
# In inches.
COLUMN, MARGIN, TITLE, TEXT_LINE = 2.3, 0.2, 0.45, 0.21


@dataclass
class Moment:
    """What was seen up to a moment, what came next, and what each model thought would.

    Args:
        frames (`np.ndarray` of uint8, `(T, H, W, 3)`): What was observed, in the order of time.
        at_s (`float`): When the observation ended.
        starts_at_s (`float`): When the next action started.
        truth (`str`): That action.
        anticipated (`Mapping[str, tuple[str, float]]`): Each model's first choice and its probability.
    """

    frames: np.ndarray
    at_s: float
    starts_at_s: float
    truth: str
    anticipated: Mapping[str, tuple[str, float]]


def draw_strip(moments: Sequence[Moment], title: str, path: str | Path):
    """Draws moments of a video side by side as a PNG: the last frame large, those before it small, the answers below.

    Args:
        moments (`Sequence[Moment]`): At least one, of the same models and as many frames.
        title (`str`): What stands above.
        path (`str` or `Path`): PNG to write.

    Raises:
        ValueError: without moments.
    """
    from matplotlib.figure import Figure  # of an extra

    if not moments:
        raise ValueError("moments is empty: give at least one.")
    num_earlier = len(moments[0].frames) - 1
    frame_height, frame_width = moments[0].frames.shape[1:3]
    large = (COLUMN - MARGIN) * frame_height / frame_width
    small = large / num_earlier if num_earlier else 0.0
    text = TEXT_LINE * (3.5 + 2 * len(moments[0].anticipated))
    width, height = len(moments) * COLUMN + MARGIN, TITLE + small + large + text
    figure = Figure(figsize=(width, height), facecolor="white")
    figure.text(MARGIN / width, 1 - 0.13 / height, title, fontsize=11, va="top", parse_math=False)

    def show(frame: np.ndarray, left: float, bottom: float, inches: float):
        box = (left / width, bottom / height, inches / width, inches * frame_height / frame_width / height)
        axes = figure.add_axes(box)
        axes.imshow(frame)
        axes.axis("off")

    for number, moment in enumerate(moments):
        left, inches = MARGIN + number * COLUMN, COLUMN - MARGIN
        for place, frame in enumerate(moment.frames[:-1]):
            show(frame, left + place * inches / num_earlier, text + large + 0.04, inches / num_earlier - 0.03)
        show(moment.frames[-1], left, text, inches)
        for line, (words, style) in enumerate(_lines(moment), start=1):
            place = left / width, (text - line * TEXT_LINE) / height
            figure.text(*place, words, fontsize=9.5, va="baseline", parse_math=False, **style)
    figure.savefig(path, dpi=130, format="png")


def _lines(moment: Moment) -> list[tuple[str, dict]]:
    """Returns the text below a moment's frames, line by line, with its style."""
    lines = [
        (f"seen until {moment.at_s:.1f} s", {"color": GREY}),
        (f"next, at {moment.starts_at_s:.1f} s:", {"color": GREY}),
        (moment.truth, {"color": "black", "weight": "bold"}),
    ]
    for model, (action, probability) in moment.anticipated.items():
        hit = action == moment.truth
        mark = "\N{CHECK MARK}" if hit else "\N{MULTIPLICATION X}"
        lines.append((f"{model}:", {"color": GREY}))
        lines.append((f"{mark} {action}, {100 * probability:.0f} %", {"color": HIT if hit else MISS}))
    return lines

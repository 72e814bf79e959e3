"""A picture of moments of a video side by side, with each model's answer."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from .style import GREY, HIT, MISS, picture, shortened

COLUMN, LINE_PT = 2.3, 15  # width of a moment in inches; height of a line of text
GAP = 0.03  # between frames, of the width of the large one


@dataclass
class Moment:
    """The frames observed up to a moment, the next action, and each model's answer.

    Args:
        frames (`np.ndarray` of uint8, `(T, H, W, 3)`): The observed frames, in the order of time.
        at_s (`float`): End of the observed window.
        starts_at_s (`float`): Start of the next action.
        truth (`str`): The next action.
        anticipated (`Mapping[str, tuple[str, float]]`): Each model's likeliest action and its probability.
    """

    frames: np.ndarray
    at_s: float
    starts_at_s: float
    truth: str
    anticipated: Mapping[str, tuple[str, float]]


def draw_strip(moments: Sequence[Moment], title: str, path: str | Path):
    """Draws moments side by side as a PNG: the earlier frames small, the last one large, the answers below.

    Args:
        moments (`Sequence[Moment]`): At least one moment; all have the same models and number of frames.
        title (`str`): Text above the picture.
        path (`str` or `Path`): PNG to write.

    Raises:
        ValueError: If there are no moments.
    """
    if not moments:
        raise ValueError("moments is empty: give at least one.")
    num_frames, height, width = moments[0].frames.shape[:3]
    # Room enough for everything: the picture is cropped to what is drawn.
    room = 2 * COLUMN * height / width * (1 + 1 / num_frames) + 0.5 * (3 + len(moments[0].anticipated))
    with picture(path, COLUMN * len(moments), room, title) as figure:
        columns = figure.subplots(1, len(moments), squeeze=False, gridspec_kw={"wspace": 0.06})
        for axes, moment in zip(columns[0], moments, strict=True):
            _draw_moment(axes, moment)


def _draw_moment(axes, moment: Moment):
    *earlier, last = moment.frames
    top = last.shape[0] / last.shape[1]  # the large frame is 1 wide
    axes.imshow(last, extent=(0, 1, 0, top))
    pitch = (1 + GAP) / max(len(earlier), 1)
    small_top = top + GAP + (pitch - GAP) * top if earlier else top
    for number, frame in enumerate(earlier):
        left = number * pitch
        axes.imshow(frame, extent=(left, left + pitch - GAP, top + GAP, small_top))
    axes.set(xlim=(0, 1), ylim=(0, small_top), anchor="N")
    axes.axis("off")
    grey = {"color": GREY}
    lines = [(f"observed until {moment.at_s:.1f} s", grey), (f"next, at {moment.starts_at_s:.1f} s:", grey)]
    lines.append((moment.truth, {"weight": "bold"}))
    for model, (action, probability) in moment.anticipated.items():
        mark, color = ("\N{CHECK MARK}", HIT) if action == moment.truth else ("\N{MULTIPLICATION X}", MISS)
        lines += [(f"{model}, {100 * probability:.0f} %:", grey), (f"{mark} {action}", {"color": color})]
    for number, (line, style) in enumerate(lines):
        place = {"xycoords": "axes fraction", "textcoords": "offset points", "va": "top"}
        axes.annotate(shortened(line), (0, 0), (0, -5 - number * LINE_PT), **place, **style)

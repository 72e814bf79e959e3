"""Plots of a teacher's predictions for one video: the actions over time, and one line each with the best
predictions."""

import math
from collections import Counter
from pathlib import Path

import numpy as np
import pandas as pd

from ..data.labels import UNLABELLED, LabelSpace
from ..teacher.inspection import TOP_K
from .style import COLORS, GREY, HIT, LINE, MISS, OTHER, SMALL_PT, picture, shortened

# In inches: widths of the time axis and of a cell, heights of a row, of a row of the key, and of everything else.
TIME_WIDTH, CELL, ROW, KEY_ROW, REST = 5.0, 2.0, 0.24, 0.18, 1.05
TRUTH = 1.25  # width of truth and rank, in cells
KEY_COLUMNS = 8
HEADER, OVERVIEW = -0.9, -1.5  # above the first row, in rows
TIME_STEPS_S = (1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600)


def draw_teacher_table(
    rows: pd.DataFrame, segments: pd.DataFrame, space: LabelSpace, title: list[str], path: Path, *, mark: str = ""
):
    """Draws the video's actions over time and, for each row, the truth and the teacher's best as shaded cells.

    Args:
        rows (`pd.DataFrame`): The video's rows, with the teacher's `best` actions, their `probabilities`, and the
            `rank` of the true action (from 0; -1: unlabeled).
        segments (`pd.DataFrame`): The segments of the video that histories are taken from.
        space (`LabelSpace`): Their labels.
        title (`list[str]`): Lines above the picture.
        path (`Path`): PNG to write.
        mark (`str`, *optional*): See `picture`.
    """
    from matplotlib.patches import Patch  # of an extra

    colors, key = colors_of([*segments["action"], *rows["action"]], space)
    widths = (TIME_WIDTH, CELL * (TRUTH + len(rows["best"].iloc[0])))
    heights = (KEY_ROW * math.ceil(len(key) / KEY_COLUMNS), ROW * (len(rows) - OVERVIEW))
    with picture(path, sum(widths), sum(heights) + REST, "\n".join(title), SMALL_PT, mark) as figure:
        panels = [["key", "key"], ["times", "cells"]]
        axes = figure.subplot_mosaic(panels, width_ratios=widths, height_ratios=heights)
        patches = [Patch(color=color) for _, color in key]
        axes["key"].legend(patches, [name for name, _ in key], loc="upper left", ncols=KEY_COLUMNS)
        axes["key"].axis("off")
        axes["cells"].sharey(axes["times"])
        draw_times(axes["times"], rows, segments, colors)
        draw_cells(axes["cells"], rows, space)
        for panel in (axes["times"], axes["cells"]):
            panel.hlines(np.arange(len(rows) + 1) - 0.5, *panel.get_xlim(), color=LINE, linewidth=0.6, zorder=0.5)


def colors_of(actions: list[int], space: LabelSpace) -> tuple[dict[int, str], list[tuple[str, str]]]:
    """Returns the color of each action, by verb if there are verbs, and the names of the colors."""
    by_verb = space.verb_noun_ids is not None
    names = space.verbs if by_verb else space.actions
    known = [action for action in actions if action != UNLABELLED]
    group_of = {action: int(space.verb_noun_ids[action, 0]) if by_verb else action for action in known}
    frequent = Counter(group_of[action] for action in known).most_common(len(COLORS))
    color_of = {group: color for (group, _), color in zip(frequent, COLORS, strict=False)}
    colors = {action: color_of.get(group_of.get(action), OTHER) for action in actions}
    key = [(shortened(names[group]), color) for group, color in color_of.items()]
    return colors, key + [("other", OTHER)] * (OTHER in colors.values())


def draw_times(axes, rows: pd.DataFrame, segments: pd.DataFrame, colors: dict[int, str]):
    """Draws the segments above and each row's action in a line of its own, over time."""
    from matplotlib.ticker import MultipleLocator

    for y, table in ((np.full(len(segments), OVERVIEW), segments), (np.arange(len(rows)), rows)):
        color = [colors[action] for action in table["action"]]
        # The edge shows actions that are shorter than a pixel.
        axes.barh(y, table["end_s"] - table["start_s"], 0.72, table["start_s"], color=color, edgecolor=color)
    first_s, last_s = axes.get_xlim()
    step = next((step for step in TIME_STEPS_S if (last_s - first_s) / step <= 10), TIME_STEPS_S[-1])
    axes.xaxis.set_major_locator(MultipleLocator(step))
    axes.xaxis.set_major_formatter(lambda seconds, _: f"{int(seconds) // 60}:{int(seconds) % 60:02d}")
    axes.set(xlim=(first_s, last_s), xlabel="time (min:s)", ylim=(len(rows) - 0.5, OVERVIEW - 0.5))
    axes.set_yticks([])


def draw_cells(axes, rows: pd.DataFrame, space: LabelSpace):
    """Draws truth and rank of each row, and the teacher's best, shaded by probability."""
    from matplotlib.colors import LinearSegmentedColormap

    best, shares = np.stack(rows["best"]), np.stack(rows["probabilities"])
    num_rows, num_best = best.shape
    shades = LinearSegmentedColormap.from_list("", ["white", COLORS[0]])
    edges = np.arange(num_best + 1), np.arange(num_rows + 1) - 0.5
    axes.pcolormesh(*edges, shares, cmap=shades, vmin=0, vmax=1, edgecolor="white", linewidth=3)
    y, x = np.nonzero(best == rows["action"].to_numpy()[:, None])
    axes.bar(x + 0.5, 0.86, 0.98, y - 0.43, color="none", edgecolor=HIT, linewidth=1.6)
    axes.set(xlim=(-TRUTH, num_best), xticks=[])
    axes.spines["bottom"].set_visible(False)

    def write(x: float, y: float, text: str, **style):
        axes.text(x, y, text, va="center_baseline", in_layout=False, **style)

    write(0.04 - TRUTH, HEADER, "truth", color=GREY)
    write(-0.04, HEADER, "rank", color=GREY, ha="right")
    for x in range(num_best):
        write(x + 0.04, HEADER, f"{x + 1}." if x else "teacher's 1st", color=GREY)
    for y, (action, rank) in enumerate(zip(rows["action"], rows["rank"], strict=True)):
        missed, color = rank >= TOP_K, "black" if rank < 0 else MISS if rank >= TOP_K else HIT
        name, mark = shortened(name_of(action, space)), "\N{HEAVY BALLOT X} " if missed else ""
        write(0.04 - TRUTH, y, name, color=color, weight="bold" if missed else "normal")
        write(-0.04, y, "?" if rank < 0 else f"{mark}{rank + 1}", color=color, ha="right", weight="bold")
        for x, share in enumerate(shares[y]):
            percent = f"{100 * share:.0f}".rjust(3, "\N{FIGURE SPACE}")
            text = f"{percent} %  {shortened(space.actions[best[y, x]])}"
            write(x + 0.02, y, text, color="white" if share > 0.8 else "black")


def name_of(action: int, space: LabelSpace) -> str:
    """Returns an action's name, `?` for an unlabeled one."""
    return "?" if action == UNLABELLED else space.actions[action]

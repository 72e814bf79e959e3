"""What a teacher says about one video: its actions over time, and a line for each with the teacher's best."""

import math
from collections import Counter
from pathlib import Path

import numpy as np
import pandas as pd

from ..data.labels import LabelSpace
from ..metrics import UNKNOWN_LABEL
from ..teacher.inspection import TOP_K

# The picture, in inches.
ROW, MARGIN, TITLE, KEY_ROW, TIME_AXIS = 0.24, 0.25, 0.5, 0.15, 0.5
TIME_WIDTH, TRUTH_WIDTH, RANK_WIDTH, CELL_WIDTH, KEY_WIDTH = 5.0, 1.9, 0.45, 1.9, 1.9
FONT_SIZE = 7
NAME_LENGTH = 27  # characters of that size beside a cell's probability
TITLE_LENGTH = 150
MAX_COLOURS = 18
OTHER, SHADE, HIT, MISS, STRIPE = "#b8b8b8", "#2b6cb0", "#1a7f37", "#cf222e", "#f3f4f6"
TIME_STEPS_S = (1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600)


def draw_teacher_table(rows: pd.DataFrame, segments: pd.DataFrame, space: LabelSpace, title: list[str], path: Path):
    """Draws the video's actions over time and, a line for each row, the truth and the teacher's best as shaded cells.

    Args:
        rows (`pd.DataFrame`): The video's rows, judged.
        segments (`pd.DataFrame`): The segments of the video that histories are taken from.
        space (`LabelSpace`): Their labels.
        title (`list[str]`): Two lines above the picture.
        path (`Path`): PNG to write.
    """
    from matplotlib.figure import Figure  # of an extra
    from matplotlib.patches import Rectangle

    num_best = len(rows["best"][0])
    cells_width = TRUTH_WIDTH + RANK_WIDTH + CELL_WIDTH * num_best
    width = 2 * MARGIN + TIME_WIDTH + cells_width
    colours, key = colours_of([*segments["action"], *rows["action"]], space)
    num_columns = int((width - 2 * MARGIN) // KEY_WIDTH)
    table_height, key_height = ROW * len(rows), KEY_ROW * math.ceil(len(key) / num_columns)
    height = MARGIN + TITLE + key_height + MARGIN + 1.5 * ROW + table_height + TIME_AXIS
    figure = Figure(figsize=(width, height), facecolor="white")

    def axes(left: float, bottom: float, w: float, h: float, **shared):
        return figure.add_axes((left / width, bottom / height, w / width, h / height), **shared)

    times = axes(MARGIN, TIME_AXIS, TIME_WIDTH, table_height)
    strip = axes(MARGIN, TIME_AXIS + table_height + ROW / 4, TIME_WIDTH, 1.25 * ROW, sharex=times)
    cells = axes(MARGIN + TIME_WIDTH, TIME_AXIS, cells_width, table_height, sharey=times)
    draw_bars(strip, segments, np.zeros(len(segments)), colours)
    draw_bars(times, rows, np.arange(len(rows)), colours)
    draw_cells(cells, rows, space)
    arrange(times, strip, cells, len(rows), num_best)
    text = "\n".join(shortened(line, TITLE_LENGTH) for line in title)
    figure.text(MARGIN / width, 1 - MARGIN / height, text, fontsize=FONT_SIZE + 3, va="top", parse_math=False)
    handles = [Rectangle((0, 0), 1, 1, color=colour) for colour in key.values()]
    corner = (MARGIN / width, 1 - (MARGIN + TITLE) / height)
    placed = {"loc": "upper left", "bbox_to_anchor": corner, "borderaxespad": 0, "borderpad": 0, "frameon": False}
    figure.legend(handles, list(key), ncols=num_columns, fontsize=FONT_SIZE, **placed)
    figure.savefig(path, dpi=min(130, 65_000 / height), format="png")  # Agg draws at most 2^16 pixels a side


def colours_of(actions: list[int], space: LabelSpace) -> tuple[dict[int, str], dict[str, str]]:
    """Returns the colour of each action, by verb where there are verbs, and the names of the colours."""
    from matplotlib import colormaps
    from matplotlib.colors import to_hex

    known = [action for action in actions if action != UNKNOWN_LABEL]
    by_verb = space.verb_noun_ids is not None
    group_of = {action: int(space.verb_noun_ids[action, 0]) if by_verb else action for action in known}
    names = space.verbs if by_verb else space.actions
    # Strong colours first, their pale twins after; grey stands for all others.
    palette = [to_hex(colormaps["tab20"](index)) for index in (*range(0, 20, 2), *range(1, 20, 2))]
    palette = [colour for index, colour in enumerate(palette) if index % 10 != 7][:MAX_COLOURS]
    frequent = [group for group, _ in Counter(group_of[action] for action in known).most_common(MAX_COLOURS)]
    colour_of = dict(zip(frequent, palette, strict=False))
    key = {shortened(names[group]): colour for group, colour in colour_of.items()}
    colours = {action: colour_of.get(group, OTHER) for action, group in group_of.items()}
    if OTHER in colours.values() or UNKNOWN_LABEL in actions:
        key["other"] = OTHER
    return {**colours, UNKNOWN_LABEL: OTHER}, key


def draw_bars(axes, table: pd.DataFrame, heights: np.ndarray, colours: dict[int, str]):
    """Draws the actions of a table over time, each at its height."""
    colour = [colours[action] for action in table["action"]]
    # The edge shows actions that are shorter than a pixel.
    durations = table["end_s"] - table["start_s"]
    axes.barh(heights, durations, left=table["start_s"], height=0.72, color=colour, edgecolor=colour, linewidth=0.8)


def draw_cells(axes, rows: pd.DataFrame, space: LabelSpace):
    """Draws a line for each row: truth, its rank, and the teacher's best, shaded by probability."""
    from matplotlib.patches import Rectangle

    def write(x: float, y: float, text: str, **options):
        axes.text(x, y, text, fontsize=FONT_SIZE, va="center_baseline", parse_math=False, **options)

    for y, row in enumerate(rows.itertuples()):
        missed, colour = row.rank >= TOP_K, "black" if row.rank < 0 else MISS if row.rank >= TOP_K else HIT
        write(0.08, y, shortened(name_of(row.action, space)), color=colour, weight="bold" if missed else "normal")
        rank = "?" if row.rank < 0 else f"\N{HEAVY BALLOT X} {row.rank + 1}" if missed else str(row.rank + 1)
        write(TRUTH_WIDTH + RANK_WIDTH - 0.08, y, rank, color=colour, ha="right", weight="bold")
        for place, (action, share) in enumerate(zip(row.best, row.probabilities, strict=True)):
            left = TRUTH_WIDTH + RANK_WIDTH + place * CELL_WIDTH
            box = (left + 0.02, y - 0.42), CELL_WIDTH - 0.04, 0.84
            axes.add_patch(Rectangle(*box, facecolor=SHADE, alpha=share, linewidth=0))
            if action == row.action:
                axes.add_patch(Rectangle(*box, fill=False, edgecolor=HIT, linewidth=1.6))
            text_colour = "white" if share > 0.9 else "black"
            write(left + 0.08, y, shortened(space.actions[action]), color=text_colour)
            write(left + CELL_WIDTH - 0.08, y, f"{100 * share:.0f} %", color=text_colour, ha="right")


def arrange(times, strip, cells, num_rows: int, num_best: int):
    """Sets limits, times, stripes and column names."""
    from matplotlib.ticker import MultipleLocator

    times.set_ylim(num_rows - 0.5, -0.5)
    strip.set_ylim(-0.5, 0.5)
    cells_from = TRUTH_WIDTH + RANK_WIDTH
    cells_to = cells_from + num_best * CELL_WIDTH
    cells.set_xlim(0, cells_to)
    for y in range(0, num_rows, 2):
        times.axhspan(y - 0.5, y + 0.5, color=STRIPE, zorder=0, linewidth=0)
        # Not below the cells, whose shade says something.
        cells.axhspan(y - 0.5, y + 0.5, xmax=cells_from / cells_to, color=STRIPE, zorder=0, linewidth=0)
    for axes in (times, strip, cells):
        axes.tick_params(left=False, labelleft=False, bottom=axes is times, labelbottom=axes is times)
        axes.spines[:].set_visible(False)
    times.tick_params(labelsize=FONT_SIZE)
    first_s, last_s = times.get_xlim()
    margin_s = (last_s - first_s) / 100
    times.set_xlim(first_s - margin_s, last_s + margin_s)
    step = next((step for step in TIME_STEPS_S if (last_s - first_s) / step <= 10), TIME_STEPS_S[-1])
    times.xaxis.set_major_locator(MultipleLocator(step))
    times.xaxis.set_major_formatter(lambda seconds, _: f"{int(seconds) // 60}:{int(seconds) % 60:02d}")
    times.grid(axis="x", color="#d0d7de", linewidth=0.6)
    times.set_axisbelow(True)
    times.set_xlabel("time (min:s)", fontsize=FONT_SIZE)
    header = {"fontsize": FONT_SIZE, "color": "#57606a", "va": "bottom"}
    cells.text(0.08, -0.7, "truth", **header)
    cells.text(cells_from - 0.08, -0.7, "rank", ha="right", **header)
    for place in range(num_best):
        name = "teacher's 1st" if place == 0 else f"{place + 1}."
        cells.text(cells_from + place * CELL_WIDTH + 0.08, -0.7, name, **header)


def shortened(name: str, length: int = NAME_LENGTH) -> str:
    return name if len(name) <= length else f"{name[: length - 1]}\N{HORIZONTAL ELLIPSIS}"


def name_of(action: int, space: LabelSpace) -> str:
    return "?" if action == UNKNOWN_LABEL else space.actions[action]

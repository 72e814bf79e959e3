"""Shows what a teacher says about one video: each action's history, the teacher's five best, and the truth.

    python scripts/inspect_teacher.py soft_labels.parquet egtea --data_dir annotations/egtea --config_name split1 \
        --split validation --video OP01-R01-PastaSalad
    python scripts/inspect_teacher.py soft_labels.parquet my_data/ --split test --video dinner \
        --set history_cutoff=ended --temperature 2 --plot teacher.png

The options of the data set must be those that the teacher had: where the file says otherwise, it is refused, as the
histories shown would not be the ones that the teacher read. The picture needs matplotlib: the extra `plots`.
"""

import argparse
import importlib.util
import math
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pandas as pd

from avt_distill.data.builder import AnticipationBuilder
from avt_distill.data.command_line import add_dataset_arguments, dataset_builder
from avt_distill.data.labels import LabelSpace
from avt_distill.metrics import UNKNOWN_LABEL, label_ranks, softmax
from avt_distill.teacher.soft_labels import SoftLabelTable, rows_fingerprint

TOP_K = 5


def main(arguments: list[str] | None = None):
    args = parse_arguments(arguments)
    try:
        builder = dataset_builder(args)
        space = builder.annotations.label_space
        table = SoftLabelTable.load(args.soft_labels, label_space=space)
        rows = rows_of_split(builder, args.split)
        check_histories(table, rows, builder)
        rows = judged(rows_of_video(rows, args.video), table, args.temperature)
    except (ValueError, TypeError, OSError) as error:
        sys.exit(f"error: {error}")
    teacher = "teacher {model}: history_cutoff {history_cutoff}, tau_a {tau_a} s".format(**table.metadata)
    teacher += f", temperature {args.temperature:g}"
    print(teacher)
    print_rows(rows, space, args.history)
    print(summary(rows, args.video))
    if args.plot is not None:
        all_segments = builder.annotations.history.get(args.split, builder.annotations.splits[args.split])
        segments = all_segments[all_segments["video_id"] == args.video]
        draw(rows, segments, space, [summary(rows, args.video), teacher], args.plot)
        print(f"drawn to {args.plot}")


def parse_arguments(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("soft_labels", type=Path, help="Parquet file that SoftLabelTable.save wrote")
    add_dataset_arguments(parser)
    parser.add_argument("--split", required=True, help="such as train or validation")
    parser.add_argument("--video", required=True, help="its video_id")
    parser.add_argument("--temperature", type=float, default=1.0, help="of the probabilities")
    parser.add_argument("--history", type=int, default=4, help="how many of the last past actions are shown")
    parser.add_argument("--plot", type=Path, help="PNG to write")
    args = parser.parse_args(arguments)
    if not 0 < args.temperature < math.inf:
        parser.error(f"--temperature is {args.temperature}: give a positive number")
    if args.history < 1:
        parser.error(f"--history is {args.history}: give a positive number")
    if args.plot is not None and importlib.util.find_spec("matplotlib") is None:
        parser.error("--plot needs matplotlib: pip install 'avt-distill[plots]'")
    return args


def rows_of_split(builder: AnticipationBuilder, split: str) -> pd.DataFrame:
    if split not in builder.annotations.splits:
        raise ValueError(f"There is no split '{split}': give one of {list(builder.annotations.splits)}.")
    return builder.rows(split)


def rows_of_video(rows: pd.DataFrame, video_id: str) -> pd.DataFrame:
    """Returns the rows of a video in the order in which its actions start."""
    videos = sorted(set(rows["video_id"]))
    if video_id not in videos:
        raise ValueError(
            f"The split has no row of a video '{video_id}': give one of its {len(videos)}, such as {videos[:5]}."
        )
    return rows[rows["video_id"] == video_id].sort_values("start_s", kind="stable").reset_index(drop=True)


def check_histories(table: SoftLabelTable, rows: pd.DataFrame, builder: AnticipationBuilder):
    """Refuses a table whose teacher read other histories than the rows have; warns where that cannot be known."""
    harm = "otherwise the histories shown are not those that the teacher read"
    ours = {"history_cutoff": builder.config.history_cutoff, "tau_a": str(float(builder.config.tau_a))}
    for name, value in ours.items():
        if table.metadata[name] != value:
            theirs = table.metadata[name]
            raise ValueError(f"The soft labels have {name} {theirs}, the rows {value}: --set {name}={theirs}; {harm}.")
    labelled = table.metadata.get("labelled")
    if not labelled or set(table.uids) != set(rows["uid"]):
        reason = "cover other rows than the split" if labelled else "do not say which rows they are of"
        print(f"warning: the soft labels {reason}: check yourself that the histories are the same.", file=sys.stderr)
    elif labelled != rows_fingerprint(rows):
        raise ValueError(
            f"The soft labels are of rows {labelled}, not of {rows_fingerprint(rows)}, which have other actions or "
            f"histories: give the annotations, --config_name and --set that the teacher had; {harm}."
        )


def judged(rows: pd.DataFrame, table: SoftLabelTable, temperature: float) -> pd.DataFrame:
    """Returns the rows with `best`, `probabilities` (arrays of `TOP_K`) and `rank` (from 0; -1: unlabelled)."""
    logits, _ = table.select(rows["uid"])
    probabilities = softmax(logits / np.float64(temperature))
    best = np.argsort(-logits, axis=1, kind="stable")[:, :TOP_K]
    labels = rows["action"].to_numpy()
    known = labels != UNKNOWN_LABEL
    ranks = np.full(len(rows), -1)
    ranks[known] = label_ranks(logits[known], labels[known]) if known.any() else ()
    return rows.assign(best=list(best), probabilities=list(np.take_along_axis(probabilities, best, 1)), rank=ranks)


def verdict(rank: int) -> str:
    return "unlabelled" if rank < 0 else "top 1" if rank == 0 else f"top {TOP_K}" if rank < TOP_K else "miss"


def name_of(action: int, space: LabelSpace) -> str:
    return "?" if action == UNKNOWN_LABEL else space.actions[action]


def print_rows(rows: pd.DataFrame, space: LabelSpace, num_past: int):
    """Prints two lines a row: the truth and what was before it, and the teacher's best."""
    truths = [name_of(action, space) for action in rows["action"]]
    widths = [max(map(len, [*column, "truth"])) for column in (rows["uid"], truths)]
    line = f"{{:>9}}  {{:<{widths[0]}}}  {{:<10}}  {{:>5}}  {{:<{widths[1]}}}  {{}}"
    print(line.format("start", "uid", "verdict", "rank", "truth", f"past actions (the last {num_past})"))
    for row, truth in zip(rows.itertuples(), truths, strict=True):
        past = " > ".join(space.actions[action] for action in row.history[-num_past:]) or "none"
        past = f"... > {past}" if len(row.history) > num_past else past
        rank = row.rank + 1 if row.rank >= 0 else "?"
        print(line.format(f"{row.start_s:.1f} s", row.uid, verdict(row.rank), rank, truth, past))
        best = zip(row.best, row.probabilities, strict=True)
        print(f"{'':>11}{' | '.join(f'{100 * share:.1f} % {space.actions[action]}' for action, share in best)}")


def summary(rows: pd.DataFrame, video_id: str) -> str:
    ranks = rows["rank"][rows["rank"] >= 0]
    counts = f"{video_id}: {len(rows)} rows"
    if len(ranks) < len(rows):
        counts += f", {len(rows) - len(ranks)} unlabelled"
    if ranks.empty:
        return counts
    return f"{counts}, top-1 {100 * (ranks < 1).mean():.1f} %, top-{TOP_K} {100 * (ranks < TOP_K).mean():.1f} %"


# The picture, in inches.
ROW, MARGIN, TITLE, KEY_ROW, TIME_AXIS = 0.24, 0.25, 0.5, 0.15, 0.5
TIME_WIDTH, TRUTH_WIDTH, RANK_WIDTH, CELL_WIDTH, KEY_WIDTH = 5.0, 1.9, 0.45, 1.9, 1.9
FONT_SIZE = 7
NAME_LENGTH = 27  # characters of that size beside a cell's probability
TITLE_LENGTH = 150
MAX_COLOURS = 18
OTHER, SHADE, HIT, MISS, STRIPE = "#b8b8b8", "#2b6cb0", "#1a7f37", "#cf222e", "#f3f4f6"
TIME_STEPS_S = (1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600)


def draw(rows: pd.DataFrame, segments: pd.DataFrame, space: LabelSpace, title: list[str], path: Path):
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


if __name__ == "__main__":
    main()

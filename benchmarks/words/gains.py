"""Draws the gains of distilled students over the number of training videos, a panel for each data set.

    python -m benchmarks.words.gains docs/pictures/words_gains.png

The numbers are those of the table `gains` of `benchmarks.tables`, from `benchmarks/results`.
"""

import argparse
from collections import defaultdict
from pathlib import Path

from avt_distill.pictures.style import COLORS, GREY, LINE, picture

from ..tables import STUDENTS, result

# What is drawn: the label, the model, and the model that it is compared with.
COMPARED = (
    ("counts, to no teacher", "counts", "no teacher"),
    ("words, to counts", "vectors", "counts"),
    ("words, to scrambled words", "vectors", "vectors, scrambled"),
)
MARKERS = "osD"
APART = 1.08  # factor between the points of one number of videos, so that their intervals do not overlap


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("path", type=Path, help="PNG to write")
    parser.add_argument("--measure", choices=("top1", "top5", "class_mean_top5"), default="top5")
    args = parser.parse_args()
    draw_gains(gains(args.measure), args.path, args.measure)


def gains(measure: str) -> dict[str, dict[int, dict[str, dict]]]:
    """Returns the differences in a measure with their intervals, by data set, number of videos and comparison."""
    found: dict[str, dict[int, dict[str, dict]]] = defaultdict(dict)
    for name, data in STUDENTS.items():
        for count, models in result(f"words_{name}")["parts"]["student"].items():
            found[data][int(count)] = {label: models[model]["to"][other][measure] for label, model, other in COMPARED}
    return found


def draw_gains(found: dict[str, dict[int, dict[str, dict]]], path: Path, measure: str):
    """Writes a PNG of the differences of `gains`, with their intervals as bars."""
    shown = {"top1": "top-1", "top5": "top-5", "class_mean_top5": "class-mean top-5 recall"}[measure]
    title = f"Gain in {shown} of distilled students, 95 % intervals (except for 50 Salads: SIMULATED recognizer)"
    most = max(count for counts in found.values() for count in counts)
    with picture(path, 3.0 * len(found), 3.6, title) as figure:
        for axes, (data, counts) in zip(figure.subplots(1, len(found), sharey=True), found.items(), strict=True):
            axes.axhline(0, color=LINE, linewidth=1.5)
            for index, (label, _, _) in enumerate(COMPARED):
                known = sorted(counts)
                values = [counts[count][label]["difference"] for count in known]
                below = [counts[count][label]["difference"] - counts[count][label]["low"] for count in known]
                above = [counts[count][label]["high"] - counts[count][label]["difference"] for count in known]
                where = [count * APART ** (index - 1) for count in known]
                style = {"color": COLORS[index], "marker": MARKERS[index], "markersize": 4, "linewidth": 1.2}
                axes.errorbar(where, values, (below, above), label=label, capsize=2, elinewidth=0.8, **style)
            axes.set_xscale("log")
            axes.set_xlim(4, 1.3 * most)
            axes.set_xticks(sorted(counts), [str(count) for count in sorted(counts)])
            axes.minorticks_off()
            axes.set_title(data, fontsize=9)
            axes.set_xlabel("training videos", color=GREY)
        figure.axes[0].set_ylabel("points", color=GREY)
        figure.axes[0].legend(loc="upper left", fontsize=7)


if __name__ == "__main__":
    main()

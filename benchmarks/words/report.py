"""The results table and the curves, generated from the cells of a folder."""

from collections import defaultdict
from collections.abc import Callable, Collection, Mapping
from pathlib import Path

import numpy as np
import pandas as pd

from avt_distill.evaluation.statistics import class_mean, paired_bootstrap
from avt_distill.pictures.style import COLORS, GREY, picture
from avt_distill.runs.folder import read_record, write_json, write_text

from .curves import BALANCED, BASELINE, COUNTS_MIXED, SMOOTHED
from .texts import CONTROLS, COUNTS, LOG_LINEAR, MODELS

MARKERS = "osD^vP*X"
TITLES = {
    "true": "after true histories",
    "reader": "answers of a reader",
    "student": "answers of students",
}
MEASURES = ("top1", "top5", "class_mean_top5", "log_loss")
RESAMPLES = 1000
ALONE = ", alone"  # not mixed with counts
OF_RECIPES = (" of recipes", " on recipes")


class Cells:
    """The measurements of one part: values of each row, by number of videos and model.

    Args:
        folder (`Path`): Folder of the run.
        part (`str`): `"true"`, `"reader"` or `"student"`.
    """

    def __init__(self, folder: Path, part: str):
        rows = read_record(folder / "rows.json", "labels")
        self.labels, self.groups = np.array(rows["labels"]), np.array(rows["groups"])
        self.verb_noun = np.array(rows["verb_noun"])
        self.of: dict[tuple[int, str], dict[tuple, dict]] = defaultdict(dict)  # by draw and seed
        self.videos, self.rows = rows["videos"], None
        for path in sorted((folder / part).glob("*/*.json")):
            cell = read_record(path, "measured", "model")
            of_cell = cell.get("rows", list(range(len(rows["labels"]))))
            self.rows = of_cell if self.rows is None else self.rows
            if of_cell != self.rows:
                raise ValueError(f"{path} has other rows than the cells of the same part: delete it, or those.")
            count = cell["num_videos"] or self.videos
            for kind, measured in cell["measured"].items():
                name = cell["model"] + ALONE * (kind == "alone")
                self.of[count, name][cell["draw"], kind.removeprefix("alone").removeprefix("mixed")] = measured
        self.labels, self.groups = self.labels[self.rows], self.groups[self.rows]

    @property
    def counts(self) -> list[int]:
        """The numbers of training videos that were measured."""
        return sorted({count for count, _ in self.of})

    def models(self, count: int) -> list[str]:
        """Returns the models measured at a number of training videos, in the order of the table."""
        order = [BASELINE, SMOOTHED, COUNTS_MIXED, *MODELS]
        names = [name for number, name in self.of if number == count]
        return sorted(names, key=lambda name: (order.index(name.removesuffix(ALONE).removesuffix(BALANCED)), name))

    def values(self, count: int, name: str, measure: str, among: Collection[tuple] | None = None) -> np.ndarray:
        """Returns each row's percent or log loss `(N, S)`, in all draws and seeds or in those of `among`."""
        found = self.of[count, name]
        kept = [found[key] for key in sorted(found if among is None else among)]
        if measure == "log_loss":
            return np.array([measured["losses"] for measured in kept]).T
        most = 1 if measure == "top1" else 5
        return 100.0 * (most > np.array([measured["ranks"] for measured in kept]).T)

    def mean(self, count: int, name: str, measure: str) -> float:
        """Returns a measure averaged over draws or seeds."""
        values = self.values(count, name, measure)
        metric = self._metric(measure)
        return float(metric(values, np.ones((1, len(values)))).mean())

    def difference(self, count: int, name: str, other: str, measure: str) -> dict:
        """Returns the difference of a model from another one on the same draws, with an interval over whole videos."""
        both = self.of[count, name].keys() & self.of[count, other].keys()
        sides = [self.values(count, one, measure, both) for one in (other, name)]
        options = {"groups": self.groups, "num_resamples": RESAMPLES}
        found = paired_bootstrap(*sides, self._metric(measure), **options)
        each = [self._metric(measure)(side, np.ones((1, len(side))))[0] for side in sides]
        return {
            "difference": found.difference,
            "low": found.low,
            "high": found.high,
            "p": found.p_value,
            "of_draws": (each[1] - each[0]).tolist(),
        }

    def errors(self, count: int, name: str) -> dict[str, float]:
        """Returns the frequency of each kind of error of the most likely action, in percent of rows."""
        kinds = defaultdict(list)
        for measured in self.of[count, name].values():
            taken = self.verb_noun[np.array(measured["likeliest"])]
            verb, noun = (taken == self.verb_noun[self.labels]).T
            wrong = np.array(measured["likeliest"]) != self.labels
            kinds["verb alone right"].append((wrong & verb & ~noun).mean())
            kinds["noun alone right"].append((wrong & noun & ~verb).mean())
            kinds["neither right"].append((wrong & ~noun & ~verb).mean())
        return {kind: 100 * float(np.mean(values)) for kind, values in kinds.items()}

    def _metric(self, measure: str) -> Callable:
        if measure == "class_mean_top5":
            return class_mean(self.labels)
        return lambda values, counts: counts @ values / counts.sum(1, keepdims=True)


def report(folder: Path, *, simulated: bool, title: str) -> str:
    """Returns the tables of a run as text, and writes them, `words.json` and a picture of each part's curves.

    Args:
        folder (`Path`): Folder of the run.
        simulated (`bool`): Whether readers and students use a simulated recognizer, which is then stated in the tables.
        title (`str`): Title of the data set.
    """
    texts, numbers = [], {}
    for part, what in TITLES.items():
        if not any((folder / part).glob("*/*.json")):
            continue
        cells = Cells(folder, part)
        mark = ", SIMULATED recognizer" if simulated and part != "true" else ""
        head = f"{title}, {what}{mark}: {len(cells.labels)} rows of {len(set(cells.groups))} videos"
        numbers[part] = {count: _of_count(cells, count, part) for count in cells.counts}
        texts.append(f"{head}\n\n{_tables(numbers[part], cells.videos)}")
        draw_curves(numbers[part], folder / f"curves_{part}.png", head)
    write_json(folder / "words.json", {"simulated": simulated, "parts": numbers})
    text = "\n\n".join(texts)
    write_text(folder / "words.md", text + "\n")
    return text


def _of_count(cells: Cells, count: int, part: str) -> dict[str, dict]:
    """Returns each model's measures, and its differences from the models that it is compared with."""
    found = {}
    for name in cells.models(count):
        measures = {measure: cells.mean(count, name, measure) for measure in MEASURES}
        found[name] = {**measures, "draws": len(cells.of[count, name]), "errors": cells.errors(count, name)}
        for other in _compared(name, part):
            if other != name and cells.of[count, name].keys() & cells.of.get((count, other), {}).keys():
                found[name].setdefault("to", {})[other] = {
                    measure: cells.difference(count, name, other, measure) for measure in MEASURES
                }
    return found


def _compared(name: str, part: str) -> list[str]:
    """Returns the names of the models that a model is compared with."""
    plain = name.removesuffix(BALANCED).removesuffix(ALONE)
    others = [CONTROLS[plain]] if plain in CONTROLS and not name.endswith(BALANCED) else []
    if plain.endswith(OF_RECIPES):  # the same language model before it was adapted
        others.append(plain.rsplit(" ", 2)[0])
    if part == "student":
        return [BASELINE, SMOOTHED, COUNTS_MIXED, *others]
    if name.endswith(ALONE):
        return [] if plain in COUNTS else [LOG_LINEAR + ALONE, *(other + ALONE for other in others)]
    return [COUNTS_MIXED, *others]


def _tables(numbers: Mapping[int, Mapping[str, dict]], num_videos: int) -> str:
    """Returns a Markdown table for each number of training videos."""
    texts = []
    for count, models in numbers.items():
        lines = ["| | top-1 | top-5 | class-mean top-5 | log loss | compared with"]
        lines[0] += " | top-1 | top-5 | class-mean top-5 | log loss |"
        lines.append("|" + "---|" * 10)
        for name, found in models.items():
            cells = [f"{found[measure]:.2f}" for measure in MEASURES[:3]] + [f"{found['log_loss']:.3f}"]
            compared = found.get("to", {}) or {"": None}
            for number, (other, differences) in enumerate(compared.items()):
                shown = [name, *cells] if number == 0 else [""] * 5
                shown += [other, *([""] * 4 if differences is None else _differences(differences))]
                lines.append("| " + " | ".join(shown) + " |")
        videos = f"{count} training videos" + (" (all)" if count == num_videos else "")
        draws = max(found["draws"] for found in models.values())
        texts.append(f"{videos}, {draws} draw(s) or seed(s):\n\n" + "\n".join(lines))
    return "\n\n".join(texts)


def _differences(differences: Mapping[str, dict]) -> list[str]:
    found = []
    for measure, digits in (("top1", 1), ("top5", 1), ("class_mean_top5", 1), ("log_loss", 3)):
        one = differences[measure]
        star = "**" if one["low"] > 0 or one["high"] < 0 else ""
        low, high = f"{one['low']:+.{digits}f}", f"{one['high']:+.{digits}f}"
        found.append(f"{star}{one['difference']:+.{digits}f}{star} [{low}, {high}]")
    return found


def draw_curves(numbers: Mapping[int, Mapping[str, dict]], path: Path, title: str):
    """Writes a PNG with a line for each model: log loss over the number of training videos."""
    counts = sorted(numbers)
    models = [name for name in pd.unique(pd.Series([n for c in counts for n in numbers[c]])) if ALONE not in name]
    with picture(path, 7.5, 4.5, title) as figure:
        axes = figure.subplots()
        for index, name in enumerate(models):
            known = [count for count in counts if name in numbers[count]]
            values = [numbers[count][name]["log_loss"] for count in known]
            style = {"color": COLORS[index % len(COLORS)], "marker": MARKERS[index % len(MARKERS)], "markersize": 4}
            axes.plot(known, values, label=name, linestyle="--" if "scrambled" in name else "-", **style)
        axes.set_xscale("log")
        axes.set_xticks(counts, [str(count) for count in counts])
        axes.minorticks_off()
        axes.set_xlabel("training videos", color=GREY)
        axes.set_ylabel("log loss in nats", color=GREY)
        axes.legend(loc="best", fontsize=7)

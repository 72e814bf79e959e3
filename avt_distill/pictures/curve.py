"""Plots of curves of several models: a metric over the anticipation time, and risk over coverage."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from ..metrics import RiskCoverage
from .style import COLORS, GREY, picture

WIDTH, HEIGHT = 7.0, 4.2  # in inches
BAND = 0.18  # opacity of intervals
MARKERS = "osD^vP"  # for readers of prints in gray


def draw_anticipation_curves(
    curves: Mapping[str, Mapping[float, float]],
    title: str,
    path: str | Path,
    *,
    measure: str,
    intervals: Mapping[str, Mapping[float, tuple[float, float]]] | None = None,
    mark: str = "",
):
    """Draws one metric over tau_a as a PNG, a line for each model, intervals as bands.

    Time runs to the right: the farthest anticipation is at the left, as in RULSTM's figure.

    Args:
        curves (mapping of `str` to mapping of `float` to `float`): The metric by tau_a in seconds, by model: one metric
            of `metrics.anticipation_curve`. Models may have different tau_a.
        title (`str`): Text above the picture.
        path (`str` or `Path`): PNG to write.
        measure (`str`): What the metric is, with its unit, such as `"class-mean top-5 recall in %"`.
        intervals (mapping of `str` to mapping of `float` to `(low, high)`, *optional*): Of some or all models, such as
            those of `evaluation.statistics.bootstrap_interval`.
        mark (`str`, *optional*): See `picture`.

    Raises:
        ValueError: If there are no models, a model has no points, a value is not finite, or intervals belong to models
            or tau_a that are not drawn.
    """
    intervals = intervals or {}
    _check_curves(curves, intervals)
    with picture(path, WIDTH, HEIGHT, title, mark=mark) as figure:
        axes = figure.subplots()
        for index, (model, points) in enumerate(curves.items()):
            taus = sorted(points, reverse=True)
            color, marker = COLORS[index % len(COLORS)], MARKERS[index % len(MARKERS)]
            axes.plot(taus, [points[tau] for tau in taus], color=color, marker=marker, markersize=4, label=model)
            if model in intervals:
                banded = [tau for tau in taus if tau in intervals[model]]
                low, high = np.array([intervals[model][tau] for tau in banded]).T
                axes.fill_between(banded, low, high, color=color, alpha=BAND, linewidth=0)
        axes.set_xticks(sorted({tau for points in curves.values() for tau in points}))
        axes.invert_xaxis()
        axes.set_xlabel(
            "anticipation time \N{GREEK SMALL LETTER TAU}\N{LATIN SUBSCRIPT SMALL LETTER A} in seconds", color=GREY
        )
        axes.set_ylabel(measure, color=GREY)
        axes.legend(loc="best")


def draw_risk_coverage(curves: Mapping[str, RiskCoverage], title: str, path: str | Path, *, mark: str = ""):
    """Draws the error among answers over the share of rows that are answered as a PNG, a line for each model.

    Args:
        curves (mapping of `str` to `RiskCoverage`): Of `metrics.risk_coverage_curve`, by model.
        title (`str`): Text above the picture.
        path (`str` or `Path`): PNG to write.
        mark (`str`, *optional*): See `picture`.

    Raises:
        ValueError: If there are no models.
    """
    if not curves:
        raise ValueError("curves is empty: give at least one model.")
    with picture(path, WIDTH, HEIGHT, title, mark=mark) as figure:
        axes = figure.subplots()
        for index, (model, curve) in enumerate(curves.items()):
            # Between two points there is no threshold: a step, as the area under the curve is computed.
            coverage, risk = 100 * np.append(0, curve.coverage), 100 * np.append(curve.risk[0], curve.risk)
            label = f"{model} (area {100 * curve.area:.1f} %)"
            axes.step(coverage, risk, where="pre", color=COLORS[index % len(COLORS)], label=label)
        axes.set(xlim=(0, 100), ylim=(0, None))
        axes.set_xlabel("rows that are answered, surest first, in %", color=GREY)
        axes.set_ylabel("wrong answers among them in %", color=GREY)
        axes.legend(loc="best")


def _check_curves(
    curves: Mapping[str, Mapping[float, float]], intervals: Mapping[str, Mapping[float, tuple[float, float]]]
):
    if not curves:
        raise ValueError("curves is empty: give at least one model.")
    for model, points in curves.items():
        if not points or not np.isfinite([*points, *points.values()]).all():
            raise ValueError(f"curves['{model}'] is {dict(points)}: give at least one point, all finite.")
    for model, bands in intervals.items():
        if model not in curves or not bands or not set(bands) <= set(curves[model]):
            raise ValueError(f"intervals['{model}'] is of {sorted(bands)}: give intervals of points that are drawn.")

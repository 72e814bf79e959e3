"""Pictures of curves: lines and bands are drawn at their values, and invalid input is refused."""

import numpy as np
import pytest

from avt_distill.metrics import risk_coverage_curve
from avt_distill.pictures import curve
from avt_distill.pictures.curve import draw_anticipation_curves, draw_risk_coverage

CURVES = {"RULSTM": {2.0: 20.0, 1.0: 30.0, 0.25: 36.0}, "AVT": {2.0: 22.0, 1.0: 33.0}}
INTERVALS = {"AVT": {2.0: (20.0, 24.0), 1.0: (30.0, 36.0)}}


@pytest.fixture
def figures(monkeypatch):
    """Collects the figures that are drawn, since functions of pictures do not return them."""
    pytest.importorskip("matplotlib")
    drawn, picture = [], curve.picture

    class Kept:
        def __init__(self, *args, **options):
            self.context = picture(*args, **options)

        def __enter__(self):
            drawn.append(self.context.__enter__())
            return drawn[-1]

        def __exit__(self, *error):
            return self.context.__exit__(*error)

    monkeypatch.setattr(curve, "picture", Kept)
    return drawn


def test_a_line_for_each_model_runs_from_far_to_near_with_its_band(tmp_path, figures):
    draw_anticipation_curves(CURVES, "title", tmp_path / "out.png", measure="top-1 in %", intervals=INTERVALS)
    (axes,) = figures[0].axes
    found = {line.get_label(): line.get_xydata().tolist() for line in axes.lines}
    assert found == {
        "RULSTM": [[2.0, 20.0], [1.0, 30.0], [0.25, 36.0]],
        "AVT": [[2.0, 22.0], [1.0, 33.0]],
    }
    assert axes.get_xlim()[0] > axes.get_xlim()[1]
    (band,) = axes.collections
    assert {tuple(point) for point in band.get_paths()[0].vertices.tolist()} == {
        (2.0, 20.0), (2.0, 24.0), (1.0, 30.0), (1.0, 36.0)
    }  # fmt: skip
    assert (tmp_path / "out.png").stat().st_size > 1_000


def test_risk_is_drawn_over_coverage_in_percent(tmp_path, figures):
    curves = {"AVT": risk_coverage_curve(np.array([0.9, 0.5, 0.5, 0.1]), np.array([True, True, False, False]))}
    draw_risk_coverage(curves, "title", tmp_path / "out.png")
    (axes,) = figures[0].axes
    (line,) = axes.lines
    np.testing.assert_allclose(line.get_xydata(), [[0, 0], [25, 0], [75, 100 / 3], [100, 50]])
    assert line.get_label() == "AVT (area 29.2 %)"
    assert (tmp_path / "out.png").stat().st_size > 1_000


@pytest.mark.parametrize(
    ("curves", "intervals", "message"),
    [
        ({}, None, "curves is empty"),
        ({"AVT": {}}, None, r"curves\['AVT'\] is"),
        ({"AVT": {1.0: float("nan")}}, None, "all finite"),
        (CURVES, {"other": {1.0: (0, 1)}}, r"intervals\['other'\]"),
        (CURVES, {"AVT": {0.5: (0, 1)}}, r"intervals\['AVT'\] is of \[0.5\]"),
    ],
)
def test_refuses(tmp_path, curves, intervals, message):
    with pytest.raises(ValueError, match=message):
        draw_anticipation_curves(curves, "", tmp_path / "out.png", measure="", intervals=intervals)
    with pytest.raises(ValueError, match="curves is empty"):
        draw_risk_coverage({}, "", tmp_path / "out.png")

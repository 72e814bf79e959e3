"""The anticipation curve: the metrics of the same rows at each gap."""

import numpy as np
import pytest

from avt_distill.metrics import anticipation_curve, anticipation_metrics

RNG = np.random.default_rng(0)
LABELS = RNG.integers(0, 6, 40)
SCORES = {0.25: RNG.standard_normal((40, 6)), 2.0: RNG.standard_normal((40, 6)), 1.0: RNG.standard_normal((40, 6))}


def test_each_point_is_the_metrics_at_that_gap_from_far_to_near():
    curve = anticipation_curve(SCORES, LABELS, ks=(1, 3))
    assert list(curve) == [2.0, 1.0, 0.25]
    for tau_a, metrics in curve.items():
        assert metrics == anticipation_metrics(SCORES[tau_a], LABELS, ks=(1, 3))


@pytest.mark.parametrize(
    ("scores", "message"),
    [
        ({}, "scores_by_tau is empty"),
        ({-1.0: SCORES[1.0]}, "a tau_a of -1.0"),
        ({1.0: SCORES[1.0], 2.0: SCORES[2.0][:39]}, "labels has 40 entries for 39 rows"),
        ({1.0: SCORES[1.0], 2.0: np.zeros((40, 7))}, "give the same rows and classes at each tau_a"),
    ],
)
def test_refuses(scores, message):
    with pytest.raises(ValueError, match=message):
        anticipation_curve(scores, LABELS)

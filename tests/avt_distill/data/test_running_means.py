"""Running means: a worked example, what comes later, and windows that cannot be."""

import numpy as np
import pytest

from avt_distill.data.running_means import running_means

FEATURES = np.array([[1.0, 0.0], [3.0, 0.0], [5.0, 6.0], [7.0, 0.0]])


def test_means_equal_a_worked_example():
    means = running_means(FEATURES, 2.0, [0.5, 1.0], so_far=True)  # 1 row, 2 rows, all
    assert means.dtype == np.float32
    np.testing.assert_allclose(means[:, :2], FEATURES)
    np.testing.assert_allclose(means[:, 2:4], [[1, 0], [2, 0], [4, 3], [6, 3]])
    np.testing.assert_allclose(means[:, 4:], [[1, 0], [2, 0], [3, 2], [4, 1.5]])


def test_rows_after_a_moment_do_not_count():
    later = FEATURES.copy()
    later[2:] = 1e6
    first = running_means(FEATURES, 1.0, [1, 3], so_far=True)[:2]
    np.testing.assert_array_equal(running_means(later, 1.0, [1, 3], so_far=True)[:2], first)


@pytest.mark.parametrize(("windows", "message"), [([0.2], "a row, 0.5 s"), ([], "windows_s is empty")])
def test_windows_that_cannot_be_are_refused(windows, message):
    with pytest.raises(ValueError, match=message):
        running_means(FEATURES, 2.0, windows)

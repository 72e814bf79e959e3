"""Streaming accuracy: busy methods by hand and compared with a plain loop, and the offline metrics without runtime."""

import numpy as np
import pytest

from avt_distill.data.labels import LabelSpace
from avt_distill.metrics import anticipation_metrics, ready_answers, streaming_indices, streaming_metrics

KITCHEN = LabelSpace(
    ("cut egg", "cut oil", "mix egg", "mix oil"), ("cut", "mix"), ("egg", "oil"), ((0, 0), (0, 1), (1, 0), (1, 1))
)


def test_a_busy_method_skips_what_comes_meanwhile():
    processed, ready = ready_answers([0.0, 0.25, 0.5, 0.75, 1.0, 1.25], 0.6)
    assert processed.tolist() == [0, 3]  # free at 0.6 s; then busy until 1.35 s
    np.testing.assert_allclose(ready, [0.6, 1.35])
    processed, ready = ready_answers([0.0, 1.0, 2.0, 3.0], [2.5, 0.1, 0.1, 0.1])
    assert processed.tolist() == [0, 3]
    np.testing.assert_allclose(ready, [2.5, 3.1])


def test_a_method_as_slow_as_the_interval_of_windows_skips_none_by_rounding():
    ends = 0.1 * np.arange(1, 200)
    assert ready_answers(ends, 0.1)[0].tolist() == list(range(199))


def test_by_hand():
    # Ready at 0.6 and 1.35 s: see above. Due at 0.5, 0.6, 1.0, 1.35 and 9 s.
    starts = [1.5, 1.6, 2.0, 2.35, 10.0]
    found = streaming_indices(starts, [0.0, 0.25, 0.5, 0.75, 1.0, 1.25], 0.6, tau_a=1.0)
    assert found.tolist() == [-1, 0, 0, 3, 3]


@pytest.mark.parametrize("seed", range(3))
def test_equals_plain_lines_over_several_videos(seed):
    rng = np.random.default_rng(seed)
    ends = np.concatenate([np.sort(rng.uniform(0, 20, 30)) for _ in range(3)])
    of_windows, runtimes = np.repeat(["a", "b", "c"], 30), rng.uniform(0, 2, 90)
    starts, of_actions = rng.uniform(0, 22, 50), rng.choice(["a", "b", "c", "d"], 50)  # no window is of "d"
    found = streaming_indices(starts, ends, runtimes, tau_a=0.5, videos=of_actions, window_videos=of_windows)
    ready, free = {}, {"a": 0.0, "b": 0.0, "c": 0.0}
    for window, video in enumerate(of_windows):
        if ends[window] >= free[video]:
            ready[window] = free[video] = ends[window] + runtimes[window]
    for row, video in enumerate(of_actions):
        in_time = [w for w in ready if of_windows[w] == video and ready[w] <= starts[row] - 0.5]
        assert found[row] == max(in_time, default=-1)
    assert (found < 0).any()


def test_without_runtime_the_metrics_are_the_offline_ones():
    rng = np.random.default_rng(0)
    starts, labels = np.cumsum(rng.uniform(0.5, 2, 30)) + 1, rng.integers(0, 4, 30)
    scores = rng.standard_normal((30, 4))
    found = streaming_indices(starts, starts - 1.0, 0.0, tau_a=1.0)
    assert found.tolist() == list(range(30))
    options = {"label_space": KITCHEN, "ks": (1, 2), "unseen_mask": np.arange(30) < 9}
    assert streaming_metrics(scores, labels, found, **options) == anticipation_metrics(scores, labels, **options)


def test_rows_without_an_answer_are_errors_of_their_classes():
    scores, labels = np.eye(4)[[0, 1, 2]], np.array([0, 1, 2, 2])
    unseen = np.array([False, True, False, True])
    found = streaming_metrics(scores, labels, np.array([0, -1, 2, -1]), ks=(1,), unseen_mask=unseen, tail=[0])
    assert found["action_top1_accuracy"] == 50.0
    assert found["action_class_mean_top1_recall"] == pytest.approx(100 * (1 + 0 + 1 / 2) / 3)
    assert found["action_top1_accuracy_unseen"] == 0.0
    assert found["action_top1_accuracy_tail"] == 100.0
    never = streaming_metrics(scores, labels, np.full(4, -1), ks=(1, 9), tail=[3])
    assert (never["action_top1_accuracy"], never["action_class_mean_top9_recall"]) == (0.0, 0.0)
    assert np.isnan(never["action_top1_accuracy_tail"])


def test_scores_of_verbs_are_those_of_the_windows():
    scores, verbs = np.eye(4)[[0, 3]], np.eye(2)[[1, 0]]
    options = {"label_space": KITCHEN, "ks": (1,), "verb_scores": verbs}
    found = streaming_metrics(scores, np.array([3, 3, 0]), np.array([0, 1, -1]), **options)
    assert found["verb_top1_accuracy"] == pytest.approx(100 / 3)
    assert options["verb_scores"] is verbs


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"window_ends_s": [1.0, 1.0]}, "window_ends_s does not ascend"),
        ({"window_ends_s": [1.0, np.nan]}, r"window_ends_s has shape \(2,\)"),
        ({"runtimes_s": -0.1}, "runtimes_s has shape"),
        ({"runtimes_s": [0.1] * 3}, r"runtimes_s has shape \(3,\) for 2 windows"),
        ({"starts_s": []}, r"starts_s has shape \(0,\)"),
        ({"tau_a": -1.0}, "tau_a is -1.0"),
        ({"videos": ["a"]}, "Only one of videos and window_videos"),
        ({"videos": ["a", "b"], "window_videos": ["a", "a"]}, r"videos has shape \(2,\): give one of each of the 1"),
    ],
)
def test_refuses(changes, message):
    given = {"starts_s": [3.0], "window_ends_s": [1.0, 2.0], "runtimes_s": 0.1, "tau_a": 1.0}
    with pytest.raises(ValueError, match=message):
        streaming_indices(**{**given, **changes})


def test_refuses_indices_out_of_range():
    for indices, message in (([0, 4], "indices is from 0 to 4"), ([-2, 0], "indices is from -2"), ([0], "2 rows")):
        with pytest.raises(ValueError, match=message):
            streaming_metrics(np.eye(4), np.array([0, 1]), np.array(indices))

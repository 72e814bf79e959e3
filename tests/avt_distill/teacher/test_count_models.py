"""N-gram count models: a worked example, back-off, refusals."""

import numpy as np
import pytest

from avt_distill.teacher.count_models import NGramModel

HISTORIES = [[], [0], [0], [1, 0], [2]]
ACTIONS = [0, 1, 1, 2, 0]


def test_bigram_equals_a_worked_example():
    """0 is followed by 1, 1, 2: 2/5 of the smoothed unigram (counts 2, 2, 1), plus 2/5 for 1 and 1/5 for 2."""
    logits = NGramModel(2, 4).fit(HISTORIES, ACTIONS).logits([[3, 0]])
    unigram = (np.array([2, 2, 1, 0]) + 3 / 4) / (5 + 3)
    expected = 2 / 5 * unigram + np.array([0, 2, 1, 0]) / 5
    np.testing.assert_allclose(np.exp(logits[0]), expected, rtol=1e-6)


@pytest.mark.parametrize("order", [1, 2, 3, 5])
def test_logits_are_log_probabilities(order):
    logits = NGramModel(order, 7).fit(HISTORIES, ACTIONS).logits([[], [0], [1, 0], [6, 6, 6]])
    assert logits.dtype == np.float32
    np.testing.assert_allclose(np.exp(logits).sum(axis=1), 1, rtol=1e-5)


def test_no_histories_give_no_logits():
    logits = NGramModel(2, 4).fit(HISTORIES, ACTIONS).logits([])
    assert (logits.shape, logits.dtype) == ((0, 4), np.float32)


def test_unseen_contexts_back_off_to_the_unigram():
    bigram, unigram = (NGramModel(order, 4).fit(HISTORIES, ACTIONS) for order in (2, 1))
    np.testing.assert_array_equal(bigram.logits([[3]]), unigram.logits([[3]]))


def test_longer_contexts_distinguish_what_shorter_ones_cannot():
    histories, actions = [[0, 1], [2, 1], [0, 1], [2, 1]], [3, 4, 3, 4]
    logits = NGramModel(3, 5).fit(histories, actions).logits([[0, 1], [2, 1]])
    assert logits.argmax(axis=1).tolist() == [3, 4]


def test_unlabelled_actions_are_not_counted():
    with_unlabelled = NGramModel(2, 4).fit([*HISTORIES, [0]], [*ACTIONS, -100])
    np.testing.assert_array_equal(with_unlabelled.logits([[0]]), NGramModel(2, 4).fit(HISTORIES, ACTIONS).logits([[0]]))


def test_orders_below_1_are_refused():
    with pytest.raises(ValueError, match="order is 0"):
        NGramModel(0, 4)

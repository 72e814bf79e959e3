"""The log-linear teacher: its optimum, and which parts of a history it uses and ignores."""

import numpy as np
import pytest
import torch

from avt_distill.teacher.log_linear import LogLinearModel

HISTORIES = [[], [0], [0], [1, 0], [2], [2, 0]]
ACTIONS = [0, 1, 1, 2, 0, 2]


def features(history: list[int]) -> np.ndarray:
    values = np.zeros(9)  # the last action (4 or none), then each of 4 actions
    values[history[-1] if history else 4] = 1
    values[[5 + action for action in set(history)]] = 1
    return values


def test_the_weights_are_where_likelihood_and_prior_balance():
    """At the optimum of sum(CE) + |W|^2 / 2 + 0.1 |b|^2 / 2, W equals the sum over rows of features times (label -
    probability), and 0.1 b the sum of (label - probability)."""
    model = LogLinearModel(4).fit(HISTORIES, ACTIONS)
    inputs = np.stack([features(history) for history in HISTORIES])
    errors = np.eye(4)[ACTIONS] - np.exp(model.logits(HISTORIES))
    np.testing.assert_allclose(model.weights.numpy(), inputs.T @ errors, atol=5e-3)
    np.testing.assert_allclose(errors.sum(axis=0), 0.1 * model.bias.numpy(), atol=5e-3)


def test_actions_that_never_occur_in_training_stay_possible():
    """Their log probability does not depend on when the fit stops; without a prior it falls below -15."""
    model = LogLinearModel(6).fit(HISTORIES * 5, ACTIONS * 5)
    unseen = model.logits(HISTORIES)[:, 3:]
    assert ((unseen > -8) & (unseen < -2)).all()
    np.testing.assert_allclose(unseen, unseen[:, :1].repeat(3, 1), atol=1e-4)


def test_logits_are_log_probabilities():
    logits = LogLinearModel(4).fit(HISTORIES, ACTIONS).logits([[], [3, 3, 3]])
    assert logits.dtype == np.float32
    np.testing.assert_allclose(np.exp(logits).sum(axis=1), 1, rtol=1e-5)


def test_no_histories_give_no_logits():
    logits = LogLinearModel(4).fit(HISTORIES, ACTIONS).logits([])
    assert (logits.shape, logits.dtype) == ((0, 4), np.float32)


def test_what_was_done_long_ago_counts_unless_the_history_is_cut():
    histories, actions = [[0, 1, 2], [3, 1, 2]] * 10, [4, 5] * 10
    whole, cut = (LogLinearModel(6, length).fit(histories, actions).logits(histories[:2]) for length in (None, 2))
    assert whole.argmax(axis=1).tolist() == [4, 5]
    np.testing.assert_array_equal(cut[0], cut[1])


def test_the_order_before_the_last_action_does_not_count():
    logits = LogLinearModel(4).fit(HISTORIES, ACTIONS).logits([[1, 2, 0], [2, 1, 1, 0], [1, 0, 2]])
    np.testing.assert_array_equal(logits[0], logits[1])
    assert (logits[0] != logits[2]).any()


@pytest.mark.parametrize("actions", [[-100, 1], [1, -100]])
def test_unlabelled_actions_are_left_out(actions):
    kept = [0 if actions[0] >= 0 else 1]
    histories = [[0], [2]]
    expected = LogLinearModel(4).fit([histories[row] for row in kept], [actions[row] for row in kept])
    np.testing.assert_array_equal(
        LogLinearModel(4).fit(histories, actions).logits(histories), expected.logits(histories)
    )


def test_without_labels_every_action_is_as_likely():
    logits = LogLinearModel(4).fit([[0]], [-100]).logits([[], [1]])
    np.testing.assert_allclose(logits, np.log(0.25), rtol=1e-6)


def test_weights_of_the_last_actions_and_of_parts_are_where_likelihood_and_prior_balance():
    """The same balance holds with the last two actions, parts for verb and noun, and a prior of twice the weight."""
    parts = np.array([[0, 2], [0, 3], [1, 2], [1, 3]])
    model = LogLinearModel(4, num_last=2, action_parts=parts, prior_weight=2.0).fit(HISTORIES, ACTIONS)
    inputs = np.zeros((len(HISTORIES), 14))  # parts of the last action (4 or none), the one before, and all actions
    for row, history in zip(inputs, HISTORIES, strict=True):
        row[parts[history[-1]] if history else 4] = 1
        row[5 + parts[history[-2]] if len(history) > 1 else 9] = 1
        row[[10 + part for action in history for part in parts[action]]] = 1
    of_parts = np.eye(4)[parts].sum(1)  # (A, P)
    errors = (np.eye(4)[ACTIONS] - np.exp(model.logits(HISTORIES))) @ of_parts
    prior = 2.0 * np.repeat([1.0, 3.0, 1.0], [5, 5, 4])[:, None]  # the prior is stronger for the second-to-last action
    np.testing.assert_allclose(prior * model.weights.numpy(), inputs.T @ errors, atol=5e-3)


def test_probabilities_of_another_teacher_can_be_learned():
    targets = np.full((len(HISTORIES), 4), 0.1) + 0.6 * np.eye(4)[ACTIONS]
    model = LogLinearModel(4).fit(HISTORIES, targets)
    inputs = np.stack([features(history) for history in HISTORIES])
    errors = targets - np.exp(model.logits(HISTORIES))
    np.testing.assert_allclose(model.weights.numpy(), inputs.T @ errors, atol=5e-3)


def test_histories_in_several_chunks_give_the_same_model(monkeypatch):
    expected = LogLinearModel(4).fit(HISTORIES, ACTIONS).weights
    monkeypatch.setattr("avt_distill.teacher.log_linear.HISTORIES_AT_ONCE", 4)
    np.testing.assert_allclose(LogLinearModel(4).fit(HISTORIES, ACTIONS).weights, expected, atol=5e-3)


@pytest.mark.parametrize("parts", [[[0, 2], [0, 3], [1, 3], [1, 3]], [[0], [1], [2], [3]], [[0, 2, 4], [0, 3, 4]] * 2])
@pytest.mark.parametrize("higher", [0.0, 100.0])
@pytest.mark.parametrize("targets", [torch.tensor([3, 0, 1]), torch.tensor([[0.2, 0.3, 0.0, 0.5]] * 3)])
def test_losses_without_scores_of_all_actions_equal_cross_entropy(parts, higher, targets):
    """Also if existing pairs score much lower than parts 1 and 2, which are the best but do not form a pair."""
    model = LogLinearModel(4, action_parts=np.array(parts))
    generator = torch.Generator().manual_seed(0)
    model.weights = torch.randn(model.weights.shape, generator=generator)
    model.weights[:, [1, 2]] += higher
    model.bias = torch.randn(4, generator=generator)
    inputs = model._encode([[], [1, 2], [3]])
    expected = torch.nn.functional.cross_entropy(model._scores(*inputs), targets, reduction="none")
    torch.testing.assert_close(model._losses(*inputs, *model._expected(targets)), expected, rtol=1e-5, atol=1e-4)

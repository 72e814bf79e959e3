"""Log-linear pools: non-negative weights of models' log probabilities, learned on out-of-fold predictions."""

from collections.abc import Sequence

import numpy as np
import scipy.optimize
import scipy.special


def pooled(members: Sequence[np.ndarray], weights: Sequence[float] | np.ndarray) -> np.ndarray:
    """Returns the log-linear pool of members' log probabilities `(N, A)`: log probabilities, float64 `(N, A)`."""
    return scipy.special.log_softmax(
        sum(weight * member for weight, member in zip(weights, members, strict=True)), axis=1
    )


def fit_weights(members: Sequence[np.ndarray], labels: np.ndarray) -> list[float]:
    """Returns the non-negative weights of the pool with the lowest log loss, a convex problem.

    Args:
        members (sequence of M `np.ndarray` of shape `(N, A)`): Log probabilities of rows that no member was fitted on.
        labels (`np.ndarray` of shape `(N,)`): Action ids.
    """
    stacked = np.stack(members)  # (M, N, A)
    own = stacked[:, np.arange(len(labels)), labels]  # (M, N)

    def loss(weights: np.ndarray) -> tuple[float, np.ndarray]:
        log_probs = pooled(members, weights)
        expected = np.einsum("na,mna->mn", np.exp(log_probs), stacked)
        return -log_probs[np.arange(len(labels)), labels].mean(), (expected - own).mean(1)

    start = np.full(len(members), 1 / len(members))
    found = scipy.optimize.minimize(loss, start, jac=True, method="L-BFGS-B", bounds=[(0, None)] * len(members))
    return found.x.tolist()

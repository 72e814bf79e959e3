"""Multinomial logistic regression on stored features, for probes of next actions and recognizers of frames."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from scipy.special import log_softmax
from torch import nn

from ..metrics import log_loss

MAX_STEPS = 200
L2_CHOICES = (3.0, 10.0, 30.0, 100.0, 300.0, 1000.0)
BIAS_PENALTY = 0.1  # without it, the bias of a class without an example is determined by when the fit stops
# Multiplications N * D * C per pass over all rows. Above the first, float32 is used, since float64 is too slow;
# penalties are chosen on as many rows as the second allows.
LARGE_PASS, LARGEST_TRIED_PASS = 1e8, 2e9


@dataclass
class LinearClassifier:
    """A linear classifier of unstandardized features.

    Args:
        weight (`np.ndarray` of shape `(C, D)`): float32.
        bias (`np.ndarray` of shape `(C,)`): float32.
    """

    weight: np.ndarray
    bias: np.ndarray

    def log_probs(self, features: np.ndarray) -> np.ndarray:
        """Returns the log probabilities of the classes, float64 `(N, C)`."""
        return log_softmax(features.astype(np.float64) @ self.weight.T + self.bias, axis=1)

    def on_standardized(self, mean: np.ndarray, deviation: np.ndarray) -> "LinearClassifier":
        """Returns an equivalent classifier of standardized features, `(x - mean) / deviation`."""
        weight = self.weight.astype(np.float64)
        width = weight.shape[1]
        bias = self.bias + weight @ mean[:width]
        return LinearClassifier((weight * deviation[:width]).astype(np.float32), bias.astype(np.float32))

    def load_into(self, layer: nn.Linear):
        """Copies the weights into a layer; columns that the classifier does not read get weight 0."""
        with torch.no_grad():
            layer.weight.zero_()
            layer.weight[:, : self.weight.shape[1]] = torch.from_numpy(self.weight)
            layer.bias.copy_(torch.from_numpy(self.bias))


def fit_logistic(
    features: np.ndarray, labels: np.ndarray, num_classes: int, l2: float, device: str | torch.device = "cpu"
) -> LinearClassifier:
    """Returns the classifier with the least cross-entropy, summed over rows, plus `l2 / 2` times the squared weights.

    The penalty applies to weights of standardized columns, so that it does not depend on their scale. A small one on
    biases keeps classes without an example possible, which matters if a fold lacks an action.

    Args:
        features (`np.ndarray` of shape `(N, D)`): One row per example.
        labels (`np.ndarray` of shape `(N,)`): Class ids; negative ones are left out.
        num_classes (`int`): C, the number of classes. Classes without an example get a low probability.
        l2 (`float`): Weight of the penalty, above 0.
        device (`str` or `torch.device`, *optional*, defaults to `"cpu"`): The device to fit on.

    Raises:
        ValueError: If no row is labeled, or `l2` is not above 0.
    """
    known = labels >= 0
    if not known.any() or not l2 > 0:
        raise ValueError(f"{known.sum()} labeled rows and l2={l2}: give at least one row, and l2 above 0.")
    rows = features[known].astype(np.float64)
    mean, deviation = rows.mean(0), rows.std(0)
    deviation[deviation < 1e-6] = 1.0  # constant columns: avoids a division by 0
    dtype = torch.float64 if rows.size * num_classes < LARGE_PASS else torch.float32
    inputs = torch.from_numpy((rows - mean) / deviation).to(device, dtype)
    targets = torch.from_numpy(labels[known].astype(np.int64)).to(device)
    weight = torch.zeros(num_classes, inputs.shape[1], device=device, dtype=dtype, requires_grad=True)
    bias = torch.zeros(num_classes, device=device, dtype=dtype, requires_grad=True)
    optimizer = torch.optim.LBFGS([weight, bias], max_iter=MAX_STEPS, line_search_fn="strong_wolfe")

    def loss() -> torch.Tensor:
        optimizer.zero_grad()
        likelihood = nn.functional.cross_entropy(inputs @ weight.T + bias, targets, reduction="sum")
        penalty = l2 * weight.square().sum() + BIAS_PENALTY * bias.square().sum()
        value = (likelihood + 0.5 * penalty) / len(targets)
        value.backward()
        return value

    optimizer.step(loss)
    scaled = weight.detach().double().cpu().numpy() / deviation
    shifted = bias.detach().double().cpu().numpy() - scaled @ mean
    return LinearClassifier(scaled.astype(np.float32), shifted.astype(np.float32))


def out_of_fold_log_probs(
    features: np.ndarray,
    labels: np.ndarray,
    folds: np.ndarray,
    num_classes: int,
    l2: float,
    device: str | torch.device = "cpu",
) -> np.ndarray:
    """Returns log probabilities, float64 `(N, C)`: of each row by a classifier fitted to the other folds."""
    log_probs = np.empty((len(features), num_classes))
    for fold in np.unique(folds):
        own = folds == fold
        fitted = fit_logistic(features[~own], labels[~own], num_classes, l2, device)
        log_probs[own] = fitted.log_probs(features[own])
    return log_probs


def choose_l2(
    features: np.ndarray,
    labels: np.ndarray,
    folds: np.ndarray,
    num_classes: int,
    choices: Sequence[float] = L2_CHOICES,
    device: str | torch.device = "cpu",
) -> float:
    """Returns the penalty with the least out-of-fold log loss.

    Args:
        features, labels, num_classes, device: See `fit_logistic`. Of very many rows, only a part is used.
        folds (`np.ndarray` of shape `(N,)`): The fold of each row; rows of one video have the same.
        choices (sequence of `float`, *optional*): Penalties to choose from, ascending. The search stops when a penalty
            is worse than the one before it.
    """
    share = LARGEST_TRIED_PASS / (features.size * num_classes)
    if share < 1:
        kept = np.random.default_rng(0).permutation(len(features))[: int(share * len(features))]
        features, labels, folds = features[kept], labels[kept], folds[kept]
        choices = [share * l2 for l2 in choices]  # scaled down, since the loss is a sum over fewer rows
    best, least = choices[0], np.inf
    for l2 in choices:
        loss = labelled_log_loss(out_of_fold_log_probs(features, labels, folds, num_classes, l2, device), labels)
        if loss >= least:
            break
        best, least = l2, loss
    return best / min(share, 1)


def labelled_log_loss(log_probs: np.ndarray, labels: np.ndarray) -> float:
    """Returns `metrics.log_loss` over labeled rows; negative labels are left out."""
    known = labels >= 0
    return log_loss(log_probs[known], labels[known])

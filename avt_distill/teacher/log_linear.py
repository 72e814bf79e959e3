"""A log-linear teacher that reads the last actions and the set of all past ones, and trains in seconds."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import nn

MAX_STEPS = 200
HISTORIES_AT_ONCE = 4096
# Weight of the prior of biases, relative to that of weights. Without it, actions that do not occur in the training rows
# would get a log probability of -15 and less, which is determined by when the fit stops.
BIAS_PRIOR = 0.1
EARLIER_PRIOR = 3.0  # relative prior weight for all but the last action, which are less informative


class LogLinearModel:
    """Logistic regression on the last actions and on which actions happened at all, with a Gaussian prior.

    On small data with strict order it is hard to beat: a language model that does not beat it has learned nothing from
    the order or the wording of actions.

    Args:
        num_actions (`int`): A, the number of actions.
        history_length (`int`, *optional*): Number of past actions to read. Default: all.
        device (`str` or `torch.device`, *optional*, defaults to `"cpu"`): The device to fit on.
        prior_weight (`float`, *optional*, defaults to 1.0): Weight of the prior, the inverse of its variance.
        num_last (`int`, *optional*, defaults to 1): Number of last actions whose order matters.
        action_parts (`np.ndarray` of shape `(A, K)`, *optional*): Parts of each action, such as verb and noun, as ids
            0..P-1. The model then reads and scores parts, so that rare actions share evidence with others. Default:
            each action is its own part.
    """

    def __init__(
        self,
        num_actions: int,
        history_length: int | None = None,
        device: str | torch.device = "cpu",
        *,
        prior_weight: float = 1.0,
        num_last: int = 1,
        action_parts: np.ndarray | None = None,
    ):
        if not prior_weight > 0:
            raise ValueError(f"prior_weight is {prior_weight}: give a number above 0.")
        self.num_actions, self.history_length, self.device = num_actions, history_length, torch.device(device)
        self.prior_weight, self.num_last = prior_weight, num_last
        self.action_parts = np.arange(num_actions)[:, None] if action_parts is None else np.asarray(action_parts)
        self.num_parts = int(self.action_parts.max()) + 1
        # Rows: for each of the last actions, newest first, its parts or none; then each part that happened. Initialized
        # with zeros, since the log loss is convex.
        num_rows = num_last * (self.num_parts + 1) + self.num_parts
        self.weights = torch.zeros(num_rows, self.num_parts, device=self.device)
        self.bias = torch.zeros(num_actions, device=self.device)  # (A,)

    def fit(self, histories: Sequence[Sequence[int]], actions: Sequence[int] | np.ndarray) -> "LogLinearModel":
        """Fits the weights (maximum a posteriori) with L-BFGS, and returns the model.

        Args:
            histories (`Sequence[Sequence[int]]`): Action ids before each of N actions, oldest first.
            actions (`Sequence[int]` or `np.ndarray` of shape `(N, A)`): The N actions, where negative ids mark
                unlabeled ones, which are ignored; or another teacher's probabilities to distill.
        """
        targets = torch.as_tensor(np.asarray(actions), device=self.device)
        if targets.ndim == 1:
            labelled = torch.nonzero(targets >= 0).flatten().tolist()
            targets = targets[labelled].long()
        else:
            labelled, targets = list(range(len(targets))), targets.float()
        histories = [histories[row] for row in labelled]
        chunks = [slice(start, start + HISTORIES_AT_ONCE) for start in range(0, len(histories), HISTORIES_AT_ONCE)]
        batches = [(self._encode(histories[chunk]), self._expected(targets[chunk])) for chunk in chunks]
        prior = torch.ones(len(self.weights), 1, device=self.device)
        prior[self.num_parts + 1 : self.num_last * (self.num_parts + 1)] = EARLIER_PRIOR
        parameters = [self.weights.requires_grad_(), self.bias.requires_grad_()]
        optimizer = torch.optim.LBFGS(parameters, max_iter=MAX_STEPS, line_search_fn="strong_wolfe")

        def loss() -> torch.Tensor:
            optimizer.zero_grad()
            penalty = (prior * self.weights.square()).sum() + BIAS_PRIOR * self.bias.square().sum()
            value = 0.5 * self.prior_weight * penalty / len(histories)
            value.backward()
            for inputs, expected in batches:
                part = self._losses(*inputs, *expected).sum() / len(histories)
                part.backward()
                value = value + part.detach()
            return value

        if histories:
            optimizer.step(loss)
        for parameter in parameters:
            parameter.requires_grad_(False)
        return self

    def logits(self, histories: Sequence[Sequence[int]]) -> np.ndarray:
        """Returns the log probability of each action after each history, float32 `(N, A)`."""
        return self._scores(*self._encode(histories)).log_softmax(-1).float().cpu().numpy()

    def _encode(self, histories: Sequence[Sequence[int]]) -> tuple[torch.Tensor, torch.Tensor]:
        """Returns the rows of `weights` that each history adds up, one after another, and where each history begins."""
        rows, starts = [], []
        for history in histories:
            if self.history_length is not None:
                history = history[max(0, len(history) - self.history_length) :]
            read = [int(action) for action in history]
            starts.append(len(rows))
            for number in range(self.num_last):
                parts = self.action_parts[read[-1 - number]].tolist() if number < len(read) else [self.num_parts]
                rows.extend(number * (self.num_parts + 1) + part for part in parts)
            # A set: how often an action happened does not count.
            happened = np.unique(self.action_parts[sorted(set(read))]) if read else ()
            rows.extend(self.num_last * (self.num_parts + 1) + int(part) for part in happened)
        # A tensor of an empty list would have another type.
        flat, first = (torch.tensor(ids, dtype=torch.long, device=self.device) for ids in (rows, starts))
        return flat, first

    def _scores(self, rows: torch.Tensor, starts: torch.Tensor) -> torch.Tensor:
        """Returns scores of all actions, `(N, A)`; see `_encode`."""
        return self._of_actions(self._of_parts(rows, starts))

    def _of_parts(self, rows: torch.Tensor, starts: torch.Tensor) -> torch.Tensor:
        return nn.functional.embedding_bag(rows, self.weights, starts, mode="sum")  # (N, P)

    def _of_actions(self, of_parts: torch.Tensor) -> torch.Tensor:
        scores = self.bias.expand(len(of_parts), -1)
        for parts in self.action_parts.T:
            scores = scores + of_parts.index_select(1, torch.as_tensor(parts, device=self.device))
        return scores  # (N, A)

    def _expected(self, targets: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Returns targets, ids `(N,)` or probabilities `(N, A)`, and the same of parts, `(N, K)` or `(N, P)`."""
        parts = torch.as_tensor(self.action_parts, device=self.device)
        if targets.ndim == 1:
            return targets, parts[targets]
        of_parts = targets.new_zeros(len(targets), self.num_parts)
        for column in parts.T:
            of_parts.index_add_(1, column, targets)
        return targets, of_parts

    def _losses(
        self, rows: torch.Tensor, starts: torch.Tensor, targets: torch.Tensor, parts: torch.Tensor
    ) -> torch.Tensor:
        """Returns the cross-entropy of each history with its targets, `(N,)`; see `_encode` and `_expected`."""
        of_parts = self._of_parts(rows, starts)
        if targets.ndim == 1:
            return self._log_sum(of_parts) - of_parts.gather(1, parts).sum(1) - self.bias[targets]
        return self._log_sum(of_parts) * targets.sum(1) - (of_parts * parts).sum(1) - targets @ self.bias

    def _log_sum(self, of_parts: torch.Tensor) -> torch.Tensor:
        """Returns the log of the sum of the exponentials of all actions' scores, `(N,)`.

        With two parts, such as verb and noun, it is the log of `exp(u) B exp(v)`: u are the scores of first parts, v
        those of second parts, and B holds the exponentials of the biases of existing pairs. This avoids an array of
        all actions, of which there may be thousands.
        """
        if self.action_parts.shape[1] != 2 or self.device.type == "mps":  # MPS has no float64
            return self._of_actions(of_parts).logsumexp(1)
        (firsts, first), (seconds, second) = (
            torch.unique(torch.as_tensor(ids, device=self.device), return_inverse=True) for ids in self.action_parts.T
        )
        # Existing pairs may score much lower than the best two parts, which need not form one: float32 could underflow.
        scores, bias = of_parts.double(), self.bias.double()
        of_firsts, of_seconds = scores[:, firsts], scores[:, seconds]
        most = [of_side.detach().amax(1, keepdim=True) for of_side in (of_firsts, of_seconds)]
        pairs = bias.new_zeros(len(firsts), len(seconds)).index_put((first, second), bias.exp(), accumulate=True)
        sums = ((of_firsts - most[0]).exp() @ pairs * (of_seconds - most[1]).exp()).sum(1)
        return (sums.log() + (most[0] + most[1]).squeeze(1)).to(of_parts.dtype)

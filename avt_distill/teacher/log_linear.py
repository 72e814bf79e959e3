"""A log-linear teacher: what the last action and the set of all past ones say of the next one. Seconds to train."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import nn

MAX_STEPS = 200


class LogLinearModel:
    """Logistic regression on the last action and on which actions happened at all, with a unit Gaussian prior.

    On small data with a strict grammar it is hard to beat: a language model that does not, has learned nothing from the
    order or the wording of actions.

    Args:
        num_actions (`int`): Number of classes A.
        history_length (`int`, *optional*): Number of past actions that are read. Default: all.
        device (`str` or `torch.device`, *optional*, defaults to `"cpu"`): Where it is fitted.
    """

    def __init__(self, num_actions: int, history_length: int | None = None, device: str | torch.device = "cpu"):
        self.num_actions, self.history_length, self.device = num_actions, history_length, torch.device(device)
        # Rows: the last action, or none; then each past action. Zeros: the log loss is convex, the start is no matter.
        self.weights = torch.zeros(2 * num_actions + 1, num_actions, device=self.device)  # (2 A + 1, A)
        self.bias = torch.zeros(num_actions, device=self.device)  # (A,)

    def fit(self, histories: Sequence[Sequence[int]], actions: Sequence[int]) -> "LogLinearModel":
        """Finds the most probable weights by L-BFGS, and returns the model.

        Args:
            histories (`Sequence[Sequence[int]]`): Action ids before each of N actions, oldest first.
            actions (`Sequence[int]`): The N actions. Negative ones, the unlabelled, are left out.
        """
        labelled = [row for row, action in enumerate(actions) if action >= 0]
        inputs = self._encode([histories[row] for row in labelled])
        labels = torch.tensor([int(actions[row]) for row in labelled], device=self.device)
        parameters = [self.weights.requires_grad_(), self.bias.requires_grad_()]
        optimizer = torch.optim.LBFGS(parameters, max_iter=MAX_STEPS, line_search_fn="strong_wolfe")

        def loss() -> torch.Tensor:
            optimizer.zero_grad()
            likelihood = nn.functional.cross_entropy(self._scores(*inputs), labels, reduction="sum")
            value = (likelihood + 0.5 * self.weights.square().sum()) / len(labels)
            value.backward()
            return value

        if labelled:
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
            rows.append(read[-1] if read else self.num_actions)
            rows.extend(self.num_actions + 1 + action for action in sorted(set(read)))
        return torch.tensor(rows, device=self.device), torch.tensor(starts, device=self.device)

    def _scores(self, rows: torch.Tensor, starts: torch.Tensor) -> torch.Tensor:
        return nn.functional.embedding_bag(rows, self.weights, starts, mode="sum") + self.bias  # (N, A)

"""Transition models of a `HistoryReader`: distributions of the next action given a history, stored as tensors.

A transition model reads part of a history, its *text state*: the last few actions, and which actions (or verbs and
nouns) happened at all. It cannot distinguish two histories with the same text state, so a reader merges them.
"""

from collections.abc import Sequence

import numpy as np
import torch
from torch import nn

from .rules_avt import WholeNumber

KINDS = ("ngram", "log_linear")
MANY = WholeNumber(least=1, most=10_000_000)
FEW = WholeNumber(least=1, most=1000)
SIZES = {
    "ngram": {"order": FEW, "num_contexts": MANY},
    "log_linear": {"num_parts": MANY, "parts_per_action": FEW, "length": FEW},
}


class NGramTransitions(nn.Module):
    """N-gram model of the last `order - 1` actions: a row of probabilities for each observed context and its suffixes.

    Args:
        num_actions (`int`): A, the number of actions.
        order (`int`): 1 for the unigram, 2 for the bigram, and so on.
        num_contexts (`int`): M, the number of stored contexts.

    Buffers: `contexts` int32 `(M, order - 1)`, oldest action first, -1 before shorter ones; the empty context is among
    them. `context_log_probs` float32 `(M, A)`.
    """

    contexts: torch.Tensor
    context_log_probs: torch.Tensor

    def __init__(self, num_actions: int, order: int, num_contexts: int):
        super().__init__()
        self.num_actions, self.length = num_actions, order - 1
        self.num_parts = 0  # nothing but the last actions is read
        self.register_buffer("contexts", torch.full((num_contexts, self.length), -1, dtype=torch.int32))
        self.register_buffer("context_log_probs", torch.zeros(num_contexts, num_actions))
        self._rows: dict[tuple[int, ...], int] = {}

    @property
    def sizes(self) -> dict:
        """The arguments, for `config.reader["transitions"]`."""
        return {"kind": "ngram", "order": self.length + 1, "num_contexts": len(self.contexts)}

    def prepare(self):
        """Builds the lookup of contexts from the buffers; call it after loading them."""
        contexts = _array(self.contexts)
        self._rows = {tuple(context[context >= 0].tolist()): row for row, context in enumerate(contexts)}

    def parts_of(self, actions: np.ndarray) -> np.ndarray:
        """Returns the parts of each action in the set of a text state: none, `(N, 0)`."""
        return np.empty((len(actions), 0), dtype=np.int64)

    def log_probs(self, last: np.ndarray, past: np.ndarray) -> np.ndarray:
        """Returns the log probability of each action after each text state, float64 `(N, A)`.

        Args:
            last (`np.ndarray` of shape `(N, L)`): The last actions, oldest first; A where there are none. At least
                `order - 1`.
            past (`np.ndarray` of bool, `(N, 0)`): Not used.
        """
        rows = [self._row(context) for context in last[:, last.shape[1] - self.length :].tolist()]
        return _array(self.context_log_probs)[rows].astype(np.float64)

    def _row(self, context: list[int]) -> int:
        """Returns the row of the longest stored suffix of a context."""
        known = [action for action in context if action < self.num_actions]
        return next(row for start in range(len(known) + 1) if (row := self._rows.get(tuple(known[start:]))) is not None)


class LogLinearTransitions(nn.Module):
    """Log-linear model of the last actions and the set of all past ones, by verb and noun for large label spaces.

    An action consists of K of P parts: itself alone (K = 1, P = A), or its verb and its noun (K = 2). The score of a
    part is the sum of weights of the parts of each of the last L actions, and of each part that happened at all; the
    score of an action is the sum over its parts, and a bias.

    Args:
        num_actions (`int`): A, the number of actions.
        num_parts (`int`, *optional*): P, the number of parts. Default: A.
        parts_per_action (`int`, *optional*, defaults to 1): K, the number of parts of each action.
        length (`int`, *optional*, defaults to 1): L, the number of last actions whose order matters.

    Buffers: `action_parts` int32 `(A, K)`; `last_weights` float32 `(L, P + 1, P)`, of the last action first, of which
    the last row is of histories without that action; `past_weights` `(P, P)`; `bias` `(A,)`.
    """

    action_parts: torch.Tensor
    last_weights: torch.Tensor
    past_weights: torch.Tensor
    bias: torch.Tensor

    def __init__(self, num_actions: int, num_parts: int | None = None, parts_per_action: int = 1, length: int = 1):
        super().__init__()
        self.num_actions, self.length = num_actions, length
        self.num_parts = num_actions if num_parts is None else num_parts
        parts = torch.arange(num_actions, dtype=torch.int32)[:, None].repeat(1, parts_per_action)
        self.register_buffer("action_parts", parts)
        self.register_buffer("last_weights", torch.zeros(length, self.num_parts + 1, self.num_parts))
        self.register_buffer("past_weights", torch.zeros(self.num_parts, self.num_parts))
        self.register_buffer("bias", torch.zeros(num_actions))

    @property
    def sizes(self) -> dict:
        """The arguments, for `config.reader["transitions"]`."""
        names = {"num_parts": self.num_parts, "parts_per_action": self.action_parts.shape[1], "length": self.length}
        return {"kind": "log_linear", **names}

    def prepare(self):
        """Does nothing: the buffers need no index."""

    def parts_of(self, actions: np.ndarray) -> np.ndarray:
        """Returns the parts of each action, int64 `(N, K)`."""
        return _array(self.action_parts)[actions].astype(np.int64)

    def log_probs(self, last: np.ndarray, past: np.ndarray) -> np.ndarray:
        """Returns the log probability of each action after each text state, float64 `(N, A)`.

        Args:
            last (`np.ndarray` of shape `(N, L)`): The last actions, oldest first; A where there are none.
            past (`np.ndarray` of bool, `(N, P)`): Which parts happened.
        """
        parts = _array(self.action_parts)
        scores = np.zeros((len(last), self.num_parts))  # (N, P)
        for actions, weights in zip(last.T[::-1], _array(self.last_weights), strict=True):
            known = actions < self.num_actions
            scores[~known] += weights[-1]
            scores[known] += weights[parts[actions[known]]].sum(1, dtype=np.float64)
        # Sorted, so that each state's sum has the same order and rounding in any batch.
        rows, happened = np.nonzero(past)
        if len(rows):
            states, starts = np.unique(rows, return_index=True)
            weights = _array(self.past_weights)[happened]
            scores[states] += np.add.reduceat(weights, starts, axis=0, dtype=np.float64)
        scores = scores[:, parts].sum(-1) + _array(self.bias)  # (N, A, K) -> (N, A)
        scores -= scores.max(1, keepdims=True)
        return scores - np.log(np.exp(scores).sum(1, keepdims=True))


def build_transitions(settings: dict, num_actions: int) -> NGramTransitions | LogLinearTransitions:
    """Returns the transition model described by `config.reader["transitions"]`; the caller loads its buffers.

    Raises:
        ValueError: If the kind is unknown, or a size does not belong to it or is out of range.
    """
    kind = settings.get("kind")
    if kind not in SIZES:
        raise ValueError(f"transitions are of kind {kind!r}: give one of {KINDS}.")
    rules = SIZES[kind]
    sizes = {name: value for name, value in settings.items() if name != "kind"}
    if unknown := sorted(set(sizes) - set(rules)):
        raise ValueError(f"transitions of kind '{kind}' have '{unknown[0]}': give some of {list(rules)}.")
    sizes = {name: rules[name](f"The transitions' {name}", value) for name, value in sizes.items()}
    if kind == "log_linear":
        return LogLinearTransitions(num_actions, **sizes)
    if missing := sorted(set(rules) - set(sizes)):
        raise ValueError(f"transitions of kind 'ngram' lack '{missing[0]}': write them with avt-distill fit_reader.")
    return NGramTransitions(num_actions, **sizes)


def text_state(
    transitions: NGramTransitions | LogLinearTransitions, histories: Sequence[Sequence[int]]
) -> tuple[np.ndarray, np.ndarray]:
    """Returns the text states of histories, given oldest action first: `last (N, L)` and `past (N, P)`."""
    length = max(1, transitions.length)
    last = np.full((len(histories), length), transitions.num_actions, dtype=np.int64)
    past = np.zeros((len(histories), transitions.num_parts), dtype=bool)
    for row, history in enumerate(histories):
        recent = list(history[max(0, len(history) - length) :])
        last[row, length - len(recent) :] = recent
        past[row, transitions.parts_of(np.asarray(history, dtype=np.int64))] = True
    return last, past


def state_after(
    transitions: NGramTransitions | LogLinearTransitions, last: np.ndarray, past: np.ndarray, actions: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Returns the text states `last (N, L)` and `past (N, P)` after one more action each, `(N,)`."""
    past = past.copy()
    np.put_along_axis(past, transitions.parts_of(actions), True, axis=1)
    return np.concatenate([last[:, 1:], actions[:, None]], axis=1), past


def _array(tensor: torch.Tensor) -> np.ndarray:
    return tensor.detach().cpu().numpy()

"""A teacher used directly as a transition model, in the beam of a reader or to continue a true history.

`transition_model("teacher")` distills a teacher into tables that a checkpoint carries; this class queries the teacher
itself, to measure the loss from that distillation. It cannot be saved.
"""

import numpy as np
import scipy.special
from torch import nn

from ..teacher.scorer import Scorer

MOST_HISTORIES = 200_000  # size of the cache, which is cleared when full


class AskedTransitions(nn.Module):
    """A transition model that scores the last actions with a teacher, which is queried once per distinct history.

    It has the methods of `LogLinearTransitions`, and no buffers: assign it to `HistoryReader.transitions`.

    Args:
        teacher (`Scorer`): The teacher.
        num_actions (`int`): A, the number of actions.
        length (`int`): L, the number of last actions to read.
    """

    def __init__(self, teacher: Scorer, num_actions: int, length: int):
        super().__init__()
        self.teacher, self.num_actions, self.length = teacher, num_actions, length
        self.num_parts = 0  # nothing but the last actions is read
        self._rows: dict[tuple[int, ...], np.ndarray] = {}

    @property
    def num_asked(self) -> int:
        """The number of distinct histories in the cache."""
        return len(self._rows)

    def prepare(self):
        """Does nothing: there are no tables."""

    def parts_of(self, actions: np.ndarray) -> np.ndarray:
        """Returns the parts of each action in the set of a text state: none, `(N, 0)`."""
        return np.empty((len(actions), 0), dtype=np.int64)

    def log_probs(self, last: np.ndarray, past: np.ndarray) -> np.ndarray:
        """Returns the log probability of each action after each text state, float64 `(N, A)`.

        Args:
            last (`np.ndarray` of shape `(N, L)`): The last actions, oldest first; A where there are none.
            past (`np.ndarray` of bool, `(N, 0)`): Not used.
        """
        histories = [tuple(action for action in row if action < self.num_actions) for row in last.tolist()]
        if new := list(dict.fromkeys(history for history in histories if history not in self._rows)):
            if len(self._rows) + len(new) > MOST_HISTORIES:
                self._rows, new = {}, list(dict.fromkeys(histories))
            scores = scipy.special.log_softmax(self.teacher.logits(new).astype(np.float64), axis=1)
            self._rows.update(zip(new, scores.astype(np.float32), strict=True))
        return np.stack([self._rows[history] for history in histories]).astype(np.float64)

"""A teacher used directly as a transition model, in the beam of a reader or to continue a true history.

`transition_model("teacher")` distills a teacher into tables that a checkpoint carries; here, the teacher itself is
queried. On Breakfast it predicts better than its tables: see `benchmarks/words/README.md`.
"""

from collections.abc import Sequence

import numpy as np
import scipy.special
from torch import nn

from modeling_avt.transitions_avt import LogLinearTransitions, NGramTransitions

from ..teacher.scorer import Scorer

MOST_HISTORIES = 200_000  # size of the cache, which is cleared when full


class InferenceTransitions(nn.Module):
    """A transition model with the methods of `LogLinearTransitions` that no checkpoint can hold.

    Assign it to `HistoryReader.transitions`.
    """

    num_actions: int
    length: int  # L, the number of last actions that are read
    num_parts: int  # P, the number of parts of which it is read whether they happened

    def prepare(self):
        """Prepares the model for reading: see `NGramTransitions.prepare`."""
        raise NotImplementedError

    def parts_of(self, actions: np.ndarray) -> np.ndarray:
        """Returns the parts of each action in the set of a text state, `(N, K)`."""
        raise NotImplementedError

    def log_probs(self, last: np.ndarray, past: np.ndarray) -> np.ndarray:
        """Returns the log probability of each action after each text state, float64 `(N, A)`.

        Args:
            last (`np.ndarray` of shape `(N, L)`): The last actions, oldest first; A where there are none.
            past (`np.ndarray` of bool, `(N, P)`): Which parts happened.
        """
        raise NotImplementedError

    def _save_to_state_dict(self, *args, **kwargs):
        raise ValueError(
            "The reader's transitions cannot be saved, since checkpoints hold only tables: assign the reader's own "
            "transitions again, or distill a teacher into tables with avt-distill fit_reader --teacher."
        )


class AskedTransitions(InferenceTransitions):
    """A transition model that scores the last actions with a teacher, which is queried once per distinct history.

    Args:
        teacher (`Scorer`): The teacher, such as a `TeacherScorer`.
        num_actions (`int`): A, the number of actions.
        length (`int`): L, the number of last actions to read.

    Raises:
        ValueError: If the teacher scores another number of actions; when it is first asked.
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
        pass

    def parts_of(self, actions: np.ndarray) -> np.ndarray:
        return np.empty((len(actions), 0), dtype=np.int64)

    def log_probs(self, last: np.ndarray, past: np.ndarray) -> np.ndarray:
        histories = [tuple(action for action in row if action < self.num_actions) for row in last.tolist()]
        if new := list(dict.fromkeys(history for history in histories if history not in self._rows)):
            if len(self._rows) + len(new) > MOST_HISTORIES:
                self._rows, new = {}, list(dict.fromkeys(histories))
            scores = scipy.special.log_softmax(self.teacher.logits(new).astype(np.float64), axis=1)
            if scores.shape[1] != self.num_actions:
                raise ValueError(
                    f"The teacher scores {scores.shape[1]} actions, not {self.num_actions}: give one for these actions."
                )
            self._rows.update(zip(new, scores.astype(np.float32), strict=True))
        return np.stack([self._rows[history] for history in histories]).astype(np.float64)


Transitions = NGramTransitions | LogLinearTransitions | InferenceTransitions


class MixedTransitions(InferenceTransitions):
    """The weighted mean of the probabilities of several transition models.

    Args:
        members (sequence of K `Transitions`): Transition models, such as a reader's tables and `AskedTransitions`.
            Those that count past actions count the same parts.
        weights (sequence of K `float`): Weights of the members, which sum to 1.

    Raises:
        ValueError: If the weights do not fit the members, or are negative or do not sum to 1.
    """

    def __init__(self, members: Sequence[Transitions], weights: Sequence[float]):
        super().__init__()
        given = np.asarray(weights, dtype=np.float64)
        if given.shape != (len(members),) or (given < 0).any() or not np.isclose(given.sum(), 1):
            raise ValueError(f"weights is {list(weights)}: give one of at least 0 for each member, with a sum of 1.")
        self.members, self.log_weights = list(members), np.log(np.maximum(given, 1e-300))
        self.num_actions = members[0].num_actions
        self.length = max(1, *(member.length for member in members))
        self._counting = max(range(len(members)), key=lambda index: members[index].num_parts)
        self.num_parts = members[self._counting].num_parts

    def prepare(self):
        for member in self.members:
            member.prepare()

    def parts_of(self, actions: np.ndarray) -> np.ndarray:
        return self.members[self._counting].parts_of(actions)

    def log_probs(self, last: np.ndarray, past: np.ndarray) -> np.ndarray:
        found = [
            weight + member.log_probs(last[:, last.shape[1] - max(1, member.length) :], past)
            for member, weight in zip(self.members, self.log_weights, strict=True)
        ]
        return np.asarray(scipy.special.logsumexp(found, axis=0))

"""N-gram counts of actions as teachers: the baseline that a language model must beat."""

from collections import Counter, defaultdict
from collections.abc import Sequence

import numpy as np

Context = tuple[int, ...]


class NGramModel:
    """An interpolated n-gram model: order 1 is the unigram, 2 the bigram, above that it backs off to shorter contexts.

    Witten-Bell smoothing: for a context observed c times with t different next actions, the share t / (c + t) of the
    probability goes to the next shorter context; below the shortest one the distribution is uniform. There are no
    hyperparameters.

    Args:
        order (`int`): Length of the n-grams: `order - 1` past actions and the next one.
        num_actions (`int`): A, the number of actions.
    """

    def __init__(self, order: int, num_actions: int):
        if order < 1:
            raise ValueError(f"order is {order}: give 1 for the unigram, 2 for the bigram, and so on.")
        self.order = order
        self.num_actions = num_actions
        self._tables: dict[Context, tuple[np.ndarray, np.ndarray]] = {}

    def fit(self, histories: Sequence[Sequence[int]], actions: Sequence[int]) -> "NGramModel":
        """Counts which action follows each context, and returns the model.

        Args:
            histories (`Sequence[Sequence[int]]`): Action ids before each of N actions, oldest first.
            actions (`Sequence[int]`): The N actions. Negative ones, the unlabeled, are not counted.
        """
        counts: defaultdict[Context, Counter[int]] = defaultdict(Counter)
        for history, action in zip(histories, actions, strict=True):
            if action >= 0:
                for context in self._contexts(history):
                    counts[context][int(action)] += 1
        self._tables = {
            context: (np.array(list(followers)), np.array(list(followers.values()), dtype=np.float64))
            for context, followers in counts.items()
        }
        return self

    def logits(self, histories: Sequence[Sequence[int]]) -> np.ndarray:
        """Returns the log probability of each action after each history, float32 `(N, A)`."""
        scores = np.empty((len(histories), self.num_actions), dtype=np.float32)
        for row, history in enumerate(histories):
            probabilities = np.full(self.num_actions, 1 / self.num_actions)
            for context in self._contexts(history):
                if context not in self._tables:
                    break  # longer contexts contain this one, so they are unseen too
                followers, counts = self._tables[context]
                # Witten-Bell: shorter contexts keep t / (c + t); counts share the rest.
                total = counts.sum() + len(counts)
                probabilities *= len(counts) / total
                probabilities[followers] += counts / total
            scores[row] = np.log(probabilities)
        return scores

    @property
    def contexts(self) -> list[Context]:
        """Returns the observed contexts and the empty one, shortest first."""
        return sorted({(), *self._tables}, key=lambda context: (len(context), context))

    def _contexts(self, history: Sequence[int]) -> list[Context]:
        """Returns the contexts at the end of a history, shortest first."""
        recent = [int(action) for action in history[-(self.order - 1) :]] if self.order > 1 else []
        return [tuple(recent[len(recent) - length :]) for length in range(len(recent) + 1)]

"""The interface of all teachers: a function from histories to logits."""

from collections.abc import Sequence
from typing import Protocol

import numpy as np


class Scorer(Protocol):
    """Protocol of teachers: fine-tuned language models, count models and zero-shot language models."""

    def logits(self, histories: Sequence[Sequence[int]]) -> np.ndarray:
        """Returns the logits of the next action after each history, float32 `(N, A)`."""
        ...

"""What every teacher is: a function from histories to logits."""

from collections.abc import Sequence
from typing import Protocol

import numpy as np


class Scorer(Protocol):
    """Any teacher: a fine-tuned language model, counts, or a language model as it is."""

    def logits(self, histories: Sequence[Sequence[int]]) -> np.ndarray:
        """Returns the logits of the next action after each history, float32 `(N, A)`."""
        ...

"""ZeroGPU, which lends a Space of Hugging Face a GPU for each call; elsewhere functions stay plain."""

import os
from collections.abc import Callable
from typing import Any

import torch

try:
    import spaces
except ImportError:
    spaces = None

SECONDS_PER_MOMENT = 0.5  # of a GPU, at most: decoding, encoding and the head
SHORTEST_S, LONGEST_S = 15, 120  # of a loan


def on_gpu(duration: Callable[..., int]) -> Callable[[Callable], Callable]:
    """Returns a decorator that runs a function where ZeroGPU lends a GPU, and changes nothing elsewhere.

    Args:
        duration (`Callable`): From the function's arguments to the seconds for which a GPU is asked.
    """
    return (lambda function: function) if spaces is None else spaces.GPU(duration=duration)


def is_lent() -> bool:
    """Returns whether there is a GPU during calls alone: what is done frame by frame then stays on the CPU."""
    return spaces is not None and os.environ.get("SPACES_ZERO_GPU", "").lower() in ("1", "t", "true")


def device() -> str:
    """Returns where the model belongs: under ZeroGPU on `"cuda"` from the beginning, though there is none yet."""
    return "cuda" if is_lent() or torch.cuda.is_available() else "cpu"


def loan_s(num_moments: float) -> int:
    """Returns for how many seconds a GPU is asked for, to answer at so many moments of a video."""
    return int(min(max(SECONDS_PER_MOMENT * num_moments, SHORTEST_S), LONGEST_S))


def result_or_reason(function: Callable[..., Any]) -> Callable[..., tuple[Any, str | None]]:
    """Returns a function that returns the reason why another one failed: ZeroGPU would hand on its class alone.

    Raised are errors other than `ValueError` and `OSError`, which visitors cannot correct.
    """

    def call(*args: Any) -> tuple[Any, str | None]:
        try:
            return function(*args), None
        except (ValueError, OSError) as error:
            return None, str(error)

    return call

"""ZeroGPU support: a Hugging Face Space gets a GPU for the duration of each call. No effect elsewhere."""

import os
from collections.abc import Callable
from typing import Any

import torch

try:
    import spaces
except ImportError:
    spaces = None

SECONDS_PER_MOMENT = 0.5  # upper bound of GPU time: decoding, encoding and the head
SHORTEST_S, LONGEST_S = 15, 120  # bounds of a GPU call


def on_gpu(duration: Callable[..., int]) -> Callable[[Callable], Callable]:
    """Returns a decorator that requests a GPU for a function under ZeroGPU, and does nothing elsewhere.

    Args:
        duration (`Callable`): Returns the requested seconds of GPU time from the function's arguments.
    """
    return (lambda function: function) if spaces is None else spaces.GPU(duration=duration)


def is_lent() -> bool:
    """Returns whether a GPU is available only during calls, in which case work per frame stays on the CPU."""
    return spaces is not None and os.environ.get("SPACES_ZERO_GPU", "").lower() in ("1", "t", "true")


def device() -> str:
    """Returns the model's device: under ZeroGPU `"cuda"` from the start, although no GPU is attached yet."""
    return "cuda" if is_lent() or torch.cuda.is_available() else "cpu"


def loan_s(num_moments: float) -> int:
    """Returns the seconds of GPU time to request for the given number of moments."""
    return int(min(max(SECONDS_PER_MOMENT * num_moments, SHORTEST_S), LONGEST_S))


def result_or_reason(function: Callable[..., Any]) -> Callable[..., tuple[Any, str | None]]:
    """Wraps a function to return the message of an error, since ZeroGPU would only pass on its class.

    Only `ValueError` and `OSError` are returned. Other errors, which visitors cannot correct, are raised.
    """

    def call(*args: Any) -> tuple[Any, str | None]:
        try:
            return function(*args), None
        except (ValueError, OSError) as error:
            return None, str(error)

    return call

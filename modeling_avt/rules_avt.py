"""Validation rules for numbers, flags and words that users pass, with one-sentence error messages.

A rule is called with the name of an argument and its value, and returns the value as plain Python: an `int`, `float`,
`bool` or `str`, whether it came as such, as a NumPy scalar, or as an array or tensor of one element.
"""

import numbers
import sys
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

LONGEST_SHOWN = 60  # characters of a refused value in an error message


@dataclass(frozen=True)
class Number:
    """Accepts finite numbers within bounds; `bool` and text are no numbers.

    Args:
        least, most (`float`, *optional*): Bounds that are accepted themselves.
        above, below (`float`, *optional*): Bounds that are not.
        unit (`str`, *optional*): What the number counts, such as `"seconds"`, for the error message.
    """

    least: float | None = None
    most: float | None = None
    above: float | None = None
    below: float | None = None
    unit: str | None = None

    def __call__(self, name: str, value: Any) -> float:
        number = plain(value)
        if isinstance(number, bool) or not isinstance(number, numbers.Real) or not self._is_within(number):
            raise ValueError(f"{name} is {shown(value)}: give {self.accepted}.")
        return number if isinstance(number, (int, float)) else float(number)

    def _is_within(self, number) -> bool:
        # Compared with the largest float, as `math.isfinite` cannot convert integers beyond it.
        is_finite = -sys.float_info.max <= number <= sys.float_info.max
        reaches = (self.least is None or number >= self.least) and (self.above is None or number > self.above)
        return is_finite and reaches and (self.most is None or number <= self.most) and self._is_below(number)

    def _is_below(self, number) -> bool:
        return self.below is None or number < self.below

    @property
    def accepted(self) -> str:
        """What is accepted, in words."""
        lower = None if self.above is None else f"above {self.above:g}"
        upper = None if self.below is None else f"below {self.below:g}"
        if self.least is not None:
            lower = f"{self.least:g} or more"
        if self.most is not None:
            upper = f"at most {self.most:g}"
        bounds = [bound for bound in (lower, upper) if bound is not None]
        what = "a finite number" if self.unit is None else f"a finite number of {self.unit}"
        return f"{what}, {' and '.join(bounds)}" if bounds else what


@dataclass(frozen=True)
class WholeNumber:
    """Accepts whole numbers from `least` to `most`; `2.0`, `True` and `"2"` are none.

    Args:
        least (`int`, *optional*, defaults to 1): The lowest.
        most (`int`, *optional*): The highest.
    """

    least: int = 1
    most: int | None = None

    def __call__(self, name: str, value: Any) -> int:
        number = plain(value)
        if isinstance(number, bool) or not isinstance(number, int) or not self._is_within(number):
            raise ValueError(f"{name} is {shown(value)}: give {self.accepted}.")
        return number

    def _is_within(self, number: int) -> bool:
        return self.least <= number and (self.most is None or number <= self.most)

    @property
    def accepted(self) -> str:
        """What is accepted, in words."""
        if self.most is None:
            return f"a whole number, {self.least} or more"
        return f"a whole number from {self.least} to {self.most}"


@dataclass(frozen=True)
class Flag:
    """Accepts `True` and `False`."""

    def __call__(self, name: str, value: Any) -> bool:
        flag = plain(value)
        if not isinstance(flag, bool):
            raise ValueError(f"{name} is {shown(value)}: give {self.accepted}.")
        return flag

    @property
    def accepted(self) -> str:
        """What is accepted, in words."""
        return "True or False"


@dataclass(frozen=True)
class Choice:
    """Accepts one of a fixed set of words.

    Args:
        words (`tuple[str, ...]`): The accepted words.
    """

    words: tuple[str, ...]

    def __call__(self, name: str, value: Any) -> str:
        if not isinstance(value, str) or value not in self.words:
            raise ValueError(f"{name} is {shown(value)}: give {self.accepted}.")
        return value

    @property
    def accepted(self) -> str:
        """What is accepted, in words."""
        return " or ".join(map(repr, self.words))


@dataclass(frozen=True)
class OrNone:
    """Accepts `None`, and any value that another rule accepts.

    Args:
        rule (`Number` or `WholeNumber`): The other rule.
    """

    rule: Number | WholeNumber

    def __call__(self, name: str, value: Any) -> float | None:
        if value is None:
            return None
        try:
            return self.rule(name, value)
        except ValueError as error:
            raise ValueError(f"{name} is {shown(value)}: give {self.rule.accepted}, or None.") from error


TOP_K = WholeNumber(least=1)
SECONDS = Number(unit="seconds")
SECONDS_AHEAD = Number(least=0, unit="seconds")


def plain(value: Any) -> Any:
    """Returns the Python value of a NumPy scalar, or of an array or tensor of one element; anything else unchanged."""
    if isinstance(value, torch.Tensor):
        return value.item() if value.numel() == 1 else value
    if isinstance(value, (np.generic, np.ndarray)):
        return value.item() if value.size == 1 else value
    return value


def shown(value: Any) -> str:
    """Returns a one-line representation of a value for error messages."""
    value = plain(value)
    if isinstance(value, (np.ndarray, torch.Tensor)):
        return f"an array of shape {tuple(value.shape)}"
    text = " ".join(repr(value).split())
    return text if len(text) <= LONGEST_SHOWN else f"{text[:LONGEST_SHOWN]}..."

"""How sure a checkpoint may be of its answers, and when it says nothing: fitted on videos that were held out."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from typing import Any

import torch

from .rules_avt import Number, OrNone, shown


@dataclass(frozen=True)
class Calibration:
    """What turns scores into probabilities that can be relied on: the fields of `AVTConfig.calibration`.

    Args:
        temperature (`float`, *optional*, defaults to 1.0): Divides scores before the softmax.
        error_rate (`float`, *optional*): Share of the answers that may be wrong. `None`: answers are never withheld.
        threshold (`float`, *optional*): Probability of the likeliest action from which on an answer is given. `None`
            with an `error_rate`: no threshold was found to keep it, so every answer is withheld.
        delta (`float`, *optional*): Probability, over the videos that the threshold was chosen on, that it does not
            keep the `error_rate`.

    Raises:
        ValueError: If a value is out of range.
    """

    temperature: float = 1.0
    error_rate: float | None = None
    threshold: float | None = None
    delta: float | None = None

    def __post_init__(self):
        for name, rule in RULES.items():
            object.__setattr__(self, name, rule(f"The calibration's {name}", getattr(self, name)))

    def calibrated(self, scores: torch.Tensor) -> torch.Tensor:
        """Returns scores `(..., A)` of which the softmax is calibrated."""
        return scores if self.temperature == 1 else scores / self.temperature

    def says(self, score: float) -> bool:
        """Returns whether an answer of this probability is given."""
        return self.error_rate is None or (self.threshold is not None and score >= self.threshold)


SHARE = OrNone(Number(above=0, below=1))
RULES: dict[str, Callable[[str, Any], Any]] = {
    "temperature": Number(above=0),
    "error_rate": SHARE,
    "threshold": OrNone(Number(least=0, most=1)),
    "delta": SHARE,
}


def calibration_or_none(name: str, value: Any) -> dict | None:
    """Returns the fields of a `Calibration`, checked; refuses names that are none."""
    if value is None:
        return None
    known = [field.name for field in fields(Calibration)]
    if not isinstance(value, Mapping) or set(value) - set(known):
        raise ValueError(f"{name} is {shown(value)}: give a dict with some of {known}, or None.")
    checked = Calibration(**value)
    return {field: getattr(checked, field) for field in known if field in value}

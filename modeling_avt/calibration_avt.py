"""Calibrated probabilities of a checkpoint's answers, and the threshold below which an answer is withheld."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from typing import Any

import torch

from .rules_avt import Number, OrNone, shown


@dataclass(frozen=True)
class Calibration:
    """Calibration of a checkpoint's scores, fitted on held-out videos: the fields of `AVTConfig.calibration`.

    Args:
        temperature (`float`, *optional*, defaults to 1.0): Divides scores before the softmax.
        error_rate (`float`, *optional*): Share of the answers that may be wrong. `None`: answers are never withheld.
        threshold (`float`, *optional*): Lowest probability of the likeliest action at which an answer is given. `None`
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
        """Returns `scores / temperature`, `(..., A)`, whose softmax is calibrated (Guo et al., ICML 2017)."""
        return scores if self.temperature == 1 else scores / self.temperature

    def says(self, score: float) -> bool:
        """Returns whether an answer with this probability is given rather than withheld."""
        return self.error_rate is None or (self.threshold is not None and score >= self.threshold)


SHARE = OrNone(Number(above=0, below=1))
RULES: dict[str, Callable[[str, Any], Any]] = {
    "temperature": Number(above=0),
    "error_rate": SHARE,
    "threshold": OrNone(Number(least=0, most=1)),
    "delta": SHARE,
}


def calibration_or_none(name: str, value: Any) -> dict | None:
    """Returns the checked fields of a `Calibration`; raises `ValueError` for unknown names."""
    if value is None:
        return None
    known = [field.name for field in fields(Calibration)]
    if not isinstance(value, Mapping) or set(value) - set(known):
        raise ValueError(f"{name} is {shown(value)}: give a dict with some of {known}, or None.")
    checked = Calibration(**value)
    return {field: getattr(checked, field) for field in known if field in value}

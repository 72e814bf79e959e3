"""Metrics of a score table by its benchmark's own rules, and text tables of them."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

import pandas as pd

from ..metrics import anticipation_metrics, many_shot_actions
from .scores import ScoreTable

if TYPE_CHECKING:
    from ..data.builder import Annotations


def benchmark_metrics(
    table: ScoreTable, annotations: "Annotations", *, verbs_and_nouns: bool = False
) -> dict[str, float]:
    """Returns `metrics.anticipation_metrics`, with many-shot metrics if the benchmark defines many-shot actions.

    Args:
        table (`ScoreTable`): Scores and labels of a split.
        annotations (`Annotations`): The benchmark's annotations.
        verbs_and_nouns (`bool`, *optional*): Whether to also measure marginal probabilities of verbs and nouns, if the
            benchmark has both.
    """
    many_shot, space = annotations.many_shot, annotations.label_space
    if many_shot is not None:  # EPIC-Kitchens-55's own list, which published numbers are measured on
        many_shot = many_shot_actions(space, many_shot["verb"], many_shot["noun"], rule="and")
    label_space = space if verbs_and_nouns and space.action_to_verb_noun is not None else None
    return anticipation_metrics(table.scores, table.labels, label_space=label_space, many_shot=many_shot)


def models_table(results: Mapping[str, Mapping[str, float]]) -> str:
    """Returns several models' action metrics as a text table with one line per model."""
    table = pd.DataFrame(results).filter(regex="^action_", axis=0).T
    table.columns = table.columns.str.removeprefix("action_").str.replace("_", " ")
    return table.to_string(float_format="%.2f", na_rep="-")

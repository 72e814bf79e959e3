"""Metrics of a score table by its benchmark's own rules, and tables of them to read."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

from ..metrics import anticipation_metrics, many_shot_actions
from .scores import ScoreTable

if TYPE_CHECKING:
    from ..data.builder import Annotations


def benchmark_metrics(
    table: ScoreTable, annotations: "Annotations", *, verbs_and_nouns: bool = False
) -> dict[str, float]:
    """Returns `metrics.anticipation_metrics`, with many-shot ones where the benchmark says which actions these are.

    Args:
        table (`ScoreTable`): Scores and labels of a split.
        annotations (`Annotations`): Of the benchmark.
        verbs_and_nouns (`bool`, *optional*): Also measure their marginal probabilities, where the benchmark has both.
    """
    many_shot, space = annotations.many_shot, annotations.label_space
    if many_shot is not None:  # EPIC-Kitchens-55's own list, which published numbers are measured on
        many_shot = many_shot_actions(space, many_shot["verb"], many_shot["noun"], rule="and")
    label_space = space if verbs_and_nouns and space.action_to_verb_noun is not None else None
    return anticipation_metrics(table.scores, table.labels, label_space=label_space, many_shot=many_shot)


def metrics_text(results: Mapping[str, Mapping[str, float]]) -> str:
    """Returns a line for each model and a column for each metric of actions."""
    first = next(iter(results.values()))
    names = {name: name.removeprefix("action_").replace("_", " ") for name in first if name.startswith("action_")}
    width = max(10, *map(len, results)) + 1
    lines = [" " * width + "".join(f"{column:>{len(column) + 2}}" for column in names.values())]
    for model, metrics in results.items():
        cells = [f"{metrics[name]:>{len(column) + 2}.2f}" for name, column in names.items()]
        lines.append(f"{model:<{width}}" + "".join(cells))
    return "\n".join(lines)

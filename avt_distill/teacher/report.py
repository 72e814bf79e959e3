"""Measuring a teacher and count models on the same rows."""

from pathlib import Path

import pandas as pd
import torch
import transformers

from ..data.builder import AnticipationBuilder
from ..evaluation.benchmark_metrics import benchmark_metrics
from ..evaluation.scores import LABEL_SPACE_HASH, ScoreTable
from ..runs.folder import SETTINGS, read_record, write_json
from .arguments import TeacherArguments
from .count_models import NGramModel
from .log_linear import LogLinearModel
from .scorer import Scorer

FLOORS = {"unigram": 1, "bigram": 2, "trigram": 3, "4-gram": 4}


def measure_teacher(
    args: TeacherArguments,
    builder: AnticipationBuilder,
    train: pd.DataFrame,
    teacher: Scorer,
    *,
    split: str,
    log_linear_floor: bool,
    training_s: float,
) -> dict:
    """Measures a teacher and count models on the labeled rows of a split.

    Results are written to `results.json` in the teacher's folder, next to the scores of each model.

    Args:
        args (`TeacherArguments`): The options of the teacher in `args.output_dir`.
        builder (`AnticipationBuilder`): The data set.
        train (`pd.DataFrame`): The teacher's training rows, to which the count models are fitted.
        teacher (`Scorer`): The teacher.
        split (`str`): The split to measure on.
        log_linear_floor (`bool`): Whether to also measure a log-linear model.
        training_s (`float`): Training time in seconds, for the results.

    Returns:
        `dict`: `num_rows`, `metrics` by the model's name, the teacher's `settings` and more.
    """
    rows = builder.rows(split)
    rows = rows[rows["action"] >= 0].reset_index(drop=True)
    num_actions = len(builder.annotations.label_space.actions)
    floors: dict[str, NGramModel | LogLinearModel]
    floors = {name: NGramModel(order, num_actions) for name, order in FLOORS.items()}
    if log_linear_floor:
        floors["log-linear"] = LogLinearModel(num_actions, args.num_past_actions, args.device)
    histories, actions = list(train["history"]), list(train["action"])
    scorers = {"teacher": teacher} | {name: model.fit(histories, actions) for name, model in floors.items()}
    tables = {name: score(scorer, name, rows, builder, split) for name, scorer in scorers.items()}
    folder = Path(args.output_dir)
    for name, table in tables.items():
        table.save(folder / f"scores_{split}_{name}.parquet")
    result = {
        "split": split,
        "num_rows": len(rows),
        "metrics": {name: benchmark_metrics(table, builder.annotations) for name, table in tables.items()},
        "training_s": round(training_s, 1),
        "scores": tables["teacher"].metadata,
        "settings": read_record(folder / SETTINGS),
        "versions": {library.__name__: library.__version__ for library in (torch, transformers)},
    }
    write_json(folder / "results.json", result)
    return result


def score(scorer: Scorer, name: str, rows: pd.DataFrame, builder: AnticipationBuilder, split: str) -> ScoreTable:
    metadata = {
        LABEL_SPACE_HASH: builder.annotations.label_space.content_hash,
        "dataset": builder.TITLE,
        "config_name": builder.config.name,
        "model": name,
        "split": split,
        "history_cutoff": builder.config.history_cutoff,
        "tau_a": str(builder.config.tau_a),
    }
    logits, labels = scorer.logits(list(rows["history"])), rows["action"].to_numpy()
    return ScoreTable(list(rows["uid"]), logits, labels, metadata, video_ids=list(rows["video_id"]))

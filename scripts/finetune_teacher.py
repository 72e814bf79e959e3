"""Fine-tunes a language model to predict the next action from the text of past ones, and measures it beside counts.

    python scripts/finetune_teacher.py configs/egtea/teacher.yaml --data_dir annotations/egtea \
        --model_name_or_path distilbert/distilbert-base-uncased --output_dir teachers/egtea
    accelerate launch scripts/finetune_teacher.py configs/egtea/teacher.yaml ...    # several GPUs or nodes

The folder then holds the teacher (`TextTeacher.from_pretrained`), `scores_<split>_<model>.parquet` of it and of n-gram
models for `scripts/evaluate.py` and `scripts/compare_runs.py`, and `results.json`. Killed and started again with the
same command, it goes on; finished, it only measures.
"""

import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd
import torch
import transformers

from avt_distill.data.builder import AnticipationBuilder
from avt_distill.data.loading import DatasetArguments, choose_splits
from avt_distill.evaluation.benchmark_metrics import benchmark_metrics, models_table
from avt_distill.evaluation.scores import LABEL_SPACE_HASH, ScoreTable
from avt_distill.runs.arguments import parse_run
from avt_distill.runs.folder import SETTINGS, check_processes, read_json, write_json
from avt_distill.teacher.count_models import NGramModel
from avt_distill.teacher.cross_fitting import Scorer
from avt_distill.teacher.fine_tuning import HistoryRule, TeacherArguments, fine_tuned_teacher
from avt_distill.teacher.log_linear import LogLinearModel

FLOORS = {"unigram": 1, "bigram": 2, "trigram": 3, "4-gram": 4}


@dataclass
class Arguments(DatasetArguments, TeacherArguments):
    """What this script takes: the data set, how to train, and these."""

    train_split: str = field(default="train", metadata={"help": "Split to train on."})
    evaluation_split: str | None = field(
        default=None,
        metadata={"help": "Split to measure on, used for nothing else. Default: validation, or else test."},
    )
    log_linear_floor: bool = field(
        default=False,
        metadata={"help": "Measure a log-linear model of past actions too; many minutes where there are thousands."},
    )


def main(arguments: list[str] | None = None):
    try:
        args = parse_run(Arguments, arguments, description=__doc__)
        check_processes(args.world_size)
        builder = args.builder()
        choose_splits(args, builder)
        rows = builder.rows(args.train_split)
        history = HistoryRule(builder.config.history_cutoff, builder.config.tau_a, builder.HEAD_NOUN_FIRST)
        started = time.perf_counter()
        teacher = fine_tuned_teacher(rows, builder.annotations.label_space, args, history)
        seconds = time.perf_counter() - started
        if args.should_save:
            report(args, builder, rows, teacher, seconds)
    except (ValueError, OSError) as error:
        sys.exit(f"error: {error}")


def report(args: Arguments, builder: AnticipationBuilder, train: pd.DataFrame, teacher: Scorer, seconds: float):
    """Measures the teacher and counts on the same rows; prints a table and writes scores and results."""
    split = args.evaluation_split
    rows = builder.rows(split)
    rows = rows[rows["action"] >= 0].reset_index(drop=True)
    num_actions = len(builder.annotations.label_space.actions)
    scorers = {"teacher": teacher}
    length = None if args.history_length < 0 else args.history_length
    floors = {name: NGramModel(order, num_actions) for name, order in FLOORS.items()}
    if args.log_linear_floor:
        floors["log-linear"] = LogLinearModel(num_actions, length, args.device)
    for name, model in floors.items():
        scorers[name] = model.fit(list(train["history"]), list(train["action"]))
    results, tables = {}, {}
    for name, scorer in scorers.items():
        table = tables[name] = score(scorer, name, rows, builder, split)
        table.save(Path(args.output_dir) / f"scores_{split}_{name}.parquet")
        results[name] = benchmark_metrics(table, builder.annotations)
    print(f"{len(rows)} rows of {split}", models_table(results), sep="\n")
    settings = read_json(Path(args.output_dir) / SETTINGS)
    versions = {library.__name__: library.__version__ for library in (torch, transformers)}
    result = {"split": split, "num_rows": len(rows), "metrics": results, "training_s": round(seconds, 1)}
    result |= {"scores": tables["teacher"].metadata, "settings": settings, "versions": versions}
    write_json(Path(args.output_dir) / "results.json", result)


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
    return ScoreTable(list(rows["uid"]), scorer.logits(list(rows["history"])), rows["action"].to_numpy(), metadata)


if __name__ == "__main__":
    main()

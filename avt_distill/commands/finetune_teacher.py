r"""Fine-tunes a language model to predict the next action, and compares it with counts.

    avt-distill finetune_teacher configs/egtea/teacher.yaml --data_dir annotations/egtea \
        --model_name_or_path distilbert/distilbert-base-uncased --output_dir teachers/egtea
    accelerate launch -m avt_distill finetune_teacher configs/egtea/teacher.yaml ...    # several GPUs or machines

The folder then holds the teacher (`TextTeacher.from_pretrained`), the scores of the teacher and of n-gram models,
`scores_<split>_<model>.parquet`, for `evaluate` and `compare_runs`, and `results.json`. If interrupted, rerun the
command: training resumes. A finished teacher is not trained again, only measured.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from ..data.arguments import DatasetArguments
from ..runs.arguments import option, parse_run
from ..teacher.arguments import TeacherArguments


@dataclass
class Arguments(DatasetArguments, TeacherArguments):
    """Options of `finetune_teacher`, in addition to those of the data set and of training."""

    TITLE: ClassVar[str] = "measuring"

    train_split: str = option("Split to train on.", "train")
    evaluation_split: str | None = option("Split to measure on. Default: validation, or else test.")
    log_linear_floor: bool = option("Also measure a log-linear model; slow with thousands of actions.", False)


def main(argv: Sequence[str]):
    args = parse_run(Arguments, argv, description=__doc__, command="finetune_teacher")

    from ..runs.folder import check_processes
    from ..runs.lock import locked

    check_processes(args.world_size)
    with locked(args.output_dir or "."):
        train_and_measure(args)


def train_and_measure(args: Arguments):
    """Trains the teacher unless it is finished, measures it and the counts, and prints the metrics."""
    from ..data.loading import choose_splits, dataset_builder
    from ..evaluation.benchmark_metrics import models_table
    from ..teacher.fine_tuning import fine_tuned_teacher, history_rule
    from ..teacher.report import measure_teacher

    builder = dataset_builder(args)
    choose_splits(args, builder)
    rows = builder.rows(args.train_split)
    started = time.perf_counter()
    teacher = fine_tuned_teacher(rows, builder.annotations.label_space, args, history_rule(builder))
    seconds = time.perf_counter() - started
    if args.should_save:
        asked = {"split": args.evaluation_split, "log_linear_floor": args.log_linear_floor}
        results = measure_teacher(args, builder, rows, teacher, **asked, training_s=seconds)
        print(f"{results['num_rows']} rows of {args.evaluation_split}", models_table(results["metrics"]), sep="\n")

"""Writes a teacher's soft labels: one Parquet file a split, from which a student is distilled.

Of teachers that are there already, averaged where there are several:

    python scripts/export_soft_labels.py --teachers teachers/seed0 teachers/seed1 --dataset egtea \
        --data_dir annotations/egtea --splits train validation --soft_labels soft_labels/

Cross-fitted: K teachers are trained as `scripts/finetune_teacher.py` would, in `output_dir/fold<k>`, and each labels
the videos that it was not trained on. Killed and started again, finished folds are kept:

    python scripts/export_soft_labels.py configs/egtea/teacher.yaml --cross_fit 5 --data_dir annotations/egtea \
        --output_dir teachers/egtea_folds --soft_labels soft_labels/

Labels are computed in float32; `--bf16_full_eval true` is faster and rounds them.

In seconds: `--ngram 2` counts bigrams, and `--log_linear true` fits a log-linear model of past actions, both also with
`--cross_fit`. Without training: `--zero_shot NAME` asks a causal language model as it is. All of these, and
`--teachers`, are averaged where they are given together.
"""

import copy
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from transformers import AutoModelForCausalLM

from avt_distill.data.builder import AnticipationBuilder
from avt_distill.data.loading import DatasetArguments
from avt_distill.evaluation.scores import LABEL_SPACE_HASH
from avt_distill.metrics import label_ranks
from avt_distill.runs.arguments import parse_run
from avt_distill.runs.folder import check_processes
from avt_distill.teacher.action_text import ActionText
from avt_distill.teacher.count_models import NGramModel
from avt_distill.teacher.cross_fitting import Scorer, cross_fitted_logits
from avt_distill.teacher.fine_tuning import HistoryRule, TeacherArguments, fine_tuned_teacher
from avt_distill.teacher.language_models import load_language_model_config, load_tokenizer
from avt_distill.teacher.log_linear import LogLinearModel
from avt_distill.teacher.prediction import TeacherScorer, different_histories
from avt_distill.teacher.soft_labels import SoftLabelTable, rows_fingerprint
from avt_distill.teacher.zero_shot import ZeroShotScorer


@dataclass
class Arguments(DatasetArguments, TeacherArguments):
    """What this script takes: the data set, how teachers are trained where they are, and these."""

    teachers: list[str] | None = field(default=None, metadata={"help": "Folders of saved teachers."})
    ngram: int | None = field(default=None, metadata={"help": "Order of an n-gram count model."})
    log_linear: bool = field(
        default=False, metadata={"help": "A log-linear model of the last action and the set of past ones."}
    )
    zero_shot: str | None = field(default=None, metadata={"help": "A causal language model on the Hub or in a folder."})
    instruction: str = field(default="", metadata={"help": "What the language model reads before each history."})
    calibrate: bool = field(
        default=False, metadata={"help": "Subtract what it scores each name without a history; see ZeroShotScorer."}
    )
    cross_fit: int = field(default=0, metadata={"help": "Number of folds, each labelled by a teacher of its own."})
    train_split: str = field(default="train", metadata={"help": "Split that teachers are trained on."})
    splits: list[str] = field(default_factory=lambda: ["train"], metadata={"help": "Splits to label."})
    soft_labels: str = field(default="soft_labels", metadata={"help": "Folder to write <split>.parquet to."})


def main(arguments: list[str] | None = None):
    try:
        args = parse_run(Arguments, arguments, description=__doc__)
        check(args)
        check_processes(args.world_size)
        builder = args.builder()
        unknown = sorted({*args.splits, args.train_split} - set(builder.annotations.splits))
        if unknown:
            raise ValueError(f"There is no split '{unknown[0]}': give some of {list(builder.annotations.splits)}.")
        rows = pd.concat([builder.rows(split).assign(split=split) for split in args.splits], ignore_index=True)
        started = time.perf_counter()
        tables = label(args, builder, rows)
        seconds = time.perf_counter() - started
        if args.should_save:
            save(args, builder, rows, tables, seconds)
    except (ValueError, OSError, ImportError) as error:
        sys.exit(f"error: {error}")


def check(args: Arguments):
    """Raises a `ValueError` unless the options say what is to label."""
    if args.ngram and args.log_linear:
        raise ValueError("ngram and log_linear do not go together: give one of them.")
    there_already = [name for name in ("teachers", "zero_shot") if getattr(args, name)]
    if args.cross_fit and there_already:
        raise ValueError(
            f"{there_already[0]} and cross_fit do not go together: only what is trained here can be cross-fitted."
        )
    if not (there_already or args.cross_fit or args.ngram or args.log_linear):
        raise ValueError(
            "Nothing says what is to label: give --teachers, --cross_fit, --ngram, --log_linear or --zero_shot."
        )


def label(args: Arguments, builder: AnticipationBuilder, rows: pd.DataFrame) -> list[tuple[np.ndarray, dict]]:
    """Returns logits `(N, A)` of each teacher, and what is to be said of it."""
    histories = list(rows["history"])
    tables = [label_with_saved(folder, args, builder, histories) for folder in args.teachers or []]
    if args.zero_shot is not None:
        about = {"model": args.zero_shot, "trained_on": "", "history_length": args.history_length}
        tables.append((zero_shot_logits(args, builder, histories), about | {"text_form": args.text_form}))
    if args.ngram or args.log_linear or args.cross_fit:
        tables.append(label_with_trained(args, builder, rows))
    return tables


def label_with_trained(args: Arguments, builder: AnticipationBuilder, rows: pd.DataFrame) -> tuple[np.ndarray, dict]:
    train = builder.rows(args.train_split)
    train = train[train["action"] >= 0].reset_index(drop=True)
    about = {"trained_on": rows_fingerprint(train), "cross_fit": args.cross_fit, "history_length": args.history_length}
    if args.ngram or args.log_linear:
        about["model"] = f"{args.ngram}-gram" if args.ngram else "log-linear"
        if args.ngram:
            about["history_length"] = args.ngram - 1
        fit = counting_fit(args, len(builder.annotations.label_space.actions))
    else:
        about |= {"model": args.model_name_or_path, "text_form": args.text_form}
        fit = fine_tuning_fit(args, builder)
    if args.cross_fit:
        return cross_fitted_logits(train, rows, fit, num_folds=args.cross_fit, seed=args.seed), about
    return fit(train, 0).logits(list(rows["history"])), about


def label_with_saved(
    folder: str, args: Arguments, builder: AnticipationBuilder, histories: list
) -> tuple[np.ndarray, dict]:
    scorer = TeacherScorer.from_pretrained(folder)
    scorer.model.to(args.device, torch.bfloat16 if args.bf16_full_eval else None)
    config = scorer.model.config
    if config.label_space_hash != builder.annotations.label_space.content_hash:
        raise ValueError(
            f"{folder} was trained on label space {config.label_space_hash}, not on "
            f"{builder.annotations.label_space.content_hash} of {builder.config.name}: columns would stand for other "
            "actions."
        )
    known, asked = (config.history_cutoff, config.tau_a), (builder.config.history_cutoff, builder.config.tau_a)
    if known != asked:
        raise ValueError(
            f"{folder} was trained on histories of cutoff and tau_a {known}, but is to read ones of {asked}: give "
            f'--dataset_options \'{{"history_cutoff": "{known[0]}", "tau_a": {known[1]}}}\'.'
        )
    about = {"model": folder, "trained_on": config.trained_on, "history_length": config.history_length}
    return scorer.logits(histories, progress=True), about | {"text_form": config.text_form}


def zero_shot_logits(args: Arguments, builder: AnticipationBuilder, histories: list) -> np.ndarray:
    load_language_model_config(args.zero_shot)  # says in a sentence what is wrong with it
    text = ActionText(args.text_form, builder.HEAD_NOUN_FIRST)
    length = None if args.history_length < 0 else args.history_length
    scorer = ZeroShotScorer(
        AutoModelForCausalLM.from_pretrained(args.zero_shot).to(args.device),
        load_tokenizer(args.zero_shot),
        text.labels(builder.annotations.label_space.actions),
        text,
        instruction=args.instruction,
        history_length=length,
        max_prefix_length=args.max_length,
        calibrate=args.calibrate,
    )
    different, positions = different_histories(histories, length)
    return scorer.logits(different)[positions]


def counting_fit(args: Arguments, num_actions: int) -> Callable[[pd.DataFrame, int], Scorer]:
    length = None if args.history_length < 0 else args.history_length

    def fit(rows: pd.DataFrame, fold: int) -> Scorer:
        model = NGramModel(args.ngram, num_actions) if args.ngram else LogLinearModel(num_actions, length, args.device)
        return model.fit(list(rows["history"]), list(rows["action"]))

    return fit


def fine_tuning_fit(args: Arguments, builder: AnticipationBuilder) -> Callable[[pd.DataFrame, int], Scorer]:
    history = HistoryRule(builder.config.history_cutoff, builder.config.tau_a, builder.HEAD_NOUN_FIRST)

    def fit(rows: pd.DataFrame, fold: int) -> Scorer:
        fold_args = copy.copy(args)
        fold_args.output_dir = str(Path(args.output_dir) / f"fold{fold}")
        print(f"fold {fold + 1} of {args.cross_fit}: {len(rows)} rows to train on")
        scorer = fine_tuned_teacher(rows, builder.annotations.label_space, fold_args, history)
        scorer.model.to(args.device, torch.bfloat16 if args.bf16_full_eval else None)
        return scorer

    return fit


def save(args: Arguments, builder: AnticipationBuilder, rows: pd.DataFrame, tables: list, seconds: float):
    """Writes one table a split, and prints what it holds."""
    Path(args.soft_labels).mkdir(parents=True, exist_ok=True)
    shared = {
        LABEL_SPACE_HASH: builder.annotations.label_space.content_hash,
        "history_cutoff": builder.config.history_cutoff,
        "tau_a": builder.config.tau_a,
        "cross_fit": 0,
    }
    print(f"{len(rows)} rows labelled in {seconds:.1f} s")
    for split in args.splits:
        of_split = (rows["split"] == split).to_numpy()
        labelled = rows[of_split]
        shared |= {"split": split, "labelled": rows_fingerprint(labelled)}
        uids = list(labelled["uid"])
        members = [SoftLabelTable(uids, logits[of_split], shared | about) for logits, about in tables]
        table = members[0] if len(members) == 1 else SoftLabelTable.average(members)
        path = Path(args.soft_labels) / f"{split}.parquet"
        table.save(path)
        print(f"{path}: {len(uids)} rows, {accuracy(table, labelled)}")


def accuracy(table: SoftLabelTable, rows: pd.DataFrame) -> str:
    known = (rows["action"] >= 0).to_numpy()
    if not known.any():
        return "without labels to compare with"
    ranks = label_ranks(table.logits[known], rows["action"].to_numpy()[known])
    return f"top-1 {100 * (ranks < 1).mean():.2f} %, top-5 {100 * (ranks < 5).mean():.2f} %"


if __name__ == "__main__":
    main()

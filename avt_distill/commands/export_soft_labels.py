r"""Writes a teacher's soft labels for distilling students.

From saved teachers, averaged if there are several:

    avt-distill export_soft_labels --teachers teachers/seed0 teachers/seed1 --dataset egtea \
        --data_dir annotations/egtea --splits train validation --soft_labels soft_labels/

Cross-fitted: K teachers are trained as by `finetune_teacher`, in `output_dir/fold<k>`, and each labels the videos that
it was not trained on. If interrupted, rerun the command: finished folds are kept.

    avt-distill export_soft_labels configs/egtea/teacher.yaml --cross_fit 5 --data_dir annotations/egtea \
        --output_dir teachers/egtea_folds --soft_labels soft_labels/

Labels are computed in float32; `--bf16_full_eval true` is faster but rounds them. Two models train in seconds, also
with `--cross_fit`: `--ngram 2` counts bigrams, `--log_linear true` fits a log-linear model of past actions. For few
videos, add `--language_model NAME`: actions with similar names then get similar weights. Without training,
`--zero_shot NAME` uses a pretrained causal language model. These and `--teachers` are averaged if given together.
"""

import hashlib
import json
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from ..data.arguments import DatasetArguments
from ..runs.arguments import option, parse_run
from ..runs.outputs import check_output
from ..teacher.arguments import TeacherArguments

if TYPE_CHECKING:
    import pandas as pd

    from ..data.builder import AnticipationBuilder
    from ..teacher.labelling import Labels
    from ..teacher.soft_labels import SoftLabelTable

# Ways to compute labels, and the options that decide theirs. Saved models are also compared by content.
DECISIVE = {
    "teachers": ("bf16_full_eval",),
    "zero_shot": ("instruction", "calibrate", "text_form", "history_length", "max_length"),
    "ngram": (),
    "log_linear": ("history_length", "language_model"),
    "cross_fit": ("seed",),
}


@dataclass
class Arguments(DatasetArguments, TeacherArguments):
    """Options of `export_soft_labels`, in addition to those of the data set and of training a teacher."""

    TITLE: ClassVar[str] = "soft labels"

    teachers: list[str] | None = option("Folders of saved teachers.")
    ngram: int | None = option("Order of an n-gram count model.")
    log_linear: bool = option("A log-linear model of the last action and the set of past ones.", False)
    language_model: str | None = option("With log_linear, for few videos: reads words of names.")
    zero_shot: str | None = option("A causal language model on the Hub or in a folder.")
    instruction: str = option("Text before each history.", "")
    calibrate: bool = option("Subtract each name's score without a history; see ZeroShotScorer.", False)
    cross_fit: int = option("Number of folds, each labeled by its own teacher.", 0)
    train_split: str = option("Split that teachers are trained on.", "train")
    splits: list[str] = option("Splits to label.", default_factory=lambda: ["train"])
    soft_labels: str = option("Folder to write <split>.parquet to.", "soft_labels")
    overwrite: bool = option("Replace tables of other teachers, options or rows.", False)

    def __post_init__(self):
        from modeling_avt.rules_avt import OrNone  # imports torch, which --help does not need

        from ..runs.options import COUNT

        OrNone(COUNT)("ngram", self.ngram)
        if (self.ngram or self.log_linear) and not (self.teachers or self.zero_shot):  # counts alone
            self.bf16 = self.fp16 = self.bf16_full_eval = self.fp16_full_eval = False
        super().__post_init__()
        if self.ngram and self.log_linear:
            raise ValueError("ngram and log_linear are both given: give one of them.")
        if self.language_model is not None and not self.log_linear:
            raise ValueError(
                "language_model is given without log_linear: give --log_linear true, or train it with "
                "--model_name_or_path and --cross_fit."
            )
        saved = [name for name in ("teachers", "zero_shot") if getattr(self, name)]
        if self.cross_fit and saved:
            raise ValueError(
                f"{saved[0]} and cross_fit are both given, but only teachers trained here can be cross-fitted: give "
                "either."
            )
        if not (saved or self.cross_fit or self.ngram or self.log_linear):
            raise ValueError("No teacher is given: give --teachers, --cross_fit, --ngram, --log_linear or --zero_shot.")


def main(argv: Sequence[str]):
    args = parse_run(Arguments, argv, description=__doc__, command="export_soft_labels")

    from ..runs.folder import check_processes
    from ..runs.lock import locked

    check_processes(args.world_size)
    with locked(args.soft_labels):
        export(args)


def export(args: Arguments):
    """Labels the rows of all splits, and writes a table of each."""
    import pandas as pd

    from ..data.loading import dataset_builder

    builder = dataset_builder(args)
    unknown = sorted({*args.splits, args.train_split} - set(builder.annotations.splits))
    if unknown:
        raise ValueError(f"There is no split '{unknown[0]}': give some of {list(builder.annotations.splits)}.")
    rows = pd.concat([builder.rows(split).assign(split=split) for split in args.splits], ignore_index=True)
    inputs = input_digests(args, builder, rows)
    check_soft_labels(args, inputs)
    started = time.perf_counter()
    tables = label(args, builder, rows)
    seconds = time.perf_counter() - started
    if args.should_save:
        print(f"{len(rows)} rows labeled in {seconds:.1f} s")
        save(args, builder, rows, tables, inputs)


def input_digests(args: Arguments, builder: "AnticipationBuilder", rows: "pd.DataFrame") -> dict[str, str]:
    """Returns, by split, a digest of all options, teachers and rows that decide the labels."""
    from ..runs.fingerprints import checkpoint_digest, columns_digest
    from ..teacher.fine_tuning import history_rule, teacher_settings
    from ..teacher.soft_labels import ROW_COLUMNS, rows_fingerprint

    ways = {way: getattr(args, way) for way in DECISIVE if getattr(args, way)}
    inputs = {**shared_metadata(builder), **asdict(history_rule(builder)), **ways}
    inputs |= {name: getattr(args, name) for way in ways for name in DECISIVE[way]}
    folders = [*(args.teachers or []), args.zero_shot, args.language_model]
    inputs["content"] = [checkpoint_digest(folder) for folder in folders]
    if args.ngram or args.log_linear or args.cross_fit:
        train = builder.rows(args.train_split)
        train = train.loc[train["action"] >= 0]
        inputs["training_rows"] = [rows_fingerprint(train), columns_digest({"video_id": train["video_id"]})]
        if not (args.ngram or args.log_linear):
            settings = teacher_settings(train, builder.annotations.label_space, args, history_rule(builder))
            inputs |= {"training": settings, "bf16_full_eval": args.bf16_full_eval}
    digests = {}
    for split, labelled in rows.groupby("split"):
        of_rows = [rows_fingerprint(labelled), columns_digest({name: labelled[name] for name in ROW_COLUMNS})]
        content = json.dumps([inputs, of_rows], sort_keys=True)
        digests[str(split)] = hashlib.sha256(content.encode()).hexdigest()[:16]
    return digests


def check_soft_labels(args: Arguments, inputs: dict[str, str]):
    """Raises `ValueError` if tables of other teachers, options or rows would be replaced."""
    from ..teacher.soft_labels import SoftLabelTable

    def made_here(folder: Path) -> bool:
        for split in args.splits:
            path = folder / f"{split}.parquet"
            try:
                if path.exists() and SoftLabelTable.load(path).metadata.get("inputs") != inputs[split]:
                    return False
            except (ValueError, OSError):
                return False
        return True

    read = {name: getattr(args, name) for name in ("teachers", "zero_shot", "model_name_or_path", "language_model")}
    writes = [f"{split}.parquet" for split in args.splits]
    overwrite = {"overwrite": args.overwrite, "made_here": made_here, "writes": writes}
    check_output("soft_labels", args.soft_labels, read, **overwrite)


def shared_metadata(builder: "AnticipationBuilder") -> dict:
    """Returns the metadata about the labeled rows that the tables of all teachers share."""
    from ..teacher.soft_labels import LABEL_SPACE_HASH

    return {
        LABEL_SPACE_HASH: builder.annotations.label_space.content_hash,
        "history_cutoff": builder.config.history_cutoff,
        "tau_a": float(builder.config.tau_a),
    }


def label(args: Arguments, builder: "AnticipationBuilder", rows: "pd.DataFrame") -> list["Labels"]:
    """Returns the labels by each teacher that the options select."""
    from ..teacher.labelling import label_with_counts, label_with_fine_tuned, label_with_saved, label_zero_shot

    tables = [label_with_saved(folder, builder, rows, args) for folder in args.teachers or []]
    if args.zero_shot is not None:
        asked = {"instruction": args.instruction, "calibrate": args.calibrate}
        tables.append(label_zero_shot(args.zero_shot, builder, rows, args, **asked))
    trained = {"train_split": args.train_split, "num_folds": args.cross_fit}
    if args.ngram or args.log_linear:
        tables.append(label_with_counts(args.ngram, builder, rows, args, language_model=args.language_model, **trained))
    elif args.cross_fit:
        tables.append(label_with_fine_tuned(builder, rows, args, **trained))
    return tables


def save(
    args: Arguments,
    builder: "AnticipationBuilder",
    rows: "pd.DataFrame",
    tables: list["Labels"],
    inputs: dict[str, str],
):
    """Writes one table per split, and prints its size and accuracy."""
    import numpy as np

    from ..teacher.soft_labels import ROW_COLUMNS, SoftLabelTable, rows_fingerprint

    Path(args.soft_labels).mkdir(parents=True, exist_ok=True)
    shared = {**shared_metadata(builder), "cross_fit": 0}
    for split in args.splits:
        of_split = (rows["split"] == split).to_numpy()
        labelled = rows[of_split]
        shared |= {"split": split, "labelled": rows_fingerprint(labelled), "inputs": inputs[split]}
        uids = list(labelled["uid"])
        columns = {name: np.asarray(labelled[name]) for name in ROW_COLUMNS}
        members = [SoftLabelTable(uids, logits[of_split], shared | metadata, columns) for logits, metadata in tables]
        table = members[0] if len(members) == 1 else SoftLabelTable.average(members)
        path = Path(args.soft_labels) / f"{split}.parquet"
        table.save(path)
        print(f"{path}: {len(uids)} rows, {accuracy(table, labelled)}")


def accuracy(table: "SoftLabelTable", rows: "pd.DataFrame") -> str:
    from ..metrics import label_ranks

    known = (rows["action"] >= 0).to_numpy()
    if not known.any():
        return "without labels to compare with"
    ranks = label_ranks(table.logits[known], rows["action"].to_numpy()[known])
    return f"top-1 {100 * (ranks < 1).mean():.2f} %, top-5 {100 * (ranks < 5).mean():.2f} %"

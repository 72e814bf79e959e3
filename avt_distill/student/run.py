"""A run: for each seed a distilled student and an identical baseline without a teacher, and their comparison."""

import copy
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path

import numpy as np
import pandas as pd
from transformers.training_args import HubStrategy

from ..data.loading import choose_splits, dataset_builder
from ..evaluation.benchmark_metrics import benchmark_metrics, models_table
from ..evaluation.comparison import calibration_text, compare_calibration, compare_tables, comparison_text
from ..evaluation.scores import ScoreTable
from ..runs.arguments import use_token
from ..runs.fingerprints import decisive_options
from ..runs.folder import ARGUMENTS, check_processes, read_record, write_json
from ..runs.lock import locked
from ..sharing.cards import README, student_card, write_card
from ..sharing.hub import create_repository, push_folder
from ..sharing.metadata import repository_in
from .arguments import RunArguments
from .building import check_as_it_is
from .training import RESULTS, StudentData, check_settings, student_data, table_metadata, trained_student

# `TrainingArguments` that do not affect the result but are reused by commands that continue from a run.
HOW_TRAINED = (
    "output_dir",
    "use_cpu",
    "per_device_train_batch_size",
    "per_device_eval_batch_size",
    "gradient_accumulation_steps",
    "dataloader_num_workers",
    "dataloader_persistent_workers",
    "save_strategy",
    "save_steps",
    "logging_steps",
)


def distill(args: RunArguments) -> str:
    """Trains all students of a run, and returns their metrics and comparison as text (empty except in the main
    process).

    `args.output_dir` then holds a folder for each student, the first with a model card, and `comparison.json`. Finished
    students are not trained again.

    Raises:
        ValueError: If data, soft labels and options do not fit together, or the folder belongs to another run.
        OSError: If the Hub cannot be reached. Raised before training.
    """
    check_processes(args.world_size)
    with locked(args.folder):
        return _distill(args)


def _distill(args: RunArguments) -> str:
    builder = dataset_builder(args)
    choose_splits(args, builder)
    if args.is_as_it_is:
        check_as_it_is(str(args.model_name_or_path), builder)
    use_token(args)
    if args.push_to_hub and args.should_save:  # before training, so that a wrong name or token fails at once
        args.hub_model_id = create_repository(hub_name(args), private=bool(args.hub_private_repo))
    with args.main_process_first(local=False):
        data = student_data(args, builder)
    students = [
        (name, run_arguments(args, name, seed, weight))
        for seed in args.seeds or [args.seed]
        for name, weight in variants(args).items()
    ]
    for _, student in students:
        check_settings(student, data)
    if args.should_save:  # early, since fit_reader also continues from unfinished runs, but not for refused options
        write_arguments(args)
    tables = {name: [] for name in variants(args)}
    for name, student in students:
        tables[name].append(trained_student(student, data))
    return report(args, data, tables) if args.should_save else ""


def write_arguments(args: RunArguments):
    """Writes the options of a run, for commands that continue from it."""
    own = [name for kind in RunArguments.__mro__ if "TITLE" in vars(kind) for name in vars(kind)["__annotations__"]]
    arguments = args.to_dict()
    names = [name for name in dict.fromkeys((*own, *HOW_TRAINED)) if name in arguments]
    given = {name: arguments[name] for name in names if arguments[name] is not None and name != "dataset_options"}
    decisive = {name: value for name, value in decisive_options(args).items() if name not in names}
    defaults = {field.name: field.default for field in fields(args)}
    # Fields that transformers derives are left out, since it derives them again.
    given |= {name: value for name, value in decisive.items() if value not in (None, defaults[name], {}, [])}
    args.folder.mkdir(parents=True, exist_ok=True)
    write_json(args.folder / ARGUMENTS, given)  # JSON is YAML, too


def variants(args: RunArguments) -> dict[str, float]:
    """Returns the students of a seed: the weight of the soft labels by the student's name."""
    names = {"baseline": 0.0} if args.baseline or not args.distill_weight else {}
    return {**names, "distilled": args.distill_weight} if args.distill_weight else names


def run_arguments(args: RunArguments, name: str, seed: int, weight: float) -> RunArguments:
    # Copied, not `dataclasses.replace`, which would run `__post_init__` on completed arguments again.
    run = copy.copy(args)
    run.run_name = f"{name}_seed{seed}"
    run.output_dir = str(args.folder / run.run_name)
    run.seed, run.distill_weight = seed, weight
    # Only one student is pushed: after the comparison and, unless the strategy is "end", also during training.
    run.push_to_hub = args.push_to_hub and args.hub_strategy != HubStrategy.END and run.run_name == pushed_student(args)
    run.hub_model_id = hub_name(args)
    return run


def pushed_student(args: RunArguments) -> str:
    return f"{list(variants(args))[-1]}_seed{(args.seeds or [args.seed])[0]}"


def hub_name(args: RunArguments) -> str:
    return args.hub_model_id or args.folder.resolve().name


def card_name(args: RunArguments, student: Path) -> str:
    """Returns the name of a student's repository for its card: the one given, or the one in its existing card."""
    return args.hub_model_id or repository_in(student / README, default=hub_name(args))


def report(args: RunArguments, data: StudentData, tables: dict[str, list[ScoreTable]]) -> str:
    """Returns each student's metrics and their comparison as text, and writes `comparison.json` and a card."""
    folder = args.folder
    results = {
        path.parent.name: read_record(path, "metrics") for path in sorted(folder.glob(f"*_seed*[0-9]/{RESULTS}"))
    }
    metrics = {name: result["metrics"] for name, result in results.items()}
    if (probe := probe_table(data, args.evaluation_split)) is not None:
        probe.save(folder / f"scores_{args.evaluation_split}_probe.parquet")
        metrics["probe"] = benchmark_metrics(probe, data.builder.annotations)
    num_rows = len(next(iter(tables.values()))[0].uids)
    lines = [f"{num_rows} rows of {args.evaluation_split}, in percent"]
    lines.append(models_table(metrics))
    if horizons := {name: result["horizons"] for name, result in results.items() if result.get("horizons")}:
        lines.append(f"\nThe next actions, as sequences\n{horizons_table(horizons)}")
    comparison = None
    if len(tables) == 2:
        space = data.builder.annotations.label_space
        rows = compare_tables(tables["baseline"], tables["distilled"], label_space=space)
        calibration = compare_calibration(tables["baseline"], tables["distilled"])
        lines.append(f"\nbaseline and distilled, {comparison_text(rows, num_rows)}\n\n{calibration_text(calibration)}")
        comparison = {"split": args.evaluation_split, "num_rows": num_rows, "seeds": args.seeds or [args.seed]}
        comparison |= {"rows": rows, "calibration": calibration}
        write_json(folder / "comparison.json", comparison)
    student = folder / pushed_student(args)
    write_card(student, student_card(student, card_name(args, student), comparison=comparison))
    lines.append(f"\nCheckpoints, scores and results: {folder}; the first student, with its model card: {student}")
    return "\n".join(lines)


def horizons_table(horizons: Mapping[str, dict]) -> str:
    """Returns the results of `horizon_metrics` as text, one line a student."""
    lines = {}
    for name, found in horizons.items():
        z = found["num_actions"]
        line = {f"ED@{z}": found["edit_distance"], f"ED@{z} of samples": found["edit_distance_of_samples"]}
        lines[name] = line | {f"top-1 of action {step + 1}": top1 for step, top1 in enumerate(found["top1"])}
    return pd.DataFrame(lines).T.to_string(float_format="%.2f", na_rep="-")


def probe_table(data: StudentData, split: str) -> ScoreTable | None:
    """Returns the scores of the probe for students of features, `None` for students of videos."""
    if data.probe is None or data.student_input.store is None:
        return None
    features = data.student_input.last_frames(data.evaluation)
    metadata = table_metadata(data.builder, split=split, model="probe")
    labels = np.asarray(data.evaluation["action"])
    log_probs = data.probe.classifier.log_probs(features)
    return ScoreTable(
        list(data.evaluation["uid"]), log_probs, labels, metadata, video_ids=list(data.evaluation["video_id"])
    )


def push(args: RunArguments) -> str:
    """Uploads the run's first student with its card, and returns the repository's full name."""
    student = args.folder / pushed_student(args)
    return push_folder(student, hub_name(args), commit_message="A student, its card and its results")

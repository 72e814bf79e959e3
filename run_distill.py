"""Trains students on a text teacher's soft labels, each beside its twin without a teacher, and compares them.

    accelerate launch run_distill.py configs/salads50/student.yaml --output_dir runs/salads --seeds 0 1 2
    python run_distill.py                      # the demo: makes its data and its teacher, in minutes on a laptop

`output_dir` then holds a folder for each student, `distilled_seed<n>` and `baseline_seed<n>`, a checkpoint each with
its `scores_<split>.parquet` and `results.json`; and `comparison.json`, their paired differences. Killed and started
again with the same command, it goes on: finished students are kept.
"""

import copy
import json
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

from accelerate import PartialState
from transformers.training_args import HubStrategy

from avt_distill.data.loading import DatasetArguments, choose_splits
from avt_distill.evaluation.benchmark_metrics import models_table
from avt_distill.evaluation.comparison import compare_tables, comparison_text
from avt_distill.evaluation.scores import ScoreTable
from avt_distill.runs.arguments import parse_run
from avt_distill.runs.folder import check_processes, write_json
from avt_distill.sharing.cards import student_card
from avt_distill.sharing.hub import create_repository, push_folder, use_token
from avt_distill.student.building import StudentArguments
from avt_distill.student.trainer import DistillationArguments
from avt_distill.student.training import RESULTS, StudentData, student_data, trained_student

DEMO = Path(__file__).resolve().parent / "scripts" / "demo.py"


@dataclass
class Arguments(DatasetArguments, StudentArguments, DistillationArguments):
    """What a run takes: the data set, the student, how it is trained, and these."""

    soft_labels: list[str] | None = field(
        default=None, metadata={"help": "Tables that scripts/export_soft_labels.py wrote; several are averaged."}
    )
    missing_soft_labels: str = field(
        default="raise", metadata={"help": "raise; or mask: rows without any are counted and learn from labels alone."}
    )
    seeds: list[int] | None = field(
        default=None, metadata={"help": "Seeds of the students, one pair each. Default: seed alone."}
    )
    baseline: bool = field(default=True, metadata={"help": "Train each student's twin without a teacher, too."})
    train_split: str = field(default="train", metadata={"help": "Split to train on."})
    evaluation_split: str | None = field(
        default=None, metadata={"help": "Split to measure on, for nothing else. Default: validation, or else test."}
    )

    def __post_init__(self):
        StudentArguments.__post_init__(self)
        DistillationArguments.__post_init__(self)
        if self.missing_soft_labels not in ("raise", "mask"):
            raise ValueError(f"missing_soft_labels is '{self.missing_soft_labels}': give 'raise' or 'mask'.")
        if self.distill_weight and not self.soft_labels:
            raise ValueError(
                f"distill_weight is {self.distill_weight}, but there are no soft_labels: give tables that "
                "scripts/export_soft_labels.py wrote, or --distill_weight 0 for the baseline alone."
            )


def main(arguments: list[str] | None = None):
    arguments = sys.argv[1:] if arguments is None else arguments
    if not arguments:
        sys.exit(subprocess.run([sys.executable, str(DEMO)], check=False).returncode)
    try:
        args = parse_run(Arguments, arguments, description=__doc__)
        check_processes(args.world_size)
        builder = args.builder()
        choose_splits(args, builder)
        use_token(args)
        if args.push_to_hub and args.should_save:  # now, and not after hours
            args.hub_model_id = create_repository(hub_name(args), private=bool(args.hub_private_repo))
        with args.main_process_first(local=False):
            data = student_data(args, builder)
        tables = {name: [] for name in variants(args)}
        for seed in args.seeds or [args.seed]:
            for name, weight in variants(args).items():
                tables[name].append(trained_student(run_arguments(args, name, seed, weight), data))
        if args.should_save:
            report(args, data, tables)
        PartialState().wait_for_everyone()  # a process that ends while another still works may abort
    except (ValueError, OSError) as error:
        sys.exit(f"error: {error}")


def variants(args: Arguments) -> dict[str, float]:
    """Returns the students of a seed: the weight of the soft labels by name."""
    names = {"baseline": 0.0} if args.baseline or not args.distill_weight else {}
    return {**names, "distilled": args.distill_weight} if args.distill_weight else names


def run_arguments(args: Arguments, name: str, seed: int, weight: float) -> Arguments:
    run = copy.copy(args)
    run.run_name = f"{name}_seed{seed}"
    run.output_dir = str(Path(args.output_dir) / run.run_name)
    run.seed, run.distill_weight = seed, weight
    # One student is pushed: when all are compared, and under other strategies than "end" while it trains, too.
    run.push_to_hub = args.push_to_hub and args.hub_strategy != HubStrategy.END and run.run_name == pushed_student(args)
    run.hub_model_id = hub_name(args)
    return run


def pushed_student(args: Arguments) -> str:
    return f"{list(variants(args))[-1]}_seed{(args.seeds or [args.seed])[0]}"


def hub_name(args: Arguments) -> str:
    return args.hub_model_id or Path(args.output_dir).resolve().name


def report(args: Arguments, data: StudentData, tables: dict[str, list[ScoreTable]]):
    """Prints each student's metrics and the comparison, and writes `comparison.json`."""
    folder = Path(args.output_dir)
    results = {path.parent.name: json.loads(path.read_text()) for path in sorted(folder.glob(f"*_seed*/{RESULTS}"))}
    num_rows = len(next(iter(tables.values()))[0].uids)
    print(f"\n{num_rows} rows of {args.evaluation_split}, in percent")
    print(models_table({name: result["metrics"] for name, result in results.items()}))
    comparison = None
    if len(tables) == 2:
        space = data.builder.annotations.label_space
        rows = compare_tables(tables["baseline"], tables["distilled"], label_space=space)
        print(f"\nbaseline and distilled, {comparison_text(rows, num_rows)}")
        seeds = args.seeds or [args.seed]
        comparison = {"split": args.evaluation_split, "num_rows": num_rows, "seeds": seeds, "rows": rows}
        write_json(folder / "comparison.json", comparison)
    student = folder / pushed_student(args)
    student_card(student, hub_name(args), comparison=comparison).save(student / "README.md")
    print(f"\nCheckpoints, scores and results: {folder}; the first student, with its model card: {student}")
    if args.push_to_hub:
        print(f"Pushed to {push_folder(student, hub_name(args), commit_message='A student, its card and its results')}")


if __name__ == "__main__":
    main()

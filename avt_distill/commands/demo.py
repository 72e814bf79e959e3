"""Runs the whole method on synthetic kitchen videos, in minutes on a laptop.

    avt-distill demo
    avt-distill demo --output_dir demo_run --seeds 0 1 2 3 4 --num_train_epochs 30

Each stage is a command, printed as you would type it. If interrupted, rerun the command: finished stages are kept.
Options that are not listed here are passed to `avt-distill distill`. Nothing is downloaded. Needs the extra [demo].
"""

import argparse
import os
import shlex
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING

from ..data.arguments import DatasetArguments
from ..runs.arguments import CommandParser, parse_run
from ..runs.folder import is_record
from ..runs.lock import locked

if TYPE_CHECKING:
    from ..data.builder import AnticipationBuilder
    from ..pictures.strip import Moment

CROSS_FIT = 4  # number of teachers, each of which labels the training videos that it was not trained on
INNER_FOLDS = 3  # folds of training videos for choosing the reader's settings
NUM_MOMENTS = 6
SET_BY_DEMO = "set by the demo"  # stands for the soft labels until they exist
RECORDS = {"adaptation.json": "after", "results.json": "metrics"}  # result files, and the key that is written last
# Defaults for the stages: one GPU at most; one thread, since models this small get slower with more; no downloads, no
# progress bars.
ENVIRONMENT = {
    "OMP_NUM_THREADS": "1",
    "CUDA_VISIBLE_DEVICES": "0",
    "HF_HUB_OFFLINE": "1",
    "HF_HUB_DISABLE_PROGRESS_BARS": "1",
    "HF_DATASETS_DISABLE_PROGRESS_BARS": "1",
    "TRANSFORMERS_VERBOSITY": "error",
}


def main(argv: Sequence[str]):
    args, student_options = parse(argv)
    with locked(args.output_dir):
        run_all(args, student_options)


def run_all(args: argparse.Namespace, student_options: list[str]):
    """Runs the stages that are not finished, and shows the results of all."""
    started, folder = time.perf_counter(), args.output_dir
    for title, result, command in stages(args, student_options):
        if result is not None and is_finished(folder / result):
            print(f"\n== {title}: {folder / result} exists already", flush=True)
        elif command is None:
            print(f"\n== {title}", flush=True)
            print(f"{make_language_model(folder)} words: {folder / result}")
        else:
            run(title, command)

    from ..data.loading import anticipation_builder
    from ..evaluation.comparison import comparison_text
    from ..pictures.strip import draw_strip
    from ..runs.folder import read_json

    builder = anticipation_builder("demo", data_dir=str(folder / "kitchen"))
    moments = moments_of_a_video(builder, folder, args.seeds[0])
    show_pipeline(folder / "students" / f"reader_seed{args.seeds[0]}", *moments[NUM_MOMENTS // 2])
    title = f"{Path(moments[0][0]).name}, a test video: what comes next? (students of seed {args.seeds[0]})"
    draw_strip([moment for _, moment in moments], title, folder / "strip.png")
    print(f"\nPicture: {folder / 'strip.png'}\nTotal time: {time.perf_counter() - started:.0f} s\n")
    comparison = read_json(folder / "students" / "comparison.json")
    print("Students without and with a teacher:", comparison_text(comparison["rows"], comparison["num_rows"]))
    print(f"\n{reader_row(read_json(folder / 'students' / 'reader_comparison.json'))}")


def is_finished(result: Path) -> bool:
    """Returns whether the last file of a stage exists and is complete."""
    if result.name in RECORDS:
        return is_record(result, RECORDS[result.name])
    return result.exists()


def parse(argv: Sequence[str]) -> tuple[argparse.Namespace, list[str]]:
    parser = CommandParser("demo", __doc__, passes_on=True)
    parser.add_argument("--output_dir", type=Path, default=Path("demo_run"), help="folder to write")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2], help="seeds of the students")
    parser.add_argument("--num_proc", type=int, default=1, help="processes that read recipes")
    args, student_options = parser.parse_known(argv)
    if student_options:  # checked now rather than after the stages before the students
        check_student_options(student_options)
    return args, without_token(student_options)


def check_student_options(options: list[str]):
    """Raises `ValueError` for options of the students that are invalid, or that the other stages do not share."""
    from ..sharing.shipped import shipped_folder
    from ..student.arguments import RunArguments

    if not options[0].startswith("-"):
        raise ValueError(f"Cannot place '{options[0]}': the demo accepts only options, written --key value.")
    config = str(shipped_folder("configs/demo") / "student.yaml")
    run = parse_run(RunArguments, [config, f"--soft_labels={SET_BY_DEMO}", *options], description="", command="distill")
    fixed = {field.name: field.default for field in fields(DatasetArguments)}
    fixed |= {"dataset": "demo", "soft_labels": [SET_BY_DEMO], "features": None, "backbone": None}
    fixed |= {"baseline": True, "train_split": "train", "evaluation_split": None}
    for name, default in fixed.items():
        value = getattr(run, name)
        if value != default and name != "cache_dir":
            raise ValueError(
                f"{name} is {value!r}, but the demo sets it for all of its stages: leave it out, or run the stages as "
                "commands, as the demo prints them."
            )
    if not run.distill_weight:
        raise ValueError("distill_weight is 0, but the demo shows what a teacher adds: give more than 0.")


def without_token(options: list[str]) -> list[str]:
    """Returns options without a Hub token, since commands are printed. `parse_run` has stored it for the stages."""
    kept, words = [], iter(options)
    for word in words:
        if word.partition("=")[0].replace("-", "_") != "__hub_token":
            kept.append(word)
        elif "=" not in word:
            next(words, None)
    return kept


def stages(args: argparse.Namespace, student_options: list[str]) -> list[tuple[str, str | None, list | None]]:
    """Returns each stage's title, its last file, and its command."""
    from ..sharing.shipped import shipped_folder

    folder, configs = args.output_dir, from_here(shipped_folder("configs/demo"))
    data, adapted, soft_labels = folder / "kitchen", folder / "language_model_recipes", folder / "soft_labels"
    recipes, teacher = folder / "recipe_actions.jsonl", configs / "teacher.yaml"
    read = ["--data_dir", data, "--model_name_or_path", adapted]
    extract = ["extract_recipe_actions", data / "recipes.jsonl", "--output", recipes]
    adapt = ["adapt_language_model", configs / "adaptation.yaml", "--recipes", recipes]
    adapt += ["--model_name_or_path", folder / "language_model", "--output_dir", adapted]
    finetune = ["finetune_teacher", teacher, *read, "--output_dir", folder / "teacher"]
    export = ["export_soft_labels", teacher, *read, "--cross_fit", CROSS_FIT]
    export += ["--output_dir", folder / "teacher_folds", "--soft_labels", soft_labels]
    students = ["distill", configs / "student.yaml", "--data_dir", data]
    students += ["--soft_labels", soft_labels / "train.parquet", "--output_dir", folder / "students"]
    students += ["--evaluation_split", "test", "--seeds", *args.seeds, *student_options]
    reader = ["fit_reader", folder / "students", "--inner_folds", INNER_FOLDS, "--seeds", args.seeds[0]]
    return [
        ("Data", "kitchen/segments.csv", ["prepare_dataset", "demo", "--data_dir", data]),
        ("Recipes to actions", recipes.name, [*extract, "--num_proc", args.num_proc]),
        ("A small language model with random weights", "language_model/tokenizer.json", None),
        ("Adaptation to recipes", f"{adapted.name}/adaptation.json", adapt),
        ("A teacher, compared with counts", "teacher/results.json", [*finetune, "--evaluation_split", "test"]),
        ("Soft labels of training videos", "soft_labels/train.parquet", export),
        ("Students with and without them", None, students),
        ("A reader of past actions, for the first seed", None, reader),
    ]


def from_here(path: str | Path) -> Path:
    """Returns a path from the current folder, or the path itself if it is on another drive of Windows."""
    try:
        return Path(os.path.relpath(path))
    except ValueError:
        return Path(path)


def run(title: str, command: list):
    """Runs a command in a separate process, and exits if it fails."""
    words = list(map(str, command))
    print(f"\n== {title}\n$ avt-distill {shlex.join(words)}", flush=True)
    started = time.perf_counter()
    environment = {**ENVIRONMENT, **os.environ}
    status = subprocess.run([sys.executable, "-m", "avt_distill", *words], env=environment, check=False).returncode
    if status:
        sys.exit(f"error: '{title}' failed: fix the error above and rerun; finished stages are kept.")
    print(f"({time.perf_counter() - started:.0f} s)", flush=True)


def make_language_model(folder: Path) -> int:
    """Writes a language model whose vocabulary is the recipes' words, and returns the number of words."""
    from ..recipes.files import read_actions
    from ..recipes.small_language_model import write_language_model
    from ..teacher.action_text import ActionText

    text = ActionText()
    recipes = (text.recipe(actions) for _, actions in read_actions(folder / "recipe_actions.jsonl"))
    return len(write_language_model(folder / "language_model", recipes))


def moments_of_a_video(builder: "AnticipationBuilder", folder: Path, seed: int) -> list[tuple[str, "Moment"]]:
    """Returns moments spread over the first test video, with its file and the answers of one seed's students."""
    import numpy as np

    from modeling_avt.video_io_avt import read_frames

    from ..evaluation.scores import ScoreTable
    from ..metrics import softmax
    from ..pictures.strip import Moment

    space = builder.annotations.label_space
    rows = builder.rows("test")
    rows = rows[(rows["video_id"] == rows["video_id"].iloc[0]) & rows["frame_mask"].map(np.all)]
    rows = rows.iloc[np.linspace(0, len(rows) - 1, NUM_MOMENTS).astype(int)]
    answers = {}
    for name in ("baseline", "distilled"):
        table = ScoreTable.load(folder / "students" / f"{name}_seed{seed}" / "scores_test.parquet", label_space=space)
        probabilities = softmax(table.scores[[table.uids.index(uid) for uid in rows["uid"]]])
        answers[name] = [(space.actions[of_row.argmax()], float(of_row.max())) for of_row in probabilities]
    moments = []
    for number, row in enumerate(rows.itertuples()):
        frames, truth = read_frames(row.video, row.frame_times), space.actions[row.action]
        anticipated = {name: of_rows[number] for name, of_rows in answers.items()}
        moment = Moment(frames, row.observed_end_s, row.start_s, truth, anticipated)
        moments.append((str(from_here(row.video)), moment))
    return moments


def reader_row(comparison: dict) -> str:
    """Returns the gain from a reader over the distilled student alone, as one line."""
    reading = comparison["reading"]
    before, after = (comparison["metrics"][reading[name]]["top-1"] for name in ("student", "pool"))
    interval = "[{low:+.2f}, {high:+.2f}], p {p_value:.4f}".format(**reading["over_rows"])
    return (
        f"Distilled, without and with a reader: top-1 {before:.2f} {after:.2f} {reading['difference']:+.2f} {interval}"
    )


def show_pipeline(model: Path, video: str, moment: "Moment"):
    """Runs the pipeline on a moment of a video, and prints the equivalent code."""
    from transformers import pipeline

    from modeling_avt import AVTForAnticipation, AVTVideoProcessor

    print(f"\n== The pipeline on one video\nanticipate = pipeline('action-anticipation', model='{model}', ", end="")
    print(f"trust_remote_code=True)\nanticipate('{video}', at={moment.at_s:.1f}, top_k=3)")
    parts = {"model": AVTForAnticipation.from_pretrained(model)}
    parts["video_processor"] = AVTVideoProcessor.from_pretrained(model)
    anticipate = pipeline("action-anticipation", **parts)
    for answer in anticipate(video, at=moment.at_s, top_k=3):
        print(f"  {100 * answer['score']:5.1f} %  {answer['label']}, in {answer['starts_in_s']:g} s")
    print(f"  true next action: {moment.truth}")

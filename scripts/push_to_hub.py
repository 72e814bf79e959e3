"""Uploads what a run made, with a card that is filled from its results: a student, a teacher, or the app of a Space.

    python scripts/push_to_hub.py runs/salads/distilled_seed0 user/salads-avt
    python scripts/push_to_hub.py teachers/salads_fold1 user/salads-teacher --private
    python scripts/push_to_hub.py space user/salads-app --model user/salads-avt

A folder without `results.json`, such as a converted checkpoint, is pushed with the README.md that is in it. The token
is that of `hf auth login`, or `HF_TOKEN`. Nothing changes on the Hub until all has arrived; interrupted, the same
command goes on. Data sets: `scripts/prepare_dataset.py --push_to_hub`.
"""

import argparse
import json
import sys
from pathlib import Path

from huggingface_hub import ModelCard

from avt_distill.sharing.cards import student_card, teacher_card
from avt_distill.sharing.hub import push_folder, push_space


def main(arguments: list[str] | None = None):
    args = parse_arguments(arguments)
    try:
        if args.model is not None:
            repo_id = push_space(args.folder, args.repo_id, model_id=args.model, private=args.private)
        else:
            checkpoint_card(args).save(args.folder / "README.md")
            message = "Model, card and results"
            repo_id = push_folder(args.folder, args.repo_id, private=args.private, commit_message=message)
    except (ValueError, OSError) as error:
        sys.exit(f"error: {error}")
    print(f"pushed to {repo_id}")


def parse_arguments(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="of a student or a teacher; or `space`")
    parser.add_argument("repo_id", metavar="USER/NAME", help="repository on the Hub, made unless it is there")
    parser.add_argument("--private", action="store_true", help="make that repository private")
    parser.add_argument("--model", metavar="USER/MODEL", help="for a Space: the model that it shows")
    parser.add_argument("--leak_note", help="for a student's card: a sentence on what the data's own protocol leaks")
    args = parser.parse_args(arguments)
    is_app = (args.folder / "app.py").exists()
    if is_app != (args.model is not None):
        problem = "has an app.py: give --model, which it shows" if is_app else "has no app.py, which --model needs"
        parser.error(f"{args.folder} {problem}")
    return args


def checkpoint_card(args: argparse.Namespace) -> ModelCard:
    """Returns the card of a folder: filled from its results, or the one that somebody wrote.

    Raises:
        ValueError: for no checkpoint, and one that has neither results nor a card.
    """
    config, readme = args.folder / "config.json", args.folder / "README.md"
    if not config.exists():
        raise ValueError(f"{args.folder} has no config.json: give the folder of a student or a teacher.")
    if (args.folder / "results.json").exists():
        if json.loads(config.read_text())["model_type"] == "text_teacher":
            return teacher_card(args.folder, args.repo_id)
        comparison = args.folder.resolve().parent / "comparison.json"  # of all students of the run
        comparison = json.loads(comparison.read_text()) if comparison.exists() else None
        return student_card(args.folder, args.repo_id, comparison=comparison, leak_note=args.leak_note)
    if readme.exists():
        return ModelCard.load(readme)
    raise ValueError(
        f"{args.folder} has neither results.json, which run_distill.py and scripts/finetune_teacher.py write, nor a "
        "README.md of your own: nothing is known of it that a card could say."
    )


if __name__ == "__main__":
    main()

"""Uploads a student, a teacher or a Space, with a card generated from its results.

    avt-distill push_to_hub runs/salads/distilled_seed0 user/salads-avt --license apache-2.0
    avt-distill push_to_hub runs/salads/reader_seed0 user/salads-reader    # a student with its reader
    avt-distill push_to_hub teachers/salads_fold1 user/salads-teacher --private
    avt-distill push_to_hub space user/salads-app --model user/salads-avt

A folder without `results.json`, such as a converted checkpoint, is pushed with its own README.md. The token comes from
`hf auth login` or `HF_TOKEN`. Each upload is one commit: if it fails, the repository is unchanged; rerun the command. A
folder to which another command is writing is refused. Data sets: `avt-distill prepare_dataset --push_to_hub`.

Metrics are written to the card (model-index) and, with --hub_dataset, to `.eval_results/` for the leaderboard of that
data set, whose `eval.yaml` must define tasks named CONFIGURATION_METRIC, such as split1_top_1_accuracy.
"""

from collections.abc import Sequence
from pathlib import Path

from ..runs.arguments import CommandParser
from ..sharing.licenses import add_license_options, checked_license


def main(argv: Sequence[str]):
    parser = CommandParser("push_to_hub", __doc__)
    parser.add_argument("folder", type=Path, help="folder of a student or teacher; or `space`, this project's app")
    parser.add_argument("repo_id", metavar="USER/NAME", help="repository on the Hub, created if it does not exist")
    parser.add_argument("--private", action="store_true", help="make that repository private")
    parser.add_argument("--model", metavar="USER/MODEL", help="for a Space: the model that it runs")
    parser.add_argument("--leak_note", help="for a student's card: a sentence on what the data's own protocol leaks")
    parser.add_argument("--hub_dataset", metavar="USER/DATA", help="repository of its data set on the Hub")
    parser.add_argument("--base_model", metavar="USER/MODEL", help="what it started from. Default: as recorded")
    add_license_options(parser)
    parser.add_argument("--overwrite", action="store_true", help="replace a card that was edited by hand")
    args = parser.parse(argv)
    of_license = checked_license(args.license, args.license_name, args.license_link)

    from ..runs.lock import unchanged
    from ..sharing.cards import card_to_push
    from ..sharing.hub import push_folder, push_space
    from ..sharing.metadata import Stated
    from ..sharing.shipped import shipped_folder

    folder = args.folder
    if args.model is not None and str(folder) == "space" and not folder.exists():
        folder = shipped_folder("space")
    is_app = (folder / "app.py").exists()
    if is_app != (args.model is not None):
        problem = (
            "has an app.py: give --model, which the app runs"
            if is_app
            else "has no app.py, which --model needs: leave --model out"
        )
        raise ValueError(f"{folder} {problem}.")
    named = {"dataset": args.hub_dataset, "base_model": args.base_model, "leak_note": args.leak_note}
    stated = Stated(**of_license, **named)
    if args.model is not None:
        if stated:
            raise ValueError(
                "--license, --hub_dataset, --base_model and --leak_note are for models: leave them out, since the "
                "app's card has its own."
            )
        repo_id = push_space(folder, args.repo_id, model_id=args.model, private=args.private)
    else:
        with unchanged(folder):
            card_to_push(folder, args.repo_id, stated=stated, overwrite=args.overwrite)
            message = "Model, card and results"
            repo_id = push_folder(folder, args.repo_id, private=args.private, commit_message=message)
    print(f"pushed to {repo_id}")

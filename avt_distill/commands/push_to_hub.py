"""Uploads a student, a teacher or a Space, with a card that is filled from results.

    avt-distill push_to_hub runs/salads/distilled_seed0 user/salads-avt
    avt-distill push_to_hub runs/salads/reader_seed0 user/salads-reader    # a student with its reader
    avt-distill push_to_hub teachers/salads_fold1 user/salads-teacher --private
    avt-distill push_to_hub space user/salads-app --model user/salads-avt

A folder without `results.json`, such as a converted checkpoint, is pushed with its own README.md. The token is that of
`hf auth login`, or `HF_TOKEN`. Each upload is one commit: if it fails, the repository is unchanged; rerun the command.
A folder to which a command still writes is refused.
Data sets: `avt-distill prepare_dataset --push_to_hub`.
"""

from collections.abc import Sequence
from pathlib import Path

from ..runs.arguments import CommandParser


def main(argv: Sequence[str]):
    parser = CommandParser("push_to_hub", __doc__)
    parser.add_argument("folder", type=Path, help="of a student or a teacher; or `space`, the app of this project")
    parser.add_argument("repo_id", metavar="USER/NAME", help="repository on the Hub, made unless it is there")
    parser.add_argument("--private", action="store_true", help="make that repository private")
    parser.add_argument("--model", metavar="USER/MODEL", help="for a Space: the model that it shows")
    parser.add_argument("--leak_note", help="for a student's card: a sentence on what the data's own protocol leaks")
    parser.add_argument("--overwrite", action="store_true", help="fill a card anew that was edited by hand")
    args = parser.parse(argv)

    from ..runs.lock import unchanged
    from ..sharing.cards import ADAPTATION, RESULTS, checkpoint_card, write_card
    from ..sharing.hub import push_folder, push_space
    from ..sharing.shipped import shipped_folder

    folder = args.folder
    if args.model is not None and str(folder) == "space" and not folder.exists():
        folder = shipped_folder("space")
    is_app = (folder / "app.py").exists()
    if is_app != (args.model is not None):
        problem = "has an app.py: give --model, which it shows" if is_app else "has no app.py, which --model needs"
        raise ValueError(f"{folder} {problem}.")
    if args.model is not None:
        repo_id = push_space(folder, args.repo_id, model_id=args.model, private=args.private)
    else:
        with unchanged(folder):
            card = checkpoint_card(folder, args.repo_id, leak_note=args.leak_note)
            if any((folder / name).exists() for name in (RESULTS, ADAPTATION)):  # or the card is the one that is there
                write_card(folder, card, overwrite=args.overwrite)
            message = "Model, card and results"
            repo_id = push_folder(folder, args.repo_id, private=args.private, commit_message=message)
    print(f"pushed to {repo_id}")

r"""Fits readers of what was recognized so far, and compares them with text-free models.

    avt-distill fit_reader runs/salads/fold1             # of a run of avt-distill distill, with its options
    avt-distill fit_reader configs/salads50/reader.yaml --data_dir salads50 --features features/ \
        --output_dir runs/readers --folds all --seeds 0 1 2 3 4 5    # students, probes and readers of all folds

Everything is chosen on training videos: in inner folds by video, students, recognisers and readers are fitted to the
other videos and predict those of their fold, and the weights of the pool are learned on these predictions. `output_dir`
then holds `reader_seed<n>`, the student with its reader, which pipelines and streams use by themselves, the first with
a model card, for `avt-distill push_to_hub`; `reader/`, the scores of all that are compared; and
`reader_comparison.json`. If interrupted, rerun the command: trained students are kept.
"""

from collections.abc import Sequence
from pathlib import Path

from ..runs.arguments import parse_run
from ..runs.folder import ARGUMENTS


def main(argv: Sequence[str]):
    from ..reader.arguments import ReaderArguments

    if argv and not argv[0].startswith("-") and not argv[0].endswith((".yaml", ".yml")):
        argv = [str(_arguments_of_run(Path(argv[0]))), *argv[1:]]
    args = parse_run(ReaderArguments, argv, description=__doc__, command="fit_reader")

    from accelerate import PartialState

    from ..reader.run import fit_readers

    text = fit_readers(args)
    if args.should_save:
        print(f"\n{text}")
    PartialState().wait_for_everyone()


def _arguments_of_run(folder: Path) -> Path:
    """Returns the file with the options of a run, from its folder or that of one of its students."""
    for place in (folder, folder.parent):
        if (place / ARGUMENTS).is_file():
            return place / ARGUMENTS
    raise ValueError(
        f"{folder} has no {ARGUMENTS}: give the output_dir of avt-distill distill, or a YAML file of options."
    )

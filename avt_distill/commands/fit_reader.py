r"""Fits readers of the actions recognized so far, and compares them with text-free models.

    avt-distill fit_reader runs/salads/fold1             # for a run of avt-distill distill, with its options
    avt-distill fit_reader converted/ my_data/ --videos videos/ --output_dir readers/    # for a finished checkpoint
    avt-distill fit_reader configs/salads50/reader.yaml --data_dir salads50 --features features/ \
        --output_dir runs/readers --folds all --seeds 0 1 2 3 4 5    # students, probes and readers of all folds

All choices are made on training videos: in inner folds by video, students, recognizers and readers are fitted to the
other videos and predict those of their fold, and the weights of the pool are learned from these predictions.
`output_dir` then holds `reader_seed<n>`, the student with its reader, which pipelines and streams use
automatically, the first with a model card for `avt-distill push_to_hub`; `reader/`, the scores of all compared
models; and `reader_comparison.json`. If interrupted, rerun the command: trained students are kept. A finished
checkpoint may have been trained on all these videos, so its pool has equal weights.
"""

from collections.abc import Sequence
from pathlib import Path

from ..runs.arguments import parse_run
from ..runs.folder import ARGUMENTS


def main(argv: Sequence[str]):
    from ..reader.arguments import ReaderArguments

    if argv and not argv[0].startswith("-") and not _is_yaml(argv[0]):
        argv = _with_options_of(Path(argv[0]), list(argv[1:]))
    args = parse_run(ReaderArguments, argv, description=__doc__, command="fit_reader")

    from accelerate import PartialState

    from ..reader.run import fit_readers

    text = fit_readers(args)
    if args.should_save:
        print(f"\n{text}")
    PartialState().wait_for_everyone()


def _with_options_of(folder: Path, options: list[str]) -> list[str]:
    """Returns the options of a run, from its folder or one of its students' folders; or those for a finished
    checkpoint."""
    for place in (folder, folder.parent):
        if (place / ARGUMENTS).is_file():
            if not (place / ARGUMENTS).read_text(encoding="utf-8").strip():
                raise ValueError(f"{place / ARGUMENTS} is empty: rerun avt-distill distill to write it.")
            return [str(place / ARGUMENTS), *options]
    if not (folder / "config.json").is_file():
        raise ValueError(
            f"{folder} has no {ARGUMENTS} and no config.json: give the output_dir of avt-distill distill, a checkpoint "
            "or a YAML file of options."
        )
    files = options[:1] if options and _is_yaml(options[0]) else []
    as_it_is = ["--model_name_or_path", str(folder), "--num_train_epochs=0", "--max_steps=-1", "--distill_weight=0"]
    return [*files, *as_it_is, "--model_options", "{}", "--start_from_probe", "false", *options[len(files) :]]


def _is_yaml(word: str) -> bool:
    return word.endswith((".yaml", ".yml"))

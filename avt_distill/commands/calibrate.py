r"""Calibrates a checkpoint's probabilities, and withholds answers that are not reliable enough.

    avt-distill calibrate runs/mine/distilled_seed0 --scores runs/mine/distilled_seed0/scores_validation.parquet
    avt-distill calibrate student/ --scores scores_validation.parquet --error_rate 0.2 --measure_on scores_test.parquet

A temperature is fitted to the checkpoint's scores on videos that it was not trained on. With --error_rate, so is a
threshold: answers whose probability is below it are withheld, so that at most that share of the given answers is wrong,
with a confidence of 90 % over videos. Both replace any earlier calibration in the checkpoint's config.json; pipelines,
streams and avt-distill anticipate apply them automatically. For a checkpoint with a reader, the pooled answers of both
are calibrated.

Use the score files that avt-distill distill writes next to a student, and fit_reader into its folder reader/. To get
scores on another split without training:

    avt-distill distill --dataset my_data/ --model_name_or_path runs/mine/distilled_seed0 --num_train_epochs 0 \
        --distill_weight 0 --evaluation_split test --output_dir runs/mine_test
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

from ..runs.arguments import CommandParser
from ..runs.lock import locked


def main(argv: Sequence[str]):
    args = parse(argv)

    from ..student.calibration import calibrate

    with locked(args.checkpoint):
        options = {"measure_on": args.measure_on, "unchecked": args.unchecked}
        print(calibrate(args.checkpoint, args.scores, error_rate=args.error_rate, **options))


def parse(argv: Sequence[str]) -> argparse.Namespace:
    parser = CommandParser("calibrate", __doc__)
    parser.add_argument("checkpoint", type=Path, help="folder of a student, with or without a reader")
    parser.add_argument("--scores", type=Path, required=True, help="score file of videos that it was not trained on")
    parser.add_argument(
        "--error_rate", type=float, help="share of the answers that may be wrong; default: never withhold"
    )
    parser.add_argument("--measure_on", type=Path, help="score file of other rows, to measure before and after")
    parser.add_argument("--unchecked", action="store_true", help="accept score files without recorded weights or split")
    args = parser.parse(argv)
    if not (args.checkpoint / "config.json").is_file():
        raise ValueError(f"{args.checkpoint} has no config.json: give the folder of a checkpoint.")
    if args.error_rate is not None and not 0 < args.error_rate < 1:
        raise ValueError(f"--error_rate is {args.error_rate}: give a share between 0 and 1, such as 0.2.")
    return args

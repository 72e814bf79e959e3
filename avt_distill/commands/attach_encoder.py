r"""Adds the encoder of its features to a student, so that it accepts videos.

    avt-distill attach_encoder runs/mine/distilled_seed0                 # writes runs/mine/distilled_seed0_video
    avt-distill attach_encoder user/student --encoder facebook/dinov2-base --features features/ \
        --video videos/P01_01.mp4 --output student_video/

By default the encoder is the one recorded in the feature store by `avt-distill extract_features`, and in the student by
`avt-distill distill`. Features from other tools need --encoder. The encoder's output is compared with stored features
of one video; if they differ, nothing is written. The new checkpoint accepts videos in `avt-distill anticipate`,
pipelines and streams. Its scores equal the student's at moments for which features are stored.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

from ..runs.arguments import CommandParser
from ..runs.lock import locked
from ..runs.outputs import OVERWRITE, check_output, is_json_with


def main(argv: Sequence[str]):
    args = parse(argv)

    import torch

    from ..runs.devices import available_devices, checked_device
    from ..sharing.cards import ATTACHED
    from ..student.attaching import WRITES, attach_encoder, save_attached

    inputs = {name: getattr(args, name) for name in ("student", "encoder", "features", "video")}
    earlier = is_json_with("encoder", student=args.student)
    made_here = {"made_here": lambda folder: earlier(folder / ATTACHED), "writes": WRITES}
    named = {name if name == "student" else f"--{name}": path for name, path in inputs.items()}
    check_output("--output", args.output, named, overwrite=args.overwrite, **made_here)
    device = checked_device(args.device) or torch.device(available_devices()[:2][-1])
    with locked(args.output):
        options = {"feature_frame_rate": args.feature_frame_rate, "unchecked": args.unchecked, "device": device}
        attached = attach_encoder(**inputs, **options)
        save_attached(attached, args.student, args.output)
    check, video = attached.check, "VIDEO"
    if check is not None:
        video = check.video
        rows = f"{check.num_rows} features of {video}, computed by '{attached.encoder}'"
        print(f"{rows}, differ from the stored ones by at most {check.difference:.1e} of their norm")
    print(f"written to {args.output}; try: avt-distill anticipate {video} --model {args.output}")


def parse(argv: Sequence[str]) -> argparse.Namespace:
    parser = CommandParser("attach_encoder", __doc__)
    parser.add_argument("student", help="folder of a checkpoint that reads features, or its name on the Hub")
    parser.add_argument("--encoder", help="the encoder's name on the Hub, or its folder; default: the recorded one")
    parser.add_argument("--features", type=Path, help="the student's feature store; default: the recorded one")
    parser.add_argument("--feature_frame_rate", type=float, help="rows per second of .npz and .npy files")
    parser.add_argument("--video", help="a video in that store to compare; default: the first recorded one")
    parser.add_argument("--output", type=Path, help="folder to write; default: STUDENT_video next to it")
    parser.add_argument("--unchecked", action="store_true", help="skip the comparison, if there is no video or store")
    parser.add_argument("--overwrite", action="store_true", help=OVERWRITE)
    parser.add_argument("--device", help="such as cpu or cuda:0; default: the first accelerator, else the CPU")
    args = parser.parse(argv)
    if Path(args.student).is_dir():
        # Absolute, so that a rerun from another folder finds the same student.
        args.student = str(Path(args.student).resolve())
    if args.unchecked and args.video is not None:
        raise ValueError("--video is for the comparison that --unchecked skips: give one of them.")
    if args.output is None:
        if not Path(args.student).is_dir():
            raise ValueError(f"{args.student} is not a folder, so there is no default output: give --output.")
        args.output = Path(f"{args.student}_video")
    return args

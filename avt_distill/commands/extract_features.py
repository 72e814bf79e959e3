r"""Extracts features of videos with any pretrained image or video model.

    avt-distill extract_features facebook/dinov2-base videos/ --output features/ --frame_rate 4
    accelerate launch -m avt_distill extract_features facebook/vjepa2-vitl-fpc64-256 videos/ --output features/ \
        --frame_rate 4 --dtype bfloat16 --batch_size 8

With n processes, each extracts every n-th video. If interrupted, rerun the command to resume. Each folder holds
features from one model and one set of settings, and records both: `avt-distill attach_encoder` uses the record to add
the encoder to students. Videos that have changed since their features were extracted are refused.
"""

import argparse
import logging
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from ..runs.arguments import CommandParser
from ..runs.outputs import check_output

if TYPE_CHECKING:
    from accelerate import PartialState

logger = logging.getLogger(__name__)

NOT_COMPARED = (
    "%s holds features of %d of these videos from a version that did not record their content: whether the videos have "
    "changed since is not checked."
)


def main(argv: Sequence[str]):
    args = parse(argv)

    from accelerate import PartialState

    from ..runs.folder import check_processes
    from ..runs.lock import locked

    state = PartialState(cpu=args.cpu)
    check_processes(state.num_processes, "--cpu")
    with locked(args.output):
        failures = extract(args, state)
    if failures:
        sys.exit("\n".join(["error: these videos could not be read and are not in the store:", *failures]))


def parse(argv: Sequence[str]) -> argparse.Namespace:
    parser = CommandParser("extract_features", __doc__)
    parser.add_argument("model", help="a Hugging Face image or video model: its name on the Hub, or a folder")
    parser.add_argument("videos", nargs="+", type=Path, help="video files, folders of them, or .txt lists of paths")
    parser.add_argument("--output", type=Path, required=True, help="folder to write <video name>.safetensors into")
    parser.add_argument("--frame_rate", type=float, default=1.0, help="features per second")
    parser.add_argument("--picture_fps", type=float, help="treat folders of numbered pictures as videos of this rate")
    frames = "video models: frames of the clip that ends at each feature; default: as in its training"
    parser.add_argument("--clip_num_frames", type=int, help=frames)
    rate = "video models: frames per second of that clip"
    parser.add_argument("--clip_frame_rate", type=float, default=8.0, help=rate)
    ahead = "V-JEPA 2: add its predictor's output for this many seconds later, such as the student's tau_a"
    parser.add_argument("--predict_ahead_s", type=float, help=ahead)
    parser.add_argument("--batch_size", type=int, default=32, help="features per batch")
    parser.add_argument("--num_workers", type=int, default=2, help="processes that decode in advance")
    precision = "the model's precision; features are stored in float32"
    parser.add_argument("--dtype", choices=("float32", "bfloat16", "float16"), default="float32", help=precision)
    parser.add_argument("--compile", action="store_true", help="compile the model")
    parser.add_argument("--cpu", action="store_true", help="do not use an accelerator; with several processes on CPU")
    unreadable = "continue after an unreadable video, list them and fail at the end"
    parser.add_argument("--skip_unreadable", action="store_true", help=unreadable)
    args = parser.parse(argv)
    # Files of other commands may be overwritten; `keep_extraction` refuses folders with features of other settings.
    check_output("--output", args.output, {"model": args.model}, overwrite=True, writes=())
    return args


def extract(args: argparse.Namespace, state: "PartialState") -> list[str]:
    """Extracts this process's videos, and returns one line for each that could not be read."""
    import torch
    from huggingface_hub.utils import tqdm

    from ..data.videos import videos_with_rate
    from ..features.backbones import load_backbone_processor
    from ..features.encoder_record import EncoderRecord, keep_videos
    from ..features.extraction import PretrainedEncoder, extract_features, keep_extraction, refuse_other_videos

    videos = videos_with_rate(args.videos, args.picture_fps)
    dtype = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}[args.dtype]
    encoder = PretrainedEncoder(
        args.model,
        dtype,
        state.device,
        args.compile,
        clip_num_frames=args.clip_num_frames,
        clip_frame_rate=args.clip_frame_rate,
        predict_ahead_s=args.predict_ahead_s,
    )
    processor = load_backbone_processor(args.model, encoder.config)
    record = EncoderRecord.of(args.model, encoder.avt_config, processor, args.dtype)
    keep_extraction(args.output, {**asdict(record), "frame_rate": args.frame_rate})
    not_compared = refuse_other_videos(args.output, videos)  # of all processes, before their paths are recorded
    if state.is_main_process:
        keep_videos(args.output, videos)
        if not_compared:
            logger.warning(NOT_COMPARED, args.output, not_compared)
    share = {video_id: videos[video_id] for video_id in list(videos)[state.process_index :: state.num_processes]}
    results = extract_features(
        share,
        args.output,
        encoder,
        processor,
        args.frame_rate,
        skip_unreadable=args.skip_unreadable,
        num_frames=encoder.num_frames,
        clip_frame_rate=args.clip_frame_rate,
        batch_size=args.batch_size,
        num_workers=args.num_workers,
    )
    bar = tqdm(results, total=len(share), unit="video", disable=not state.is_local_main_process)
    return [str(result.error) for result in bar if result.error is not None]

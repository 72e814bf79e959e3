"""Extracts features of videos with any pretrained image or video model, into a store that training reads.

    python scripts/extract_features.py facebook/dinov2-base videos/ --output features/ --frame_rate 4
    accelerate launch scripts/extract_features.py facebook/vjepa2-vitl-fpc64-256 videos/ --output features/ \
        --frame_rate 4 --dtype bfloat16 --batch_size 8

Each process takes every n-th video. A run that was interrupted continues where it stopped when it is started again.
"""

import argparse
import sys
from pathlib import Path

import torch
from accelerate import PartialState
from huggingface_hub.utils import tqdm

from avt_distill.data.videos import find_videos
from avt_distill.features.backbones import load_backbone_processor
from avt_distill.features.extraction import CLIP_FRAME_RATE, PretrainedEncoder, extract_features, keep_extraction
from avt_distill.runs.folder import check_processes

PREPROCESSING = ("size", "crop_size", "image_mean", "image_std", "antialias")
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


def main(arguments: list[str] | None = None):
    args = parse_arguments(arguments)
    state = PartialState(cpu=args.cpu)
    try:
        check_processes(state.num_processes, "--cpu")
        failures = extract(args, state)
    except (ValueError, OSError) as error:
        sys.exit(f"error: {error}")
    if failures:
        sys.exit("\n".join(["error: these videos could not be read and are not in the store:", *failures]))


def parse_arguments(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", help="a Hugging Face image or video model: its name on the Hub, or a folder")
    parser.add_argument("videos", nargs="+", type=Path, help="video files, folders of them, or .txt lists of paths")
    parser.add_argument("--output", type=Path, required=True, help="folder to write <video name>.safetensors into")
    parser.add_argument("--frame_rate", type=float, default=1.0, help="features per second (default: 1)")
    parser.add_argument(
        "--clip_frame_rate",
        type=float,
        default=CLIP_FRAME_RATE,
        help=f"video models: frames per second of the clip that ends at each feature (default: {CLIP_FRAME_RATE:g})",
    )
    parser.add_argument("--batch_size", type=int, default=32, help="features computed at once (default: 32)")
    parser.add_argument("--num_workers", type=int, default=2, help="processes that decode ahead (default: 2)")
    parser.add_argument("--dtype", choices=DTYPES, default="float32", help="the model's precision; float32 is stored")
    parser.add_argument("--compile", action="store_true", help="compile the model")
    parser.add_argument("--cpu", action="store_true", help="do not use an accelerator; with several processes on CPU")
    parser.add_argument(
        "--skip_unreadable", action="store_true", help="go on after an unreadable video, list them and fail at the end"
    )
    return parser.parse_args(arguments)


def extract(args: argparse.Namespace, state: PartialState) -> list[str]:
    """Returns one line for each of this process's videos that could not be read."""
    videos = find_videos(args.videos)
    encoder = PretrainedEncoder(args.model, DTYPES[args.dtype], state.device, args.compile)
    processor = load_backbone_processor(args.model, encoder.config)
    settings = {name: getattr(processor, name) for name in PREPROCESSING}
    settings.update(model=args.model, dtype=args.dtype, frame_rate=args.frame_rate)
    if encoder.is_video_model:
        settings.update(num_frames=encoder.num_frames, clip_frame_rate=args.clip_frame_rate)
    keep_extraction(args.output, settings)
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


if __name__ == "__main__":
    main()

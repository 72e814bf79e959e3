r"""Adds memory to frame-wise features: running means, and evidence of what was done.

    avt-distill add_feature_memory features/ --windows_s 2 8 30 --so_far --output means/
    avt-distill add_feature_memory frame_scores.npz --frame_rate 1 --softmax 6 --windows_s 2 8 30 \
        --evidence_s 3 10 --output memory/    # of a recogniser's class scores: what it sees, and has seen happen

A student of a few frames then sees what happened long before them. Only rows at or before a moment count for it, so all
can be computed along a live stream. `--standardize` shifts and scales each column by its mean and deviation over
all videos of the store; labels are not looked at.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from ..runs.arguments import CommandParser


def main(argv: Sequence[str]):
    args = parse(argv)

    from huggingface_hub.utils import tqdm

    from ..features.stores import open_feature_store, write_features

    store = open_feature_store(args.features, frame_rate=args.frame_rate)
    videos = store.video_ids()
    if any(args.output.glob("*.safetensors")):
        raise ValueError(f"{args.output} holds features already: give another --output, or delete it.")
    averaged = {}
    for video_id in tqdm(videos, desc="videos"):
        features, rate, start_s = store.read_all(video_id)
        averaged[video_id] = (with_memory(features, rate, args), rate, start_s)
    if args.standardize:
        averaged = standardized(averaged)
    args.output.mkdir(parents=True, exist_ok=True)
    for video_id, (features, rate, start_s) in averaged.items():
        write_features(args.output / f"{video_id}.safetensors", features, rate, start_s)
    width = next(iter(averaged.values()))[0].shape[1]
    print(f"{args.output}: {len(videos)} videos, features of width {width}")


def parse(argv: Sequence[str]) -> argparse.Namespace:
    parser = CommandParser("add_feature_memory", __doc__)
    parser.add_argument("features", type=Path, help="feature store: a folder, an .npz file, or RULSTM's LMDB")
    parser.add_argument("--frame_rate", type=float, help="rows per second of an .npz file")
    parser.add_argument("--windows_s", type=float, nargs="*", default=[], help="length of each window in seconds")
    parser.add_argument("--so_far", action="store_true", help="add the mean over everything until then")
    parser.add_argument("--softmax", type=float, metavar="SHARPNESS", help="class scores to probabilities first")
    parser.add_argument("--evidence_s", type=float, nargs="*", default=[], help="scales of the evidence so far")
    parser.add_argument("--standardize", action="store_true", help="each column to mean 0 and deviation 1")
    parser.add_argument("--output", type=Path, required=True, help="folder to write")
    return parser.parse(argv)


def with_memory(features: np.ndarray, frame_rate: float, args: argparse.Namespace) -> np.ndarray:
    """Returns the means over all windows and the evidence at all scales, side by side, float32 `(N, D')`."""
    from ..features.memory import evidence_so_far, running_means, softmax_scores

    if args.softmax is not None:
        features = softmax_scores(features, args.softmax)
    evidence = [evidence_so_far(features, frame_rate, scale_s) for scale_s in args.evidence_s]
    if not evidence or args.windows_s or args.so_far:
        evidence.insert(0, running_means(features, frame_rate, args.windows_s, so_far=args.so_far))
    return np.concatenate(evidence, axis=1)


def standardized(videos: dict[str, tuple]) -> dict[str, tuple]:
    """Returns features whose columns have mean 0 and deviation 1 over the rows of all videos."""
    rows = np.concatenate([features for features, _, _ in videos.values()], dtype=np.float64)
    mean, deviation = rows.mean(axis=0), np.maximum(rows.std(axis=0), 1e-6)
    return {name: ((features - mean) / deviation, rate, start_s) for name, (features, rate, start_s) in videos.items()}

r"""Adds memory to frame-wise features: running means, and evidence of past actions.

    avt-distill add_feature_memory features/ --windows_s 2 8 30 --so_far --output means/
    avt-distill add_feature_memory frame_scores.npz frame_scores_eval.npz --frame_rate 1 --softmax 6 --keep_scores \
        --windows_s 1 2 4 8 15 30 --evidence_s 3 10 --output memory/    # of two recognizers' class scores

This gives a student that observes a few frames information about much earlier ones. The memory of a row depends only on
rows up to it, so it can be computed on a live stream. Several stores of the same videos are concatenated. Means come
first, then evidence; a recognizer of frames reads only the first columns (`recognizer_feature_dim`).
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from ..runs.arguments import CommandParser
from ..runs.lock import locked
from ..runs.outputs import check_output


def main(argv: Sequence[str]):
    args = parse(argv)

    from huggingface_hub.utils import tqdm

    from ..features.stores import feature_file, open_feature_store, write_features

    stores = [open_feature_store(path, frame_rate=args.frame_rate) for path in args.features]
    videos = stores[0].video_ids()
    # Checks all names before any file is written.
    paths = {video_id: feature_file(args.output, video_id) for video_id in videos}
    for store in stores[1:]:
        if different := sorted(set(videos) ^ set(store.video_ids())):
            raise ValueError(f"{stores[0].path} and {store.path} differ in videos, such as '{different[0]}'.")
    if any(args.output.glob("*.safetensors")):
        raise ValueError(f"{args.output} already holds features: give another --output, or delete it.")
    num_means, width = 0, 0
    with locked(args.output):
        for video_id in tqdm(videos, desc="videos"):
            features, rate, start_s = side_by_side([store.read_all(video_id) for store in stores], video_id)
            means, evidence = with_memory(features, rate, args)
            write_features(paths[video_id], np.concatenate([means, evidence], 1), rate, start_s)
            num_means, width = means.shape[1], means.shape[1] + evidence.shape[1]
    print(f"{args.output}: {len(videos)} videos, features of width {width}, the first {num_means} of them means")


def parse(argv: Sequence[str]) -> argparse.Namespace:
    parser = CommandParser("add_feature_memory", __doc__)
    parser.add_argument("features", type=Path, nargs="+", help="feature stores: folders, .npz files, or RULSTM's LMDB")
    parser.add_argument("--frame_rate", type=float, help="rows per second of .npz and .npy files")
    parser.add_argument("--windows_s", type=float, nargs="*", default=[], help="length of each window in seconds")
    parser.add_argument("--so_far", action="store_true", help="add the mean over all rows so far")
    parser.add_argument(
        "--softmax", type=float, metavar="SHARPNESS", help="first convert class scores to probabilities"
    )
    parser.add_argument("--keep_scores", action="store_true", help="keep the scores next to these probabilities")
    parser.add_argument(
        "--evidence_s", type=float, nargs="*", default=[], help="scales of the evidence so far, in seconds"
    )
    parser.add_argument("--output", type=Path, required=True, help="folder to write")
    parser.add_argument("--standardize", action="store_true", help=argparse.SUPPRESS)  # until version 0.1
    args = parser.parse(argv)
    if args.standardize:
        raise ValueError(
            "--standardize was removed, since it used test videos: set standardize_features: true in model_options to "
            "standardize features by the training videos."
        )
    if args.keep_scores and args.softmax is None:
        raise ValueError("--keep_scores is given without --softmax: scores are then kept anyway, so leave it out.")
    check_output("--output", args.output, {"features": args.features}, overwrite=True, writes=())
    if not args.windows_s and not args.so_far and not args.evidence_s:
        raise ValueError("There is nothing to add: give --windows_s, --so_far or --evidence_s.")
    return args


def side_by_side(stored: Sequence[tuple[np.ndarray, float, float]], video_id: str) -> tuple[list, float, float]:
    """Returns a video's features from several stores, their rows per second and the time of row 0, which must match."""
    clocks = {(len(features), rate, start_s) for features, rate, start_s in stored}
    if len(clocks) > 1:
        raise ValueError(
            f"The stores have different rows of video '{video_id}' (number, rate, start: {sorted(clocks)}): extract "
            "all of them at one rate."
        )
    _, rate, start_s = stored[0]
    return [features for features, _, _ in stored], rate, start_s


def with_memory(features: list[np.ndarray], frame_rate: float, args: argparse.Namespace):
    """Returns the means over all windows `(N, M)` and the evidence at all scales `(N, E)`, float32."""
    from ..features.memory import evidence_so_far, running_means, softmax_scores

    counted = features if args.softmax is None else [softmax_scores(scores, args.softmax) for scores in features]
    shown = np.concatenate([*(features if args.keep_scores else []), *counted], axis=1)
    counted = np.concatenate(counted, axis=1)
    nothing = np.empty((len(shown), 0), dtype=np.float32)
    has_means = args.windows_s or args.so_far
    means = running_means(shown, frame_rate, args.windows_s, so_far=args.so_far) if has_means else nothing
    evidence = [evidence_so_far(counted, frame_rate, scale_s) for scale_s in args.evidence_s]
    return means, np.concatenate([nothing, *evidence], axis=1)

"""Rows per second of a ready data set with features on disk, against the reference's way of labelling frames.

    python benchmarks/data_pipeline.py --data_dir annotations/ek100 --output data_pipeline.json

Both sides read the same rows of EPIC-Kitchens-100's training set in random order, with features of 10 frames from
one store, and give the past actions of these frames. Ours takes them from the data set; the reference scans the table
of all segments for each frame when a row is asked for (datasets/base_video_dataset.py:721-762). Building the data set
is timed too. The features are random numbers; the store holds as many videos as fit into `--gigabytes`, and every
annotated video is mapped to one of them, so that they are read from memory after the first time.
"""

import argparse
import json
import platform
import tempfile
import time
from pathlib import Path

import datasets
import numpy as np
import pandas as pd

from avt_distill.data import anticipation_builder
from avt_distill.data.feature_stores import SafetensorsFeatureStore, write_features

FEATURE_DIM = 1024
FRAME_RATE = 1.0
BATCH_SIZE = 64


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data_dir", required=True, help="annotations of EPIC-Kitchens-100")
    parser.add_argument("--num_rows", type=int, default=2000, help="rows to read (the reference's way: a twentieth)")
    parser.add_argument("--gigabytes", type=float, default=0.5, help="size of the feature store")
    parser.add_argument("--output", type=Path, help="JSON to write")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        result = measure(args, Path(folder))
    result["machine"] = {"processor": platform.machine(), "python": platform.python_version()}
    result["machine"] |= {"datasets": datasets.__version__, "numpy": np.__version__, "pandas": pd.__version__}
    print(json.dumps(result, indent=1))
    if args.output is not None:
        args.output.write_text(json.dumps(result, indent=1) + "\n")


def measure(args: argparse.Namespace, folder: Path) -> dict:
    start = time.perf_counter()
    builder = anticipation_builder("epic_kitchens_100", data_dir=args.data_dir, cache_dir=str(folder / "cache"))
    builder.download_and_prepare()
    build_s = time.perf_counter() - start
    splits = builder.as_dataset()
    store, stored_as = make_store(folder / "features", builder, args.gigabytes)

    rows, segments = splits["train"], builder.annotations.splits["train"]
    order = np.random.default_rng(0).permutation(len(rows))[: args.num_rows].tolist()

    def read_ours() -> int:
        for start in range(0, len(order), BATCH_SIZE):
            for row in rows.__getitems__(order[start : start + BATCH_SIZE]):  # what a DataLoader calls
                read_features(store, stored_as, row)
        return len(order)

    def read_by_table_scan() -> int:
        few = order[: max(1, len(order) // 20)]
        for index in few:
            row = rows[index]
            read_features(store, stored_as, row)
            for time_s in row["frame_times"]:
                scan_for_label(segments, row["video_id"], time_s)
        return len(few)

    ours, theirs = rows_per_second(read_ours), rows_per_second(read_by_table_scan)
    return {
        "rows": {split: len(part) for split, part in splits.items()},
        "build_s": round(build_s, 2),
        "rows_per_s": [round(value) for value in ours],
        "rows_per_s_by_table_scan": [round(value, 1) for value in theirs],
        "ratio_of_medians": round(ours[1] / theirs[1], 1),
    }


def rows_per_second(read) -> list[float]:
    """Returns minimum, median and maximum of three runs."""
    speeds = []
    for _ in range(3):
        start = time.perf_counter()
        num_rows = read()
        speeds.append(num_rows / (time.perf_counter() - start))
    return sorted(speeds)


def read_features(store: SafetensorsFeatureStore, stored_as: dict[str, str], row: dict) -> np.ndarray:
    times = [time_s for time_s, exists in zip(row["frame_times"], row["frame_mask"], strict=True) if exists]
    return store.read(stored_as[row["video_id"]], times)


def make_store(folder: Path, builder, gigabytes: float) -> tuple[SafetensorsFeatureStore, dict[str, str]]:
    """Returns a store of random features, and the stored video that stands for each annotated one."""
    folder.mkdir(parents=True)
    segments = pd.concat([builder.annotations.splits[split] for split in ("train", "validation")])
    lengths_s = segments.groupby("video_id")["end_s"].max()
    num_rows = int(lengths_s.max() * FRAME_RATE) + 2
    num_stored = max(1, int(gigabytes * 1e9 / (num_rows * FEATURE_DIM * 4)))
    random = np.random.default_rng(0)
    for number in range(num_stored):
        features = random.standard_normal((num_rows, FEATURE_DIM), dtype=np.float32)
        write_features(folder / f"video_{number:03d}.safetensors", features, FRAME_RATE)
    stored_as = {video_id: f"video_{number % num_stored:03d}" for number, video_id in enumerate(lengths_s.index)}
    return SafetensorsFeatureStore(folder), stored_as


def scan_for_label(segments: pd.DataFrame, video_id: str, time_s: float) -> int:
    """Returns the label of one frame as the reference finds it: by a scan over all segments of all videos."""
    found = segments[
        (segments["video_id"] == video_id) & (segments["start_s"] <= time_s) & (segments["end_s"] >= time_s)
    ]
    if found.empty:
        return -100
    half_duration = (found["end_s"] - found["start_s"]) / 2
    return int(found["action"].iloc[int((half_duration - time_s).abs().argmin())])


if __name__ == "__main__":
    main()

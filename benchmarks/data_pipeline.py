"""Measures rows per second from a built data set with stored features to batches, compared with the reference.

    python -m benchmarks.data_pipeline --data_dir annotations/ek100 --output data_pipeline.json
    python -m benchmarks.data_pipeline --dataset epic_kitchens_55 --data_dir annotations/ek55

All variants read the same rows of the training set in random order, with features of 10 frames per row from one
store.

- `0 workers`, `2 workers`: a `DataLoader` over the data set with `FeatureCollator`, as in training, in batches of 64.
- `table_scan`: the reference's labeling, which scans the table of all segments for each frame of a requested row
  (datasets/base_video_dataset.py:721-762). Collation is not timed for it.

Building the data set is also timed. The features are random numbers. The store holds as many videos as fit into
`--gigabytes`, and each annotated video is mapped to one of them, so that features are read from memory after the
first time.
"""

import argparse
import tempfile
import time
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
from torch.utils.data import DataLoader

from avt_distill.data import anticipation_builder
from avt_distill.data.builder import AnticipationBuilder
from avt_distill.data.collator import FeatureCollator
from avt_distill.features.stores import SafetensorsFeatureStore, write_features
from benchmarks.measure import add_common_arguments, describe_machine, take_turns, write_result

FEATURE_DIM = 1024
FRAME_RATE = 1.0
BATCH_SIZE = 64
MOST_SCANNED = 100


def main(arguments: list[str] | None = None):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dataset", default="epic_kitchens_100", help="name of a benchmark, or a folder")
    parser.add_argument("--data_dir", help="folder with its annotations")
    parser.add_argument("--num_rows", type=int, help="number of rows to read, at most 100 in table_scan (default: all)")
    parser.add_argument("--gigabytes", type=float, default=0.5, help="size of the feature store in GB")
    add_common_arguments(parser, repeats=3)
    args = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as folder:
        result = measure(args, Path(folder))
    result["machine"] = describe_machine("datasets", "numpy", "pandas", "torch")
    print(f"rows {result['rows']}, built in {result['build_s']:.1f} s")
    speeds = pd.DataFrame(result["rows_per_s"]).T
    speeds["times as fast"] = speeds["median"] / speeds.at["table_scan", "median"]
    print(f"rows/s\n{speeds.to_string(float_format='%.1f')}")
    write_result(result, args.output)


def measure(args: argparse.Namespace, folder: Path) -> dict:
    start = time.perf_counter()
    given = {} if args.data_dir is None else {"data_dir": args.data_dir}
    builder = anticipation_builder(args.dataset, cache_dir=str(folder / "cache"), **given)
    builder.download_and_prepare()
    build_s = time.perf_counter() - start
    splits = builder.as_dataset()
    store = make_store(folder / "features", builder, args.gigabytes)
    rows, segments = splits["train"], builder.annotations.splits["train"]
    order = np.random.default_rng(0).permutation(len(rows))[: args.num_rows].tolist()

    def read_batches(num_workers: int) -> int:
        collator = FeatureCollator(store)
        batches = DataLoader(rows, BATCH_SIZE, sampler=order, collate_fn=collator, num_workers=num_workers)
        return sum(len(batch["labels"]) for batch in batches)

    def read_by_table_scan() -> int:
        few = order[:MOST_SCANNED]
        for index in few:
            row = rows[index]
            store.read(row["video_id"], np.asarray(row["frame_times"])[row["frame_mask"]])
            for time_s in row["frame_times"]:
                scan_for_label(segments, row["video_id"], time_s)
        return len(few)

    ways = {f"{workers} workers": partial(read_batches, workers) for workers in (0, 2)}
    counts, times = take_turns({**ways, "table_scan": read_by_table_scan}, args.repeats)
    kinds = ("median", "fastest", "slowest")
    speeds = {
        name: {kind: 1000 * counts[name] / measured[f"{kind}_ms"] for kind in kinds} for name, measured in times.items()
    }
    return {"rows": {name: len(part) for name, part in splits.items()}, "build_s": build_s, "rows_per_s": speeds}


class SharedStore:
    """A feature store in which many videos share the features of a few."""

    def __init__(self, store: SafetensorsFeatureStore, stored_as: dict[str, str]):
        self.store, self.stored_as, self.feature_dim = store, stored_as, store.feature_dim

    def read(self, video_id: str, times_s: np.ndarray) -> np.ndarray:
        return self.store.read(self.stored_as[video_id], times_s)


def make_store(folder: Path, builder: AnticipationBuilder, gigabytes: float) -> SharedStore:
    """Returns a store of random features."""
    folder.mkdir(parents=True)
    segments = builder.annotations.splits["train"]
    lengths_s = segments.groupby("video_id")["end_s"].max()
    num_rows = int(lengths_s.max() * FRAME_RATE) + 2
    num_stored = max(1, int(gigabytes * 1e9 / (num_rows * FEATURE_DIM * 4)))
    random = np.random.default_rng(0)
    for number in range(num_stored):
        features = random.standard_normal((num_rows, FEATURE_DIM), dtype=np.float32)
        write_features(folder / f"video_{number:03d}.safetensors", features, FRAME_RATE)
    stored_as = {video_id: f"video_{number % num_stored:03d}" for number, video_id in enumerate(lengths_s.index)}
    return SharedStore(SafetensorsFeatureStore(folder), stored_as)


def scan_for_label(segments: pd.DataFrame, video_id: str, time_s: float) -> int:
    """Returns the label of one frame as the reference computes it, by scanning the segments of all videos."""
    found = segments[
        (segments["video_id"] == video_id) & (segments["start_s"] <= time_s) & (segments["end_s"] >= time_s)
    ]
    if found.empty:
        return -100
    half_duration = (found["end_s"] - found["start_s"]) / 2
    return int(found["action"].iloc[int((half_duration - time_s).abs().argmin())])


if __name__ == "__main__":
    main()

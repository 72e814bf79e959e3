"""Measures how costs scale: building a data set with 1, 4 and 16 times as many rows, and training in 1 and 2 processes.

    python -m benchmarks.scaling --output scaling.json

Data: a synthetic benchmark that has EPIC-Kitchens-100's number of training rows at `1x` (495 videos of 136 actions,
3,806 classes). The times to build it and to load it again and the peak memory of building it are measured, each in a
separate process.

Processes: seconds per step of the EGTEA feature model on batches of 64 rows in total, in 1 and 2 processes of one
thread each, on the CPU. Gradients are exchanged by gloo.
"""

import argparse
import os
import tempfile
import time
from pathlib import Path

import numpy as np

from benchmarks.measure import describe_machine, in_own_process, write_result

NUM_VIDEOS, ACTIONS_A_VIDEO, NUM_CLASSES = 495, 136, 3806
STEPS, WARM_UP = 6, 2


def main(arguments: list[str] | None = None):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--times", type=int, nargs="*", default=[1, 4, 16], help="sizes of the data set, as multiples of `1x`"
    )
    parser.add_argument("--num_videos", type=int, default=NUM_VIDEOS, help="number of videos at `1x`")
    parser.add_argument("--processes", type=int, nargs="*", default=[1, 2])
    parser.add_argument("--width", type=int, default=2048, help="width of the model's head")
    parser.add_argument("--output", type=Path, help="JSON file to write")
    args = parser.parse_args(arguments)
    os.environ["OMP_NUM_THREADS"] = "1"  # for the processes started below
    result = {"machine": describe_machine("torch", "datasets"), "data": [], "steps": []}
    for times in args.times:
        with tempfile.TemporaryDirectory() as folder:
            write_annotations(Path(folder), times * args.num_videos)
            first = in_own_process(build, Path(folder))
            again = in_own_process(build, Path(folder))
        measured = {"times": times, **first, "loaded_again_s": again["seconds"]}
        result["data"].append(measured)
        print(
            f"{times:>3}x: {measured['rows']:>9} rows, built in {measured['seconds']:.1f} s, peak memory "
            f"{measured['peak_mb']:.0f} MB (including {measured['imports_mb']:.0f} MB of imports); loaded again in "
            f"{measured['loaded_again_s']:.1f} s"
        )
    for count in args.processes:
        measured = train_in_processes(count, args.width)
        result["steps"].append(measured)
        print(f"{count} processes: {measured['step_s']:.2f} s per step")
    write_result(result, args.output)


def write_annotations(folder: Path, num_videos: int):
    """Writes `segments.csv` with actions of 1 to 6 s, separated by pauses of up to 2 s."""
    random = np.random.default_rng(0)
    names = [f"verb{number % 97}_noun{number // 13}" for number in range(NUM_CLASSES)]
    with open(folder / "segments.csv", "w", encoding="utf-8") as file:
        file.write("video_id,start_s,end_s,action\n")
        for video in range(num_videos):
            lengths, pauses = random.uniform(1, 6, ACTIONS_A_VIDEO), random.uniform(0, 2, ACTIONS_A_VIDEO)
            ends = np.cumsum(lengths + pauses)
            actions = random.integers(0, NUM_CLASSES, ACTIONS_A_VIDEO)
            rows = zip(ends - lengths, ends, actions, strict=True)
            file.writelines(f"v{video:05d},{start:.3f},{end:.3f},{names[action]}\n" for start, end, action in rows)


def build(folder: Path) -> dict:
    from avt_distill.data import anticipation_builder

    imports_mb = peak_mb()
    start = time.perf_counter()
    builder = anticipation_builder(str(folder), cache_dir=str(folder / "cache"))
    builder.download_and_prepare()
    rows = len(builder.as_dataset()["train"])
    return {"rows": rows, "seconds": time.perf_counter() - start, "peak_mb": peak_mb(), "imports_mb": imports_mb}


def peak_mb() -> float:
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3  # KiB on Linux


def train_in_processes(count: int, width: int) -> dict:
    """Runs `train` in several processes and returns the result of the first."""
    from torch.distributed.launcher.api import LaunchConfig, elastic_launch

    rendezvous = {"rdzv_backend": "c10d", "rdzv_endpoint": "localhost:0", "run_id": f"scaling_{count}"}
    launch = LaunchConfig(min_nodes=1, max_nodes=1, nproc_per_node=count, max_restarts=0, **rendezvous)
    return elastic_launch(launch, train)(width)[0]


def train(width: int) -> dict:
    """Trains in one of several processes, and returns the number of processes and the median seconds of a step."""
    import torch
    from accelerate import Accelerator

    from benchmarks.step import make_batch
    from modeling_avt import AVTConfig, AVTForAnticipation

    accelerator = Accelerator(cpu=True)
    torch.manual_seed(0)
    config = AVTConfig(
        backbone_config=None, feature_dim=1024, head_hidden_size=width, head_num_layers=2, num_labels=106
    )
    model = AVTForAnticipation(config)
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-3, momentum=0.9)
    model, optimizer = accelerator.prepare(model, optimizer)
    batch = make_batch(config, 64 // accelerator.num_processes)
    seconds = []
    for _ in range(STEPS):
        start = time.perf_counter()
        accelerator.backward(model(**batch).loss)
        optimizer.step()
        optimizer.zero_grad()
        accelerator.wait_for_everyone()
        seconds.append(time.perf_counter() - start)
    accelerator.end_training()
    return {"processes": accelerator.num_processes, "step_s": float(np.median(seconds[WARM_UP:]))}


if __name__ == "__main__":
    main()

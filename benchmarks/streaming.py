"""Seconds per answer of a stream, against running the whole model on the window again.

    python benchmarks/streaming.py --threads 2 --output streaming.json

The model is ViT-B/16 and a 2,048-wide causal head, with random weights, which cost what trained ones do. Frames come
at the model's frame rate, as uint8 images of `--height` x `--width`; decoding is not part of either side. `stream`:
`AVTStream.push`, which prepares and encodes the new frame and runs the head. `whole_model`: prepares the T frames of
the window and runs the model on them. `whole_model_prepared`: the same, on frames that are prepared already. They take
turns, `--repeats` times, on full windows, and must agree. Processor time is given beside elapsed time: with one thread
it does not depend on what else the machine is doing. `README.md` beside this file has results.
"""

import argparse
import json
import os
import platform
import statistics
import time
from functools import partial
from pathlib import Path

import numpy as np
import torch
import transformers

from modeling_avt import AVTConfig, AVTForAnticipation, AVTVideoProcessor

TINY = {
    "backbone_config": {"model_type": "vit", "hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2},
    "head_hidden_size": 32,
}


def main(arguments: list[str] | None = None):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--num_layers", type=int, default=2, help="of the head")
    parser.add_argument("--num_frames", type=int, default=10, help="of a window")
    parser.add_argument("--num_actions", type=int, default=2513, help="default: those of EPIC-Kitchens-55")
    parser.add_argument("--height", type=int, default=256)
    parser.add_argument("--width", type=int, default=456)
    parser.add_argument("--repeats", type=int, default=10)
    parser.add_argument("--threads", type=int, help="default: torch's own choice")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--dtype", choices=("float32", "bfloat16", "float16"), default="float32")
    parser.add_argument("--tiny", action="store_true", help="a model of no size, to try this script")
    parser.add_argument("--output", type=Path, help="JSON to write")
    args = parser.parse_args(arguments)
    if args.threads is not None:
        torch.set_num_threads(args.threads)
    result = measure(args)
    print_table(result)
    if args.output is not None:
        args.output.write_text(json.dumps(result, indent=1) + "\n")


def measure(args: argparse.Namespace) -> dict:
    model, processor = build(args)
    stream = model.stream(processor)
    images = np.random.default_rng(0).integers(0, 256, (args.num_frames, args.height, args.width, 3), dtype=np.uint8)
    for i, image in enumerate(images):  # fills the window
        stream.push(image, float(i))
    elapsed, processor_time = {}, {}
    differences, last_logits, changes = [], stream.logits, []
    for i in range(args.repeats + 1):
        images = np.roll(images, -1, axis=0)  # the oldest frame comes again as the newest
        prepared = processor.preprocess(images)["pixel_values_videos"]
        ways = {
            "stream": partial(push, stream, images[-1], float(args.num_frames + i)),
            "whole_model": partial(prepare_and_run, model, processor, images),
            "whole_model_prepared": partial(run, model, prepared),
        }
        logits = {}
        for name, answer in ways.items():
            start, processor_start = time.perf_counter(), time.process_time()
            logits[name] = answer()
            processor_time.setdefault(name, []).append(time.process_time() - processor_start)
            elapsed.setdefault(name, []).append(time.perf_counter() - start)
        differences.append((logits["stream"] - logits["whole_model"]).abs().max().item())
        changes.append((logits["stream"] - last_logits).abs().max().item())
        last_logits = logits["stream"]
    return {
        "num_layers": args.num_layers,
        "num_frames": args.num_frames,
        "head_hidden_size": model.config.head_hidden_size,
        "parameters_m": round(model.num_parameters() / 1e6, 1),
        "repeats": args.repeats,
        "elapsed": summary(elapsed),
        "processor_time": summary(processor_time),
        "largest_difference_of_logits": max(differences),
        "smallest_change_between_answers": min(changes),
        "machine": describe_machine(args),
    }


def summary(seconds: dict[str, list[float]]) -> dict:
    """Returns median, fastest and slowest of each way, in ms, and how many times as fast the stream is."""
    seconds = {name: values[1:] for name, values in seconds.items()}  # the first turn warms up
    medians = {name: statistics.median(values) for name, values in seconds.items()}
    return {
        name: {
            "median_ms": round(1000 * medians[name], 1),
            "fastest_ms": round(1000 * min(values), 1),
            "slowest_ms": round(1000 * max(values), 1),
            "times_the_stream": round(medians[name] / medians["stream"], 2),
        }
        for name, values in seconds.items()
    }


def describe_machine(args: argparse.Namespace) -> dict:
    return {
        "processor": platform.machine(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "device": args.device if args.device == "cpu" else torch.cuda.get_device_name(args.device),
        "dtype": args.dtype,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "transformers": transformers.__version__,
    }


def build(args: argparse.Namespace) -> tuple[AVTForAnticipation, AVTVideoProcessor]:
    torch.manual_seed(0)
    size = TINY if args.tiny else {}
    contract = {"num_frames": args.num_frames, "frame_rate": 1.0, "tau_o": float(args.num_frames)}
    config = AVTConfig(**size, **contract, head_num_layers=args.num_layers, num_labels=args.num_actions)
    model = AVTForAnticipation(config).eval().to(args.device, getattr(torch, args.dtype))
    return model, AVTVideoProcessor(**contract)


def push(stream, image: np.ndarray, time_s: float) -> torch.Tensor:
    stream.push(image, time_s)
    return stream.logits


def prepare_and_run(model: AVTForAnticipation, processor: AVTVideoProcessor, images: np.ndarray) -> torch.Tensor:
    return run(model, processor.preprocess(images)["pixel_values_videos"])


@torch.inference_mode()
def run(model: AVTForAnticipation, clip: torch.Tensor) -> torch.Tensor:
    return model(pixel_values_videos=clip.to(model.device, model.dtype)).logits[0].float().cpu()


def print_table(result: dict):
    for kind in ("elapsed", "processor_time"):
        columns = ("median_ms", "fastest_ms", "slowest_ms", "times_the_stream")
        print(f"{kind:<22}" + "".join(f"{column:>18}" for column in columns))
        for name, values in result[kind].items():
            print(f"{name:<22}" + "".join(f"{values[column]:>18}" for column in columns))
    print(
        f"Logits differ by {result['largest_difference_of_logits']:.1g} at most, and from one answer to the next by "
        f"{result['smallest_change_between_answers']:.1g} at least."
    )


if __name__ == "__main__":
    main()

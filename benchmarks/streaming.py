"""Measures milliseconds per answer of a stream, compared with running the whole model on the window again.

    python -m benchmarks.streaming --threads 1 --num_layers 2 6 --num_frames 10 32 --output streaming.json

The model is ViT-B/16 with a 2,048-wide causal head and random weights, which take as long as trained ones. Frames
arrive at the model's frame rate, as uint8 images of `--height` x `--width`; no variant includes decoding.

- `stream`: `AVTStream.push`, which prepares and encodes the new frame and runs the head.
- `whole_model`: prepares the T frames of the window and runs the model on them.
- `whole_model_prepared`: the same, on frames that are already prepared.

The variants take turns, `--repeats` times, on full windows, and their logits must agree.
"""

import argparse

import numpy as np
import torch

from benchmarks.measure import add_common_arguments, describe_machine, print_times, take_turns, write_result
from modeling_avt import AVTConfig, AVTForAnticipation, AVTVideoProcessor

AS_EQUAL = {"float32": 1e-4, "bfloat16": 0.1, "float16": 0.02}

TINY = {
    "backbone_config": {"model_type": "vit", "hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2},
    "head_hidden_size": 32,
}


def main(arguments: list[str] | None = None):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--num_layers", type=int, nargs="+", default=[2], help="numbers of layers of the head")
    parser.add_argument("--num_frames", type=int, nargs="+", default=[10], help="numbers of frames per window")
    parser.add_argument(
        "--num_actions", type=int, default=2513, help="number of actions (default: that of EPIC-Kitchens-55)"
    )
    parser.add_argument("--height", type=int, default=256)
    parser.add_argument("--width", type=int, default=456)
    parser.add_argument("--threads", type=int, help="number of CPU threads (default: PyTorch's choice)")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--dtype", choices=list(AS_EQUAL), default="float32")
    parser.add_argument("--tiny", action="store_true", help="use a tiny model, to try this script")
    add_common_arguments(parser, repeats=5)
    args = parser.parse_args(arguments)
    if args.threads is not None:
        torch.set_num_threads(args.threads)
    device = args.device if args.device == "cpu" else torch.cuda.get_device_name(args.device)
    settings = {"threads": torch.get_num_threads(), "device": device, "dtype": args.dtype}
    result = {"machine": describe_machine("torch", "transformers", **settings), "windows": []}
    for num_layers in args.num_layers:
        for num_frames in args.num_frames:
            result["windows"].append(measure(args, num_layers, num_frames))
    write_result(result, args.output)


def measure(args: argparse.Namespace, num_layers: int, num_frames: int) -> dict:
    model, processor = build(args, num_layers, num_frames)
    stream = model.stream(processor)
    images = np.random.default_rng(0).integers(0, 256, (num_frames, args.height, args.width, 3), dtype=np.uint8)
    for time_s, image in enumerate(images):
        stream.push(image, float(time_s))
    window = {"images": images, "time_s": num_frames - 1}
    differences, changes = [], []

    def push() -> torch.Tensor:
        window["images"] = np.roll(window["images"], -1, axis=0)  # reuses the oldest frame as the newest
        window["time_s"] += 1
        before = stream.logits
        stream.push(window["images"][-1], float(window["time_s"]))
        changes.append((stream.logits - before).abs().max().item())
        return stream.logits

    def prepare_and_run() -> torch.Tensor:
        window["prepared"] = processor.preprocess(window["images"])["pixel_values_videos"]
        logits = run(model, window["prepared"])
        differences.append((logits - stream.logits).abs().max().item())
        return logits

    ways = {"stream": push, "whole_model": prepare_and_run}
    ways["whole_model_prepared"] = lambda: run(model, window["prepared"])
    _, times = take_turns(ways, args.repeats)
    print_times(f"{num_layers} layers, {num_frames} frames", times, baseline="whole_model")
    print(f"Logits differ by at most {max(differences):.1g}, and between answers by at least {min(changes):.1g}.")
    if max(differences) > AS_EQUAL[args.dtype]:
        raise AssertionError("The stream and the whole model disagree.")
    return {
        "num_layers": num_layers,
        "num_frames": num_frames,
        "parameters_m": round(model.num_parameters() / 1e6, 1),
        "times": times,
        "largest_difference_of_logits": max(differences),
        "smallest_change_between_answers": min(changes),
    }


def build(args: argparse.Namespace, num_layers: int, num_frames: int) -> tuple[AVTForAnticipation, AVTVideoProcessor]:
    torch.manual_seed(0)
    size = TINY if args.tiny else {}
    contract = {"num_frames": num_frames, "frame_rate": 1.0, "tau_o": float(num_frames)}
    config = AVTConfig(**size, **contract, head_num_layers=num_layers, num_labels=args.num_actions)
    model = AVTForAnticipation(config).eval().to(args.device, getattr(torch, args.dtype))
    return model, AVTVideoProcessor(**contract)


@torch.inference_mode()
def run(model: AVTForAnticipation, clip: torch.Tensor) -> torch.Tensor:
    return model(pixel_values_videos=clip.to(model.device, model.dtype)).logits[0].float().cpu()


if __name__ == "__main__":
    main()

"""Measures the cost of a pretrained encoder on a video: feature extraction, a timeline of the pipeline, and a stream.

    python -m benchmarks.dinov2 dinov2_small/ flipping_a_pancake.mkv --threads 1 --output dinov2.json

The encoder is an image model with its `preprocessor_config.json`, such as DINOv2 ViT-S/14. The student uses it as its
frame encoder, with the untrained head of `configs/own/video.yaml`, whose random weights take as long as trained ones.
Its window is `--num_frames` frames at `--frame_rate`. Each part runs in a separate process, which measures its peak
memory:

- `extraction_float32`, `extraction_bfloat16`: features of the whole video at `--frame_rate`, including decoding.
- `pipeline`: a timeline with an answer every `1 / frame_rate` seconds, including decoding.
- `stream`: `AVTStream.push` of each frame of the video, without decoding. Two kinds of pushes are timed: those that
  answer with a full window, which prepare and encode a frame and run the head, and those that do not answer, which
  only keep the frame for the next moment.
"""

import argparse
import json
import statistics
import time
from pathlib import Path

import av
import torch
import yaml

from avt_distill.features.backbones import load_backbone, load_backbone_processor
from avt_distill.features.extraction import PretrainedEncoder, extract_video
from avt_distill.student.building import student_config
from benchmarks.measure import add_common_arguments, describe_machine, in_own_process, take_turns, write_result
from benchmarks.step import forget_peak_memory, peak_memory_mb
from modeling_avt import ActionAnticipationPipeline, AVTForAnticipation, AVTVideoProcessor

RUN = Path(__file__).parents[1] / "configs" / "own" / "video.yaml"
CPU = torch.device("cpu")


def main(arguments: list[str] | None = None):
    args = parse_arguments(arguments)
    parts = {
        "extraction_float32": in_own_process(extraction, args, torch.float32),
        "extraction_bfloat16": in_own_process(extraction, args, torch.bfloat16),
        "pipeline": in_own_process(timeline, args),
        "stream": in_own_process(stream, args),
    }
    print(json.dumps(parts, indent=1))
    settings = {"threads": args.threads, "frame_rate": args.frame_rate, "num_frames": args.num_frames}
    machine = describe_machine("torch", "transformers", "av", **settings)
    write_result({"machine": machine, "video": args.video.name, **parts}, args.output)


def parse_arguments(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("encoder", help="Hugging Face image model: a folder, or a name on the Hub")
    parser.add_argument("video", type=Path, help="video file, longer than the window")
    parser.add_argument("--frame_rate", type=float, default=2.0, help="encoded frames per second")
    parser.add_argument("--num_frames", type=int, default=10, help="number of frames per window")
    parser.add_argument("--num_actions", type=int, default=100)
    parser.add_argument("--threads", type=int, default=1)
    add_common_arguments(parser, repeats=3)
    return parser.parse_args(arguments)


def extraction(args: argparse.Namespace, dtype: torch.dtype) -> dict[str, float]:
    torch.set_num_threads(args.threads)
    encoder = PretrainedEncoder(args.encoder, dtype)
    processor = load_backbone_processor(args.encoder, encoder.config)
    forget_peak_memory(CPU)
    ways = {"extraction": lambda: extract_video(args.video, encoder, processor, args.frame_rate)}
    results, times = take_turns(ways, args.repeats)
    num_frames = len(results["extraction"])
    return {"frames": num_frames, **_rates(times["extraction"], num_frames), "peak_mb": peak_memory_mb(CPU)}


def timeline(args: argparse.Namespace) -> dict[str, float]:
    torch.set_num_threads(args.threads)
    model, processor = student(args)
    anticipate = ActionAnticipationPipeline(model=model, video_processor=processor)
    forget_peak_memory(CPU)
    ways = {"timeline": lambda: anticipate(str(args.video), every=1 / args.frame_rate)}
    results, times = take_turns(ways, args.repeats)
    num_answers = len(results["timeline"])
    return {"answers": num_answers, **_rates(times["timeline"], num_answers), "peak_mb": peak_memory_mb(CPU)}


def _rates(times: dict[str, float], number: int) -> dict[str, float]:
    measured = {name.replace("_ms", "_s"): milliseconds / 1000 for name, milliseconds in times.items()}
    return {**measured, "per_s": number / measured["median_s"]}


def stream(args: argparse.Namespace) -> dict:
    torch.set_num_threads(args.threads)
    model, processor = student(args)
    live, answering, others = model.stream(processor), [], []
    first_full_s = (args.num_frames - 1) / args.frame_rate
    forget_peak_memory(CPU)
    with av.open(str(args.video)) as container:
        for frame in container.decode(video=0):
            image = frame.to_ndarray(format="rgb24")
            start, processor_start = time.perf_counter(), time.process_time()
            answer = live.push(image, frame.time)
            spent = (time.perf_counter() - start, time.process_time() - processor_start)
            if answer is None:
                others.append(spent)
            elif answer[0]["at_s"] - live.start_s >= first_full_s:
                answering.append(spent)
    if not answering:
        raise ValueError(f"{args.video} is shorter than a window of {first_full_s:g} s: give a longer video.")
    measured: dict = {"answers": len(answering), "other_pushes": len(others), "peak_mb": peak_memory_mb(CPU)}
    for name, spent in {"answer": answering, "other_push": others}.items():
        elapsed, processor_time = ([1000 * seconds for seconds in of_kind] for of_kind in zip(*spent, strict=True))
        measured[name] = {
            "median_ms": statistics.median(elapsed),
            "fastest_ms": min(elapsed),
            "slowest_ms": max(elapsed),
            "processor_ms": statistics.median(processor_time),
        }
    return measured


def student(args: argparse.Namespace) -> tuple[AVTForAnticipation, AVTVideoProcessor]:
    torch.manual_seed(0)
    backbone = load_backbone(args.encoder)
    window = {"num_frames": args.num_frames, "frame_rate": args.frame_rate}
    window["tau_o"] = args.num_frames / args.frame_rate
    options = yaml.safe_load(RUN.read_text(encoding="utf-8"))["model_options"]
    fields = {"backbone_config": backbone.config, "num_labels": args.num_actions, **window, **options}
    model = AVTForAnticipation(student_config(fields)).eval()
    model.avt.backbone = backbone.eval()
    processor = load_backbone_processor(args.encoder, backbone.config)
    return model, AVTVideoProcessor.from_dict({**processor.to_dict(), **window})


if __name__ == "__main__":
    main()

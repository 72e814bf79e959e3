"""The cost of a reader on one core: time per frame, memory over a long video, and its share of a stream's time.

    python -m benchmarks.reader --threads 1 --output reader.json

`updates`: milliseconds of one `HistoryReader.update`, for 18 actions, and for the numbers of actions of
EPIC-Kitchens-55 and -100 with separate verbs and nouns. The beam has 500 hypotheses and is full when timing starts.
The input is synthetic, but not noise: scripts generated from a grammar, at 1 frame/s, and recognized by
`benchmarks.simulation.SimulatedRecognizer` with 60 % (18 actions) or 35 % of frames correct. The reader's tables are
fitted to other scripts of the same grammar. `next_action` and `history`: milliseconds of the other methods that a
stream calls.

`memory`: size of the reader's hypotheses and resident memory of the process, in the course of one video. The beam has
100 hypotheses, to save time.

`answers`: a stream of ViT-B/16 and a 2,048-wide head of two layers, with random weights as in `benchmarks.streaming`,
with the reader and with `reader=False`. Both take turns on the same frames; the recognizer's output, which would be
noise, is replaced by that of the simulated recognizer. The time that the reader adds is smaller than the variation of
the encoder's time. Therefore, `added_ms` is the difference between two streams of features of the same width, of a
model with a tiny head; `added_percent` is its share of the time of ViT-B/16's stream without the reader. Both are
processor times.
"""

import argparse
import itertools
import os
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch

from avt_distill.reader.tables import build_reader, transition_model
from benchmarks.measure import (
    add_common_arguments,
    describe_machine,
    in_own_process,
    print_times,
    take_turns,
    write_result,
)
from benchmarks.simulation import SimulatedRecognizer, action_parts, make_scripts, share_of_frames, true_frames
from benchmarks.streaming import TINY
from modeling_avt import AVTConfig, AVTForAnticipation, AVTVideoProcessor
from modeling_avt.configuration_avt import actions_digest
from modeling_avt.reader_avt import HistoryReader

FRAME_RATE, TAU_A = 1.0, 1.0
NUM_FRAMES = 10  # frames per window of a stream
WARM_UP = 50  # frames until the beam is full
TRAINING_VIDEOS = 20


@dataclass(frozen=True)
class Space:
    """A label space and the properties of its generated videos.

    Args:
        num_actions (`int`): Number of actions A.
        num_verbs, num_nouns (`int`): Numbers of verbs and nouns; 0 if actions have no parts.
        mean_s (`float`): Mean duration of an action in seconds.
        accuracy (`float`): Share of correctly recognized frames.
        actions_a_video (`int`): Number of actions per training video.
        followers (`int`, *optional*): See `ReaderSettings`.
    """

    num_actions: int
    num_verbs: int
    num_nouns: int
    mean_s: float
    accuracy: float
    actions_a_video: int
    followers: int | None = None


SPACES = {
    "18 actions": Space(18, 0, 0, mean_s=16.0, accuracy=0.6, actions_a_video=25),
    "EPIC-Kitchens-55": Space(2513, 125, 352, mean_s=3.8, accuracy=0.35, actions_a_video=100, followers=500),
    "EPIC-Kitchens-100": Space(3806, 97, 300, mean_s=3.8, accuracy=0.35, actions_a_video=100, followers=500),
}
TINY_SPACES = {
    "18 actions": Space(18, 0, 0, mean_s=4.0, accuracy=0.6, actions_a_video=25),
    "pairs": Space(30, 5, 10, mean_s=3.8, accuracy=0.35, actions_a_video=25, followers=10),
}


def main(arguments: list[str] | None = None):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--beam", type=int, default=500, help="beam size, except for `memory` (default: 500)")
    parser.add_argument("--num_frames", type=int, default=400, help="frames to read; the first 50 are not timed")
    parser.add_argument("--memory_frames", type=int, nargs="+", default=[1000, 100_000], help="when to measure memory")
    parser.add_argument("--memory_beam", type=int, default=100, help="beam size for `memory`")
    parser.add_argument("--threads", type=int, help="number of CPU threads (default: PyTorch's choice)")
    parser.add_argument("--tiny", action="store_true", help="tiny label spaces and models, to try this script")
    add_common_arguments(parser, repeats=15)
    args = parser.parse_args(arguments)
    if args.threads is not None:
        torch.set_num_threads(args.threads)
    result = {"machine": describe_machine("torch", "numpy", threads=torch.get_num_threads())}
    result |= {"beam": args.beam, "updates": [], "answers": []}
    for name, space in (TINY_SPACES if args.tiny else SPACES).items():
        for num_last in (1, 2) if space.num_verbs == 0 else (1,):
            reader, video = fitted(space, num_last, args.beam, args.num_frames)
            measured = {"space": name, "num_last": num_last, **time_updates(reader, video)}
            result["updates"].append(measured)
            print(
                f"{name}, {num_last} last: update {measured['median_ms']:.2f} ms (90 %: {measured['p90_ms']:.2f}), "
                f"next_action {measured['next_action_ms']:.2f}, history {measured['history_ms']:.2f}; "
                f"{100 * measured['frames_right']:.0f} % correct frames, {measured['mean_hypotheses']:.0f} hypotheses"
            )
        result["answers"].append({"space": name, **time_answers(args, space, reader, video)})
    result["memory"] = in_own_process(measure_memory, args.memory_beam, args.memory_frames, args.tiny)
    for measured in result["memory"]:
        print(
            f"After {measured['frames']:,} frames: {measured['state_kb']:.0f} kB of hypotheses, "
            f"{measured['resident_mb']:.1f} MB resident"
        )
    write_result(result, args.output)


@dataclass
class Video:
    """A generated video as recognized: log posteriors `(F, A + 1)`, times and true classes `(F,)`."""

    log_probs: np.ndarray
    times_s: np.ndarray
    labels: np.ndarray


def fitted(space: Space, num_last: int, beam: int, num_frames: int) -> tuple[HistoryReader, Video]:
    """Returns a reader of a label space, and a video of `num_frames` frames that it was not fitted to.

    Args:
        space (`Space`): The label space.
        num_last, beam (`int`): See `LogLinearModel` and `ReaderSettings`.
        num_frames (`int`): Number of frames of the video.
    """
    parts = action_parts(space.num_verbs, space.num_nouns, space.num_actions) if space.num_verbs else None
    long_enough = 10 + int(2 * num_frames / FRAME_RATE / space.mean_s)
    lengths = [space.actions_a_video] * TRAINING_VIDEOS + [long_enough]
    segments = make_scripts(lengths, space.num_actions, parts, space.mean_s)
    (*training, (last, (times_s, shown))) = true_frames(segments, space.num_actions, FRAME_RATE).items()
    segments = segments[segments["video_id"] != last]
    labels = [labels for _, (_, labels) in training]
    settings = {
        "frame_rate": FRAME_RATE,
        "actions": actions_digest(names_of(space)),
        "evidence_weight": 0.14,
        "fusion_weights": [0.5, 0.5],
        "num_phases": 2,
        "beam": beam,
        "min_start": 1e-8,
        "followers": space.followers,
    }
    fit = transition_model("log-linear", space.num_actions, prior_weight=0.33, num_last=num_last, action_parts=parts)
    reader = build_reader(segments, labels, fit, space.num_actions, settings)
    times_s, shown = times_s[:num_frames], shown[:num_frames]
    prior = share_of_frames(np.concatenate(labels), space.num_actions)
    recognizer = SimulatedRecognizer(space.accuracy, prior, parts)
    return reader, Video(recognizer.log_probs(shown, seed=0), times_s, shown)


def names_of(space: Space) -> list[str]:
    return [f"action {number}" for number in range(space.num_actions)]


def time_updates(reader: HistoryReader, video: Video) -> dict:
    """Returns the milliseconds of an update and of the calls that follow it, with a full beam."""
    reader = reader.begin_video()
    elapsed: dict[str, list[float]] = {"update": [], "next_action": [], "history": []}
    hypotheses = []
    for frame, time_s in zip(video.log_probs, video.times_s.tolist(), strict=True):
        elapsed["update"].append(milliseconds(lambda: reader.update(frame, time_s)))  # noqa: B023 (called at once)
        elapsed["next_action"].append(milliseconds(lambda: reader.next_action(TAU_A)))
        elapsed["history"].append(milliseconds(reader.history))
        hypotheses.append(len(beam_of(reader).last))
    timed = {name: values[WARM_UP:] for name, values in elapsed.items()}
    return {
        "median_ms": statistics.median(timed["update"]),
        "p90_ms": float(np.quantile(timed["update"], 0.9)),
        "slowest_ms": max(timed["update"]),
        "next_action_ms": statistics.median(timed["next_action"]),
        "history_ms": statistics.median(timed["history"]),
        "mean_hypotheses": statistics.mean(hypotheses[WARM_UP:]),
        "frames": len(timed["update"]),
        "frames_right": float((video.log_probs.argmax(1) == video.labels).mean()),
        "tables_mb": sum(buffer.nbytes for buffer in reader.buffers()) / 1e6,
    }


def milliseconds(way: Callable) -> float:
    start = time.perf_counter()
    way()
    return 1000 * (time.perf_counter() - start)


def beam_of(reader: HistoryReader):
    """Returns the hypotheses of a reader that has begun a video, which are not part of its public interface."""
    assert reader._reading is not None
    return reader._reading.beam


def time_answers(args: argparse.Namespace, space: Space, reader: HistoryReader, video: Video) -> dict:
    """Returns the milliseconds of a stream's answer with and without the reader, and the time that the reader adds."""
    contract = {"num_frames": NUM_FRAMES, "frame_rate": FRAME_RATE, "tau_o": NUM_FRAMES / FRAME_RATE}
    contract |= {"id2label": dict(enumerate(names_of(space))), "recognizes_frames": True}
    size = {**TINY, "head_num_layers": 1} if args.tiny else {"head_num_layers": 2}
    image = np.random.default_rng(0).integers(0, 256, (256, 456, 3), dtype=np.uint8)
    times = take_turns_in_streams(AVTConfig(**size, **contract), image, reader, video, args.repeats)
    print_times(f"Answers of a stream, {space.num_actions} actions", times, baseline="no_reader")
    small = {"backbone_config": None, "feature_dim": 768, "head_hidden_size": 32, "head_num_layers": 1}
    features = np.zeros(768, dtype=np.float32)
    num_pushes = len(video.log_probs) - WARM_UP - 1
    of_small = take_turns_in_streams(AVTConfig(**small, **contract), features, reader, video, num_pushes)
    added_ms = of_small["reader"]["processor_ms"] - of_small["no_reader"]["processor_ms"]
    share = 100 * added_ms / times["no_reader"]["processor_ms"]
    print(f"The reader adds {added_ms:.2f} ms to an answer: {share:.2f} % on top of the stream without it.")
    return {"times": times, "times_without_encoder": of_small, "added_ms": added_ms, "added_percent": share}


def take_turns_in_streams(
    config: AVTConfig, frame: np.ndarray, reader: HistoryReader, video: Video, repeats: int
) -> dict[str, dict]:
    """Returns the times of pushing frames into two full streams of a random model, with and without a reader."""
    torch.manual_seed(0)
    model = AVTForAnticipation(config).eval()
    model.attach_reader(reader)
    recognized, recognize = iter(torch.from_numpy(video.log_probs).float()), model.recognize_frames

    def simulated(features: torch.Tensor) -> torch.Tensor:
        recognize(features)  # called for its time only
        return torch.stack([next(recognized) for _ in features])

    model.recognize_frames = simulated
    processor = None
    if config.backbone_config is not None:
        processor = AVTVideoProcessor(num_frames=NUM_FRAMES, frame_rate=FRAME_RATE, tau_o=config.tau_o)
    streams = {"reader": model.stream(processor), "no_reader": model.stream(processor, reader=False)}
    moments = {name: itertools.count() for name in streams}

    def push(name: str):
        streams[name].push(frame, float(next(moments[name])))

    # With an encoder, filling the beam would take too long, and the encoder hides the difference anyway.
    num_before = WARM_UP if processor is None else NUM_FRAMES
    for name in streams:
        for _ in range(num_before):
            push(name)
    return take_turns({name: partial(push, name) for name in streams}, repeats)[1]


def measure_memory(beam: int, moments: list[int], tiny: bool) -> list[dict]:
    """Returns the memory of a reader of 18 actions after given numbers of frames; its video is repeated at its end."""
    space = (TINY_SPACES if tiny else SPACES)["18 actions"]
    reader, video = fitted(space, 2, beam, num_frames=1000)
    reader, measured = reader.begin_video(), []
    for number in range(max(moments)):
        reader.update(video.log_probs[number % len(video.log_probs)], number / FRAME_RATE)
        if number + 1 in moments:
            state = [value for value in vars(beam_of(reader)).values() if isinstance(value, np.ndarray)]
            measured.append(
                {
                    "frames": number + 1,
                    "beam": beam,
                    "hypotheses": len(beam_of(reader).last),
                    "state_kb": sum(array.nbytes for array in state) / 1e3,
                    "resident_mb": resident_mb(),
                }
            )
    return measured


def resident_mb() -> float:
    """Returns the resident memory of this process in MB, on Linux only."""
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


if __name__ == "__main__":
    main()

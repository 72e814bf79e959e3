"""Streaming accuracy of students and readers with encoders of several sizes: an answer counts only once it is computed.

    avt-distill demo --output_dir demo_run --seeds 0
    avt-distill distill configs/demo/student.yaml --data_dir demo_run/kitchen --seeds 0 --evaluation_split test \\
        --soft_labels demo_run/soft_labels/train.parquet --output_dir demo_run/large --model_options '{...}'
    avt-distill fit_reader demo_run/large --inner_folds 3
    python -m benchmarks.streaming_accuracy demo_run/kitchen demo_run/students demo_run/large --threads 1

Streaming accuracy (Furnari and Farinella, ICPR 2022; `avt_distill.metrics.streaming`): a busy model skips the frames
that arrive in the meantime. For an action that starts at s, the newest answer that is ready at s - tau_a counts.

- `offline`: windows end at exactly s - tau_a. The scores are those of `fit_reader`'s score files.
- `no_runtime`: the newest answer of a stream that answers at each moment of the model's frame rate and takes no time.
  Compared with `offline`, it shows the cost of the stride alone.
- `streaming`: the same with the measured runtime, the median of all pushes except those of the first video. The
  frames of all moments are pushed, and each push answers. Decoding is not part of a push. `runtime_ms` is processor
  time, which with one thread hardly depends on other programs; `elapsed_ms` is elapsed time.
- `without_encoder`: streaming with the runtime minus the time to encode frames.

A machine that is k times slower is simulated by multiplying the measured runtimes by k; nothing is measured on it.
`flips_at`: for each pair of models, the smallest k on a grid from 1 to 10,000 at which their order in top-1 differs
from the order without runtimes.
"""

import argparse
import itertools
import statistics
import time
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from avt_distill.data.loading import anticipation_builder
from avt_distill.evaluation.scores import ScoreTable
from avt_distill.metrics import anticipation_metrics, streaming_indices, streaming_metrics
from avt_distill.runs.folder import read_record
from benchmarks.measure import add_common_arguments, describe_machine, write_result
from modeling_avt import AVTForAnticipation, AVTVideoProcessor
from modeling_avt.video_io_avt import probe, read_frames

SLOWER = np.unique(np.round(np.geomspace(1, 10_000, 161), 1))  # factors by which a machine is slower than this one
SHOWN = (1, 10, 30, 100, 300)
MEASURES = {"top-1": "action_top1_accuracy", "top-5": "action_top5_accuracy"}


def main(arguments: list[str] | None = None):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data_dir", help="data set, as written by avt-distill demo")
    parser.add_argument("runs", type=Path, nargs="+", help="folders with reader_seed<n>, written by fit_reader")
    parser.add_argument("--dataset", default="demo")
    parser.add_argument("--split", default="test")
    parser.add_argument("--seed", type=int, default=0, help="seed of the students")
    parser.add_argument("--num_videos", type=int, help="use only the first videos, to try this script")
    parser.add_argument("--threads", type=int, default=1)
    add_common_arguments(parser, repeats=1)
    args = parser.parse_args(arguments)
    torch.set_num_threads(args.threads)
    models = {
        f"{run.name}, {kind}": Streamed(args, run, kind) for run in args.runs for kind in ("student", "with its reader")
    }
    result = {"machine": describe_machine("torch", "transformers", threads=args.threads), "split": args.split}
    result["models"] = {name: model.measured() for name, model in models.items()}
    result["flips_at"] = flips(models)
    result["slower"] = {
        f"{factor:g}": {name: model.accuracy(factor)["top-1"] for name, model in models.items()} for factor in SHOWN
    }
    print(table(result["models"]).to_string(float_format="%.2f"))
    print("\nTop-1 on a machine that is k times slower (computed from the measured runtimes)")
    print(pd.DataFrame(result["slower"]).to_string(float_format="%.2f"))
    for pair, factor in result["flips_at"].items():
        order = "same order at every k" if factor is None else f"order first changes at k = {factor:g}"
        print(f"{pair}: {order}")
    write_result(result, args.output)


class Streamed:
    """The answers of a checkpoint, alone or with its reader, at each moment of the videos, and their runtimes."""

    def __init__(self, args: argparse.Namespace, run: Path, kind: str):
        folder = run / f"reader_seed{args.seed}"
        self.model = AVTForAnticipation.from_pretrained(folder).eval()
        self.processor = AVTVideoProcessor.from_pretrained(folder)
        self.config = self.model.config
        builder = anticipation_builder(args.dataset, data_dir=args.data_dir)
        rows = builder.rows(args.split)
        videos = list(dict.fromkeys(rows["video_id"]))[: args.num_videos]
        self.rows = rows[rows["video_id"].isin(videos) & (rows["action"] >= 0)]
        metadata = read_record(folder / "results.json", "scores")["scores"]
        names = {"student": metadata["model"].split(" + ")[0], "with its reader": metadata["model"]}
        self.offline = self._offline(run, names[kind], args)
        self.encoding_s = 0.0
        self._time_encoder()
        self.windows = [self._stream(video, number, kind) for number, video in enumerate(videos)]
        scores, ends, videos_of, times = (list(itertools.chain(*parts)) for parts in zip(*self.windows, strict=True))
        self.scores, self.ends_s, self.videos = np.stack(scores), np.array(ends), np.array(videos_of)
        warm = [parts for parts, video in zip(times, videos_of, strict=True) if video != videos[0]] or times
        self.runtime_s, self.elapsed_s, self.encoder_s = (statistics.median(parts) for parts in zip(*warm, strict=True))

    def _offline(self, run: Path, member: str, args: argparse.Namespace) -> dict[str, float]:
        file = f"scores_{args.split}_{member.replace(', ', '_').replace(' ', '_')}_seed{args.seed}.parquet"
        scores = ScoreTable.load(run / "reader" / file)
        row_of = {uid: row for row, uid in enumerate(scores.uids)}
        of_rows = scores.scores[[row_of[uid] for uid in self.rows["uid"]]]
        return _named(anticipation_metrics(of_rows, self.rows["action"].to_numpy()))

    def _time_encoder(self):
        encode = self.model.encode_clips

        def timed(*given, **options):
            started = time.process_time()
            try:
                return encode(*given, **options)
            finally:
                self.encoding_s += time.process_time() - started

        self.model.encode_clips = timed

    def _stream(self, video_id: str, number: int, kind: str) -> tuple[list, list, list, list]:
        """Returns the scores, window end, video and seconds of computation of each moment of a video, as four lists."""
        path = self.rows.loc[self.rows["video_id"] == video_id, "video"].iloc[0]
        moments = np.arange(0, probe(path).duration_s - 1e-6, 1 / self.config.frame_rate)
        stream = self.model.stream(self.processor, reader=kind != "student")
        scores, times = [], []
        for frame, moment_s in zip(read_frames(path, moments), moments.tolist(), strict=True):
            self.encoding_s, started, elapsed = 0.0, time.process_time(), time.perf_counter()
            answer = stream.push(frame, moment_s)
            times.append((time.process_time() - started, time.perf_counter() - elapsed, self.encoding_s))
            if answer is None or abs(answer[0]["at_s"] - moment_s) > 1e-6:
                raise AssertionError(f"The push at {moment_s} s of {path} returned no answer for that moment.")
            scores.append(stream.logits.numpy())
        return scores, moments.tolist(), [video_id] * len(moments), times

    def accuracy(self, factor: float, *, with_encoder: bool = True) -> dict[str, float]:
        """Returns top-1 and top-5 accuracy if the measured runtime is multiplied by a factor; 0 means no runtime."""
        runtime_s = factor * (self.runtime_s if with_encoder else self.runtime_s - self.encoder_s)
        options = {"videos": self.rows["video_id"].to_numpy(), "window_videos": self.videos, "tau_a": self.config.tau_a}
        index = streaming_indices(self.rows["start_s"].to_numpy(), self.ends_s, runtime_s, **options)
        return _named(streaming_metrics(self.scores, self.rows["action"].to_numpy(), index))

    def measured(self) -> dict:
        encoder = self.model.avt.backbone
        return {
            "encoder_parameters_m": sum(weight.numel() for weight in encoder.parameters()) / 1e6,
            "rows": len(self.rows),
            "windows": len(self.ends_s),
            "runtime_ms": 1000 * self.runtime_s,
            "elapsed_ms": 1000 * self.elapsed_s,
            "encoder_ms": 1000 * self.encoder_s,
            "offline": self.offline,
            "no_runtime": self.accuracy(0),
            "streaming": self.accuracy(1),
            "without_encoder": self.accuracy(1, with_encoder=False),
        }


def flips(models: dict[str, Streamed]) -> dict[str, float | None]:
    """Returns for each pair of models the smallest factor at which the one that is worse without runtimes is better."""
    by_factor = {name: [model.accuracy(factor)["top-1"] for factor in (0, *SLOWER)] for name, model in models.items()}
    found = {}
    for one, other in itertools.combinations(models, 2):
        leads = np.sign(np.subtract(by_factor[one], by_factor[other]))
        turned = np.flatnonzero(leads[1:] * leads[0] < 0)
        found[f"{one} / {other}"] = float(SLOWER[turned[0]]) if len(turned) else None
    return found


def table(models: dict[str, dict]) -> pd.DataFrame:
    """Returns the measurements as a table, with a column for each model."""
    numbers = ("encoder_parameters_m", "runtime_ms", "elapsed_ms", "encoder_ms")
    lines = {
        name: {key: found[key] for key in numbers}
        | {
            f"{way} {measure}": found[way][measure]
            for way in ("offline", "no_runtime", "streaming", "without_encoder")
            for measure in MEASURES
        }
        for name, found in models.items()
    }
    return pd.DataFrame(lines)


def _named(metrics: dict[str, float]) -> dict[str, float]:
    return {short: metrics[name] for short, name in MEASURES.items()}


if __name__ == "__main__":
    main()

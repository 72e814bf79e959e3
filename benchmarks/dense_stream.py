"""The dense protocol on real features: students and readers predict the actions of future frames, from video only.

    python -m benchmarks.dense_stream runs/readers --features salads_memory --data_dir salads50

The first 20 or 30 % of each test video of 50 Salads is observed, and the next 10 to 50 % are predicted. The metric is
the mean over classes of the share of correct frames (MoC), computed for each fold and averaged over folds. The run
comes from `avt-distill fit_reader configs/salads50/reader.yaml --folds all`: its students were trained only on the
training videos of their fold.

- `recognized, repeated`: the most likely label of the last observed frame, repeated.
- `student`: that label until tau_a, then the student's next action until the end, since a student does not predict
  durations.
- `reader`: the timeline of the checkpoint's reader, which models durations.
- `reader, balanced`: the reader's probabilities divided by the share of training frames of each class, which suits a
  mean over classes. On held-out training videos of two folds, this was better than the most likely label, than
  dividing by the square root of that share, than the most likely sequence with mean durations, and than the most
  likely last action only.
- `reader, true frames`: the reader, given the annotated label of each observed frame. An upper bound.
"""

import argparse
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from avt_distill.data.loading import anticipation_builder
from avt_distill.features.stores import open_feature_store
from benchmarks.horizons import FPS, SPLITS, AnnotatedVideo, measure_dense, scripts_of
from benchmarks.measure import add_common_arguments, describe_machine, write_result
from modeling_avt import AVTForAnticipation
from modeling_avt.temporal_avt import sample_frame_times

DATASET = "fifty_salads"


def main(arguments: list[str] | None = None):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, help="folder written by fit_reader --folds all")
    parser.add_argument("--features", required=True, help="feature store of the run")
    parser.add_argument("--data_dir", required=True, help="folder with the annotations of 50 Salads")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0], help="seeds of the students")
    add_common_arguments(parser, repeats=1)
    args = parser.parse_args(arguments)
    store = open_feature_store(args.features)
    found = {fold: measure_fold(args, fold, store) for fold in SPLITS[DATASET]}
    mean = sum(pd.DataFrame(of_fold) for of_fold in found.values()) / len(found)
    print(f"mean over {len(found)} folds\n{mean.T.to_string(float_format='%.1f')}")
    result = {"seeds": args.seeds, "mean": mean.to_dict(), "folds": found}
    write_result({**result, "machine": describe_machine("torch", "numpy")}, args.output)


def measure_fold(args: argparse.Namespace, fold: str, store) -> dict[str, dict[str, float]]:
    """Returns the mean over classes of each method on the test videos of a fold, averaged over seeds."""
    builder = anticipation_builder(DATASET, name=fold, data_dir=args.data_dir)
    num_actions = len(builder.annotations.label_space.actions)
    videos = [
        StreamedVideo(str(name), script, num_actions, store)
        for name, script in scripts_of(builder.annotations.splits["test"])
    ]
    of_seeds: dict[str, list[dict[str, float]]] = {}
    for seed in args.seeds:
        model = AVTForAnticipation.from_pretrained(args.run / fold / f"reader_seed{seed}").eval()
        ways = {
            "recognized, repeated": lambda video, end, model=model: video.repeated(model, end),
            "student": lambda video, end, model=model: video.by_student(model, end),
            "reader": lambda video, end, model=model: video.by_reader(model, end),
            "reader, balanced": lambda video, end, model=model: video.by_reader(model, end, balanced=True),
            "reader, true frames": lambda video, end, model=model: video.expected(model.reader, end),
        }
        for name, way in ways.items():
            of_seeds.setdefault(name, []).append(measure_dense(videos, way))
    found = {name: pd.DataFrame(metrics).mean().to_dict() for name, metrics in of_seeds.items()}
    print(f"{fold}\n{pd.DataFrame(found).T.to_string(float_format='%.1f')}", flush=True)
    return found


class StreamedVideo(AnnotatedVideo):
    """A test video with the features from which a run's students and readers predict."""

    def __init__(self, name: str, script: pd.DataFrame, num_actions: int, store):
        super().__init__(script, FPS[DATASET], num_actions)
        self.name, self.store = name, store

    def _recognized(self, model: AVTForAnticipation, end: int) -> torch.Tensor:
        """Returns the log probabilities of the observed frames, one per second, `(F, A + 1)`."""
        features = self.store.read(self.name, np.arange(end) / self.fps)
        with torch.inference_mode():
            return model.recognize_frames(torch.from_numpy(features))

    def repeated(self, model: AVTForAnticipation, end: int) -> np.ndarray:
        return np.full(self.num_frames, int(self._recognized(model, end)[-1].argmax()))

    def by_student(self, model: AVTForAnticipation, end: int) -> np.ndarray:
        config, last_s = model.config, (end - 1) / self.fps
        times_s, mask = sample_frame_times(
            max(0.0, last_s - config.tau_o), last_s, self.fps, config.frame_rate, config.num_frames
        )
        features = np.zeros((1, config.num_frames, self.store.feature_dim), dtype=np.float32)
        features[0, mask] = self.store.read(self.name, times_s[mask])
        with torch.inference_mode():
            output = model(video_features=torch.from_numpy(features), frame_mask=torch.from_numpy(mask)[None])
        labels = self.repeated(model, end)
        labels[int(np.ceil((last_s + config.tau_a) * self.fps)) :] = int(output.logits.argmax())
        return labels

    def by_reader(self, model: AVTForAnticipation, end: int, *, balanced: bool = False) -> np.ndarray:
        reader = model.reader.begin_video()
        for number, log_probs in enumerate(self._recognized(model, end)):
            reader.update(log_probs, number / self.fps)
        return self.ahead(reader, end, balanced=balanced)


if __name__ == "__main__":
    main()

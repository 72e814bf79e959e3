"""Predictions of text models beyond the next action, on TRUE histories: action sequences and labels of future frames.

    python -m benchmarks.horizons --dataset breakfast --data_dir breakfast --output breakfast_horizons.json
    python -m benchmarks.horizons --dataset fifty_salads --data_dir salads50 --output salads_horizons.json

No video is used: histories are the annotated ones, so the numbers are upper bounds for a perfect recognizer, not
results of a model on videos. All models are fitted to the scripts of the training videos of each split and measured
on its test videos. To choose options, use `--held_out`: every fourth performance of the training videos is measured
instead, with models fitted to the others.

`sequences`: edit distance between the next actions and K = 5 predicted sequences, the lowest of the five, at each
labeled segment, as in Ego4D's long-term anticipation. Few videos of these data sets have 20 actions left: rows with
fewer are compared over their remaining actions (at most `--num_actions`), and the distance is divided by their
number. Both the five most likely sequences and five samples are measured; rows with equal histories share them.
Baseline: the last action, repeated. `--teacher` adds samples of a language model that `avt-distill finetune_teacher`
trained on the split.

`dense`: mean over classes of the share of correct frames (MoC), with 20 or 30 % of a video observed and the next 10
to 50 % predicted, at the annotation's frame rate. It is computed for each split and averaged over splits. A reader
gets the true frames at `--frame_rate` frames per second, and its `timeline` predicts all later frames without further
input. Baseline: the last observed label, repeated.
"""

import argparse
import time
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pandas as pd
import torch

from avt_distill.data.loading import anticipation_builder
from avt_distill.data.performances import performance_of
from avt_distill.metrics import frame_labels, mean_over_classes, row_edit_distances
from avt_distill.reader.asking import AskedTransitions
from avt_distill.reader.tables import as_tables, build_reader, transition_model, whole_histories
from avt_distill.teacher.prediction import TeacherScorer
from benchmarks.measure import add_common_arguments, describe_machine, write_result
from modeling_avt.configuration_avt import actions_digest
from modeling_avt.futures_avt import continued, spans
from modeling_avt.transitions_avt import text_state

SPLITS = {"breakfast": [f"split{number}" for number in range(1, 5)], "fifty_salads": [f"fold{n}" for n in range(1, 6)]}
KINDS = ("unigram", "bigram", "trigram", "log-linear")
NUM_SEQUENCES = 5
OBSERVED = (0.2, 0.3)
FPS = {"breakfast": 15.0, "fifty_salads": 1.0}  # frame rates of the annotation files
HELD_OUT_EVERY = 4
LAST_AGAIN = "last action again"
WHOLE = 64  # last actions given to a teacher that has no history length


def main(arguments: list[str] | None = None):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dataset", choices=SPLITS, default="breakfast")
    parser.add_argument("--data_dir", required=True, help="folder with its annotations")
    parser.add_argument("--splits", nargs="+", help="splits to measure (default: all)")
    parser.add_argument(
        "--held_out", action="store_true", help="measure on held-out training videos, to choose options"
    )
    parser.add_argument("--parts", nargs="+", choices=("sequences", "dense"), default=["sequences", "dense"])
    parser.add_argument("--num_actions", type=int, default=20, help="number of actions per sequence")
    parser.add_argument("--frame_rate", type=float, default=1.0, help="frames read per second")
    parser.add_argument("--num_phases", type=int, default=2, help="phases per action; with more, durations vary less")
    parser.add_argument("--prior_weight", type=float, default=0.33, help="prior weight of the log-linear model")
    parser.add_argument("--num_last", type=int, default=2, help="last actions whose order the log-linear model uses")
    parser.add_argument("--teacher", help="fine-tuned teacher of the split, measured on sequences")
    add_common_arguments(parser, repeats=1)
    args = parser.parse_args(arguments)
    if args.teacher is not None and (args.parts != ["sequences"] or len(args.splits or []) != 1):
        parser.error("--teacher was trained on one split: give that split with --splits, and --parts sequences.")
    started = time.process_time()
    of_parts = {"sequences": sequences, "dense": dense}
    found = {part: {} for part in args.parts}
    for split in args.splits or SPLITS[args.dataset]:
        options = {"background": "include"} if args.dataset == "breakfast" else {}
        builders = {
            "sequences": anticipation_builder(args.dataset, name=split, data_dir=args.data_dir),
            "dense": anticipation_builder(args.dataset, name=split, data_dir=args.data_dir, **options),
        }
        for part in args.parts:
            found[part][split] = of_parts[part](builders[part], args)
            print(f"{part}, {split}\n{pd.DataFrame(found[part][split]).T.to_string(float_format='%.3f')}", flush=True)
    result = {
        "dataset": args.dataset,
        "options": {name: value for name, value in vars(args).items() if name != "output"},
    }
    for part, of_splits in found.items():
        mean = sum(pd.DataFrame(of_split) for of_split in of_splits.values()) / len(of_splits)
        means = {name: of_model.dropna().to_dict() for name, of_model in mean.items()}
        result[part] = {"mean": means, "splits": of_splits}
        print(f"\n{part}, mean over {len(of_splits)} splits\n{mean.T.to_string(float_format='%.3f')}")
    result["machine"] = describe_machine("torch", "numpy", processor_seconds=round(time.process_time() - started, 1))
    write_result(result, args.output)


def measured_segments(builder, args: argparse.Namespace) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Returns the segments to fit models to, and those to measure them on."""
    train, test = (builder.annotations.splits[name] for name in ("train", "test"))
    if not args.held_out:
        return train, test
    performances = train["video_id"].map(performance_of)
    is_held_out = performances.isin(sorted(set(performances))[::HELD_OUT_EVERY])
    return train.loc[~is_held_out], train.loc[is_held_out]


def sequences(builder, args: argparse.Namespace) -> dict[str, dict[str, float]]:
    """Returns the mean edit distance of each model's sequences on the test rows of a split."""
    train, test = measured_segments(builder, args)
    num_actions, length = len(builder.annotations.label_space.actions), args.num_actions
    histories, _ = whole_histories(test)
    actual = np.concatenate([_futures(script, length) for _, script in scripts_of(test)])  # (N, Z)
    rows = [tuple(history) for history in histories]
    ahead: dict[tuple[int, ...], int] = {}  # distinct histories, with the most actions left in any of their rows
    for history, of_row in zip(rows, actual, strict=True):
        ahead[history] = max(ahead.get(history, 0), int((of_row >= 0).sum()))
    frequent = np.bincount(train["action"]).argmax()
    again = np.array([[[history[-1] if history else frequent] * length] for history in histories])
    found = {LAST_AGAIN: {"likeliest": _distance(again, actual), "samples": _distance(again, actual)}}
    models: dict[str, Any] = {}
    for kind in KINDS:
        options = {"prior_weight": args.prior_weight, "num_last": args.num_last}
        models[kind] = as_tables(transition_model(kind, num_actions, **options)(train))
    if args.teacher is not None:
        teacher = TeacherScorer.from_pretrained(args.teacher)
        read = teacher.model.config.history_length
        models["teacher"] = AskedTransitions(teacher, num_actions, WHOLE if read is None else read)
    for kind, transitions in models.items():
        transitions.prepare()
        torch.manual_seed(0)
        samples = {history: _continue(transitions, history, most, do_sample=True) for history, most in ahead.items()}
        found[kind] = {"samples": _distance(np.stack([_padded(samples[row], length) for row in rows]), actual)}
        if not isinstance(transitions, AskedTransitions):  # a language model would make each search step slow
            likeliest = {history: _continue(transitions, history, length, do_sample=False) for history in ahead}
            found[kind]["likeliest"] = _distance(np.stack([likeliest[row] for row in rows]), actual)
    return found


def _continue(transitions, history: Sequence[int], length: int, *, do_sample: bool) -> np.ndarray:
    """Returns the sequences predicted after a true history, `(5, Z)`."""
    last, past = text_state(transitions, [history])
    return continued(transitions, last, past, np.zeros(1), length, NUM_SEQUENCES, do_sample=do_sample)[0]


def _padded(sequences: np.ndarray, length: int) -> np.ndarray:
    """Returns samples padded to `length` actions, `(5, Z)`; no row with their history is compared over the padding."""
    return np.pad(sequences, ((0, 0), (0, length - sequences.shape[1])))


def _futures(script: pd.DataFrame, length: int) -> np.ndarray:
    """Returns the actions of each segment and those after it, `(N, Z)`, with -100 after the last one."""
    actions = np.append(script["action"].to_numpy(), np.full(length, -100))
    return np.stack([actions[start : start + length] for start in range(len(script))])


def _distance(predicted: np.ndarray, actual: np.ndarray) -> float:
    """Returns the mean edit distance over each row's remaining actions, divided by their number."""
    by_length = row_edit_distances(predicted, actual)
    num_actions = (actual >= 0).sum(1)
    return float(by_length[np.arange(len(actual)), num_actions - 1].mean())


def dense(builder, args: argparse.Namespace) -> dict[str, dict[str, float]]:
    """Returns the mean over classes of each model's correct frames on the test videos of a split."""
    train, test = measured_segments(builder, args)
    space, fps = builder.annotations.label_space, FPS[args.dataset]
    videos = [AnnotatedVideo(script, fps, len(space.actions)) for _, script in scripts_of(test)]
    training = [AnnotatedVideo(script, fps, len(space.actions)) for _, script in scripts_of(train)]
    settings = {"frame_rate": args.frame_rate, "actions": actions_digest(space.actions), "num_phases": args.num_phases}
    settings |= {"evidence_weight": 1.0, "fusion_weights": [0.5, 0.5]}
    found = {LAST_AGAIN: measure_dense(videos, lambda video, end: np.full(video.num_frames, video.labels[end - 1]))}
    for kind in KINDS:
        fit = transition_model(kind, len(space.actions), prior_weight=args.prior_weight, num_last=args.num_last)
        read_labels = [video.read(args.frame_rate, video.num_frames) for video in training]
        reader = build_reader(train, read_labels, fit, len(space.actions), settings)
        found[kind] = measure_dense(videos, lambda video, end, reader=reader: video.expected(reader, end))
    return found


def measure_dense(videos: list["AnnotatedVideo"], predict) -> dict[str, float]:
    found = {}
    for share in OBSERVED:
        predicted = [predict(video, max(1, int(share * video.num_frames))) for video in videos]
        found |= mean_over_classes(predicted, [video.labels for video in videos], observed=share)
    return found


class AnnotatedVideo:
    """A video with the annotated label of each frame, A for frames without an action."""

    def __init__(self, script: pd.DataFrame, fps: float, num_actions: int):
        self.fps, self.num_actions = fps, num_actions
        self.num_frames = round(float(script["end_s"].max()) * fps)
        ends = np.minimum(script["end_s"], np.append(script["start_s"].to_numpy()[1:], np.inf))  # cut at overlaps
        segments = list(zip(script["action"], script["start_s"], ends, strict=True))
        self.labels = frame_labels(segments, self.num_frames, fps, between=num_actions)

    def read(self, frame_rate: float, end: int) -> np.ndarray:
        """Returns the labels of the frames that a reader gets, the last of which is the frame before `end`."""
        numbers = np.arange(end - 1, -1, -self.fps / frame_rate)[::-1]
        return self.labels[numbers.astype(int)]

    def expected(self, reader, end: int) -> np.ndarray:
        """Returns the label of each frame that a reader predicts from the true frames before `end`."""
        rate = reader.settings.frame_rate
        reader = reader.begin_video()
        for number, label in enumerate(self.read(rate, end)):
            reader.update(np.where(np.arange(self.num_actions + 1) == label, 0.0, -50.0), number / rate)
        return self.ahead(reader, end)

    def ahead(self, reader, end: int, *, balanced: bool = False) -> np.ndarray:
        """Returns the label of each later frame that a reader predicts at the last frame before `end`.

        `balanced` divides probabilities by the share of training frames of each class. This favors a mean over classes,
        whereas the most likely label favors accuracy.
        """
        last_s, ends_s = (end - 1) / self.fps, self.num_frames / self.fps
        probabilities = reader.timeline(ends_s - last_s).numpy()
        if balanced:
            probabilities = probabilities / reader.log_prior.double().exp().numpy()
        found = spans(probabilities, last_s, 1 / reader.settings.frame_rate, ends_s)
        segments = [(span["action"], span["starts_at_s"], span["ends_at_s"]) for span in found]
        return frame_labels(segments, self.num_frames, self.fps)


def scripts_of(segments: pd.DataFrame) -> Iterator[tuple[str, pd.DataFrame]]:
    labelled = segments.loc[segments["action"] >= 0].sort_values(["video_id", "start_s", "end_s"], kind="stable")
    yield from labelled.groupby("video_id", sort=True)


if __name__ == "__main__":
    main()

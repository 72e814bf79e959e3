"""Fitting and reading on a label space of thousands of verb-noun pairs, with a SIMULATED recognizer.

    python -m benchmarks.large_label_space --data_dir annotations/ek55 --threads 1 --output large_label_space.json

This is a demonstration, not a result on videos. Scripts, durations and rows are from EPIC-Kitchens-55's annotations,
but frames are recognized by `benchmarks.simulation.SimulatedRecognizer`, which gets the true labels and recognizes a
share of `--accuracy` of the frames correctly, at 1 frame/s. Four in five of its mistakes are other actions with the
same verb or noun. It keeps a class for two frames on average, and is calibrated.

Transition models are fitted to the scripts of all training videos: unigram, bigram, and log-linear with separate
verbs and nouns. Each is used in a `HistoryReader` at the rows (tau_a 1 s) of `--num_videos` validation videos, drawn
at random. `true history` applies the same model to the rows' annotated histories.

With several `--prior_weights`, the one with the lowest log loss on the true histories of every sixth training video
is chosen, with models fitted to the other videos. Nothing is chosen on validation videos, and the evidence weight is
fixed. Times are processor times.
"""

import argparse
import time

import numpy as np
import pandas as pd
import torch

from avt_distill.data import anticipation_builder
from avt_distill.metrics import anticipation_metrics, log_loss
from avt_distill.reader.fitting import read_rows
from avt_distill.reader.frames import VideoFrames
from avt_distill.reader.tables import TransitionModel, build_reader, transition_model, whole_histories
from benchmarks.measure import add_common_arguments, describe_machine, write_result
from benchmarks.simulation import SimulatedRecognizer, share_of_frames, true_frames
from modeling_avt.configuration_avt import actions_digest

FRAME_RATE = 1.0
KINDS = ("unigram", "bigram", "log-linear")
CHOSEN_ON = 6  # every sixth training video is held out


def main(arguments: list[str] | None = None):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dataset", default="epic_kitchens_55", help="name of a benchmark, or a folder")
    parser.add_argument("--data_dir", help="folder with its annotations")
    parser.add_argument("--config_name", help="configuration (default: the benchmark's own, such as rulstm)")
    parser.add_argument("--num_videos", type=int, default=20, help="number of validation videos")
    parser.add_argument("--accuracy", type=float, default=0.35, help="share of correctly recognized frames")
    parser.add_argument("--evidence_weight", type=float, default=0.14)
    parser.add_argument(
        "--prior_weights", type=float, nargs="+", default=[30.0], help="prior weights of the log-linear model to try"
    )
    parser.add_argument("--beam", type=int, default=500)
    parser.add_argument("--followers", type=int, default=500, help="most likely next actions per hypothesis")
    parser.add_argument("--threads", type=int, help="number of CPU threads (default: PyTorch's choice)")
    add_common_arguments(parser, repeats=1)
    args = parser.parse_args(arguments)
    if args.threads is not None:
        torch.set_num_threads(args.threads)
    result = measure(args)
    result["machine"] = describe_machine("torch", "numpy", threads=torch.get_num_threads())
    print(pd.DataFrame(result["members"]).T.to_string(float_format="%.2f", na_rep="-"))
    write_result(result, args.output)


def measure(args: argparse.Namespace) -> dict:
    given = {name: getattr(args, name) for name in ("data_dir", "config_name") if getattr(args, name) is not None}
    builder = anticipation_builder(args.dataset, **given)
    space, splits = builder.annotations.label_space, builder.annotations.splits
    num_actions, segments = len(space.actions), splits["train"]
    parts = None if space.verb_noun_ids is None else space.verb_noun_ids + np.array([0, len(space.verbs)])
    of_training = [labels for _, labels in true_frames(segments, num_actions, FRAME_RATE).values()]
    prior = share_of_frames(np.concatenate(of_training), num_actions)
    rows = sampled_rows(builder.rows("validation"), args.num_videos)
    shown = splits["validation"][splits["validation"]["video_id"].isin(set(rows["video_id"]))]
    frames = {
        name: VideoFrames(times_s, np.empty((len(times_s), 0)), labels)
        for name, (times_s, labels) in true_frames(shown, num_actions, FRAME_RATE).items()
    }
    recognizer = SimulatedRecognizer(args.accuracy, prior, parts)
    recognized = {name: recognizer.log_probs(frames[name].labels, seed) for seed, name in enumerate(sorted(frames))}
    num_frames = sum(map(len, recognized.values()))
    right = np.concatenate([recognized[name].argmax(1) == frames[name].labels for name in frames]).mean()
    print(f"{num_actions} actions, {len(segments)} training segments; {len(rows)} rows of {len(frames)} videos.")
    print(
        f"SIMULATED recognizer, given the true labels: {100 * right:.1f} % of {num_frames} frames are correct.",
        flush=True,
    )
    settings = {
        "frame_rate": FRAME_RATE,
        "actions": actions_digest(space.actions),
        "evidence_weight": args.evidence_weight,
        "fusion_weights": [0.5, 0.5],
        "num_phases": 2,
        "beam": args.beam,
        "min_start": 1e-8,
        "followers": args.followers,
    }
    prior_weight = chosen_prior_weight(segments, args.prior_weights, num_actions, parts)
    labels, members = rows["action"].to_numpy(), {}
    for kind in KINDS:
        model, fitting_s = fitted(segments, kind, prior_weight, num_actions, parts)
        reader = build_reader(segments, of_training, lambda _, model=model: model, num_actions, settings)
        start = time.process_time()
        answers = read_rows(reader, recognized, frames, rows, builder.config.tau_a)
        reading_s = time.process_time() - start
        members[f"reader, {kind}"] = {
            **metrics(answers, labels),
            "ms_a_frame": 1000 * reading_s / num_frames,  # including answers at rows
            "fitting_s": fitting_s,
            "tables_mb": sum(buffer.nbytes for buffer in reader.buffers()) / 1e6,
        }
        members[f"true history, {kind}"] = metrics(model.logits(rows["history"].tolist()), labels)
        print(f"{kind}: fitted in {fitting_s:.1f} s, read in {reading_s:.0f} s", flush=True)
    named = {name: value for name, value in vars(args).items() if name not in ("output", "data_dir", "repeats")}
    return {
        "recognizer": "simulated",
        "frames_right": float(right),
        "frames": num_frames,
        "prior_weight": prior_weight,
        "arguments": named,
        "rows": len(rows),
        "videos": len(frames),
        "members": members,
    }


def sampled_rows(rows: pd.DataFrame, num_videos: int) -> pd.DataFrame:
    """Returns the labeled rows of a random sample of videos."""
    rows = rows[rows["action"] >= 0]
    names = np.array(sorted(set(rows["video_id"])))
    sample = np.random.default_rng(0).permutation(names)[:num_videos]
    return rows[rows["video_id"].isin(set(sample))].reset_index(drop=True)


def chosen_prior_weight(
    segments: pd.DataFrame, prior_weights: list[float], num_actions: int, parts: np.ndarray | None
) -> float:
    """Returns the prior weight with the lowest log loss on held-out training videos."""
    if len(prior_weights) == 1:
        return prior_weights[0]
    aside = segments["video_id"].isin(sorted(set(segments["video_id"]))[::CHOSEN_ON])
    histories, actions = whole_histories(segments[aside])
    losses = {}
    for weight in prior_weights:
        model, fitting_s = fitted(segments[~aside], "log-linear", weight, num_actions, parts)
        losses[weight] = log_loss(model.logits(histories), np.array(actions))
        print(f"prior weight {weight:g}: log loss {losses[weight]:.3f}, fitted in {fitting_s:.0f} s", flush=True)
    return min(losses, key=losses.__getitem__)


def fitted(
    segments: pd.DataFrame, kind: str, prior_weight: float, num_actions: int, parts: np.ndarray | None
) -> tuple[TransitionModel, float]:
    """Returns a transition model fitted to scripts, and the processor time of the fit in seconds."""
    start = time.process_time()
    model = transition_model(kind, num_actions, prior_weight=prior_weight, action_parts=parts)(segments)
    return model, time.process_time() - start


def metrics(log_probs: np.ndarray, labels: np.ndarray) -> dict[str, float]:
    found = anticipation_metrics(log_probs, labels)
    names = {
        "top1": "action_top1_accuracy",
        "top5": "action_top5_accuracy",
        "class_mean_top5": "action_class_mean_top5_recall",
    }
    return {**{name: found[key] for name, key in names.items()}, "log_loss": log_loss(log_probs, labels)}


if __name__ == "__main__":
    main()

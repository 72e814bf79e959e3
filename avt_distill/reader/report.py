"""The final comparison of models with text, without text, and with the true past, on the same rows."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from ..data.performances import performance_of
from ..evaluation.calibrating import calibration_table, measured_calibration
from ..evaluation.statistics import paired_bootstrap, sign_flip_test, student_t_interval
from ..metrics import anticipation_metrics, expected_calibration_error, label_ranks, log_loss
from ..runs.folder import write_json
from ..sharing.card_values import READER_COMPARISON

TEXT_FREE = "student + probe"
EXPLANATION = """\
student, distilled: observe a window of the video; distilled learned from a text teacher (the paper's method).
probe: logistic regression on the last frame. reader: reads what was recognized since the beginning of the video (ours).
true history: a text model on annotated past actions, unknown at inference: a ceiling for the order of actions alone."""
READS_DISTILLED = (
    "All readers read the frames that the distilled student recognizes, also beside the student that learned without "
    "soft labels."
)


@dataclass
class FoldResult:
    """The answers of a fold's models on its evaluation rows.

    Args:
        rows (`pd.DataFrame`): `uid`, `video_id` and `action` of M rows.
        answers (`dict[str, list[np.ndarray]]`): Log probabilities `(M, A)` of each member, one for each seed.
        chosen (`dict`): What was chosen on training videos.
        student, pool (`str`): The members that get the reader that stays, and that answer with it.
        folders (`list[Path]`): Of each seed's student with its reader.
    """

    rows: pd.DataFrame
    answers: dict[str, list[np.ndarray]]
    chosen: dict
    student: str
    pool: str
    folders: list[Path]


def report(folder: Path, folds: Mapping[str, FoldResult], seeds: Sequence[int]) -> str:
    """Returns the table of all members as text, and writes `reader_comparison.json`.

    Args:
        folder (`Path`): Of the run.
        folds (`dict`): The result of each fold by its name; their rows are put together.
        seeds (sequence of `int`): Of the students.
    """
    first = next(iter(folds.values()))
    rows = pd.concat([fold.rows for fold in folds.values()], ignore_index=True)
    labels = rows["action"].to_numpy()
    pooled = {
        name: [np.concatenate([fold.answers[name][seed] for fold in folds.values()]) for seed in range(len(seeds))]
        for name in first.answers
    }
    metrics = {name: measure(of_seeds, labels) for name, of_seeds in pooled.items()}
    reference = TEXT_FREE if TEXT_FREE in pooled else next(iter(pooled))
    comparisons = {
        name: compare(pooled[reference], of_seeds, rows) for name, of_seeds in pooled.items() if name != reference
    }
    reading = compare(pooled[first.student], pooled[first.pool], rows)
    calibration = calibrations(folds, {name: pooled[name] for name in (first.student, first.pool)}, rows)
    write_json(
        folder / READER_COMPARISON,
        {
            "num_rows": len(rows),
            "num_videos": rows["video_id"].nunique(),
            "seeds": list(seeds),
            "reference": reference,
            "metrics": metrics,
            "comparisons": comparisons,
            "reading": {"student": first.student, "pool": first.pool, **reading},
            "calibration": calibration,
            "chosen": {name: fold.chosen for name, fold in folds.items()},
        },
    )
    lines = [
        f"{len(rows)} rows of {rows['video_id'].nunique()} videos, {len(seeds)} seeds, in percent; log loss in nats"
    ]
    lines.append(pd.DataFrame(metrics).T.to_string(float_format="%.2f"))
    lines.append(f"\nTop-1 to '{reference}', with intervals of 95 %\n{comparison_table(comparisons)}")
    if calibration:
        lines.append(f"\nCalibrated on held-out training videos\n{calibration_table(calibration)}")
    lines.append(f"\n{EXPLANATION}")
    if "student" in pooled and first.chosen["frames_recognized_by"] == "distilled":
        lines.append(READS_DISTILLED)
    lines.append(
        f"\nA student with its reader, and a model card: {first.folders[0]}; scores of all in the folders reader/"
    )
    return "\n".join(lines)


def measure(of_seeds: Sequence[np.ndarray], labels: np.ndarray) -> dict[str, float]:
    """Returns the metrics of log probabilities `(N, A)`, means over seeds."""
    found = []
    for log_probs in of_seeds:
        metrics = anticipation_metrics(log_probs, labels)
        found.append(
            {
                "top-1": metrics["action_top1_accuracy"],
                "top-5": metrics["action_top5_accuracy"],
                "class-mean top-1": metrics["action_class_mean_top1_recall"],
                "class-mean top-5": metrics["action_class_mean_top5_recall"],
                "log loss": log_loss(log_probs, labels),
                "calibration error": expected_calibration_error(log_probs, labels),
            }
        )
    return pd.DataFrame(found).mean().to_dict()


def compare(baseline: Sequence[np.ndarray], candidate: Sequence[np.ndarray], rows: pd.DataFrame) -> dict:
    """Returns the difference in top-1 accuracy, in points: over rows, over whole videos, and over seeds."""
    labels = rows["action"].to_numpy()
    hits = [np.stack([label_ranks(scores, labels) < 1 for scores in side]) for side in (baseline, candidate)]
    means = [of_seeds.mean(0) for of_seeds in hits]  # (N,)
    over_rows = paired_bootstrap(*means)
    over_videos = paired_bootstrap(*means, groups=rows["video_id"].map(performance_of).to_numpy())
    found = {
        "difference": 100 * over_rows.difference,
        "relative_percent": 100 * over_rows.difference / over_rows.baseline if over_rows.baseline else None,
        "over_rows": _interval(over_rows),
        "over_videos": _interval(over_videos),
    }
    if len(baseline) > 1:
        differences = 100 * (hits[1].mean(1) - hits[0].mean(1))  # (S,)
        over_seeds = student_t_interval(differences)
        p_value = sign_flip_test(differences)
        found["over_seeds"] = {"low": over_seeds.low, "high": over_seeds.high, "p_value": p_value}
    return found


def calibrations(
    folds: Mapping[str, FoldResult], members: Mapping[str, Sequence[np.ndarray]], rows: pd.DataFrame
) -> dict[str, dict]:
    """Returns the result of `measured_calibration` for each member that was calibrated, rows of all folds together."""
    labels, videos = rows["action"].to_numpy(), rows["video_id"].map(performance_of).tolist()
    found = {}
    for name, of_seeds in members.items():
        of_rows = [fold.chosen["calibrations"].get(name) for fold in folds.values() for _ in range(len(fold.rows))]
        if None not in of_rows:
            found[name] = measured_calibration(of_seeds, labels, videos, of_rows)
    return found


def _interval(found) -> dict:
    return {"low": 100 * found.low, "high": 100 * found.high, "p_value": found.p_value}


def comparison_table(comparisons: Mapping[str, dict]) -> str:
    """Returns the results of `compare` as text, one line a member."""
    lines = {}
    for name, found in comparisons.items():
        line = {"difference": f"{found['difference']:+.2f}"}
        if found["relative_percent"] is not None:
            line["relative"] = f"{found['relative_percent']:+.1f} %"
        for over in ("over_rows", "over_videos", "over_seeds"):
            if over in found:
                line[over.replace("_", " ")] = "[{low:+.2f}, {high:+.2f}]".format(**found[over])
                line[f"p {over.removeprefix('over_')}"] = "{p_value:.4f}".format(**found[over])
        lines[name] = line
    return pd.DataFrame(lines).T.to_string()

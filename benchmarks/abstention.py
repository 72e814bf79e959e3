"""Measures whether a promised error rate holds on test videos, for a reader and a probe on Breakfast.

    python -m benchmarks.abstention --data_dir breakfast --threads 1

Frame recognition is SIMULATED (`benchmarks.simulation.CausalRecognizer`) with 60 % of frames correct, so the numbers
are not accuracies on videos. Whether the promise is kept does not depend on the recognizer.

The models are fitted to half of the training performances. On the other half, the temperature and a threshold for
each of `--error_rates` are fitted (`evaluation.calibrating`) with a confidence of 90 % over performances. The test
performances are measured once: the share of rows that are answered, and the share of wrong answers with a 95 %
interval over performances.

- `reader`: a log-linear transition model in a `HistoryReader`.
- `probe`: logistic regression on a student's features of the last observed frame, including causal means and
  evidence.
"""

import argparse

import numpy as np
import pandas as pd
import torch

from avt_distill.evaluation.calibrating import fitted_calibration, measured_calibration
from avt_distill.student.logistic import fit_logistic
from avt_distill.teacher.cross_fitting import assign_folds
from avt_distill.teacher.log_linear import LogLinearModel
from benchmarks.measure import add_common_arguments, describe_machine, write_result
from benchmarks.words.data import FRAME_RATE, WordsData, words_data
from benchmarks.words.parts import groups_of, reader_answers, student_features

PRIOR_WEIGHT, NUM_LAST, EVIDENCE_WEIGHT, L2 = 0.33, 2, 0.1, 100.0


def main(arguments: list[str] | None = None):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dataset", default="breakfast", help="name of a data set of benchmarks.words, or a folder")
    parser.add_argument("--data_dir", required=True, help="folder with its annotations")
    parser.add_argument("--accuracy", type=float, default=0.6, help="share of correctly recognized frames")
    parser.add_argument("--error_rates", type=float, nargs="+", default=[0.1, 0.2, 0.3])
    parser.add_argument("--threads", type=int, default=1)
    add_common_arguments(parser, repeats=1)
    args = parser.parse_args(arguments)
    torch.set_num_threads(args.threads)
    data = words_data(args.dataset, args.data_dir, accuracy=args.accuracy)
    fold_of = assign_folds(data.training_videos, 2)
    of_models = {name for name, fold in fold_of.items() if fold == 0}
    is_held_out = ~data.training_rows["video_id"].isin(of_models)
    parts = {"held out": data.training_rows[is_held_out].reset_index(drop=True), "test": data.rows}
    answers = {"reader": by_reader(data, of_models, parts), "probe": by_probe(data, of_models, parts)}
    found = {name: measured(of_model, parts, args.error_rates) for name, of_model in answers.items()}
    counts = {name: [len(rows), len(set(groups_of(rows)))] for name, rows in parts.items()}
    print(f"{data.builder.TITLE}, SIMULATED recognizer; rows and performances: {counts}")
    for name, of_model in found.items():
        print(f"{name}\n{pd.DataFrame(of_model).T.to_string(float_format='%.1f', na_rep='-')}")
    machine = describe_machine("torch", "numpy", threads=args.threads)
    write_result({"accuracy": args.accuracy, "rows": counts, "models": found, "machine": machine}, args.output)


def by_reader(data: WordsData, names: set[str], parts: dict[str, pd.DataFrame]) -> dict[str, np.ndarray]:
    scripts = data.scripts.of(names)
    options = {"prior_weight": PRIOR_WEIGHT, "num_last": NUM_LAST, "action_parts": data.action_parts}
    model = LogLinearModel(data.num_actions, **options).fit(scripts.histories, scripts.actions)
    return {name: reader_answers(model, scripts, data, EVIDENCE_WEIGHT, rows) for name, rows in parts.items()}


def by_probe(data: WordsData, names: set[str], parts: dict[str, pd.DataFrame]) -> dict[str, np.ndarray]:
    rows = data.training_rows[data.training_rows["video_id"].isin(names)]
    probe = fit_logistic(_last_frames(data, rows), rows["action"].to_numpy(), data.num_actions, L2, "cpu")
    return {name: probe.log_probs(_last_frames(data, of_part)) for name, of_part in parts.items()}


def _last_frames(data: WordsData, rows: pd.DataFrame) -> np.ndarray:
    features = {name: student_features(data, name) for name in set(rows["video_id"])}
    numbers = np.floor(rows["observed_end_s"].to_numpy() * FRAME_RATE + 1e-6).astype(int)
    return np.stack([features[name][number] for name, number in zip(rows["video_id"], numbers, strict=True)])


def measured(
    answers: dict[str, np.ndarray], parts: dict[str, pd.DataFrame], error_rates: list[float]
) -> dict[str, dict[str, float | None]]:
    """Returns the coverage and the error with its interval on the test rows, in percent, by promised error rate."""
    labels = {name: rows["action"].to_numpy() for name, rows in parts.items()}
    videos = {name: groups_of(rows).tolist() for name, rows in parts.items()}
    found = {}
    for rate in error_rates:
        fitted = fitted_calibration(answers["held out"], labels["held out"], videos["held out"], error_rate=rate)
        of_test = measured_calibration(
            [answers["test"]], labels["test"], videos["test"], [fitted] * len(labels["test"])
        )
        kept = {name: of_test[name] for name in ("coverage", "error", "low", "high")}
        ece = {when: of_test[when]["expected_calibration_error"] for when in ("before", "after")}
        found[f"{100 * rate:g} % promised"] = kept | {f"calibration error {when}": value for when, value in ece.items()}
    return found


if __name__ == "__main__":
    main()

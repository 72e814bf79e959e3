"""Metrics of a student trained on the next Z actions: edit distance of its sequences, and top-1 by step."""

import numpy as np
import scipy.special
import torch

from modeling_avt.futures_avt import of_steps

from ..metrics import label_ranks, row_edit_distances
from .trainer import DistillationTrainer

NUM_SEQUENCES = 5  # Ego4D's K


def horizon_metrics(trainer: DistillationTrainer, rows) -> dict:
    """Returns the edit distance of a student's predicted sequences from the true next Z actions, equal in every
    process.

    A distance is the minimum over five sequences, divided by the number of actions: 0 for a correct sequence, 1 without
    a match. A row with fewer than Z annotated actions is measured on those. Samples are drawn with a fixed seed.

    Args:
        trainer (`DistillationTrainer`): The trainer of the student.
        rows (`datasets.Dataset`): Labeled rows with `future_actions`.

    Returns:
        `dict`: `num_actions` Z; `edit_distance` of the likeliest five sequences and `edit_distance_of_samples`; `top1`,
        a list with the top-1 accuracy of each step in percent, over rows with an action at that step.
    """
    actual = np.array(rows["future_actions"], dtype=np.int64)
    log_probs = scipy.special.log_softmax(trainer.predict_future(rows).astype(np.float64), axis=-1)  # (N, Z, A)
    is_annotated = actual >= 0
    steps = zip(log_probs.swapaxes(0, 1), actual.T, is_annotated.T, strict=True)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        sampled = _distance(log_probs, actual, do_sample=True)
    return {
        "num_actions": actual.shape[1],
        "edit_distance": _distance(log_probs, actual, do_sample=False),
        "edit_distance_of_samples": sampled,
        "top1": [
            100 * float((label_ranks(scores[known], labels[known]) < 1).mean()) if known.any() else None
            for scores, labels, known in steps
        ],
    }


def _distance(log_probs: np.ndarray, actual: np.ndarray, *, do_sample: bool) -> float:
    predicted = np.stack([of_steps(of_row, NUM_SEQUENCES, do_sample=do_sample)[0] for of_row in log_probs])
    num_actions = np.maximum((actual >= 0).cumprod(1).sum(1), 1)  # up to the first that is unknown
    return float(row_edit_distances(predicted, actual)[np.arange(len(actual)), num_actions - 1].mean())

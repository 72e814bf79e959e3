"""What a student that was trained on the next Z actions says of them, by edit distance."""

import numpy as np
import scipy.special
import torch

from modeling_avt.futures_avt import of_steps

from ..metrics import label_ranks, row_edit_distances
from .trainer import DistillationTrainer

NUM_SEQUENCES = 5  # Ego4D's K


def horizon_metrics(trainer: DistillationTrainer, rows) -> dict:
    """Returns how far a student's sequences of the next Z actions are from what was done; the same in every process.

    Distances are the least of five sequences', divided by the number of actions: 0 is right, 1 without a match. Of a
    row with fewer than Z annotated actions, as many as there are count. Samples are drawn with a seed of their own.

    Args:
        trainer (`DistillationTrainer`): Holds the student.
        rows (`datasets.Dataset`): Labeled rows with `future_actions`.

    Returns:
        `dict`: `num_actions` Z; `edit_distance` of the likeliest five sequences and `edit_distance_of_samples`; `top1`,
        a list: of each step the share of rows whose action is the likeliest, in percent, among those that have one.
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

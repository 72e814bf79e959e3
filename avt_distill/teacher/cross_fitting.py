"""Cross-fitting: training several teachers, each of which labels only videos that it was not trained on.

A teacher is more confident on its training rows than on new ones, so its soft labels for its own training videos add
little to the hard labels (this is what the reference distills). Cross-fitted soft labels are real predictions.
"""

from collections.abc import Callable, Sequence

import numpy as np
import pandas as pd

from ..data.performances import performance_of
from ..metrics import softmax
from .scorer import Scorer


def assign_folds(video_ids: Sequence[str], num_folds: int, *, seed: int = 0) -> dict[str, int]:
    """Assigns each video to a fold so that the folds have similar numbers of rows.

    Videos of one performance, recorded by several cameras, are in one fold: see `data.performances`.

    Args:
        video_ids (`Sequence[str]`): The video of each row.
        num_folds (`int`): Number of folds K, at least 2.
        seed (`int`, *optional*, defaults to 0): Seed of the order of videos with equal numbers of rows.

    Raises:
        ValueError: If there are fewer than 2 folds, or fewer performances than folds.
    """
    performances = {str(video): performance_of(str(video)) for video in video_ids}
    names, counts = np.unique([performances[str(video)] for video in video_ids], return_counts=True)
    if not 2 <= num_folds <= len(names):
        what = "videos" if len(names) == len(performances) else "performances (each may be in several videos)"
        raise ValueError(f"{num_folds} folds are requested: give 2 to {len(names)}, the number of {what}.")
    shuffled = np.random.default_rng(seed).permutation(len(names))
    sizes = np.zeros(num_folds, dtype=int)
    fold_of = {}
    for index in shuffled[np.argsort(-counts[shuffled], kind="stable")]:
        fold = int(np.argmin(sizes))
        fold_of[str(names[index])] = fold
        sizes[fold] += counts[index]
    return {video: fold_of[name] for video, name in performances.items()}


def cross_fitted_logits(
    training_rows: pd.DataFrame,
    rows: pd.DataFrame,
    fit: Callable[[pd.DataFrame, int], Scorer],
    *,
    num_folds: int,
    seed: int = 0,
) -> np.ndarray:
    """Returns logits of rows by K cross-fitted teachers, float32 `(N, A)`: each video is scored by the one not trained
    on it.

    Rows of a video that is in no fold, such as one of a test split, get the logarithm of all K teachers' mean
    probability.

    Args:
        training_rows (`pd.DataFrame`): The training rows: `video_id` and the columns that `fit` needs.
        rows (`pd.DataFrame`): The rows to label: `video_id` and `history`.
        fit (`Callable`): Trains a teacher from the rows of all folds but one, and the index of that fold.
        num_folds (`int`): Number of folds K.
        seed (`int`, *optional*, defaults to 0): See `assign_folds`.
    """
    fold_of = assign_folds(list(training_rows["video_id"]), num_folds, seed=seed)
    training_folds = training_rows["video_id"].map(fold_of)
    folds = rows["video_id"].map(fold_of).fillna(-1).astype(int).to_numpy()
    is_new = folds == -1
    logits, probabilities = None, 0.0
    for fold in range(num_folds):
        scorer = fit(training_rows[training_folds != fold].reset_index(drop=True), fold)
        labelled = np.flatnonzero(is_new | (folds == fold))
        scores = scorer.logits(rows["history"].iloc[labelled].tolist())
        if logits is None:
            logits = np.empty((len(rows), scores.shape[1]), dtype=np.float32)
        own = folds[labelled] == fold
        logits[labelled[own]] = scores[own]
        probabilities = probabilities + softmax(scores[~own])
    logits[is_new] = np.log(np.maximum(probabilities / num_folds, np.finfo(np.float32).tiny))
    return logits

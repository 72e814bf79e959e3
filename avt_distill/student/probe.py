"""A logistic probe of the last observed frame: a baseline for students of features, and an optional initialization."""

import logging
import math
from dataclasses import dataclass

import datasets
import numpy as np
import torch

from modeling_avt.temporal_avt import REFERENCE_FEATURE_FPS

from ..data.performances import performance_of
from ..features.stores import FeatureStore
from ..teacher.cross_fitting import assign_folds
from .logistic import LinearClassifier, choose_l2, fit_logistic

logger = logging.getLogger(__name__)

MOST_PRODUCTS = 2e9  # rows x features x actions: 8,299 x 642 x 106, 5.6e8, took 156 s on one thread
NUM_FOLDS = 4  # of training videos, on which the penalty is chosen
L2_OF_ONE_VIDEO = 30.0  # if there is nothing to choose it on


@dataclass
class Probe:
    """A logistic probe of the next action.

    Args:
        classifier (`LinearClassifier`): Classifier of the last observed frame's feature.
        l2 (`float`): Its L2 penalty.
    """

    classifier: LinearClassifier
    l2: float


def is_affordable(size: tuple[int, int, int], device: str | torch.device) -> bool:
    """Whether a probe for this many rows, features and actions can be fitted within minutes on a device."""
    most = MOST_PRODUCTS if torch.device(device).type == "cpu" else 100 * MOST_PRODUCTS
    return math.prod(size) <= most


def fit_probe(
    features: np.ndarray, rows: datasets.Dataset, num_actions: int, device: str | torch.device = "cpu"
) -> Probe:
    """Fits a probe, choosing its L2 penalty on held-out training videos.

    Args:
        features (`np.ndarray` of shape `(N, D)`): See `last_frame_features`.
        rows (`datasets.Dataset`): N training rows.
        num_actions (`int`): A, the number of actions.
        device (`str` or `torch.device`, *optional*, defaults to `"cpu"`): The device to fit on.
    """
    known = np.flatnonzero(np.asarray(rows["action"]) >= 0)  # videos without a labeled row make no fold
    features, labels = features[known], np.asarray(rows["action"])[known]
    videos, l2 = np.asarray(rows["video_id"])[known].tolist(), L2_OF_ONE_VIDEO
    if (num_performances := len(set(map(performance_of, videos)))) > 1:
        fold_of = assign_folds(videos, min(NUM_FOLDS, num_performances))
        folds = np.array([fold_of[video] for video in videos])
        l2 = choose_l2(features, labels, folds, num_actions, device=device)
        logger.info("Probe: L2 penalty %g, chosen on held-out training videos.", l2)
    return Probe(fit_logistic(features, labels, num_actions, l2, device), l2)


def last_frame_features(
    store: FeatureStore, rows: datasets.Dataset, *, by_number: bool = False, width: int | None = None
) -> np.ndarray:
    """Returns the stored feature of the last observed frame of each row, float32 `(N, D)`.

    Args:
        store (`FeatureStore`): The feature store.
        rows (`datasets.Dataset`): N rows.
        by_number (`bool`, *optional*): See `FeatureCollator`.
        width (`int`, *optional*): Trailing columns to return: see `config.head_feature_dim`. Default: all.
    """
    times = np.array([times[-1] for times in rows["frame_times"]], dtype=float)
    if by_number:
        times = (np.array([numbers[-1] for numbers in rows["frame_indices"]]) - 1) / REFERENCE_FEATURE_FPS
    pairs = zip(rows["video_id"], times, strict=True)
    return np.concatenate([store.read(video_id, [time_s])[:, -(width or 0) :] for video_id, time_s in pairs])

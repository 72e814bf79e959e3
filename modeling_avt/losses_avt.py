"""AVT's own losses as pure functions: next action, past actions and future features (Girdhar and Grauman, section
4.3)."""

import torch
from torch import nn

IGNORED_LABEL = -100


def classification_loss(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Returns the cross-entropy, averaged over labeled examples; 0 if none is labeled.

    Args:
        logits (`torch.Tensor` of shape `(..., A)`): Scores before softmax.
        labels (`torch.LongTensor` of shape `(...)`): Class ids; -100 marks an unlabeled example.
    """
    return _summed_cross_entropy(logits, labels) / (labels != IGNORED_LABEL).sum().clamp(min=1)


def past_action_loss(
    past_logits: torch.Tensor, past_labels: torch.Tensor, *, normalizer: str = "labelled"
) -> torch.Tensor:
    """Returns the cross-entropy of the observed frames' actions, a scalar.

    Args:
        past_logits (`torch.Tensor` of shape `(B, T, A)`): Scores of each observed frame, predicted from the frames
            before it.
        past_labels (`torch.LongTensor` of shape `(B, T)`): Action ids; -100 marks an unlabeled frame.
        normalizer (`str`, *optional*, defaults to `"labelled"`): `"labelled"`: mean over the labeled frames of the
            batch. `"all"`: the sum over B * T frames, divided by B * T, as the reference does (func/train.py:213),
            where unlabeled frames count in the denominator.

    Raises:
        ValueError: If `normalizer` is neither.
    """
    if normalizer == "labelled":
        return classification_loss(past_logits, past_labels)
    if normalizer == "all":
        return _summed_cross_entropy(past_logits, past_labels) / past_labels.numel()
    raise ValueError(f"normalizer is '{normalizer}': give 'labelled' or 'all'.")


def feature_prediction_loss(
    predicted: torch.Tensor, target: torch.Tensor, mask: torch.Tensor | None = None
) -> torch.Tensor:
    """Returns the mean squared error between predicted and observed frame features, averaged over valid frames and
    channels.

    The gradient also flows into `target`, as in the reference (models/future_prediction.py): the frame encoder is
    pulled toward features that can be predicted.

    Args:
        predicted (`torch.Tensor` of shape `(B, T-1, C)`): What the head predicts for frames 1..T-1.
        target (`torch.Tensor` of shape `(B, T-1, C)`): The features of those frames.
        mask (`torch.BoolTensor` of shape `(B, T-1)`, *optional*): `True` where both the frame and the one before it
            exist.
    """
    squared_error = (predicted.float() - target.float()).square()
    if mask is None:
        return squared_error.mean()
    # Clamped: a batch whose windows have one real frame each has no pair, and 0 / 0 would be NaN.
    return (squared_error.mean(-1) * mask).sum() / mask.sum().clamp(min=1)


def _summed_cross_entropy(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    # A sum, not a mean: torch's mean over no labeled example is NaN.
    return nn.functional.cross_entropy(
        logits.flatten(0, -2).float(), labels.flatten(), ignore_index=IGNORED_LABEL, reduction="sum"
    )

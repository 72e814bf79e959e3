"""Distillation losses as pure functions, used in addition to AVT's own losses (`modeling_avt.losses_avt`)."""

import torch
from torch import nn

from modeling_avt.losses_avt import classification_loss, feature_prediction_loss, past_action_loss

__all__ = [
    "classification_loss",
    "distillation_loss",
    "feature_prediction_loss",
    "past_action_loss",
    "smoothed_classification_loss",
]

REDUCTIONS = ("batchmean", "elementmean")


def smoothed_classification_loss(logits: torch.Tensor, labels: torch.Tensor, smoothing: float) -> torch.Tensor:
    """Returns the cross entropy with uniformly smoothed labels, averaged over labeled examples, a scalar.

    Per example, `(1 - smoothing) * -log p(label) + smoothing * mean over all classes of -log p`, as in transformers'
    `LabelSmoother`.

    Args:
        logits (`torch.Tensor` of shape `(B, A)`): Scores before softmax.
        labels (`torch.LongTensor` of shape `(B,)`): Class ids; -100 marks unlabeled examples, which are ignored.
            Without any label the loss is 0.
        smoothing (`float`): Probability spread over all classes, 0 or more and below 1. 0 equals `classification_loss`.
    """
    summed = nn.functional.cross_entropy(logits.float(), labels, label_smoothing=smoothing, reduction="sum")
    return summed / (labels != -100).sum().clamp(min=1)


def distillation_loss(
    student_logits: torch.Tensor,
    teacher_logits: torch.Tensor,
    temperature: float,
    *,
    top_k: int | None = None,
    mask: torch.Tensor | None = None,
    reduction: str = "batchmean",
) -> torch.Tensor:
    """Returns the KL divergence from the teacher's softened distribution to the student's, times T^2, a scalar.

    Equation 3 of Ghosh et al., 2023. The factor T^2 keeps the size of the gradient comparable across temperatures
    (Hinton et al., 2015). No gradient flows into the teacher.

    Args:
        student_logits (`torch.Tensor` of shape `(B, A)`): Scores before softmax.
        teacher_logits (`torch.Tensor` of shape `(B, A)`): The teacher's scores before softmax, at temperature 1.
        temperature (`float`): T, above 0. The paper's students use 10 on EGTEA Gaze+ and 5 on EPIC-Kitchens-55.
        top_k (`int`, *optional*): Compare only the teacher's k best classes, within which both distributions are
            renormalized. The paper's EPIC-Kitchens-55 student uses 50. Default: all classes.
        mask (`torch.BoolTensor` of shape `(B,)`, *optional*): `True` for examples with a teacher; the others are
            excluded from sum and mean. If all are `False`, the loss is 0.
        reduction (`str`, *optional*, defaults to `"batchmean"`): `"batchmean"`: summed over classes, averaged over
            examples. `"elementmean"`: also divided by the number of compared classes, as in the paper's code
            (loss_fn/kld_lm.py): its weight of 150 over 106 classes equals 1.415 with `"batchmean"`, its 20 over the
            best 50 equals 0.4.

    Returns:
        `torch.Tensor`: A scalar, 0 or more.

    Raises:
        ValueError: If the shapes differ, which would broadcast, or an option is out of range.
    """
    _check(student_logits, teacher_logits, temperature, top_k, mask, reduction)
    # float32, since softmax and squared temperatures lose precision under half-precision autocast.
    teacher_logits = teacher_logits.detach().float()
    student_logits = student_logits.float()
    if top_k is not None:
        teacher_logits, best = teacher_logits.topk(top_k, dim=-1)  # (B, k)
        student_logits = student_logits.gather(-1, best)  # (B, k)
    divergence = nn.functional.kl_div(
        nn.functional.log_softmax(student_logits / temperature, dim=-1),
        nn.functional.log_softmax(teacher_logits / temperature, dim=-1),
        reduction="none",
        log_target=True,
    ).sum(-1)  # (B,)
    if mask is None:
        mask = torch.ones_like(divergence, dtype=torch.bool)
    # `where` and not a product: 0 times a NaN of a row without a teacher would be NaN.
    loss = divergence.where(mask, 0.0).sum() / mask.sum().clamp(min=1)
    if reduction == "elementmean":
        loss = loss / student_logits.shape[-1]
    return loss * temperature**2


def _check(student_logits, teacher_logits, temperature, top_k, mask, reduction):
    if student_logits.ndim != 2 or student_logits.shape != teacher_logits.shape:
        raise ValueError(
            f"student_logits has shape {tuple(student_logits.shape)} and teacher_logits {tuple(teacher_logits.shape)}: "
            "give (B, A) for both; otherwise they would broadcast."
        )
    if temperature <= 0:
        raise ValueError(f"temperature is {temperature}: give a number above 0.")
    if top_k is not None and not 1 <= top_k <= student_logits.shape[1]:
        raise ValueError(f"top_k is {top_k}: give 1 to {student_logits.shape[1]}, the number of classes.")
    if mask is not None and (mask.shape != student_logits.shape[:1] or mask.dtype != torch.bool):
        raise ValueError(f"mask is {mask.dtype} of shape {tuple(mask.shape)}: give bool, one per example.")
    if reduction not in REDUCTIONS:
        raise ValueError(f"reduction is '{reduction}': give one of {REDUCTIONS}.")

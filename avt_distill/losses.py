"""The losses of distillation as pure functions: the teacher's soft labels, beside AVT's own losses."""

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
    """Returns the cross entropy against labels that are smoothed uniformly, a mean over labeled examples.

    (1 - smoothing) * -log p(label) + smoothing * the mean over all classes of -log p, as transformers' `LabelSmoother`.

    Args:
        logits (`torch.Tensor` of shape `(B, A)`): Scores before softmax.
        labels (`torch.LongTensor` of shape `(B,)`): Classes; -100 is left out. Without any label the loss is 0.
        smoothing (`float`): Share that is spread over all classes, from 0, which is `classification_loss`, to below 1.
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

    The square of the temperature keeps the size of its gradient comparable across temperatures (Hinton et al., 2015);
    Ghosh et al., 2023, equation 3. No gradient flows into the teacher.

    Args:
        student_logits (`torch.Tensor` of shape `(B, A)`): Scores before softmax.
        teacher_logits (`torch.Tensor` of shape `(B, A)`): Likewise, at temperature 1.
        temperature (`float`): T, above 0. The paper's students use 10 on EGTEA Gaze+ and 5 on EPIC-Kitchens-55.
        top_k (`int`, *optional*): Compare the teacher's k best classes alone: both distributions are renormalized
            within them. The paper's EPIC-Kitchens-55 student uses 50. Default: all classes.
        mask (`torch.BoolTensor` of shape `(B,)`, *optional*): Which examples have a teacher; the others are left out of
            sum and mean. Without any the loss is 0.
        reduction (`str`, *optional*, defaults to `"batchmean"`): `"batchmean"`: summed over classes, averaged over
            examples. `"elementmean"`: divided by the number of compared classes too, as the paper's code does
            (loss_fn/kld_lm.py): its weight of 150 over 106 classes is one of 1.415 under `"batchmean"`, that of 20
            over the best 50 one of 0.4.

    Raises:
        ValueError: If the shapes differ, which would broadcast, or an option is out of range.
    """
    _check(student_logits, teacher_logits, temperature, top_k, mask, reduction)
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
    loss = divergence.where(mask, 0.0).sum() / mask.sum().clamp(min=1)
    if reduction == "elementmean":
        loss = loss / student_logits.shape[-1]
    return loss * temperature**2


def _check(student_logits, teacher_logits, temperature, top_k, mask, reduction):
    if student_logits.ndim != 2 or student_logits.shape != teacher_logits.shape:
        raise ValueError(
            f"student_logits has shape {tuple(student_logits.shape)} and teacher_logits {tuple(teacher_logits.shape)}: "
            "give (B, A) of both; otherwise they would broadcast."
        )
    if temperature <= 0:
        raise ValueError(f"temperature is {temperature}: give a number above 0.")
    if top_k is not None and not 1 <= top_k <= student_logits.shape[1]:
        raise ValueError(f"top_k is {top_k}: give 1 to {student_logits.shape[1]}, the number of classes.")
    if mask is not None and (mask.shape != student_logits.shape[:1] or mask.dtype != torch.bool):
        raise ValueError(f"mask is {mask.dtype} of shape {tuple(mask.shape)}: give bool, one an example.")
    if reduction not in REDUCTIONS:
        raise ValueError(f"reduction is '{reduction}': give one of {REDUCTIONS}.")

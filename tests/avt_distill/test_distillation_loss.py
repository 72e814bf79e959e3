"""The distillation loss: a worked example, its gradient, invariances, and refusals."""

import math

import pytest
import torch

from avt_distill.losses import distillation_loss

STUDENT = torch.tensor([[0.0, 0.0, 0.0], [math.log(2), 0.0, 0.0]])
TEACHER = torch.tensor([[math.log(2), 0.0, 0.0], [math.log(2), 0.0, 0.0]])
# Row 0: teacher (1/2, 1/4, 1/4) and a uniform student; row 1: both equal.
ROW_0 = 0.5 * math.log(0.5 * 3) + 0.5 * math.log(0.25 * 3)


def random_logits(rows: int = 6, classes: int = 9, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return tuple(3 * torch.randn(rows, classes, generator=generator) for _ in range(2))


def test_it_equals_a_worked_example():
    assert distillation_loss(STUDENT, TEACHER, 1.0).item() == pytest.approx(ROW_0 / 2, rel=1e-5)
    assert distillation_loss(STUDENT, TEACHER, 1.0, reduction="elementmean").item() == pytest.approx(
        ROW_0 / 6, rel=1e-5
    )


def test_temperature_softens_both_and_its_square_multiplies():
    student, teacher = random_logits()
    softened = distillation_loss(student / 4, teacher / 4, 1.0)
    torch.testing.assert_close(distillation_loss(student, teacher, 4.0), 16 * softened)


def test_top_k_renormalises_within_the_teachers_best_classes():
    student, teacher = random_logits(rows=1)
    best = teacher[0].topk(3).indices
    expected = distillation_loss(student[:, best], teacher[:, best], 2.0)
    torch.testing.assert_close(distillation_loss(student, teacher, 2.0, top_k=3), expected)
    torch.testing.assert_close(
        distillation_loss(student, teacher, 2.0, top_k=9), distillation_loss(student, teacher, 2.0)
    )


def test_examples_without_a_teacher_change_nothing():
    student, teacher = random_logits()
    mask = torch.tensor([True, False, True, True, False, True])
    other = torch.where(mask[:, None], teacher, torch.zeros_like(teacher))
    expected = distillation_loss(student[mask], teacher[mask], 3.0)
    torch.testing.assert_close(distillation_loss(student, other, 3.0, mask=mask), expected)
    student.requires_grad_(True)
    nothing = distillation_loss(student, teacher, 3.0, mask=torch.zeros(6, dtype=torch.bool))
    nothing.backward()
    assert nothing.item() == 0
    assert student.grad.abs().max() == 0


def test_the_gradient_is_that_of_the_softened_difference():
    """d/dz of T^2 KL is T (q - p) for one example: softened student minus softened teacher."""
    student, teacher = random_logits(rows=1)
    student, teacher = student.requires_grad_(True), teacher.requires_grad_(True)
    distillation_loss(student, teacher, 5.0).backward()
    torch.testing.assert_close(student.grad, 5.0 * ((student / 5).softmax(-1) - (teacher / 5).softmax(-1)).detach())
    assert teacher.grad is None


def test_order_does_not_matter_and_halves_average():
    student, teacher = random_logits()
    whole, order = distillation_loss(student, teacher, 2.0), torch.tensor([3, 1, 5, 0, 4, 2])
    torch.testing.assert_close(distillation_loss(student[order], teacher[order], 2.0), whole)
    halves = [distillation_loss(student[rows], teacher[rows], 2.0) for rows in (slice(3), slice(3, 6))]
    torch.testing.assert_close(sum(halves) / 2, whole)


def test_half_precision_is_computed_in_float32():
    student, teacher = random_logits()
    loss = distillation_loss(student.bfloat16(), teacher.bfloat16(), 2.0)
    assert loss.dtype == torch.float32
    torch.testing.assert_close(loss, distillation_loss(student.bfloat16().float(), teacher.bfloat16().float(), 2.0))


@pytest.mark.parametrize(
    ("arguments", "options", "message"),
    [
        ((STUDENT, TEACHER[:1], 1.0), {}, "otherwise they would broadcast"),
        ((STUDENT[0], TEACHER[0], 1.0), {}, r"give \(B, A\) for both"),
        ((STUDENT, TEACHER, 0.0), {}, "temperature is 0.0"),
        ((STUDENT, TEACHER, 1.0), {"top_k": 4}, "top_k is 4: give 1 to 3"),
        ((STUDENT, TEACHER, 1.0), {"mask": torch.ones(2)}, "mask is torch.float32"),
        ((STUDENT, TEACHER, 1.0), {"reduction": "mean"}, "reduction is 'mean'"),
    ],
)
def test_invalid_options_are_refused(arguments, options, message):
    with pytest.raises(ValueError, match=message):
        distillation_loss(*arguments, **options)

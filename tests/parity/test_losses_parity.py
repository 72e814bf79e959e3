"""Losses compared with recordings of the distillation authors' student: components, totals, gradients within 1e-5."""

import json

import pytest
import torch
from helpers.places import SHARED, require_shared
from safetensors.torch import load_file

from avt_distill.losses import classification_loss, distillation_loss, feature_prediction_loss, past_action_loss

CASES = sorted(path.stem for path in (SHARED / "golden" / "loss").glob("*_T*.json")) or ["none recorded"]
TOLERANCE = {"rtol": 1e-5, "atol": 1e-8}


def components(recorded: dict, tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Returns the losses under the reference's options."""
    labels = torch.where(tensors["target"] < 0, -100, tensors["target"])
    # An unlabelled target counts in the reference's mean, as 0 (func/train.py:213).
    share = (labels != -100).float().mean()
    losses = {"cls_action": classification_loss(tensors["student_logits"], labels) * share}
    if "past_logits" in tensors:
        past_labels = tensors["target_subclips"][..., 0]
        past_labels = torch.where(past_labels < 0, -100, past_labels)
        losses["past_cls_action"] = past_action_loss(tensors["past_logits"], past_labels, normalizer="all")
    losses["feat"] = feature_prediction_loss(tensors["feat_pred"][:, :-1], tensors["feat"][:, 1:])
    losses["distill"] = distillation_loss(
        tensors["student_logits"],
        tensors["teacher_logits"],
        recorded["temperature"],
        top_k=recorded["topk"],
        reduction="elementmean",
    )
    return losses


@pytest.mark.parametrize("case", CASES)
def test_components_total_and_gradients_equal_the_recorded_ones(case):
    recorded = json.loads(require_shared("golden", "loss", f"{case}.json").read_text())
    tensors = load_file(require_shared("golden", "loss", f"{case}.safetensors"))
    inputs = {name.removeprefix("in/"): value for name, value in tensors.items() if name.startswith("in/")}
    for name in ("student_logits", "past_logits", "feat", "feat_pred"):
        if name in inputs:
            inputs[name].requires_grad_(True)
    losses = components(recorded, inputs)
    assert losses.keys() == recorded["components"].keys()
    for name, value in recorded["components"].items():
        torch.testing.assert_close(losses[name], torch.tensor(value), **TOLERANCE)
    total = sum(recorded["loss_wts"][name] * loss for name, loss in losses.items())
    torch.testing.assert_close(total, torch.tensor(recorded["total"]), **TOLERANCE)
    weighted = recorded["loss_wts"]["distill"] * losses["distill"]
    (distilled,) = torch.autograd.grad(weighted, inputs["student_logits"], retain_graph=True)
    torch.testing.assert_close(distilled, tensors["grad_distill_only/student_logits"], **TOLERANCE)
    total.backward()
    for name, gradient in tensors.items():
        if name.startswith("grad/"):
            torch.testing.assert_close(inputs[name.removeprefix("grad/")].grad, gradient, **TOLERANCE)

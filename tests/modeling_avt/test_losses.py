"""AVT's losses on numbers worked out by hand."""

import math

import pytest
import torch

from modeling_avt.losses_avt import classification_loss, feature_prediction_loss, past_action_loss

# Two classes at odds 3:1 for class 1, so that the cross-entropy is ln 4 for class 0 and ln 4/3 for class 1.
ODDS = torch.tensor([0.0, math.log(3.0)])


def test_classification_loss_averages_over_labelled_examples():
    logits = ODDS.expand(3, 2)
    loss = classification_loss(logits, torch.tensor([0, 1, -100]))
    assert loss.item() == pytest.approx((math.log(4) + math.log(4 / 3)) / 2)


def test_nothing_labelled_is_zero_and_not_nan():
    logits = torch.zeros(2, 3, requires_grad=True)
    loss = classification_loss(logits, torch.tensor([-100, -100]))
    loss.backward()
    assert loss.item() == 0
    assert not logits.grad.isnan().any()


def test_past_loss_normalizers_differ_by_the_share_of_labelled_frames():
    logits, labels = ODDS.expand(1, 4, 2), torch.tensor([[0, -100, -100, -100]])
    assert past_action_loss(logits, labels).item() == pytest.approx(math.log(4))
    assert past_action_loss(logits, labels, normalizer="all").item() == pytest.approx(math.log(4) / 4)
    with pytest.raises(ValueError, match="give 'labelled' or 'all'"):
        past_action_loss(logits, labels, normalizer="mean")


def test_feature_loss_is_the_mean_over_valid_frames_and_channels():
    predicted = torch.tensor([[[1.0, 0.0], [2.0, 2.0]]])
    target = torch.zeros(1, 2, 2)
    assert feature_prediction_loss(predicted, target).item() == pytest.approx((1 + 0 + 4 + 4) / 4)
    mask = torch.tensor([[True, False]])
    assert feature_prediction_loss(predicted, target, mask).item() == pytest.approx((1 + 0) / 2)
    assert feature_prediction_loss(predicted, target, torch.zeros(1, 2, dtype=torch.bool)).item() == 0


def test_feature_loss_pulls_on_prediction_and_target():
    predicted, target = torch.ones(1, 1, 2, requires_grad=True), torch.zeros(1, 1, 2, requires_grad=True)
    feature_prediction_loss(predicted, target).backward()
    assert predicted.grad.tolist() == [[[1.0, 1.0]]]
    assert target.grad.tolist() == [[[-1.0, -1.0]]]


def test_losses_are_computed_in_float32_under_half_precision():
    logits = ODDS.expand(2, 2).to(torch.bfloat16)
    assert classification_loss(logits, torch.tensor([0, 1])).dtype == torch.float32
    features = torch.ones(1, 1, 2, dtype=torch.bfloat16)
    assert feature_prediction_loss(features, features).dtype == torch.float32

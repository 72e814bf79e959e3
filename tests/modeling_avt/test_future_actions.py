"""A roll-out whose steps are trained to predict the next actions."""

import pytest
import torch
from helpers.tiny_models import tiny_config, tiny_model

from modeling_avt.futures_avt import Question


def future_model(**overrides):
    return tiny_model(tiny_config(num_future_actions=3, future_loss_weight=0.5, **overrides)).eval()


FEATURES = torch.randn(4, 4, 12, generator=torch.Generator().manual_seed(1))
FUTURE = torch.tensor([[0, 1, 2], [3, 4, -100], [1, -100, -100], [2, 2, 0]])


def test_each_step_learns_the_action_after_the_one_before():
    model = future_model()
    output = model(video_features=FEATURES, labels=FUTURE[:, 0], future_labels=FUTURE)
    log_probs = output.future_logits.log_softmax(-1)
    expected = -torch.stack(
        [log_probs[0, 1, 1], log_probs[0, 2, 2], log_probs[1, 1, 4], log_probs[3, 1, 2], log_probs[3, 2, 0]]
    )
    torch.testing.assert_close(output.future_loss, expected.mean())
    torch.testing.assert_close(output.loss, output.action_loss + 0.5 * output.future_loss + output.feature_loss)


def test_the_answer_and_its_loss_are_of_the_first_step():
    model = future_model()
    with torch.no_grad():
        alone = model(video_features=FEATURES, labels=FUTURE[:, 0])
        rolled_out = model(video_features=FEATURES, labels=FUTURE[:, 0], future_labels=FUTURE)
        asked = model(video_features=FEATURES, num_future_steps=3)
    torch.testing.assert_close(rolled_out.logits, alone.logits)
    torch.testing.assert_close(rolled_out.action_loss, alone.action_loss)
    torch.testing.assert_close(asked.logits, alone.logits)
    torch.testing.assert_close(rolled_out.future_logits[:, 0], alone.logits)
    torch.testing.assert_close(rolled_out.future_logits, asked.future_logits)


def test_the_last_frames_classifier_does_not_affect_later_actions():
    model = future_model(classify_last_frame=True)
    with torch.no_grad():
        before = model(video_features=FEATURES, num_future_steps=3).future_logits
        model.last_frame_classifier.bias += 1.0 + torch.arange(5.0)
        after = model(video_features=FEATURES, num_future_steps=3).future_logits
    torch.testing.assert_close(after[:, 0] - before[:, 0], (1.0 + torch.arange(5.0)).expand(4, -1))
    torch.testing.assert_close(after[:, 1:], before[:, 1:])


def test_a_model_that_was_not_trained_so_does_not_use_them():
    model = tiny_model(tiny_config()).eval()
    with torch.no_grad():
        output = model(video_features=FEATURES, labels=FUTURE[:, 0], future_labels=FUTURE)
    assert output.future_loss is None
    assert output.future_logits is None


@pytest.mark.parametrize(
    ("future", "message"),
    [
        (FUTURE[:, :2], r"future_labels has the shape \(4, 2\): give \(4, 3\)"),
        (FUTURE + 5 * (FUTURE == 4), "future_labels holds 9: give class ids 0..4"),
    ],
)
def test_labels_that_do_not_fit_are_refused(future, message):
    with pytest.raises(ValueError, match=message):
        future_model()(video_features=FEATURES, labels=FUTURE[:, 0], future_labels=future)


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (
            {"num_future_actions": 14},
            "num_frames=4 and num_future_actions=14 need 17 positions, but head_num_positions is 16",
        ),
        ({"num_future_actions": 2, "head_type": "probe", "feature_dim": 32}, "a probe does not roll out: give 1"),
    ],
)
def test_configurations_that_cannot_roll_out_so_far_are_refused(overrides, message):
    with pytest.raises(ValueError, match=message):
        tiny_config(**overrides)


def test_more_future_actions_than_were_trained_are_refused():
    config = tiny_config(num_future_actions=3)
    assert Question(num_actions=3).num_future_steps(config) == 3
    assert Question().num_future_steps(config) == 1
    with pytest.raises(ValueError, match="num_actions is 4: the model was trained on the next 3 actions"):
        Question(num_actions=4).num_future_steps(config)
    with pytest.raises(ValueError, match="horizon_s asks when each action happens"):
        Question(horizon_s=10.0).num_future_steps(config)
    assert Question(num_actions=4).num_future_steps(tiny_config()) == 4  # an untrained roll-out has no limit

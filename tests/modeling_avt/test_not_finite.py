"""Numbers that are not finite, or too large to compute with, are refused on input; no answer is NaN."""

import math

import numpy as np
import pytest
import torch
from helpers.readers import reading_model
from helpers.tiny_models import tiny_config, tiny_model, tiny_processor, tiny_vit_config

from modeling_avt import ActionAnticipationPipeline, AVTForAnticipation, AVTVideoProcessor
from modeling_avt.answers_avt import most_likely
from modeling_avt.numbers_avt import check_weights

BROKEN = [math.nan, math.inf, -math.inf, 1e30]
FRAMES = np.random.default_rng(0).integers(0, 256, (4, 40, 48, 3), dtype=np.uint8)
FEATURES = np.random.default_rng(0).normal(size=(4, 12)).astype(np.float32)


def with_weight(value: float, name: str = "avt.head.h.0.mlp.c_fc.weight", config=tiny_config) -> AVTForAnticipation:
    model = tiny_model(config())
    with torch.no_grad():
        model.get_parameter(name).view(-1)[3] = value
    return model


@pytest.mark.parametrize("value", BROKEN)
def test_a_pipeline_and_a_stream_refuse_observed_features(value):
    broken, model = FEATURES.copy(), tiny_model()
    broken[2, 5] = value
    with pytest.raises(ValueError, match=r"not finite or too large .*extract them again"):
        ActionAnticipationPipeline(model)(broken)
    stream = model.stream()
    first = stream.push(FEATURES[0], 0.0)
    with pytest.raises(ValueError, match="NaN or infinity would corrupt every answer"):
        stream.push(broken[2], 1.0)
    assert stream.push(FEATURES[0], 1.0)[0]["at_s"] == first[0]["at_s"] + 1


@pytest.mark.parametrize("value", BROKEN)
def test_what_absent_frames_hold_does_not_count(value):
    model, mask = tiny_model(), np.array([False, False, True, True])
    answers = []
    for content in (0.0, value):
        features = FEATURES.copy()
        features[:2] = content
        answers.append(ActionAnticipationPipeline(model)({"video_features": features, "frame_mask": mask}))
        windows, masks = torch.from_numpy(features)[None], torch.from_numpy(mask)[None]
        labels = {"labels": torch.tensor([1]), "past_labels": torch.tensor([[-100, -100, 2, 3]])}
        answers.append(model(video_features=windows, frame_mask=masks, **labels))
    assert answers[0] == answers[2]
    assert all(math.isfinite(answer["score"]) for answer in answers[2])
    for name in ("logits", "past_logits", "loss", "feature_loss"):
        torch.testing.assert_close(answers[3][name], answers[1][name])


def test_what_absent_frames_show_does_not_count():
    model, pixels = tiny_model(tiny_vit_config()), torch.rand(1, 4, 3, 32, 32)
    mask = torch.tensor([[False, True, True, True]])
    expected = model(pixel_values_videos=pixels, frame_mask=mask).logits
    pixels[:, 0] = math.nan
    torch.testing.assert_close(model(pixel_values_videos=pixels, frame_mask=mask).logits, expected)


@pytest.mark.parametrize("value", BROKEN)
@pytest.mark.parametrize("name", ["avt.head.h.0.mlp.c_fc.weight", "classifiers.action.bias", "avt.encoder.weight"])
def test_weights_are_refused_by_name(value, name, tmp_path):
    model = with_weight(value, name)
    with pytest.raises(ValueError, match=rf"The weight '{name}' of .* holds"):
        ActionAnticipationPipeline(model)
    with pytest.raises(ValueError, match=f"The weight '{name}' of"):
        model.stream()
    model.save_pretrained(tmp_path)
    with pytest.raises(ValueError, match=rf"The weight '{name}' of '{tmp_path}' holds .*: fetch the checkpoint again"):
        AVTForAnticipation.from_pretrained(tmp_path)


def test_a_weight_of_the_backbone_and_a_statistic_of_features_are_refused():
    model = with_weight(math.nan, "avt.backbone.layers.0.mlp.fc1.weight", tiny_vit_config)
    with pytest.raises(ValueError, match=r"'avt\.backbone\.layers\.0\.mlp\.fc1\.weight' of the model holds nan"):
        check_weights(model, "the model")
    model = tiny_model(tiny_config(standardize_features=True))
    model.avt.feature_mean[1] = 1e30
    with pytest.raises(ValueError, match=r"'avt\.feature_mean' of .* holds 1e\+30"):
        ActionAnticipationPipeline(model)


@pytest.mark.parametrize("name", ["encoder", "decoder"])
def test_weights_that_break_after_the_pipeline_was_made_give_no_answer(name):
    model = tiny_model()
    pipe, stream = ActionAnticipationPipeline(model), model.stream()
    with torch.no_grad():
        getattr(model.avt, name).weight[0, 0] = math.nan
    for ask in (lambda: pipe(FEATURES), lambda: stream.push(FEATURES[0], 0.0)):
        with pytest.raises(ValueError, match=r"scores are not finite, so it cannot answer: .* float16"):
            ask()
    assert stream.logits is None


def test_an_overflow_in_float16_is_refused_with_what_to_do():
    large = FEATURES * 1e5
    ActionAnticipationPipeline(tiny_model())(large)
    pipe = ActionAnticipationPipeline(tiny_model(), dtype="float16")
    with pytest.raises(ValueError, match=r"float16 overflows above 65504, so load the model with dtype=torch\.fl"):
        pipe(large)
    model = with_weight(1e5)
    with pytest.raises(ValueError, match=r"holds inf, .* load the model with dtype=torch\.float32 or torch\.bfloat16"):
        ActionAnticipationPipeline(model, dtype=torch.float16)


@pytest.mark.parametrize("value", BROKEN)
def test_features_that_a_backbone_spoils_are_refused(value):
    model = tiny_model(tiny_vit_config())
    pipe, stream = ActionAnticipationPipeline(model, video_processor=tiny_processor()), model.stream(tiny_processor())
    with torch.no_grad():
        model.avt.backbone.layernorm.bias[0] = value
    for ask in (lambda: pipe(FRAMES), lambda: stream.push(FRAMES[0], 0.0)):
        with pytest.raises(ValueError, match="Features that the backbone computed are not finite"):
            ask()


def test_a_reader_reads_nothing_that_is_not_finite():
    model = reading_model()
    pipe, stream = ActionAnticipationPipeline(model), model.stream()
    with torch.no_grad():
        model.recognizer.bias[0] = math.nan
    for ask in (lambda: pipe(FEATURES, frames_per_second=1), lambda: stream.push(FEATURES[0], 0.0)):
        with pytest.raises(ValueError, match="not finite"):
            ask()


@pytest.mark.parametrize("value", [*BROKEN, -1e30])
def test_no_answer_is_formed_from_scores_that_are_not_finite(value):
    with pytest.raises(ValueError, match="scores are not finite"):
        most_likely(torch.tensor([0.0, value, 1.0, 2.0, 3.0]), tiny_config(), 2)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"image_std": (0.5, 0.0, 0.5)}, r"image_std is 0\.0: give a finite number, 1e-06 or more"),
        ({"image_std": (0, 0, 0)}, "image_std is 0: give a finite number"),
        ({"image_std": (0.5, -0.5, 0.5)}, "image_std is .* give a finite number, 1e-06 or more"),
        ({"image_std": (1e-30,) * 3}, "image_std is .* give a finite number, 1e-06 or more"),
        ({"image_std": (0.5, math.inf, 0.5)}, "image_std is inf: give a finite number"),
        ({"image_std": 0}, "image_std is 0: give 3 numbers"),
        ({"image_mean": (math.nan, 0.5, 0.5)}, "image_mean is nan: give a finite number"),
        ({"image_mean": (0.5, 0.5)}, "image_mean is .* give 3 numbers"),
        ({"image_mean": (0.5, None, 0.5)}, "image_mean is None: give a finite number"),
    ],
)
def test_a_processor_that_pixels_cannot_be_divided_by_is_refused(fields, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        tiny_processor(**fields)
    tiny_processor().save_pretrained(tmp_path)
    with pytest.raises(ValueError, match=message):
        AVTVideoProcessor.from_pretrained(tmp_path, **fields)

"""The model: which inputs affect which outputs, its modes, and one clear sentence for each misuse."""

import copy
import math

import pytest
import torch
from helpers.tiny_models import VERB_NOUN, tiny_config, tiny_model, tiny_vit_config
from transformers import (
    BeitConfig,
    BertConfig,
    CLIPVisionConfig,
    ConvNextConfig,
    CvtConfig,
    Dinov2Config,
    EncoderDecoderConfig,
    MobileNetV2Config,
    ResNetConfig,
    SegGptConfig,
    Siglip2VisionConfig,
    SwinConfig,
    Trainer,
    TrainingArguments,
    ViTConfig,
    ViTMAEConfig,
    ViTMAEModel,
)
from transformers.pytorch_utils import Conv1D

from modeling_avt import AVTConfig, AVTForAnticipation, AVTModel
from modeling_avt.modeling_avt import _head_config

SMALL = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "image_size": 32, "patch_size": 8}
BACKBONES = {
    "vit": (tiny_vit_config().backbone_config, 32),
    "dinov2": (Dinov2Config(**SMALL, mlp_ratio=2), 32),
    "clip": (CLIPVisionConfig(**SMALL, intermediate_size=64), 32),
    "beit": (BeitConfig(**SMALL, intermediate_size=64), 32),
    "swin": (SwinConfig(image_size=32, patch_size=4, embed_dim=8, depths=[1, 1], num_heads=[1, 2], window_size=4), 16),
    "resnet": (ResNetConfig(embedding_size=8, hidden_sizes=[8, 16], depths=[1, 1], layer_type="basic"), 16),
    "convnext": (ConvNextConfig(hidden_sizes=[8, 8, 16, 24], depths=[1, 1, 1, 1]), 24),
    "mobilenet_v2": (MobileNetV2Config(depth_multiplier=0.35), 1280),
}
MASKED = {**SMALL, "intermediate_size": 64}


def features(batch_size: int = 2, num_frames: int = 4, width: int = 12) -> torch.Tensor:
    return torch.randn(batch_size, num_frames, width, generator=torch.Generator().manual_seed(1))


def pixels(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, 3, 32, 32, generator=torch.Generator().manual_seed(1))


# Influence of frames


@pytest.mark.parametrize("frame", [1, 2, 3])
def test_a_frame_changes_nothing_that_is_predicted_up_to_it(frame):
    model, x = tiny_model(tiny_config(intermediate_dim=10)), features()
    changed = x.clone()
    changed[:, frame] += 1
    before, after = model(video_features=x), model(video_features=changed)
    assert torch.equal(before.past_logits[:, : frame + 1], after.past_logits[:, : frame + 1])
    assert torch.equal(before.past_features[:, : frame + 1], after.past_features[:, : frame + 1])
    assert not torch.allclose(before.past_logits[:, frame + 1 :], after.past_logits[:, frame + 1 :]) or frame == 3
    assert not torch.allclose(before.logits, after.logits)


def test_padding_changes_nothing():
    model, x = tiny_model(), features()
    mask = torch.tensor([[False, False, True, True], [True] * 4])
    labels = {"labels": torch.tensor([1, 2]), "past_labels": torch.tensor([[-100, -100, 3, 4], [0, 1, 2, 3]])}
    changed = x.clone()
    changed[0, :2] = 1e4
    before = model(video_features=x, frame_mask=mask, num_future_steps=3, **labels)
    after = model(video_features=changed, frame_mask=mask, num_future_steps=3, **labels)
    assert torch.equal(before.future_logits, after.future_logits)
    assert torch.equal(before.past_logits[mask], after.past_logits[mask])
    assert torch.equal(before.loss, after.loss)
    # The first real frame is its own prediction, as frame 0 is without padding.
    assert torch.equal(before.past_features[0, 2], x[0, 2])
    assert not torch.allclose(before.logits[0], model(video_features=x).logits[0])


def test_a_full_mask_is_no_mask():
    model, x = tiny_model(), features()
    mask = torch.ones(2, 4, dtype=torch.bool)
    outputs, masked = model(video_features=x), model(video_features=x, frame_mask=mask)
    torch.testing.assert_close(masked.logits, outputs.logits)
    torch.testing.assert_close(masked.feature_loss, outputs.feature_loss)


# Inputs and backbones


@pytest.mark.parametrize("name", BACKBONES)
def test_any_image_backbone_gives_one_vector_a_frame_and_learns(name):
    backbone, width = BACKBONES[name]
    config = tiny_config(backbone_config=backbone, feature_dim=width if name == "mobilenet_v2" else None)
    model = tiny_model(config).train()
    outputs = model(pixel_values_videos=pixels(2, 4), labels=torch.tensor([1, 2]))
    assert outputs.past_features.shape == (2, 4, width)
    outputs.loss.backward()
    untouched = {name for name, p in model.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0}
    # Biases of keys never have a gradient; the mask token is used only in masked image modeling.
    assert {n for n in untouched if not n.endswith(("mask_token", "key.bias", "k_proj.bias"))} == set()


def test_class_token_is_the_frame_feature_of_a_vit_and_the_mean_where_there_is_none():
    for name in ("vit", "swin"):
        model = AVTModel(tiny_config(backbone_config=BACKBONES[name][0], feature_dim=None)).eval()
        tokens = model.backbone(pixels(2)).last_hidden_state
        expected = tokens[:, 0] if name == "vit" else tokens.mean(1)
        assert torch.equal(model.encode_frames(pixels(2)), expected)


def test_a_frozen_backbone_stays_in_evaluation_mode_in_training():
    model = tiny_model(tiny_config(backbone_config=BACKBONES["resnet"][0], feature_dim=None))
    model.avt.backbone.requires_grad_(False)
    before, statistics = model.encode_frames(pixels(2)), copy.deepcopy(model.avt.backbone.state_dict())
    model.train()
    assert model.training
    assert model.avt.training
    assert model.avt.head.training
    assert not any(module.training for module in model.avt.backbone.modules())
    model(pixel_values_videos=3 * pixels(2, 4) + 1, labels=torch.tensor([0, 1])).loss.backward()
    assert torch.equal(model.encode_frames(pixels(2)), before)
    for name, value in model.avt.backbone.state_dict().items():
        assert torch.equal(value, statistics[name]), name
    model.avt.backbone.requires_grad_(True)
    assert all(module.training for module in model.train().modules())
    model(pixel_values_videos=3 * pixels(2, 4) + 1)
    assert not torch.equal(model.eval().encode_frames(pixels(2)), before)


def test_a_frozen_backbone_has_no_dropout_and_one_that_is_partly_trained_has():
    vit = ViTConfig(**SMALL, intermediate_size=64, hidden_dropout_prob=0.5)
    model = tiny_model(tiny_config(backbone_config=vit, feature_dim=None, head_dropout=0.0, classifier_dropout=0.0))
    expected = model(pixel_values_videos=pixels(2, 4)).logits
    model.avt.backbone.requires_grad_(False)
    enable = getattr(model, "activation_checkpointing_enable", None) or model.gradient_checkpointing_enable
    enable()  # see the test of the roll-out
    output = model.train()(pixel_values_videos=pixels(2, 4), labels=torch.tensor([0, 1]))
    torch.testing.assert_close(output.logits, expected)
    output.loss.backward()
    assert model.avt.encoder.weight.grad.abs().sum() > 0
    model.avt.backbone.layernorm.requires_grad_(True)
    output = model.train()(pixel_values_videos=pixels(2, 4), labels=torch.tensor([0, 1]))
    assert all(module.training for module in model.avt.backbone.modules())
    assert not torch.allclose(output.logits, expected)
    output.loss.backward()
    assert model.avt.backbone.layernorm.weight.grad.abs().sum() > 0


def test_a_map_has_no_class_token_although_cvt_has_a_parameter_of_that_name():
    cvt = CvtConfig(embed_dim=[8, 16, 24], num_heads=[1, 1, 2], depth=[1, 2, 3], drop_path_rate=[0.0, 0.0, 0.0])
    model = AVTModel(tiny_config(backbone_config=cvt, feature_dim=24)).eval()
    cells = model.backbone(pixels(2)).last_hidden_state  # (2, 24, 2, 2)
    torch.testing.assert_close(model.encode_frames(pixels(2)), cells.mean((2, 3)))


def test_a_masked_autoencoder_encodes_all_patches_in_order(tmp_path):
    model = tiny_model(tiny_config(backbone_config=ViTMAEConfig(**MASKED), feature_dim=None))
    in_order = torch.arange(16.0).expand(2, 16)
    whole = ViTMAEModel(ViTMAEConfig(**MASKED, mask_ratio=0.0)).eval()
    whole.load_state_dict(model.avt.backbone.state_dict())
    expected = whole(pixels(2), noise=in_order).last_hidden_state
    torch.testing.assert_close(model.encode_frames(pixels(2)), expected[:, 0])
    tokens = model.avt.backbone(pixels(2)).last_hidden_state
    torch.testing.assert_close(tokens, expected)  # in the order of the frame, for a probe
    copied = copy.deepcopy(model)
    assert torch.equal(copied.encode_frames(pixels(2)), model.encode_frames(pixels(2)))
    model.save_pretrained(tmp_path)
    assert AVTConfig.from_pretrained(tmp_path).backbone_config.mask_ratio == 0.75  # as it was given
    loaded = AVTForAnticipation.from_pretrained(tmp_path)
    torch.testing.assert_close(loaded.encode_frames(pixels(2)), expected[:, 0])
    assigned = tiny_model(tiny_config(backbone_config=ViTMAEConfig(**MASKED), feature_dim=None))
    assigned.avt.backbone = ViTMAEModel(ViTMAEConfig(**MASKED)).eval()
    assert torch.equal(assigned.encode_frames(pixels(2)), assigned.encode_frames(pixels(2)))


@pytest.mark.parametrize(
    ("backbone", "message"),
    [
        (SegGptConfig(), "'seggpt' cannot encode frames alone, as it also needs prompt_pixel_values and prompt_masks"),
        (
            Siglip2VisionConfig(),
            "'siglip2_vision_model' .* needs pixel_attention_mask and spatial_shapes: give another",
        ),
        (BertConfig(), "'bert' reads input_ids: give an image or a video model"),
        (EncoderDecoderConfig(encoder=BertConfig(), decoder=BertConfig()), "'encoder-decoder' has no vision model"),
    ],
    ids=lambda value: getattr(value, "model_type", ""),
)
def test_models_that_cannot_encode_frames_alone_are_refused_at_construction(backbone, message):
    with pytest.raises(ValueError, match=message):
        AVTModel(tiny_config(backbone_config=backbone))


def test_frames_and_their_features_give_the_same_scores():
    model, x = tiny_model(tiny_vit_config()), pixels(2, 4)
    encoded = model.encode_frames(x.flatten(0, 1)).unflatten(0, (2, 4))
    torch.testing.assert_close(model(video_features=encoded).logits, model(pixel_values_videos=x).logits)


def test_views_are_averaged():
    model, x = tiny_model(tiny_vit_config()), pixels(2, 3, 4)
    mask = torch.tensor([[False, True, True, True], [True] * 4])
    together = model(pixel_values_videos=x, frame_mask=mask)
    views = [model(pixel_values_videos=x[:, view], frame_mask=mask) for view in range(3)]
    for name in ("logits", "past_logits", "past_features", "future_features", "feature_loss"):
        average = torch.stack([getattr(view, name) for view in views]).mean(0)
        torch.testing.assert_close(getattr(together, name), average)


def test_verbs_and_nouns_have_classifiers_of_their_own_or_sum_their_actions():
    labels = {"labels": torch.tensor([1, 4]), "verb_labels": torch.tensor([0, 1]), "noun_labels": torch.tensor([1, 2])}
    model = tiny_model(tiny_config(**VERB_NOUN))
    outputs = model(video_features=features(), **labels)
    assert (outputs.verb_logits.shape, outputs.noun_logits.shape) == ((2, 2), (2, 3))
    expected = outputs.action_loss + outputs.verb_loss + outputs.noun_loss + outputs.feature_loss
    torch.testing.assert_close(outputs.loss, expected)

    model = tiny_model(tiny_config(**VERB_NOUN, use_class_mappings=True))
    assert list(model.classifiers) == ["action"]
    outputs = model(video_features=features())
    torch.testing.assert_close(outputs.verb_logits[:, 1], outputs.logits[:, 2:].sum(1))
    torch.testing.assert_close(outputs.noun_logits[:, 2], outputs.logits[:, 4])


def test_loss_is_the_weighted_sum_of_its_components():
    model = tiny_model(tiny_config(past_loss_weight=0.5, feature_loss_weight=2.0))
    past_labels = torch.tensor([[0, -100, 2, 3], [-100, 1, 1, -100]])
    outputs = model(video_features=features(), labels=torch.tensor([1, -100]), past_labels=past_labels)
    total = outputs.action_loss + 0.5 * outputs.past_loss + 2.0 * outputs.feature_loss
    torch.testing.assert_close(outputs.loss, total)
    assert model(video_features=features()).loss is None
    single = model(video_features=features(num_frames=1), labels=torch.tensor([1, 2]))
    assert single.feature_loss is None
    torch.testing.assert_close(single.loss, single.action_loss)


def test_without_classified_past_there_are_no_past_scores():
    model = tiny_model(tiny_config(classify_past=False))
    outputs = model(video_features=features(), labels=torch.tensor([1, 2]), past_labels=torch.zeros(2, 4).long())
    assert outputs.past_logits is None
    assert outputs.past_loss is None


# Roll-out


def test_each_step_of_a_roll_out_continues_the_shorter_one():
    model, x = tiny_model(), features()
    four = model(video_features=x, num_future_steps=4)
    assert four.future_logits.shape == (2, 4, 5)
    assert four.future_features.shape == (2, 4, 12)
    assert torch.equal(four.logits, four.future_logits[:, -1])
    for steps in (1, 2, 3):
        torch.testing.assert_close(
            model(video_features=x, num_future_steps=steps).logits, four.future_logits[:, steps - 1]
        )
    torch.testing.assert_close(four.past_logits, model(video_features=x).past_logits)


def test_roll_out_is_the_same_under_activation_checkpointing():
    config = tiny_config(head_dropout=0.0, classifier_dropout=0.0)
    model, x = tiny_model(config).train(), features()
    mask = torch.tensor([[False, True, True, True], [True] * 4])
    plain = model(video_features=x, frame_mask=mask, num_future_steps=3, labels=torch.tensor([1, 2]))
    plain.loss.backward()
    gradients = [p.grad.clone() for p in model.parameters()]
    model.zero_grad()
    # The name up to transformers 5.19.
    enable = getattr(model, "activation_checkpointing_enable", None) or model.gradient_checkpointing_enable
    enable()
    checkpointed = model(video_features=x, frame_mask=mask, num_future_steps=3, labels=torch.tensor([1, 2]))
    checkpointed.loss.backward()
    torch.testing.assert_close(checkpointed.future_logits, plain.future_logits)
    for parameter, gradient in zip(model.parameters(), gradients, strict=True):
        torch.testing.assert_close(parameter.grad, gradient)


# Attention, compilation, precision


def test_eager_attention_gives_attentions_and_equals_sdpa():
    config = tiny_vit_config()
    model, x = tiny_model(config), pixels(2, 4)
    mask = torch.tensor([[False, True, True, True], [True] * 4])
    assert model.avt.head.config._attn_implementation == model.avt.backbone.config._attn_implementation == "sdpa"
    expected = model(pixel_values_videos=x, frame_mask=mask).logits
    model.set_attn_implementation("eager")
    outputs = model(pixel_values_videos=x, frame_mask=mask, output_attentions=True, output_hidden_states=True)
    torch.testing.assert_close(outputs.logits, expected)
    assert [a.shape for a in outputs.attentions] == [(2, 4, 4, 4)] * 2
    assert [h.shape for h in outputs.hidden_states] == [(2, 4, 32)] * 3
    attention = outputs.attentions[0]
    assert attention[1].triu(1).abs().max() == 0
    assert attention[0, :, 1:, 0].abs().max() == 0  # no real frame attends to padding


def test_attention_implementation_is_chosen_at_loading(tmp_path):
    tiny_model(tiny_vit_config()).save_pretrained(tmp_path)
    model = AVTForAnticipation.from_pretrained(tmp_path, attn_implementation="eager")
    assert model.avt.head.config._attn_implementation == model.avt.backbone.config._attn_implementation == "eager"


@pytest.mark.slow
def test_feature_path_compiles_into_one_graph():
    model, x = tiny_model(), features()
    labels = {"labels": torch.tensor([1, 2]), "past_labels": torch.zeros(2, 4).long()}
    compiled = torch.compile(model, fullgraph=True, backend="aot_eager")
    outputs, expected = compiled(video_features=x, **labels), model(video_features=x, **labels)
    torch.testing.assert_close(outputs.logits, expected.logits)
    torch.testing.assert_close(outputs.loss, expected.loss)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_takes_float32_inputs(dtype):
    mask = torch.tensor([[False, True, True, True], [True] * 4])
    for config, inputs in (
        (tiny_config(), {"video_features": features()}),
        (tiny_vit_config(), {"pixel_values_videos": pixels(2, 4)}),
    ):
        model = tiny_model(config)
        expected = model(**inputs, frame_mask=mask).logits
        outputs = model.to(dtype)(**inputs, frame_mask=mask, labels=torch.tensor([1, 2]))
        assert outputs.logits.dtype == dtype
        assert outputs.loss.dtype == torch.float32
        torch.testing.assert_close(outputs.logits.float(), expected, atol=0.1, rtol=0.1)
        outputs.loss.backward()


def test_plain_trainer_trains_evaluates_and_gathers_scores_alone(tmp_path):
    rows = [
        {"video_features": features(1)[0], "frame_mask": torch.arange(4) >= row % 3, "labels": torch.tensor(row % 5)}
        for row in range(7)
    ]
    arguments = TrainingArguments(
        output_dir=str(tmp_path), use_cpu=True, max_steps=3, per_device_train_batch_size=2, label_names=["labels"]
    )
    model = tiny_model()
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    trainer = Trainer(model=model, args=arguments, train_dataset=rows, eval_dataset=rows)
    trainer.train()
    unmoved = [name for name, p in model.named_parameters() if torch.equal(p, before[name])]
    assert unmoved == []
    prediction = trainer.predict(rows)
    assert prediction.predictions.shape == (7, 5)
    assert prediction.label_ids.tolist() == [row % 5 for row in range(7)]


def test_fsdp_wraps_the_blocks_of_head_and_backbone():
    assert {"GPT2Block", "ViTLayer"} <= set(tiny_model(tiny_vit_config())._no_split_modules)


# Weights


def test_initial_weights_follow_the_reference():
    model = AVTForAnticipation(tiny_vit_config(head_hidden_size=256, head_num_layers=8, initializer_range=0.01))
    for name, module in model.named_modules():
        if isinstance(module, torch.nn.Linear):
            assert module.weight.std().item() == pytest.approx(0.01, rel=0.15), name
            assert module.bias is None or module.bias.abs().max() == 0, name
        elif isinstance(module, Conv1D):  # not scaled down by depth
            assert module.weight.std().item() == pytest.approx(0.02, rel=0.05), name


def test_flash_attention_of_heads_too_wide_for_it_is_refused_by_name():
    config = tiny_config(head_hidden_size=1028, head_num_heads=4)
    config._attn_implementation = "flash_attention_2"
    with pytest.raises(ValueError, match="supports heads of up to 256 columns, but AVT's head has 257"):
        _head_config(config)
    config.head_hidden_size = 1024
    assert _head_config(config).n_embd == 1024


@pytest.mark.parametrize(
    ("config", "millions"),
    [
        # EPIC-55 and EGTEA in AVT's experiments: published sizes of the original.
        ({"num_labels": 2513}, 395.1),
        ({"num_labels": 106, "head_num_layers": 2}, 191.8),
        ({"num_labels": 106, "head_num_layers": 2, "backbone_config": None, "feature_dim": 1024}, 107.1),
        ({"num_labels": 2513, "head_num_layers": 12, "backbone_config": None, "feature_dim": 1024}, 613.2),
    ],
)
def test_size_equals_the_original(config, millions):
    with torch.device("meta"):
        model = AVTForAnticipation(AVTConfig(**config))
    assert sum(p.numel() for p in model.parameters()) / 1e6 == pytest.approx(millions, abs=0.05)


@pytest.mark.slow
def test_avt_b_trains_one_step_in_under_9_gb(tmp_path):
    """In a process of its own, whose peak memory the operating system accounts."""
    import subprocess
    import sys

    code = """
import resource, torch
from modeling_avt import AVTConfig, AVTForAnticipation
model = AVTForAnticipation(AVTConfig(num_labels=2513)).train()
optimizer = torch.optim.SGD(model.parameters(), lr=1e-4, momentum=0.9, nesterov=True)
labels = {"labels": torch.tensor([1]), "past_labels": torch.zeros(1, 10).long()}
model(pixel_values_videos=torch.randn(1, 10, 3, 224, 224), **labels).loss.backward()
optimizer.step()
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6)
"""
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert float(result.stdout) < 9


# Misuse


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        ({}, "Give either pixel_values_videos or video_features; got neither"),
        ({"video_features": features(), "pixel_values_videos": pixels(2, 4)}, "got both"),
        ({"pixel_values_videos": pixels(2, 4)}, r"no backbone .*: give video_features \(B, T, D\); .* attach_encoder"),
        ({"video_features": features()[0]}, r"has the shape \(4, 12\): this model needs \(B, T, 12\)"),
        ({"video_features": features(width=11)}, r"has the shape \(2, 4, 11\)"),
        ({"video_features": features(num_frames=17)}, "17 frames and 1 future steps do not fit"),
        ({"video_features": features(num_frames=0)}, "0 frames"),
        ({"video_features": features(batch_size=0)}, "The batch is empty, with 0 windows: give at least one"),
        ({"video_features": features(), "num_future_steps": 14}, "4 frames and 14 future steps do not fit"),
        ({"video_features": features(), "num_future_steps": 0}, "num_future_steps is 0"),
        ({"video_features": features(), "frame_mask": torch.ones(2, 3)}, r"give \(B, T\) = \(2, 4\)"),
        ({"video_features": features(), "frame_mask": torch.tensor([[1, 1, 1, 0]] * 2)}, "padding goes to the left"),
        ({"video_features": features(), "labels": torch.tensor([1, 5])}, r"labels holds 5: give class ids 0\.\.4"),
        ({"video_features": features(), "labels": torch.tensor([-1, 2])}, "labels holds -1"),
        ({"video_features": features(), "labels": torch.tensor([[1], [2]])}, r"shape \(2, 1\): give \(2,\)"),
        ({"video_features": features(), "past_labels": torch.full((2, 4), 9)}, "past_labels holds 9"),
    ],
)  # fmt: skip
def test_refuses(inputs, message):
    with pytest.raises(ValueError, match=message):
        tiny_model()(**inputs)


def test_model_without_classifiers_refuses_a_call_without_inputs():
    with pytest.raises(ValueError, match="Give either pixel_values_videos or video_features; got neither"):
        AVTModel(tiny_config())()


@pytest.mark.parametrize("shape", [(4,), (2, 3, 1, 1)])
def test_refuses_frames_of_another_rank(shape):
    with pytest.raises(ValueError, match=r"give \(B, T, 3, H, W\), or \(B, V, T, 3, H, W\)"):
        tiny_model(tiny_vit_config())(pixel_values_videos=pixels(*shape))


@pytest.mark.parametrize("shape", [(0, 4), (0, 2, 4)])
def test_refuses_an_empty_batch_of_frames(shape):
    with pytest.raises(ValueError, match="The batch is empty, with 0 windows"):
        tiny_model(tiny_vit_config())(pixel_values_videos=pixels(*shape))


def test_refuses_channels_last():
    with pytest.raises(ValueError, match=r"give \(B, T, 3, H, W\)"):
        tiny_model(tiny_vit_config())(pixel_values_videos=pixels(2, 4).permute(0, 1, 3, 4, 2))


def test_refuses_a_width_that_the_backbone_does_not_have():
    model = tiny_model(tiny_vit_config(feature_dim=48))
    with pytest.raises(
        ValueError, match=r"computes features of width 32, but feature_dim is .*: set feature_dim to that width"
    ):
        model(pixel_values_videos=pixels(1, 2))


def test_refuses_label_maps_that_disagree_with_the_weights(tmp_path):
    tiny_model().save_pretrained(tmp_path)
    with pytest.raises(ValueError, match=r"do not fit its configuration .* label maps must have as many classes"):
        AVTForAnticipation.from_pretrained(tmp_path, id2label={0: "cut", 1: "mix"})
    other = AVTForAnticipation.from_pretrained(tmp_path, id2label={0: "cut", 1: "mix"}, ignore_mismatched_sizes=True)
    assert other(video_features=features()).logits.shape == (2, 2)
    other = AVTForAnticipation.from_pretrained(tmp_path, num_labels=7, ignore_mismatched_sizes=True)
    assert other(video_features=features()).logits.shape == (2, 7)
    tiny_model(tiny_config(**VERB_NOUN)).save_pretrained(tmp_path)
    assert (
        AVTForAnticipation.from_pretrained(tmp_path, num_labels=7, ignore_mismatched_sizes=True).config.num_labels == 7
    )
    with pytest.raises(ValueError, match="label maps must have as many classes as it was trained with"):
        AVTForAnticipation.from_pretrained(tmp_path, id2label={0: "cut", 1: "mix"})


def test_tuple_output_begins_with_loss_and_logits():
    model, x = tiny_model(), features()
    loss, logits, *_ = model(video_features=x, labels=torch.tensor([1, 2]), return_dict=False)
    assert loss.ndim == 0
    assert logits.shape == (2, 5)
    assert math.isfinite(loss.item())

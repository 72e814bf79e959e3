"""Pretrained vision models as frame encoders: their weights, without poolers, and the preprocessing they expect."""

import json
from pathlib import Path

import pytest
import torch
from helpers.tiny_models import (
    tiny_config,
    tiny_encoder,
    tiny_encoder_config,
    tiny_model,
    tiny_processor,
    tiny_vit_config,
)
from safetensors.torch import load_file, save_file
from transformers import (
    BertConfig,
    BertModel,
    CLIPConfig,
    CLIPModel,
    ViTConfig,
    ViTForImageClassification,
    ViTModel,
    VJEPA2Model,
)

from avt_distill.features.backbones import load_backbone, load_backbone_processor

TINY = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64}
VIT = ViTConfig(**TINY, image_size=32, patch_size=8)


@pytest.fixture
def vit(tmp_path):
    torch.manual_seed(0)
    model = ViTModel(VIT).eval()
    model.save_pretrained(tmp_path)
    return model, tmp_path


def test_backbones_have_their_weights_and_no_added_pooler(vit):
    model, folder = vit
    backbone = load_backbone(folder, dtype=torch.float32).eval()
    assert backbone.pooler is None
    pixels = torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        expected, actual = model(pixels).last_hidden_state, backbone(pixels).last_hidden_state
    torch.testing.assert_close(actual, expected, atol=1e-6, rtol=0)
    assert load_backbone(folder, dtype=torch.bfloat16).dtype == torch.bfloat16


def test_backbones_take_the_place_of_a_models_own(vit):
    model = tiny_model(tiny_vit_config())
    model.avt.backbone = load_backbone(vit[1]).eval()
    pixels = torch.randn(3, 3, 32, 32)
    with torch.no_grad():
        expected = vit[0](pixels).last_hidden_state[:, 0]
        torch.testing.assert_close(model.encode_frames(pixels), expected, atol=1e-6, rtol=0)


def test_the_vision_side_of_clip_is_taken(tmp_path):
    text = {**TINY, "vocab_size": 9, "bos_token_id": 0, "eos_token_id": 1}
    clip = CLIPModel(CLIPConfig(vision_config={**TINY, "image_size": 32, "patch_size": 8}, text_config=text)).eval()
    clip.save_pretrained(tmp_path)
    backbone, pixels = load_backbone(tmp_path).eval(), torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        expected = clip.vision_model(pixels).pooler_output
        torch.testing.assert_close(backbone(pixels).pooler_output, expected, atol=1e-6, rtol=0)


def test_the_backbone_of_an_avt_checkpoint_is_taken_with_its_processor(tmp_path):
    model = tiny_model(tiny_vit_config())
    model.save_pretrained(tmp_path)
    tiny_processor(antialias=False).save_pretrained(tmp_path)
    backbone = load_backbone(tmp_path)
    for name, weight in model.avt.backbone.state_dict().items():
        assert torch.equal(backbone.state_dict()[name], weight), name
    processor = load_backbone_processor(tmp_path, backbone.config)
    assert (processor.crop_size["height"], processor.antialias) == (32, False)


def test_checkpoints_that_would_leave_weights_random_are_refused(tmp_path):
    ViTForImageClassification(VIT).save_pretrained(tmp_path / "whole")
    load_backbone(tmp_path / "whole")  # an additional classifier does no harm
    ViTModel(VIT).save_pretrained(tmp_path / "deep")
    config = json.loads((tmp_path / "deep" / "config.json").read_text())
    (tmp_path / "deep" / "config.json").write_text(json.dumps({**config, "num_hidden_layers": 3}))
    with pytest.raises(
        ValueError, match=r"lacks 16 weights of ViTModel, such as '.*layers\.2\..*', which would be ran"
    ):
        load_backbone(tmp_path / "deep")


def test_models_without_image_input_are_refused(tmp_path):
    with pytest.raises(ValueError, match=r"Cannot read the model '.*missing' \(.*\): give its name on the Hub"):
        load_backbone(tmp_path / "missing")
    BertModel(BertConfig(**TINY, vocab_size=9)).save_pretrained(tmp_path / "bert")
    with pytest.raises(ValueError, match="reads input_ids: give an image or a video model"):
        load_backbone(tmp_path / "bert")
    tiny_model(tiny_config()).save_pretrained(tmp_path / "avt")
    with pytest.raises(ValueError, match="has no backbone"):
        load_backbone(tmp_path / "avt")


def test_the_backbone_of_a_student_comes_with_its_predictor_where_that_is_asked_for(tmp_path):
    tiny_model(tiny_encoder_config("vjepa2", use_predictor=True)).save_pretrained(tmp_path / "with")
    assert load_backbone(tmp_path / "with", use_predictor=True).predictor is not None
    assert load_backbone(tmp_path / "with").predictor is None
    tiny_model(tiny_encoder_config("vjepa2")).save_pretrained(tmp_path / "without")
    with pytest.raises(ValueError, match=r"without. was saved without V-JEPA 2.s predictor: give V-JEPA 2 itself"):
        load_backbone(tmp_path / "without", use_predictor=True)


def without_predictor(folder: Path) -> Path:
    """Writes a V-JEPA 2 model with only half of the predictor's weights."""
    VJEPA2Model(tiny_encoder("vjepa2")).save_pretrained(folder)
    weights = load_file(folder / "model.safetensors")
    half = {name: weight for name, weight in weights.items() if not name.startswith("predictor.layer.1.")}
    assert len(half) < len(weights)
    save_file(half, folder / "model.safetensors", metadata={"format": "pt"})
    return folder


def test_half_a_predictor_is_refused_only_where_it_is_used(tmp_path):
    half = without_predictor(tmp_path)
    with pytest.raises(ValueError, match=r"lacks \d+ weights of VJEPA2Model, such as 'predictor.layer.1"):
        load_backbone(half, use_predictor=True)
    assert load_backbone(half).predictor is None


def test_a_predictor_of_another_size_is_refused(tmp_path):
    VJEPA2Model(tiny_encoder("vjepa2")).save_pretrained(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps({**config, "pred_hidden_size": 48}))
    with pytest.raises(ValueError, match="do not fit its configuration"):
        load_backbone(tmp_path, use_predictor=True)


def test_only_v_jepa_2_has_a_predictor(vit):
    with pytest.raises(ValueError, match="has no predictor: only V-JEPA 2 has one"):
        load_backbone(vit[1], use_predictor=True)


@pytest.mark.parametrize(
    ("fields", "short_side", "crop"),
    [
        ({"size": {"height": 224, "width": 224}}, 224, (224, 224)),  # ViT
        ({"size": {"shortest_edge": 256}, "crop_size": {"height": 224, "width": 224}}, 256, (224, 224)),  # DINOv2
        ({"size": {"shortest_edge": 292}, "crop_size": 256}, 292, (256, 256)),  # V-JEPA 2
        ({"size": {"shortest_edge": 224}, "crop_pct": 0.875}, 256, (224, 224)),  # ConvNeXt
        ({"size": {"shortest_edge": 384}, "crop_pct": 1.0}, 384, (384, 384)),
        ({"size": 224, "crop_size": 200, "do_center_crop": False}, 224, (224, 224)),
        ({"size": {"height": 96, "width": 128}}, 128, (96, 128)),
    ],
)
def test_preprocessing_is_read_from_the_model(vit, fields, short_side, crop):
    statistics = {"image_mean": [0.1, 0.2, 0.3], "image_std": [0.4, 0.5, 0.6]}
    (vit[1] / "preprocessor_config.json").write_text(json.dumps({**fields, **statistics}))
    processor = load_backbone_processor(vit[1], VIT)
    assert processor.size == {"shortest_edge": short_side}
    assert (processor.crop_size["height"], processor.crop_size["width"]) == crop
    assert (processor.image_mean, processor.image_std) == ([0.1, 0.2, 0.3], [0.4, 0.5, 0.6])


def test_models_without_preprocessing_get_avts_own_at_their_size_with_a_warning(vit, caplog):
    """Otherwise a DINOv2 without this file would run at 518 px with a wrong mean, slow and inaccurate, silently."""
    processor = load_backbone_processor(vit[1], VIT)
    assert (processor.size, processor.crop_size["width"]) == ({"shortest_edge": 35}, 32)
    assert processor.image_mean == [0.5, 0.5, 0.5]
    assert "cut to 32 px and normalized with mean [0.5, 0.5, 0.5] and deviation [0.5, 0.5, 0.5]" in caplog.text
    caplog.clear()
    processor.save_pretrained(vit[1])
    load_backbone_processor(vit[1], VIT)
    assert not caplog.text


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"do_flip_channel_order": True}, "do_flip_channel_order=True"),
        ({"rescale_factor": 1 / 127.5}, "rescale_factor=0.0078"),
        ({"do_rescale": False}, "do_rescale=False"),
        ({"size": {"longest_edge": 224}}, "give shortest_edge"),
        ({"image_mean": None}, "has no image_mean"),
    ],
)
def test_preprocessing_of_another_kind_is_refused(vit, fields, message):
    usual = {"size": 32, "image_mean": [0.5] * 3, "image_std": [0.5] * 3}
    (vit[1] / "preprocessor_config.json").write_text(json.dumps({**usual, **fields}))
    with pytest.raises(ValueError, match=message):
        load_backbone_processor(vit[1], VIT)


def test_a_configuration_that_is_a_list_is_refused_in_one_sentence(tmp_path):
    (tmp_path / "config.json").write_text("[]")
    with pytest.raises(ValueError, match=r"The config\.json of '.*' holds a list instead of an object"):
        load_backbone(tmp_path)

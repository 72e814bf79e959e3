"""AVTConfig: what it derives, what it refuses, and that a saved one is the same."""

import pytest
from helpers.tiny_models import VERB_NOUN, tiny_config
from transformers import ConvNextConfig, MobileNetV2Config, ResNetConfig

import configuration_avt
from modeling_avt import AVTConfig


def test_top_level_module_is_the_same_class():
    assert configuration_avt.AVTConfig is AVTConfig


def test_defaults_are_avt_b_on_epic_kitchens_100():
    config = AVTConfig(num_labels=3806)
    assert (config.backbone_config.model_type, config.feature_dim) == ("vit", 768)
    assert config.backbone_config.layer_norm_eps == 1e-6
    assert (config.head_hidden_size, config.head_num_layers, config.head_num_heads) == (2048, 6, 4)
    assert (config.num_frames, config.frame_rate, config.tau_a, config.tau_o) == (10, 1.0, 1.0, 10.0)


def test_saved_configuration_is_the_same(tmp_path):
    for config in (tiny_config(**VERB_NOUN), tiny_config(backbone_config=ResNetConfig(), feature_dim=None)):
        config.save_pretrained(tmp_path)
        loaded = AVTConfig.from_pretrained(tmp_path)
        assert {**loaded.to_dict(), "transformers_version": None} == {**config.to_dict(), "transformers_version": None}
        assert type(loaded.backbone_config) is type(config.backbone_config)
        assert loaded.id2label == config.id2label


def test_label_maps_are_kept_in_both_directions():
    config = tiny_config(id2label={0: "cut egg", 1: "mix egg"})
    assert config.label2id == {"cut egg": 0, "mix egg": 1}
    assert config.num_labels == 2


def test_class_map_may_come_by_action_id_as_json_writes_it():
    mapping = {str(action): pair for action, pair in enumerate(VERB_NOUN["action_to_verb_noun"])}
    config = tiny_config(**{**VERB_NOUN, "action_to_verb_noun": mapping})
    assert config.action_to_verb_noun == VERB_NOUN["action_to_verb_noun"]


def test_width_is_read_off_the_backbone_where_it_is_named():
    assert tiny_config(backbone_config=ResNetConfig(hidden_sizes=[8, 16]), feature_dim=None).feature_dim == 16
    assert tiny_config(backbone_config=ConvNextConfig(), feature_dim=None).feature_dim == 768
    with pytest.raises(ValueError, match="'mobilenet_v2' backbone names no width: give it as feature_dim"):
        tiny_config(backbone_config=MobileNetV2Config(), feature_dim=None)


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ({"feature_dim": None}, "give their width as feature_dim"),
        ({"backbone_config": {"hidden_size": 8}}, "has no 'model_type'"),
        ({"label_types": ["verb"]}, "give 'action'"),
        ({"label_types": ["action", "object"]}, "label_types is"),
        ({"label_types": ["action", "verb"]}, "verb_id2label is None"),
        ({"id2label": {0: "a", 2: "b"}}, r"id2label has the ids \[0, 2\]: ids must run from 0"),
        ({**VERB_NOUN, "num_labels": 4}, "action_to_verb_noun has 5 rows but there are 4 actions"),
        ({**VERB_NOUN, "noun_id2label": {0: "egg"}}, r"for noun_id2label: give 0\.\.0"),
        ({"use_class_mappings": True}, "needs action_to_verb_noun"),
        ({"head_num_heads": 5}, "not divisible by head_num_heads=5"),
        ({"num_frames": 17}, "between 1 and head_num_positions=16"),
        ({"frame_rate": 0.0}, "must be above 0"),
        ({"past_loss_normalizer": "frames"}, "give 'labelled' or 'all'"),
    ],
)
def test_refuses(overrides, message):
    with pytest.raises(ValueError, match=message):
        tiny_config(**overrides)


def test_refuses_a_wrong_type():
    with pytest.raises(Exception, match="'num_frames' expected int, got str"):
        tiny_config(num_frames="4")

"""AVTConfig: derived fields, refusals, and saving and loading."""

import inspect
import json
import time

import numpy as np
import pytest
import torch
from helpers.tiny_models import VERB_NOUN, tiny_config, tiny_model, tiny_processor
from transformers import ConvNextConfig, MobileNetV2Config, ResNetConfig

import configuration_avt
from modeling_avt import AVTConfig, AVTForAnticipation, AVTVideoProcessor
from modeling_avt.configuration_avt import FIELD_RULES
from modeling_avt.temporal_avt import sample_frame_times


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


def test_clips_are_as_long_as_the_video_model_was_trained_on():
    assert AVTConfig(backbone_config={"model_type": "vjepa2"}).clip_num_frames == 64
    assert AVTConfig(backbone_config={"model_type": "vjepa2"}, clip_num_frames=32).clip_num_frames == 32
    assert AVTConfig(backbone_config={"model_type": "videomae"}).clip_num_frames == 16
    assert AVTConfig().clip_num_frames is None


def test_a_predictor_doubles_the_width_of_features_and_not_of_tokens():
    vjepa2 = {"backbone_config": {"model_type": "vjepa2"}, "use_predictor": True}
    assert AVTConfig(**vjepa2).feature_dim == 2048
    assert AVTConfig(**vjepa2, head_type="probe").feature_dim == 1024


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
    with pytest.raises(ValueError, match="'mobilenet_v2' backbone does not state its width: pass it as feature_dim"):
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
        ({"frame_rate": 0.0}, "give a finite number of frames per second, above 0 and at most 1000"),
        ({"past_loss_normalizer": "frames"}, "give 'labelled' or 'all'"),
        ({"recognizer_feature_dim": 13}, "recognizer_feature_dim is 13: give 1 to 12"),
        ({"reader": {"frame_rate": 1.0}}, "config.reader lacks"),
        (
            {"backbone_config": "vit"},
            "backbone_config is 'vit': give the configuration of a Hugging Face image model or",
        ),
        ({"backbone_config": {"model_type": "vitt"}}, "has the model_type 'vitt', which transformers does not support"),
        ({"clip_num_frames": 4}, "only video models see clips, and there is no backbone"),
        ({"backbone_config": {"model_type": "vit"}, "clip_num_frames": 4}, "see clips, and a 'vit' is not one"),
        ({"backbone_config": {"model_type": "videomae"}, "clip_num_frames": 8}, "this 'videomae' sees clips of 16"),
        ({"backbone_config": {"model_type": "vjepa2"}, "clip_num_frames": 9}, "give a multiple of 2"),
        ({"use_predictor": True}, "only V-JEPA 2 has a predictor"),
        ({"head_type": "probe", "feature_dim": 24}, "feature_dim=24 is not divisible by probe_num_heads=16"),
        ({"head_type": "probe", "feature_dim": 32, "intermediate_dim": 8}, "but a probe has no such part: leave it"),
        ({"backbone_config": {"model_type": "vit", "hidden_size": "8"}}, "is no configuration of 'vit': Field 'hidden"),
    ],
)
def test_refuses(overrides, message):
    with pytest.raises(ValueError, match=message):
        tiny_config(**overrides)


HEAD_SIZES = ("head_hidden_size", "head_num_layers", "head_num_heads", "head_num_positions", "num_frames")
PROBE_SIZES = ("probe_num_layers", "probe_num_heads")
WIDTHS = ("feature_dim", "intermediate_dim", "recognizer_feature_dim", "head_feature_dim")
SHARES = ("head_dropout", "classifier_dropout", "feature_dropout")
FLAGS = (
    "standardize_features",
    "classify_last_frame",
    "recognizes_frames",
    "classify_past",
    "use_class_mappings",
    "use_predictor",
)
WEIGHTS = ("past_loss_weight", "feature_loss_weight", "frame_loss_weight", "future_loss_weight", "initializer_range")
OUT_OF_RANGE = {
    **dict.fromkeys(
        (*HEAD_SIZES, *PROBE_SIZES, *WIDTHS, "clip_num_frames", "num_future_actions"),
        (0, -1, "4", 4.0, True, [4], float("inf"), 10**9),
    ),
    **dict.fromkeys(SHARES, (-0.1, 1, 1.5, "0.1", True, None, float("nan"))),
    **dict.fromkeys(
        ("frame_rate", "tau_o", "clip_frame_rate"),
        (0, -1.0, float("inf"), float("nan"), "1", True, None, [1.0], 10**400),
    ),
    "tau_a": (-0.5, float("inf"), float("nan"), "1", False, None),
    **dict.fromkeys(FLAGS, (0, 1, "true", None)),
    **dict.fromkeys(WEIGHTS, (-0.1, float("inf"), float("nan"), "1", True, None)),
    "head_type": (None, 1, "gpt2"),
    "past_loss_normalizer": (None, 1, "mean"),
    "label_types": ("action", [1], None),
    "reader": ("reader", [1]),
    "calibration": (1.5, [1], {"threshhold": 0.5}),
    "feature_encoder": ("vit", [1]),
}


def test_every_field_has_a_rule():
    """A new field needs a rule, and test cases of refused values."""
    labels = {"id2label", "label2id", "num_labels", "verb_id2label", "noun_id2label", "action_to_verb_noun"}
    own = set(inspect.signature(AVTConfig.__init__).parameters) - {"self", "kwargs"}
    assert own == set(FIELD_RULES)
    assert set(FIELD_RULES) == set(OUT_OF_RANGE) | labels | {"backbone_config"}


@pytest.mark.parametrize("field", OUT_OF_RANGE)
def test_what_is_out_of_range_is_refused_by_name_wherever_it_is_set(field, tmp_path):
    config = tiny_config()
    config.save_pretrained(tmp_path)
    written = json.loads((tmp_path / "config.json").read_text())
    for value in OUT_OF_RANGE[field]:
        for set_field in (
            lambda value=value: tiny_config(**{field: value}),
            lambda value=value: setattr(config, field, value),
            lambda value=value: AVTConfig.from_pretrained(tmp_path, **{field: value}),
            lambda value=value: AVTConfig.from_dict({**written, field: value}),
        ):
            with pytest.raises(ValueError, match=f"^{field} is .*: give [^\n]*\\.$"):
                set_field()


def test_a_file_with_a_value_out_of_range_is_refused(tmp_path):
    tiny_model().save_pretrained(tmp_path)
    written = (tmp_path / "config.json").read_text()
    for value in ("Infinity", "1e400", "1000000000", "0", "true", '"4"'):
        (tmp_path / "config.json").write_text(written.replace('"num_frames": 4', f'"num_frames": {value}'))
        with pytest.raises(ValueError, match=r"^num_frames is .*: give a whole number from 1 to 65536"):
            AVTForAnticipation.from_pretrained(tmp_path)


def test_transformers_names_of_fields_have_the_same_rules():
    config = tiny_config()
    for name, field in AVTConfig.attribute_map.items():
        with pytest.raises(ValueError, match=f"{field} is 0: give"):
            setattr(config, name, 0)


def test_numpy_and_torch_numbers_are_saved(tmp_path):
    numbers = {"num_frames": np.int64(3), "tau_o": np.float32(3), "head_dropout": torch.tensor(0.25)}
    config = tiny_config(**numbers, classify_past=np.bool_(False), head_num_layers=torch.tensor([1]))
    config.save_pretrained(tmp_path)
    loaded = AVTConfig.from_pretrained(tmp_path)
    assert (loaded.num_frames, loaded.tau_o, loaded.head_dropout) == (3, 3.0, 0.25)
    assert (loaded.classify_past, loaded.head_num_layers) == (False, 1)


def test_what_was_changed_in_place_is_refused_when_a_model_is_built():
    config = tiny_config()
    config.id2label[7] = "fry egg"
    with pytest.raises(ValueError, match="id2label has the ids"):
        AVTForAnticipation(config)


def test_too_many_frames_are_refused_at_once():
    """They once took a minute, and then exhausted memory."""
    message = "num_frames is 1000000000: give a whole number from 1 to 65536"
    for make in (
        lambda: tiny_config(num_frames=10**9),
        lambda: tiny_processor(num_frames=10**9),
        lambda: sample_frame_times(0.0, 10.0, 30.0, 1.0, 10**9),
    ):
        started = time.perf_counter()
        with pytest.raises(ValueError, match=message):
            make()
        assert time.perf_counter() - started < 1


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"size": 0}, "size is 0: give a whole number from 1 to 16384"),
        ({"size": -36}, "size is -36"),
        ({"size": "36"}, "size is '36'"),
        ({"size": 36.5}, "size is 36.5"),
        ({"size": 10**9, "train_size": (10**9, 10**9)}, "size is 1000000000"),
        ({"size": {"height": 36, "width": 36}}, "give a number of pixels, or a dict of them that has shortest_edge"),
        ({"crop_size": {"height": 32}}, "or a dict of them that has width"),
        ({"crop_size": 0}, "crop_size is 0"),
        ({"crop_size": {"height": 32, "width": True}}, "crop_size is True"),
        ({"crop_size": 40}, "larger than the smallest short side, 36"),
        ({"train_size": 36}, "train_size is 36: give 2 numbers"),
        ({"train_size": (36, 38, 40)}, "give 2 numbers"),
        ({"train_size": (40, 36)}, "give the smallest short side first"),
        ({"train_size": (36, 40.0)}, "train_size is 40.0"),
        ({"flip_probability": 1.5}, "flip_probability is 1.5: give a finite number, 0 or more and at most 1"),
        ({"image_mean": (0.5, 0.5)}, r"image_mean is \(0.5, 0.5\): give 3 numbers"),
        ({"image_mean": 0.5}, "image_mean is 0.5: give 3 numbers"),
        ({"image_std": (0.5, 0.5, 0.5, 0.5)}, "image_std is .*: give 3 numbers"),
        ({"image_std": (0.5, 0.5, float("nan"))}, "image_std is nan"),
        ({"antialias": "no"}, "antialias is 'no': give True or False"),
        ({"frame_rate": float("inf")}, "frame_rate is inf"),
        ({"frame_rate": 0}, "frame_rate is 0"),
        ({"tau_o": float("nan")}, "tau_o is nan"),
        ({"num_frames": 4.0}, "num_frames is 4.0"),
    ],
    ids=str,
)
def test_a_processors_settings_out_of_range_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        tiny_processor(**options)
    with pytest.raises(ValueError, match=message):
        AVTVideoProcessor.from_dict({**tiny_processor().to_dict(), **options})


def test_a_processor_of_numpy_numbers_is_saved(tmp_path):
    sides = np.array([36, 40])
    tiny_processor(size=sides[0], train_size=sides, image_mean=np.full(3, 0.5)).save_pretrained(tmp_path)
    loaded = AVTVideoProcessor.from_pretrained(tmp_path)
    assert (loaded.size, loaded.train_size, loaded.image_mean) == ({"shortest_edge": 36}, [36, 40], [0.5, 0.5, 0.5])

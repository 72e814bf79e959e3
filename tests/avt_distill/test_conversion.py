"""Converting original checkpoints: what is inferred, required or refused. Outputs are tested in tests/parity."""

import logging

import pytest
import torch
from helpers.tiny_models import tiny_config

from avt_distill.conversion import convert_avt_checkpoint, read_experiment_config

EXPERIMENT = """
train.train_one_epoch_fn.loss_wts.feat=2.0
train.train_one_epoch_fn.loss_wts.past_cls_action=0.1
train.batch_size=3  # a comment
# model.dropout=0.9
model/backbone=avt_b
model.dropout=0.8
+model.future_predictor.n_head=8
+model.future_predictor.future_pred_loss={_target_: torch.nn.MSELoss}
model.classifier_on_past=true
data_train.num_frames=12
data_train.frame_rate=2
data_eval.num_frames=${data_train.num_frames}
dataset_eval.conv_to_anticipate_fn.tau_a=0.5
dataset_eval.conv_to_anticipate_fn.tau_o=6
dataset.egtea.common.label_type=[verb,noun,action]
~dataset_train.reader_fn
"""


def original_state(
    num_actions: int = 5, width: int = 12, hidden: int = 32, num_layers: int = 2
) -> dict[str, torch.Tensor]:
    """Returns random weights of a model of features, under the original's names."""
    generator = torch.Generator().manual_seed(0)

    def draw(*shape):
        return torch.randn(*shape, generator=generator)

    state = {
        "cls_map_verb_action": torch.eye(2)[[0, 0, 1, 1, 1]][:num_actions],
        "cls_map_noun_action": torch.eye(3)[[0, 1, 0, 1, 2]][:num_actions],
        "future_predictor.encoder.weight": draw(hidden, width),
        "future_predictor.decoder.weight": draw(width, hidden),
        "future_predictor.gpt_model.wpe.weight": draw(16, hidden),
        "future_predictor.gpt_model.ln_f.weight": draw(hidden),
        "future_predictor.gpt_model.ln_f.bias": draw(hidden),
        "classifiers.action.weight": draw(num_actions, width),
        "classifiers.action.bias": draw(num_actions),
    }
    shapes = {
        "ln_1": (hidden,),
        "ln_2": (hidden,),
        "attn.c_attn": (hidden, 3 * hidden),
        "attn.c_proj": (hidden, hidden),
        "mlp.c_fc": (hidden, 4 * hidden),
        "mlp.c_proj": (4 * hidden, hidden),
    }
    for layer in range(num_layers):
        prefix = f"future_predictor.gpt_model.h.{layer}"
        for name, shape in shapes.items():
            state[f"{prefix}.{name}.weight"] = draw(*shape)
            state[f"{prefix}.{name}.bias"] = draw(shape[-1])
        state[f"{prefix}.attn.bias"] = torch.ones(1, 1, 16, 16).tril().byte()
        state[f"{prefix}.attn.masked_bias"] = torch.tensor(-1e4)
    return state


@pytest.fixture
def convert(tmp_path):
    def run(state=None, **arguments):
        path = tmp_path / "checkpoint.pth"
        torch.save({"model": original_state() if state is None else state, "epoch": 1}, path)
        return convert_avt_checkpoint(path, **arguments)

    return run


def test_dimensions_are_read_off_the_weights(convert):
    config = convert(config_overrides={"head_num_heads": 4}).config
    expected = tiny_config()
    for name in ("feature_dim", "intermediate_dim", "head_hidden_size", "head_num_layers", "head_num_positions"):
        assert getattr(config, name) == getattr(expected, name), name
    assert config.backbone_config is None
    assert config.num_labels == 5
    assert config.label_types == ["action"]
    assert config.action_to_verb_noun == [[0, 0], [0, 1], [1, 0], [1, 1], [1, 2]]
    assert config.past_loss_normalizer == "all"


def test_settings_that_the_weights_do_not_determine_are_reported(convert, caplog):
    with caplog.at_level(logging.WARNING, logger="avt_distill.conversion"):
        convert(config_overrides={"head_num_heads": 4, "tau_a": 0.5})
    assert "frame_rate=1.0" in caplog.text
    assert "tau_a" not in caplog.text


def test_head_counts_are_not_guessed(convert):
    with pytest.raises(ValueError, match="number of attention heads cannot be inferred from the weights: give"):
        convert()
    state = original_state()
    state |= {
        "backbone.model.cls_token": torch.zeros(1, 1, 12),
        "backbone.model.pos_embed": torch.zeros(1, 5, 12),
        "backbone.model.patch_embed.proj.weight": torch.zeros(12, 3, 8, 8),
    }
    with pytest.raises(ValueError, match="backbone's attention heads cannot be inferred from the weights"):
        convert(state, config_overrides={"head_num_heads": 4})


def test_every_unknown_key_is_listed(convert):
    state = original_state() | {"regression_head.weight": torch.zeros(1), "backbone.model.head.bias": torch.zeros(1)}
    with pytest.raises(
        ValueError, match=r"2 keys that are not part of AVT .*: regression_head.weight, backbone.model.head"
    ):
        convert(state, config_overrides={"head_num_heads": 4})


def test_missing_weights_are_listed(convert):
    state = original_state()
    del state["future_predictor.gpt_model.h.1.mlp.c_fc.bias"]
    with pytest.raises(ValueError, match=r"are missing: avt\.head\.h\.1\.mlp\.c_fc\.bias"):
        convert(state, config_overrides={"head_num_heads": 4})
    del state["classifiers.action.weight"]
    with pytest.raises(ValueError, match=r"is not an AVT checkpoint: it lacks classifiers\.action\.weight"):
        convert(state, config_overrides={"head_num_heads": 4})


def test_overrides_that_contradict_the_weights_are_refused(convert):
    with pytest.raises(ValueError, match="say head_num_layers=6, but the weights have 2"):
        convert(config_overrides={"head_num_heads": 4, "head_num_layers": 6})
    with pytest.raises(ValueError, match="5 action classes, but there are 3 action names: give one name per class"):
        convert(config_overrides={"head_num_heads": 4, "id2label": dict(enumerate("abc")), "action_to_verb_noun": None})


def test_label_names_are_taken_over(convert):
    names = dict(enumerate(["cut egg", "cut oil", "mix egg", "mix oil", "mix flour"]))
    config = convert(
        config_overrides={"head_num_heads": 4, "id2label": names, "verb_id2label": {0: "cut", 1: "mix"}}
    ).config
    assert config.id2label == names
    assert config.verb_id2label == {0: "cut", 1: "mix"}


def test_verb_and_noun_scores_follow_the_class_maps_where_they_have_no_classifiers(convert):
    overrides = {"head_num_heads": 4, "label_types": ["action", "verb", "noun"]}
    model = convert(config_overrides=overrides)
    assert model.config.use_class_mappings
    outputs = model(video_features=torch.randn(2, 4, 12))
    torch.testing.assert_close(outputs.verb_logits[:, 0], outputs.logits[:, :2].sum(1))


def test_experiment_file_gives_what_the_weights_do_not_show(tmp_path, convert):
    path = tmp_path / "experiment.txt"
    path.write_text(EXPERIMENT)
    assert read_experiment_config(path) == {
        "head_num_heads": 8,
        "classifier_dropout": 0.8,
        "classify_past": True,
        "past_loss_weight": 0.1,
        "feature_loss_weight": 2.0,
        "num_frames": 12,
        "frame_rate": 2,
        "tau_a": 0.5,
        "tau_o": 6,
        "label_types": ["verb", "noun", "action"],
        "backbone_num_attention_heads": 12,
    }
    config = convert(experiment_config=path, config_overrides={"label_types": ["action"], "tau_a": 2.0}).config
    assert (config.head_num_heads, config.tau_a, config.frame_rate, config.past_loss_weight) == (8, 2.0, 2, 0.1)


def test_unset_options_of_experiment_files_are_the_reference_defaults(tmp_path):
    path = tmp_path / "experiment.txt"
    path.write_text("+model.future_predictor.n_head=4\n")
    fields = read_experiment_config(path)
    assert (fields["classify_past"], fields["classifier_dropout"], fields["past_loss_weight"]) == (False, 0.0, 0.0)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("model.dropout", "line 1: 'model.dropout' is not of the form key=value"),
        ("model.dropout=0.2,0.8", "is a sweep"),
    ],
)
def test_experiment_files_that_cannot_be_read(tmp_path, line, message):
    path = tmp_path / "experiment.txt"
    path.write_text(line)
    with pytest.raises(ValueError, match=message):
        read_experiment_config(path)


def test_files_that_are_not_checkpoints_are_refused(tmp_path):
    path = tmp_path / "checkpoint.pth"
    path.write_bytes(b"PK\x03\x04 cut off")
    with pytest.raises(ValueError, match="cannot be read as a PyTorch checkpoint"):
        convert_avt_checkpoint(path)
    torch.save([1, 2], path)
    with pytest.raises(ValueError, match="has no 'model' entry"):
        convert_avt_checkpoint(path)
    torch.save({"model": tiny_config}, path)  # a function: would have to be unpickled
    with pytest.raises(ValueError, match="cannot be read as a PyTorch checkpoint of plain tensors"):
        convert_avt_checkpoint(path)

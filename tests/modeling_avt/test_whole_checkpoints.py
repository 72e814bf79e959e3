"""A checkpoint with missing or unexpected weights is refused in every way to load it; complete ones load."""

import json
import re

import pytest
import torch
from helpers.checkpoints import added, change_weights, cut_off, prefixed, without
from helpers.readers import reading_model
from helpers.tiny_models import tiny_encoder_config, tiny_model, tiny_vit_config
from safetensors.torch import load_file
from transformers import AutoModel, pipeline

from modeling_avt import AVTConfig, AVTForAnticipation, AVTModel

STUDENTS = {"frames": lambda: tiny_model(tiny_vit_config()), "features": tiny_model, "reader": reading_model}
# Changes of the weights, and the resulting error.
NOT_WHOLE = {
    "no classifier": (without("classifiers."), r"lacks 2 weights of AVTForAnticipation, such as 'classifiers\.act"),
    "no layer": (without("avt.head.h.1."), r"lacks 12 weights .* 'avt\.head\.h\.1\.attn\.c_attn\.bias', .*be random"),
    "no encoder": (without("avt.encoder"), r"lacks 1 weight of .*'avt\.encoder\.weight', which would be random: give"),
    "wrapped": (prefixed("module."), r"such as 'module\..*: it was saved from DistributedDataParallel .* model\.modul"),
    "compiled": (prefixed("_orig_mod."), r"saved from torch\.compile: save model\._orig_mod"),
    "within another": (prefixed("student."), "it was saved from what wraps the model: save the model itself"),
    "more": (added({"extra.weight": torch.zeros(2)}), r"holds 1 weight that AVTForAnticipation does not have, such"),
    "deeper": (
        added({"avt.head.h.2.ln_1.weight": torch.zeros(32)}),
        r"does not have, such as 'avt\.head\.h\.2\.ln_1\.",
    ),
}


@pytest.fixture
def checkpoint(tmp_path):
    """Returns a function that writes a student's checkpoint with changed weights, and returns its folder."""

    def write(kind: str, change=lambda weights: weights):
        STUDENTS[kind]().save_pretrained(tmp_path / kind)
        return change_weights(tmp_path / kind, change)

    return write


@pytest.mark.parametrize("name", NOT_WHOLE)
@pytest.mark.parametrize("kind", STUDENTS)
def test_checkpoints_that_are_not_whole_are_refused(checkpoint, kind, name):
    change, message = NOT_WHOLE[name]
    folder = checkpoint(kind, change)
    with pytest.raises(ValueError, match=rf"'{folder}' .*{message}"):
        AVTForAnticipation.from_pretrained(folder)


def test_missing_optional_parts_are_refused_too(checkpoint):
    for kind, part in (("frames", "avt.backbone."), ("reader", "recognizer."), ("reader", "reader.transitions.")):
        with pytest.raises(ValueError, match=rf"lacks \d+ weights of AVTForAnticipation, such as '{re.escape(part)}"):
            AVTForAnticipation.from_pretrained(checkpoint(kind, without(part)))


def test_transformers_own_ways_to_load_refuse_them_too(checkpoint):
    folder = checkpoint("features", without("classifiers."))
    with pytest.raises(ValueError, match="lacks 2 weights of AVTForAnticipation"):
        AutoModel.from_pretrained(folder, trust_remote_code=True)
    with pytest.raises(ValueError, match="lacks 2 weights of AVTForAnticipation"):  # transformers quotes it
        pipeline("action-anticipation", model=str(folder), trust_remote_code=True)


def test_loading_info_is_returned_without_an_error(checkpoint):
    folder = checkpoint("features", without("classifiers."))
    model, report = AVTForAnticipation.from_pretrained(folder, output_loading_info=True)
    assert sorted(report["missing_keys"]) == ["classifiers.action.bias", "classifiers.action.weight"]
    assert isinstance(model, AVTForAnticipation)


def test_a_model_without_classifiers_loads_a_checkpoint_without_them(checkpoint):
    folder = checkpoint("frames")
    AVTModel.from_pretrained(folder).save_pretrained(folder / "base")
    AVTModel.from_pretrained(folder / "base")
    AVTModel.from_pretrained(checkpoint("reader"))
    with pytest.raises(ValueError, match="lacks 2 weights of AVTForAnticipation"):
        AVTForAnticipation.from_pretrained(folder / "base")
    change_weights(folder, without("avt.head.h.1."))
    with pytest.raises(ValueError, match=r"lacks 12 weights of AVTModel, such as 'head\.h\.1"):
        AVTModel.from_pretrained(folder)


def test_a_reader_is_left_out_only_on_request(checkpoint):
    folder = checkpoint("reader")
    assert AVTForAnticipation.from_pretrained(folder).reader is not None
    assert AVTForAnticipation.from_pretrained(folder, reader=None).reader is None
    assert AutoModel.from_pretrained(folder, trust_remote_code=True, reader=None).reader is None
    config = AVTConfig.from_pretrained(folder)
    config.reader = None
    assert AVTForAnticipation.from_pretrained(folder, config=config).reader is None
    fields = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**fields, "reader": None}))
    with pytest.raises(ValueError, match=r"holds \d weights .* does not have, such as 'reader\."):
        AVTForAnticipation.from_pretrained(folder)


def test_other_labels_draw_new_classifiers_where_that_is_asked_for(checkpoint):
    folder, labels = checkpoint("features"), {0: "cut", 1: "mix"}
    with pytest.raises(ValueError, match=r"label maps must have as many classes .* ignore_mismatched_sizes=True"):
        AVTForAnticipation.from_pretrained(folder, id2label=labels)
    model = AVTForAnticipation.from_pretrained(folder, id2label=labels, ignore_mismatched_sizes=True)
    assert model.classifiers["action"].out_features == 2
    change_weights(folder, without("avt.head.h.1."))
    with pytest.raises(ValueError, match="lacks 12 weights"):
        AVTForAnticipation.from_pretrained(folder, id2label=labels, ignore_mismatched_sizes=True)


def test_weights_under_the_backbones_older_and_newer_names_are_whole(checkpoint):
    folder = checkpoint("frames")
    assert any("backbone.encoder.layer.0" in name for name in load_file(folder / "model.safetensors"))
    model = AVTForAnticipation.from_pretrained(folder)
    newer = {name: value.clone() for name, value in model.state_dict().items()}
    assert any("backbone.layers.0" in name for name in newer)
    again = AVTForAnticipation.from_pretrained(change_weights(folder, lambda older: newer))
    assert all(again.state_dict()[name].equal(value) for name, value in newer.items())


def test_releases_that_do_not_read_videomaes_biases_are_named(tmp_path):
    """How transformers 5.6 to 5.17 load a VideoMAE checkpoint."""
    tiny_model(tiny_encoder_config("videomae")).save_pretrained(tmp_path)
    change_weights(
        tmp_path,
        lambda weights: {
            name.replace("attention.q_bias", "unread.q_bias"): value.clone() for name, value in weights.items()
        },
    )
    with pytest.raises(ValueError, match=r"transformers 5\.6 to 5\.17 do not read VideoMAE's attention biases, so use"):
        AVTForAnticipation.from_pretrained(tmp_path)


@pytest.mark.parametrize("share", [0.0, 0.001, 0.5, 0.99])
def test_a_file_that_was_cut_off_is_named(checkpoint, share):
    folder = cut_off(checkpoint("frames"), share)
    with pytest.raises(OSError, match=rf"The weights of {folder} cannot be read \(model\.safetensors: .*Fetch it"):
        AVTForAnticipation.from_pretrained(folder)


def test_a_cut_off_file_among_several_is_named(tmp_path):
    model = tiny_model(tiny_vit_config())
    model.save_pretrained(tmp_path, max_shard_size="60KB")
    AVTForAnticipation.from_pretrained(tmp_path)
    name = sorted(path.name for path in tmp_path.glob("*.safetensors"))[1]
    with pytest.raises(OSError, match=re.escape(name)):
        AVTForAnticipation.from_pretrained(cut_off(tmp_path, 0.9, name))


def test_a_cut_off_file_of_pytorch_is_named(checkpoint):
    folder = checkpoint("features")
    torch.save(load_file(folder / "model.safetensors"), folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()
    AVTForAnticipation.from_pretrained(folder)
    with pytest.raises(OSError, match=r"cannot be read \(pytorch_model\.bin: "):
        AVTForAnticipation.from_pretrained(cut_off(folder, 0.5, "pytorch_model.bin"))

"""Students: what options build, their inputs, and their initial weights."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers.readers import reading_model
from helpers.tiny_models import tiny_config, tiny_encoder, tiny_model, tiny_vit_config
from tiny_kitchen import ACTIONS, WIDTH, kitchen_builder, write_kitchen, write_tiny_vit, write_video_kitchen
from transformers import AutoModel

from avt_distill.data.collator import FeatureCollator
from avt_distill.student.building import StudentArguments, build_student, check_as_it_is, student_input
from avt_distill.student.training import labelled
from modeling_avt import AVTForAnticipation, AVTVideoProcessor

HEAD = {"head_hidden_size": 32, "head_num_layers": 2, "head_num_positions": 16}


@pytest.fixture(scope="module")
def kitchen(tmp_path_factory):
    return write_kitchen(tmp_path_factory.mktemp("kitchen") / "data")


@pytest.fixture(scope="module")
def video_kitchen(tmp_path_factory):
    return write_video_kitchen(tmp_path_factory.mktemp("video_kitchen") / "data")


@pytest.fixture(scope="module")
def vit(tmp_path_factory):
    return str(write_tiny_vit(tmp_path_factory.mktemp("vit")))


def build(args: StudentArguments, builder) -> AVTForAnticipation:
    torch.manual_seed(1)
    return build_student(args, builder, student_input(args, builder))


def of_features(kitchen, **options) -> StudentArguments:
    return StudentArguments(**{"features": str(kitchen / "features"), "model_options": HEAD, **options})


def same_weights(one: torch.nn.Module, other: torch.nn.Module) -> dict[str, bool]:
    own, others = one.state_dict(), other.state_dict()
    assert own.keys() == others.keys()
    return {name: own[name].shape == others[name].shape and own[name].equal(others[name]) for name in own}


def test_labels_and_times_of_a_student_are_the_data_sets(kitchen):
    config = build(of_features(kitchen), kitchen_builder(kitchen, tau_a=0.5)).config
    assert tuple(config.id2label.values()) == ACTIONS
    assert (config.num_frames, config.frame_rate, config.tau_a, config.tau_o) == (4, 1.0, 0.5, 4.0)
    assert (config.backbone_config, config.feature_dim) == (None, WIDTH)


def test_model_options_are_fields_of_the_configuration(kitchen):
    args = of_features(kitchen, model_options='{"head_num_layers": 1, "classify_past": false}')
    model = build(args, kitchen_builder(kitchen))
    assert len(model.avt.head.h) == 1
    assert not model.config.classify_past


@pytest.mark.parametrize(
    ("options", "width"),
    [
        ({}, WIDTH),
        ({"head_num_heads": 5}, 15),  # the number of heads once had to divide 2,048
        ({"intermediate_dim": 8}, 8),
        ({"head_feature_dim": 6}, 8),
        ({"head_feature_dim": 6, "intermediate_dim": 16}, 16),
        ({"head_hidden_size": 64, "intermediate_dim": 8}, 64),
    ],
    ids=str,
)
def test_a_head_is_as_wide_as_what_it_reads_unless_its_width_is_given(kitchen, options, width):
    """The width once was always 2,048: 1.2 GB for an encoder of width 32."""
    args = of_features(kitchen, model_options={"head_num_layers": 1, **options})
    model = build(args, kitchen_builder(kitchen))
    assert model.config.head_hidden_size == model.avt.head.wpe.embedding_dim == width


def test_a_head_is_as_wide_as_its_pretrained_encoder(video_kitchen, vit):
    model = build(StudentArguments(backbone=vit), kitchen_builder(video_kitchen))
    assert model.config.head_hidden_size == model.config.feature_dim == 32
    assert model.num_parameters() < 200_000


def test_a_student_of_features_reads_them(kitchen):
    builder = kitchen_builder(kitchen)
    seen = student_input(of_features(kitchen), builder)
    for training in (True, False):
        collator = seen.collator(training=training)
        assert isinstance(collator, FeatureCollator)
        assert collator(builder.rows("train").head(3).to_dict("records"))["video_features"].shape == (3, 4, WIDTH)


def test_a_student_of_videos_begins_with_its_backbones_weights(video_kitchen, vit):
    builder = kitchen_builder(video_kitchen)
    model = build(StudentArguments(backbone=vit, model_options=HEAD), builder)
    expected = AVTForAnticipation(tiny_vit_config()).avt.backbone.from_pretrained(vit, add_pooling_layer=False)
    assert all(same_weights(model.avt.backbone, expected).values())
    assert model.config.backbone_config.image_size == 32


def test_evaluation_has_six_views_and_training_one(video_kitchen, vit):
    args = StudentArguments(
        backbone=vit, evaluation_crops=3, evaluation_flips=True, processor_options={"size": 40, "train_size": [33, 36]}
    )
    builder = kitchen_builder(video_kitchen)
    seen = student_input(args, builder)
    assert (seen.processor.size, seen.processor.train_size) == ({"shortest_edge": 40}, [33, 36])
    assert seen.processor.crop_size == {"height": 32, "width": 32}
    assert (seen.processor.num_frames, seen.processor.tau_o) == (4, 4.0)
    rows = builder.rows("train").to_dict("records")
    assert seen.collator(training=True)(rows)["pixel_values_videos"].shape == (2, 4, 3, 32, 32)
    views = seen.collator(training=False)(rows)["pixel_values_videos"]
    assert views.shape == (2, 6, 4, 3, 32, 32)
    torch.testing.assert_close(views[:, 3:], views[:, :3].flip(-1))
    assert not views[:, 0].equal(views[:, 2])


def test_a_frozen_backbone_is_not_trained_and_all_else_is(video_kitchen, vit):
    builder = kitchen_builder(video_kitchen)
    free = build(StudentArguments(backbone=vit, model_options=HEAD), builder)
    frozen = build(StudentArguments(backbone=vit, model_options=HEAD, freeze_backbone=True), builder)
    assert not any(weight.requires_grad for weight in frozen.avt.backbone.parameters())
    assert free.num_parameters(only_trainable=True) == free.num_parameters()
    assert frozen.num_parameters(only_trainable=True) == free.num_parameters() - free.avt.backbone.num_parameters()


@pytest.fixture
def checkpoint(tmp_path, kitchen) -> AVTForAnticipation:
    """A student of the kitchen's labels, trained under another time contract and saved in `tmp_path`."""
    model = tiny_model(tiny_config(id2label=dict(enumerate(ACTIONS)), tau_a=2.0))
    model.save_pretrained(tmp_path / "checkpoint")
    return model


def from_checkpoint(tmp_path, kitchen, **options) -> StudentArguments:
    path = str(tmp_path / "checkpoint")
    return of_features(kitchen, model_options=None, model_name_or_path=path, **options)


def test_a_checkpoint_of_the_same_labels_keeps_all_weights(tmp_path, kitchen, checkpoint):
    model = build(from_checkpoint(tmp_path, kitchen), kitchen_builder(kitchen))
    assert all(same_weights(model, checkpoint).values())
    assert model.config.tau_a == 1.0


@pytest.mark.parametrize("labels", [("cut", "mix"), ("cut", "mix", "peel", "stir")], ids=["fewer", "as_many"])
def test_a_checkpoint_of_other_labels_gets_new_classifiers(tmp_path, kitchen, labels, caplog):
    """The same number of other labels would fit the old weights, which belong to other actions."""
    other = tiny_model(tiny_config(id2label=dict(enumerate(labels))))
    other.classifiers["action"].bias.data.fill_(7.0)
    other.save_pretrained(tmp_path / "checkpoint")
    model = build(from_checkpoint(tmp_path, kitchen), kitchen_builder(kitchen))
    changed = {name for name, same in same_weights(model, other).items() if not same}
    assert changed == {"classifiers.action.weight", "classifiers.action.bias"}
    assert model.classifiers["action"].weight.shape == (4, WIDTH)
    assert model.classifiers["action"].weight.std() > 0.1  # initialized as configured, not empty or zero
    assert (model.classifiers["action"].bias == 0).all()
    assert tuple(model.config.id2label.values()) == ACTIONS
    assert model.config.label2id["take_egg"] == 2
    assert "its classifiers are reinitialized" in caplog.text


def test_a_checkpoints_backbone_can_be_frozen_too(tmp_path, video_kitchen):
    """The option once had no effect together with model_name_or_path."""
    tiny_model(tiny_vit_config(id2label={0: "cut_tomato", 1: "take_egg"})).save_pretrained(tmp_path)
    AVTVideoProcessor(size=36, crop_size=32, train_size=(36, 40)).save_pretrained(tmp_path)
    args = StudentArguments(model_name_or_path=str(tmp_path), freeze_backbone=True)
    builder = kitchen_builder(video_kitchen)
    assert not any(weight.requires_grad for weight in build(args, builder).avt.backbone.parameters())
    assert student_input(args, builder).processor.size == {"shortest_edge": 36}


def test_rows_without_a_next_action_are_not_measured(kitchen, tmp_path):
    lines = (kitchen / "segments.csv").read_text().splitlines()
    (tmp_path / "segments.csv").write_text("\n".join([*lines[:-1], "v7,24,26,,validation"]) + "\n")
    builder = kitchen_builder(tmp_path)
    builder.download_and_prepare()
    rows = builder.as_dataset("validation")
    assert (len(rows), len(labelled(rows))) == (12, 11)
    assert (np.asarray(labelled(rows)["action"]) >= 0).all()


OTHER_LABELS = {str(index): name for index, name in enumerate(("cut", "mix", "peel", "stir"))}


@pytest.mark.parametrize(
    ("name", "value", "decided"),
    [
        ("tau_a", 0.5, "but the data set has 1.0: leave it out or set --tau_a"),
        ("tau_o", 5, "but the data set has 4.0: leave it out or set --tau_o"),
        ("frame_rate", 2.0, "but the data set has 1.0: leave it out or set --frame_rate"),
        ("num_frames", 8, "but the data set has 4: leave it out or set --num_frames"),
        ("num_labels", 7, "but the data set has 4: leave it out"),
        ("id2label", OTHER_LABELS, "but the data set has {0: 'cut_tomato'"),
        ("id2label", {"0": "cut_tomato"}, "but the data set has {0: 'cut_tomato'"),
        ("label2id", {name: index for index, name in OTHER_LABELS.items()}, "but the data set has {'cut_tomato': 0"),
        ("verb_id2label", {0: "cut"}, "but the data set has None"),
        ("noun_id2label", {0: "egg"}, "but the data set has None"),
        ("action_to_verb_noun", [[0, 0]] * 4, "but the data set has None"),
        ("feature_dim", 8, f"but the feature store has {WIDTH}"),
        ("backbone_config", {"model_type": "vit"}, "but the feature store has None"),
    ],
    ids=str,
)
def test_model_options_that_contradict_the_data_are_refused_by_name(kitchen, name, value, decided):
    args, builder = of_features(kitchen, model_options={**HEAD, name: value}), kitchen_builder(kitchen)
    with pytest.raises(ValueError, match=rf"^model_options sets {name} to .*") as error:
        student_input(args, builder)
    assert decided in str(error.value)
    seen = student_input(of_features(kitchen), builder)
    with pytest.raises(ValueError, match=rf"^model_options sets {name} to .*"):
        build_student(args, builder, seen)


@pytest.mark.parametrize("name", ["tau_a", "tau_o", "frame_rate"])
def test_times_that_are_nan_are_refused(kitchen, name):
    with pytest.raises(ValueError, match=f"{name} is nan: give a finite number"):
        build(of_features(kitchen, model_options={name: float("nan")}), kitchen_builder(kitchen))


def test_model_options_may_repeat_the_data_set(kitchen):
    labels = {str(index): name for index, name in enumerate(ACTIONS)}
    same = {"tau_a": 1, "num_frames": 4, "num_labels": 4, "id2label": labels, "feature_dim": WIDTH}
    config = build(of_features(kitchen, model_options={**HEAD, **same}), kitchen_builder(kitchen)).config
    assert (config.tau_a, config.num_labels, config.id2label) == (1.0, 4, dict(enumerate(ACTIONS)))


def test_model_options_that_contradict_other_options_are_refused(kitchen, video_kitchen, vit):
    args = of_features(kitchen, start_from_probe=True, model_options={**HEAD, "classify_last_frame": False})
    with pytest.raises(ValueError, match="classify_last_frame to False, but the option start_from_probe has True"):
        build(args, kitchen_builder(kitchen))
    args = StudentArguments(backbone=vit, model_options={**HEAD, "backbone_config": {"model_type": "vit"}})
    with pytest.raises(ValueError, match=r"model_options sets backbone_config to .* but the option backbone has"):
        build(args, kitchen_builder(video_kitchen))


def test_processor_options_that_contradict_the_data_set_are_refused(video_kitchen, vit):
    """Such options once had no effect."""
    for name, value in {"num_frames": 8, "frame_rate": 2.0, "tau_o": 1.0}.items():
        args = StudentArguments(backbone=vit, processor_options={name: value})
        with pytest.raises(ValueError, match=f"processor_options sets {name} to {value}, but the data set has"):
            student_input(args, kitchen_builder(video_kitchen))


@pytest.mark.parametrize("name", ["sise", "crop", "kwargs", "auto_map"])
def test_processor_options_that_do_not_exist_are_refused(video_kitchen, vit, name):
    """Such options once had no effect."""
    args = StudentArguments(backbone=vit, processor_options={"size": 40, name: 56})
    with pytest.raises(ValueError, match=f"processor_options has '{name}', which is not a field of AVTVideoProcessor"):
        student_input(args, kitchen_builder(video_kitchen))


def video_student(tmp_path, kind: str, processor: dict | None = None, **model) -> StudentArguments:
    AutoModel.from_config(tiny_encoder(kind)).save_pretrained(tmp_path / kind)
    crop = {"size": 36, "crop_size": 32, "train_size": [36, 36], **(processor or {})}
    return StudentArguments(backbone=str(tmp_path / kind), processor_options=crop, model_options=model)


def test_the_processor_samples_the_clips_that_the_student_sees(video_kitchen, tmp_path):
    args = video_student(
        tmp_path, "vjepa2", clip_num_frames=8, clip_frame_rate=4.0, head_type="probe", probe_num_heads=4
    )
    processor = student_input(args, kitchen_builder(video_kitchen)).processor
    assert (processor.clip_num_frames, processor.clip_frame_rate) == (8, 4.0)
    model = build(args, kitchen_builder(video_kitchen))
    assert (model.config.clip_num_frames, model.config.clip_frame_rate) == (8, 4.0)


@pytest.mark.parametrize(
    ("kind", "processor", "model", "message"),
    [
        ("vjepa2", {"size": 40, "crop_size": 40, "train_size": [40, 40]}, {}, "has positions for 32 x 32"),
        ("videomae", {}, {"clip_num_frames": 8}, "this 'videomae' sees clips of 4"),
        ("vjepa2", {}, {"clip_num_frames": 5}, "joins 2 frames into one, so give a multiple of 2"),
        ("videomae", {"clip_num_frames": 2}, {}, "processor_options sets clip_num_frames to 2, but the student has 4"),
        ("vit", {}, {"use_predictor": True}, "has no predictor: only V-JEPA 2 has one"),
    ],
)
def test_clips_and_crops_that_do_not_fit_are_refused_before_training(
    video_kitchen, tmp_path, kind, processor, model, message
):
    with pytest.raises(ValueError, match=message):
        build(video_student(tmp_path, kind, processor, **model), kitchen_builder(video_kitchen))


def test_a_video_model_at_the_references_moments_is_refused(video_kitchen, tmp_path):
    with pytest.raises(ValueError, match=r"protocol is 'avt', which .* a video model needs --protocol exact"):
        build(video_student(tmp_path, "videomae"), kitchen_builder(video_kitchen, protocol="avt"))


def test_a_probe_of_stored_features_is_refused(kitchen):
    with pytest.raises(ValueError, match="attends to tokens, and stored features have none: give videos"):
        build(of_features(kitchen, model_options={"head_type": "probe"}), kitchen_builder(kitchen))


def test_training_a_checkpoint_further_at_other_times_is_reported(tmp_path, kitchen, checkpoint, caplog):
    build(from_checkpoint(tmp_path, kitchen), kitchen_builder(kitchen))
    assert "was trained with {'tau_a': 2.0}, and is trained further with {'tau_a': 1.0}" in caplog.text


def test_a_checkpoint_that_is_not_trained_must_be_of_the_data_sets_times_and_labels(tmp_path, kitchen, checkpoint):
    path = str(tmp_path / "checkpoint")
    check_as_it_is(path, kitchen_builder(kitchen, tau_a=2.0))
    message = r"was trained with tau_a=2.0, but the data set has 1.0: give --tau_a 2.0, or train it further"
    with pytest.raises(ValueError, match=message):
        check_as_it_is(path, kitchen_builder(kitchen))
    tiny_model(tiny_config(num_labels=4)).save_pretrained(tmp_path / "other")
    with pytest.raises(ValueError, match="was trained on other actions than the data set's"):
        check_as_it_is(str(tmp_path / "other"), kitchen_builder(kitchen))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"features": "x", "backbone": "y"}, "features and backbone are both given"),
        ({"model_name_or_path": "x", "backbone": "y"}, "a checkpoint has its own"),
        ({"model_name_or_path": "x", "model_options": {"head_num_layers": 1}}, "a checkpoint has its own"),
        ({"model_options": "head_num_layers=1"}, "model_options is 'head_num_layers=1': give a JSON object"),
        ({"processor_options": "[1]"}, r"processor_options is \[1\]: give names and values"),
    ],
)
def test_options_that_contradict_each_other_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        StudentArguments(**options)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"features": None}, "The student has no input"),
        ({"model_options": {"num_layers": 2}}, "model_options has 'num_layers', which is not a field of AVTConfig"),
        ({"model_options": {**HEAD, "head_num_layers": -1}}, "head_num_layers is -1: give a whole number"),
        ({"model_options": {**HEAD, "head_hidden_size": "32"}}, "head_hidden_size is '32': give a whole number"),
        ({"model_options": {**HEAD, "head_feature_dim": "12"}}, "head_feature_dim is '12': give a whole number"),
        ({"freeze_backbone": True}, "has no frame encoder"),
        ({"features": "nowhere"}, "is not a feature store"),
    ],
)
def test_students_that_cannot_be_built_are_refused(kitchen, options, message):
    with pytest.raises(ValueError, match=message):
        build(of_features(kitchen, **options), kitchen_builder(kitchen))


def test_a_checkpoints_reader_is_left_out_of_a_student_that_is_trained_further(kitchen, tmp_path, caplog):
    model = reading_model(feature_dim=WIDTH, num_frames=4, tau_o=4.0)
    model.save_pretrained(tmp_path)
    student = build(
        of_features(kitchen, model_options=None, model_name_or_path=str(tmp_path)), kitchen_builder(kitchen)
    )
    assert student.reader is None
    assert student.config.reader is None
    assert "The reader of" in caplog.text
    assert student.recognizer.out_features == len(ACTIONS) + 1


def with_record(kitchen, place: Path, **changes) -> dict:
    """Copies a kitchen's features, with the record of an encoder, and returns the part of it that a student keeps."""
    shutil.copytree(kitchen / "features", place)
    frames = {"size": {"shortest_edge": 36}, "crop_size": {"height": 32, "width": 32}, "antialias": True}
    record = {
        "model": "/home/me/vit",
        "revision": "0123456789abcdef",
        "dtype": "float32",
        "feature_dim": WIDTH,
        **frames,
    }
    record |= {"image_mean": [0.5] * 3, "image_std": [0.5] * 3, **changes}
    (place / "extraction.json").write_text(json.dumps({**record, "frame_rate": 1.0}))
    return {**record, "model": "vit", "clip_num_frames": None, "clip_frame_rate": None, "predict_ahead_s": None}


def test_a_student_carries_the_encoder_of_its_features(tmp_path, kitchen):
    expected = with_record(kitchen, tmp_path / "store")
    model = build(of_features(kitchen, features=str(tmp_path / "store")), kitchen_builder(kitchen))
    model.save_pretrained(tmp_path / "student")
    assert AVTForAnticipation.from_pretrained(tmp_path / "student").config.feature_encoder == expected
    assert build(of_features(kitchen), kitchen_builder(kitchen)).config.feature_encoder is None


def test_a_student_is_not_trained_further_on_features_of_another_encoder(tmp_path, kitchen):
    expected = with_record(kitchen, tmp_path / "store")
    with_record(kitchen, tmp_path / "same", model="/moved/vit", dtype="bfloat16")
    with_record(kitchen, tmp_path / "other", revision="fedcba9876543210")
    args = of_features(kitchen, features=str(tmp_path / "store"))
    build(args, kitchen_builder(kitchen)).save_pretrained(tmp_path / "student")
    for name in ("same", "other"):
        args = StudentArguments(features=str(tmp_path / name), model_name_or_path=str(tmp_path / "student"))
        if name == "same":
            assert build(args, kitchen_builder(kitchen)).config.feature_encoder == expected
        else:
            with pytest.raises(
                ValueError, match=r"other holds features of another encoder than .*student was trained on"
            ):
                student_input(args, kitchen_builder(kitchen))

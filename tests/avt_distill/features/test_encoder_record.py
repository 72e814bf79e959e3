"""Records of encoders: what they store, compare and share."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
from helpers.encoders import write_encoder
from helpers.tiny_models import tiny_encoder_config, tiny_processor, tiny_vit_config

from avt_distill.features import encoder_record
from avt_distill.features.encoder_record import (
    EncoderRecord,
    encoder_of,
    refuse_other_encoder,
    revision_of,
)
from avt_distill.features.stores import open_feature_store, write_features

COMMIT = "0123456789abcdef0123456789abcdef01234567"


@pytest.fixture
def encoder(tmp_path) -> Path:
    return write_encoder(tmp_path / "models" / "vit", "vit")


@pytest.fixture
def record(encoder) -> EncoderRecord:
    return EncoderRecord.of(encoder, tiny_vit_config(), tiny_processor(), "float32")


def test_a_folder_is_recorded_by_its_content(encoder, record):
    assert (record.model, record.is_of_folder) == (str(encoder), True)
    assert record.revision == revision_of(encoder)
    (encoder / "README.md").write_text("text")
    assert record.revision == revision_of(encoder)
    write_encoder(encoder, "vit", seed=1)
    assert record.revision != revision_of(encoder)


def test_a_model_on_the_hub_is_recorded_by_its_commit(monkeypatch):
    path = f"/cache/models--user--vit/snapshots/{COMMIT}/config.json"
    monkeypatch.setattr(encoder_record, "cached_file", lambda name, file: path)
    record = EncoderRecord.of("user/vit", tiny_vit_config(), tiny_processor(), "float32")
    assert (record.model, record.revision, record.is_of_folder) == ("user/vit", COMMIT, False)
    assert record.to_config()["model"] == "user/vit"


def test_what_is_shared_names_no_path(record):
    shared = record.to_config()
    assert shared["model"] == "vit"
    assert EncoderRecord.from_fields(json.loads(json.dumps(shared)), "x") == replace(record, model="vit")


def test_frames_are_prepared_and_clips_sampled_as_they_were(encoder):
    config = tiny_encoder_config("vjepa2", use_predictor=True, tau_a=0.5)
    made = tiny_processor(antialias=False, image_mean=[0.1, 0.2, 0.3])
    record = EncoderRecord.of(encoder, config, made, "float32")
    assert (record.feature_dim, record.predict_ahead_s) == (64, 0.5)
    processor = record.processor(num_frames=3, frame_rate=2.0, tau_o=1.5)
    assert (processor.size, processor.crop_size, processor.train_size) == (made.size, made.crop_size, [36, 36])
    assert (processor.image_mean, processor.image_std, processor.antialias) == ([0.1, 0.2, 0.3], [0.5] * 3, False)
    assert (processor.clip_num_frames, processor.clip_frame_rate) == (4, 2.0)
    assert (processor.num_frames, processor.frame_rate, processor.tau_o) == (3, 2.0, 1.5)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("revision", "0" * 16),
        ("size", {"shortest_edge": 40}),
        ("image_mean", [0.4, 0.5, 0.5]),
        ("antialias", False),
        ("clip_num_frames", 8),
        ("clip_frame_rate", 4.0),
        ("predict_ahead_s", 1.0),
        ("feature_dim", 64),
    ],
)
def test_another_encoder_is_refused_with_what_differs(record, name, value):
    with pytest.raises(
        ValueError, match=f"^store holds features of another encoder than student .* {name} is "
    ) as error:
        refuse_other_encoder(record, replace(record, **{name: value}), "student", Path("store"))
    assert f"all that differ: {name}." in str(error.value)


@pytest.mark.parametrize("changes", [{"model": "/moved/vit"}, {"dtype": "bfloat16"}, {"revision": None}])
def test_paths_precision_and_unknown_fields_are_not_compared(record, changes):
    refuse_other_encoder(record, replace(record, **changes), "student", Path("store"))
    refuse_other_encoder(replace(record, **changes), record, "student", Path("store"))


def test_stores_of_others_and_of_earlier_versions_record_no_encoder(tmp_path, record):
    write_features(tmp_path / "v0.safetensors", [[1.0, 2.0]], 1.0)
    store = open_feature_store(tmp_path)
    assert encoder_of(store) is None
    path = tmp_path / "extraction.json"
    path.write_text(json.dumps({"model": "vit", "frame_rate": 1.0}))
    assert encoder_of(store) is None
    path.write_text(json.dumps({**record.to_config(), "frame_rate": 1.0}))
    assert encoder_of(store) == replace(record, model="vit")
    path.write_text(json.dumps({"model": "vit", "revision": "abc"}))
    with pytest.raises(ValueError, match=r"extraction\.json lacks dtype, which every record of an encoder has"):
        encoder_of(store)

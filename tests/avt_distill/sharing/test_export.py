"""Exported programs reproduce the scores of the model and of a stream without code of this project."""

import importlib.util
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers.commands import Result, avt_distill, run_command
from helpers.readers import reading_model
from helpers.tiny_models import (
    VERB_NOUN,
    processor_of,
    tiny_config,
    tiny_encoder_config,
    tiny_model,
    tiny_processor,
    tiny_vit_config,
)
from helpers.videos import numbered_frames
from safetensors.torch import load_file

from avt_distill.sharing import export
from avt_distill.sharing.export import FeatureModel, StreamingStep, export_model
from modeling_avt import ActionAnticipationPipeline, AVTForAnticipation
from modeling_avt.configuration_avt import ReaderSettings
from modeling_avt.reader_avt import HistoryReader, pool

HAS_ONNX = all(importlib.util.find_spec(name) for name in ("onnxruntime", "onnxscript"))
# The window is shorter than the head's input: its oldest frames are never observed.
VIDEO = tiny_vit_config(**{**VERB_NOUN, "verb_id2label": {1: "mix", 0: "cut"}}, tau_o=2.0, head_num_layers=1)
CALIBRATION = {"temperature": 4.0, "error_rate": 0.2, "threshold": 0.9, "delta": 0.1}
FEATURES = tiny_config(intermediate_dim=20, head_num_layers=1, calibration=CALIBRATION)


@pytest.fixture(scope="module")
def exported(tmp_path_factory) -> Path:
    """The programs of a model that takes videos, also in ONNX where its packages are installed."""
    folder = tmp_path_factory.mktemp("exported")
    differences = export_model(tiny_model(VIDEO), folder, video_processor=tiny_processor(tau_o=2.0), onnx=HAS_ONNX)
    assert max(differences.values()) < 1e-5
    assert sorted(path.name for path in folder.iterdir()) == sorted([*differences, "programs.json"])
    return folder


def test_a_feature_program_is_the_model(exported):
    model, description = tiny_model(VIDEO), json.loads((exported / "programs.json").read_text())
    program = torch.export.load(exported / "feature_model.pt2").module()
    features, mask = torch.randn(5, 4, 32), torch.ones(5, 4, dtype=torch.bool)
    mask[2, :3] = False
    expected = model(video_features=features, frame_mask=mask)
    outputs = dict(zip(description["programs"]["feature_model"]["outputs"], program(features, mask), strict=True))
    assert set(outputs) == {"logits", "verb_logits", "noun_logits"}
    for name, scores in outputs.items():
        torch.testing.assert_close(scores, expected[name], rtol=1e-5, atol=1e-5)
    assert (description["tau_o"], description["verb_labels"]) == (2.0, ["cut", "mix"])
    assert description["programs"]["streaming_step"]["inputs"]["pixel_values"] == ["float32", ["batch", 3, 32, 32]]


def test_a_step_answers_as_the_stream_does(exported):
    processor = tiny_processor(tau_o=2.0)
    step = torch.export.load(exported / "streaming_step.pt2").module()
    stream = tiny_model(VIDEO).stream(processor)
    window, mask = torch.zeros(1, 4, 32), torch.zeros(1, 4, dtype=torch.bool)
    for time_s, frame in enumerate(numbered_frames(8)):
        prepared = processor.preprocess(frame[None])["pixel_values_videos"][0]
        logits, _, _, window, mask = step(prepared, window, mask)
        stream.push(frame, float(time_s))
        torch.testing.assert_close(logits[0], stream.logits, rtol=1e-5, atol=1e-5)


def test_a_step_of_a_video_model_takes_clips(tmp_path):
    model = tiny_model(tiny_encoder_config("vjepa2", head_num_layers=1))
    processor = processor_of(model)
    export_model(model, tmp_path, video_processor=processor)
    step = torch.export.load(tmp_path / "streaming_step.pt2").module()
    stream, frames = model.stream(processor), numbered_frames(13)
    prepared = processor.preprocess(frames)["pixel_values_videos"][0]
    window, mask = torch.zeros(1, 4, 32), torch.zeros(1, 4, dtype=torch.bool)
    for number, frame in enumerate(frames):  # 2 per second, as in a clip
        stream.push(frame, number / 2)
        if number % 2 == 0:
            clip = prepared[[max(number - back, 0) for back in (3, 2, 1, 0)]]
            logits, window, mask = step(clip[None], window, mask)
            torch.testing.assert_close(logits[0], stream.logits, rtol=1e-5, atol=1e-5)


def test_a_probe_is_refused(tmp_path):
    model = tiny_model(tiny_encoder_config("vit", head_type="probe"))
    with pytest.raises(ValueError, match="head is a probe, whose tokens no program takes yet"):
        export_model(model, tmp_path / "out", video_processor=processor_of(model))
    assert not (tmp_path / "out").exists()


@pytest.mark.skipif(not HAS_ONNX, reason="needs the extra `export`")
@pytest.mark.parametrize("name", ["feature_model", "streaming_step"])
def test_onnx(exported, name):
    import onnxruntime

    model = tiny_model(VIDEO)
    program = FeatureModel(model) if name == "feature_model" else StreamingStep(model, 32, 32)
    inputs = program.inputs(batch_size=7)
    session = onnxruntime.InferenceSession(exported / f"{name}.onnx")
    outputs = session.run(program.outputs(), {name: value.numpy() for name, value in inputs.items()})
    for ours, theirs in zip(program(*inputs.values()), outputs, strict=True):
        np.testing.assert_allclose(ours.detach(), theirs, atol=1e-4)


@pytest.fixture(scope="module")
def exported_features(tmp_path_factory) -> tuple[Path, Result]:
    """The folder with a model of features and its programs, and the result of the command that exported them."""
    folder = tmp_path_factory.mktemp("features")
    tiny_model(FEATURES).save_pretrained(folder / "model")
    return folder / "exported", run_command("export_model", folder / "model", folder / "exported")


def test_programs_of_a_model_of_features_run_where_the_package_is_not(exported_features, clean_process):
    code = f"""
    import torch
    step = torch.export.load({str(exported_features[0] / "streaming_step.pt2")!r}).module()
    window, mask = torch.zeros(2, 4, 12), torch.zeros(2, 4, dtype=torch.bool)
    print(step(torch.ones(2, 12), window, mask)[0][1].tolist())
    """
    printed = json.loads(clean_process(code).splitlines()[-1])
    stream = tiny_model(FEATURES).stream()
    stream.push(np.ones(12, dtype=np.float32), 0.0)
    assert printed == pytest.approx(stream.logits.tolist(), abs=1e-5)


def test_the_command_writes_nothing_that_differs(exported_features, tmp_path, monkeypatch):
    folder, result = exported_features
    assert result.returncode == 0, result.stderr
    line = result.stdout.splitlines()[1]
    assert line.startswith(f"{folder / 'streaming_step.pt2'}: 0.")
    assert "scores differ from the model's by at most " in line
    monkeypatch.setattr(export, "LARGEST_DIFFERENCE", -1.0)
    with pytest.raises(
        SystemExit, match=r"error: feature_model\.pt2 differs from the model by .*: nothing was written"
    ):
        avt_distill("export_model", folder.parent / "model", tmp_path / "other")
    assert list((tmp_path / "other").iterdir()) == []


@pytest.fixture(scope="module")
def exported_reader(tmp_path_factory) -> tuple[AVTForAnticipation, Path]:
    """A model of features with a reader, and the folder of its programs."""
    folder = tmp_path_factory.mktemp("reader")
    model = reading_model(frame_rate=1.0, head_num_layers=1)
    model.save_pretrained(folder / "model")
    avt_distill("export_model", folder / "model", folder / "exported", *(["--onnx"] if HAS_ONNX else []))
    return model, folder / "exported"


def loaded_reader(folder: Path) -> tuple[HistoryReader, dict]:
    """Returns a reader, loaded as `programs.json` describes, and that description."""
    description = json.loads((folder / "programs.json").read_text())
    settings = ReaderSettings.from_config(description["reader"]["settings"])
    reader = HistoryReader(settings, len(description["labels"]))
    reader.load_state_dict(load_file(folder / description["reader"]["file"]))
    return reader, description


def answer(logits: torch.Tensor, reader: HistoryReader, description: dict) -> dict[str, float]:
    tau_a, weights = description["reader"]["tau_a"], reader.settings.fusion_weights
    scores = pool(logits, reader.next_action(tau_a), weights).exp().tolist()
    return dict(zip(description["labels"], scores, strict=True))


def asked(model: AVTForAnticipation, features: torch.Tensor, at_s: float) -> dict[str, float]:
    video = {"video_features": features, "frames_per_second": 1.0}
    answers = ActionAnticipationPipeline(model)(video, at=at_s, top_k=3)
    return {entry["label"]: entry["score"] for entry in answers}


@pytest.mark.slow
def test_steps_and_a_loaded_reader_answer_as_the_pipeline(exported_reader):
    model, folder = exported_reader
    reader, description = loaded_reader(folder)
    step = torch.export.load(folder / "streaming_step.pt2").module()
    names = list(description["programs"]["streaming_step"]["outputs"])
    features = 2 * torch.randn(9, 12, generator=torch.Generator().manual_seed(0))
    window, mask = torch.zeros(1, 4, 12), torch.zeros(1, 4, dtype=torch.bool)
    for time_s, row in enumerate(features):
        outputs = dict(zip(names, step(row[None], window, mask), strict=True))
        window, mask = outputs["next_window"], outputs["next_frame_mask"]
        assert outputs["frame_logits"].shape == (1, 4)
        reader.update(outputs["frame_logits"][0].log_softmax(-1), time_s)
        found = answer(outputs["logits"][0], reader, description)
        assert found == pytest.approx(asked(model, features, time_s), abs=1e-5)


@pytest.mark.slow
def test_windows_and_a_loaded_reader_answer_as_the_pipeline(exported_reader):
    model, folder = exported_reader
    reader, description = loaded_reader(folder)
    assert description["programs"]["feature_model"]["outputs"]["frame_logits"] == ["float32", ["batch", 4, 4]]
    assert "HistoryReader" in description["reader"]["use"]
    program = torch.export.load(folder / "feature_model.pt2").module()
    assert not [name for name in program.state_dict() if "reader" in name]
    features = 2 * torch.randn(8, 12, generator=torch.Generator().manual_seed(1))
    windows = features.unflatten(0, (2, 4))
    logits, frame_logits = program(windows, torch.ones(2, 4, dtype=torch.bool))
    reader.read(frame_logits.flatten(0, 1).log_softmax(-1), range(8))
    assert answer(logits[-1], reader, description) == pytest.approx(asked(model, features, 7.0), abs=1e-5)


def test_a_model_is_exported_without_being_changed(tmp_path):
    model = reading_model(head_num_layers=1).to(torch.bfloat16).train()
    export_model(model, tmp_path)
    assert model.reader is not None
    assert model.training
    assert model.dtype == torch.bfloat16


def test_scores_calibrated_as_described_are_those_of_the_pipeline(exported_features):
    """The programs return uncalibrated scores, so their description has the calibration that pipelines apply."""
    model, folder = tiny_model(FEATURES), exported_features[0]
    described = json.loads((folder / "programs.json").read_text())["calibration"]
    assert "below the threshold" in described.pop("use")
    assert described == CALIBRATION
    features = 5 * torch.randn(1, 4, 12, generator=torch.Generator().manual_seed(0))
    program = torch.export.load(folder / "feature_model.pt2").module()
    logits = program(features, torch.ones(1, 4, dtype=torch.bool))[0].detach()
    best = float((logits / described["temperature"]).softmax(-1).max())
    answers = ActionAnticipationPipeline(model)({"video_features": features[0], "frames_per_second": 1.0}, at=3.0)
    assert best == pytest.approx(answers[0]["score"], abs=1e-5)
    assert (best >= described["threshold"]) == (answers[0]["says"] is not None)
    assert best != pytest.approx(float(logits.softmax(-1).max()), abs=1e-3)


def test_a_model_without_a_reader_exports_none(exported):
    assert json.loads((exported / "programs.json").read_text())["reader"] is None
    assert not (exported / "reader.safetensors").exists()


def test_programs_of_another_model_are_not_replaced(tmp_path):
    reading_model(frame_rate=1.0, head_num_layers=1).save_pretrained(tmp_path / "reader")
    tiny_model(FEATURES).save_pretrained(tmp_path / "other")
    out = tmp_path / "out"
    assert run_command("export_model", tmp_path / "reader", out).returncode == 0
    assert run_command("export_model", tmp_path / "reader", out).returncode == 0  # the same again
    before = {path.name: path.read_bytes() for path in out.iterdir()}
    result = run_command("export_model", tmp_path / "other", out)
    assert result.returncode == 1
    assert "exists, and this command did not write it from the same inputs" in result.stderr
    assert {path.name: path.read_bytes() for path in out.iterdir()} == before
    assert run_command("export_model", tmp_path / "other", out, "--overwrite").returncode == 0
    assert sorted(path.name for path in out.iterdir()) == ["feature_model.pt2", "programs.json", "streaming_step.pt2"]
    assert json.loads((out / "programs.json").read_text())["reader"] is None


def test_frames_need_a_processor(tmp_path):
    with pytest.raises(ValueError, match="video_processor is None"):
        export_model(tiny_model(VIDEO), tmp_path)

"""Exported programs: the model's scores, and a stream's, with no code of this project."""

import importlib.util
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers.commands import Result, avt_distill, run_command
from helpers.tiny_models import VERB_NOUN, tiny_config, tiny_model, tiny_processor, tiny_vit_config
from helpers.videos import numbered_frames

from avt_distill.sharing import export
from avt_distill.sharing.export import FeatureModel, StreamingStep, export_model

HAS_ONNX = all(importlib.util.find_spec(name) for name in ("onnxruntime", "onnxscript"))
# A window shorter than the head can take: its oldest frames are never observed.
VIDEO = tiny_vit_config(**{**VERB_NOUN, "verb_id2label": {1: "mix", 0: "cut"}}, tau_o=2.0, head_num_layers=1)
FEATURES = tiny_config(intermediate_dim=20, head_num_layers=1)


@pytest.fixture(scope="module")
def exported(tmp_path_factory) -> Path:
    """The programs of a model that sees videos, in ONNX too where its packages are."""
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
    """The programs of a model of features, and what the command that wrote them printed; beside them, the model."""
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
    assert line.endswith("at most")
    monkeypatch.setattr(export, "LARGEST_DIFFERENCE", -1.0)
    with pytest.raises(
        SystemExit, match=r"error: feature_model\.pt2 differs from the model by .*: nothing was written"
    ):
        avt_distill("export_model", folder.parent / "model", tmp_path / "other")
    assert list((tmp_path / "other").iterdir()) == []


def test_frames_need_a_processor(tmp_path):
    with pytest.raises(ValueError, match="video_processor is None"):
        export_model(tiny_model(VIDEO), tmp_path)

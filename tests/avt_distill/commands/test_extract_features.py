"""The command line of feature extraction, as a user runs it: in one process, in several, and killed midway."""

import json
import shutil
import time

import numpy as np
import pytest
import torch
from helpers.commands import Result, run_command
from helpers.encoders import write_encoder
from helpers.processes import command
from helpers.tiny_models import tiny_vit_config
from helpers.videos import numbered_frames, write_video
from transformers import VideoMAEConfig, VideoMAEModel, ViTModel

from avt_distill.features.encoder_record import encoder_of, recorded_videos, revision_of
from avt_distill.features.extraction import PretrainedEncoder
from avt_distill.features.stores import open_feature_store, write_features

ON_THE_CPU = ("--cpu", "--num_workers", "0")


def run(*arguments) -> Result:
    return run_command("extract_features", *arguments, *ON_THE_CPU)


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("vit")
    ViTModel(tiny_vit_config().backbone_config).save_pretrained(folder)
    settings = {"size": {"height": 32, "width": 32}, "image_mean": [0.5] * 3, "image_std": [0.25] * 3}
    (folder / "preprocessor_config.json").write_text(json.dumps(settings))
    return folder


@pytest.fixture
def videos(tmp_path):
    """Four videos of 1, 2, 3 and 4 s."""
    folder = tmp_path / "videos"
    folder.mkdir()
    for number in range(1, 5):
        write_video(folder / f"v{number}.mp4", numbered_frames(10 * number))
    return folder


def modification_times(folder) -> dict[str, int]:
    return {path.stem: path.stat().st_mtime_ns for path in folder.glob("*.safetensors")}


def test_several_processes_share_the_videos(model, videos, tmp_path, fork_server):
    alone, shared = tmp_path / "alone", tmp_path / "shared"
    result = run(model, videos, "--output", alone, "--frame_rate", 2)
    assert result.returncode == 0, result.stderr
    options = [model, videos, "--output", shared, "--frame_rate", 2, *ON_THE_CPU]
    fork_server.run_several(command("extract_features", *options), tmp_path)
    for number in range(1, 5):
        times = np.arange(2 * number) / 2
        features = open_feature_store(alone).read(f"v{number}", times)
        assert features.shape == (2 * number, 32)
        np.testing.assert_allclose(open_feature_store(shared).read(f"v{number}", times), features, atol=1e-5)
    settings = json.loads((shared / "extraction.json").read_text())
    assert settings == json.loads((alone / "extraction.json").read_text())
    assert (settings["model"], settings["frame_rate"], settings["image_std"]) == (str(model), 2.0, [0.25] * 3)


def test_killed_runs_continue_where_they_stopped(model, videos, tmp_path, fork_server):
    for number in range(60):
        shutil.copy(videos / "v4.mp4", videos / f"copy{number:02d}.mp4")
    output = tmp_path / "features"
    arguments = [model, videos, "--output", output, "--frame_rate", 10]
    process = fork_server.start(command("extract_features", *arguments, *ON_THE_CPU), tmp_path, HF_HUB_OFFLINE="1")
    while len(modification_times(output)) < 3 and process.poll() is None:
        time.sleep(0.005)
    process.kill()
    process.wait()
    finished = modification_times(output)
    assert 3 <= len(finished) < 64, "the process was killed too late"
    store = open_feature_store(output)
    assert all(store.read(video_id, [0.0]).shape == (1, 32) for video_id in finished)

    result = run(*arguments)
    assert result.returncode == 0, result.stderr
    continued = modification_times(output)
    assert len(continued) == 64
    assert finished.items() <= continued.items()
    np.testing.assert_array_equal(*(store.read(video_id, np.arange(40) / 10) for video_id in ("copy00", "copy59")))


def test_video_models_run_in_bfloat16(videos, tmp_path):
    sizes = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32}
    VideoMAEModel(VideoMAEConfig(**sizes, image_size=32, patch_size=8, num_frames=4)).save_pretrained(tmp_path / "mae")
    options = ["--clip_frame_rate", 5, "--dtype", "bfloat16", "--batch_size", 2]
    result = run(tmp_path / "mae", videos / "v2.mp4", "--output", tmp_path / "out", *options)
    assert result.returncode == 0, result.stderr
    assert open_feature_store(tmp_path / "out").read("v2", [0.0, 1.0]).shape == (2, 32)
    settings = json.loads((tmp_path / "out" / "extraction.json").read_text())
    assert (settings["clip_num_frames"], settings["clip_frame_rate"], settings["dtype"]) == (4, 5.0, "bfloat16")


def test_a_store_records_its_encoder_and_its_videos(model, videos, tmp_path):
    assert run(model, videos / "v1.mp4", "--output", tmp_path / "out").returncode == 0
    assert run(model, videos / "v2.mp4", "--output", tmp_path / "out").returncode == 0
    record = encoder_of(open_feature_store(tmp_path / "out"))
    assert record is not None
    assert (record.model, record.revision) == (str(model), revision_of(model))
    assert (record.feature_dim, record.image_std, record.crop_size) == (32, [0.25] * 3, {"height": 32, "width": 32})
    assert (record.clip_num_frames, record.clip_frame_rate, record.predict_ahead_s) == (None, None, None)
    assert recorded_videos(tmp_path / "out") == {name: str(videos / f"{name}.mp4") for name in ("v1", "v2")}


def test_features_of_another_video_of_the_same_name_are_not_taken_for_this_one(model, videos, tmp_path):
    (tmp_path / "others").mkdir()
    other = tmp_path / "others" / "v1.mp4"
    shutil.copy(videos / "v2.mp4", other)
    assert run(model, videos / "v1.mp4", "--output", tmp_path / "out").returncode == 0
    features = tmp_path / "out" / "v1.safetensors"
    before = features.read_bytes()
    for video in (other, tmp_path / "others"):
        result = run(model, video, videos / "v3.mp4", "--output", tmp_path / "out")
        assert result.returncode == 1
        assert f"{features} holds features of another video than {other}" in result.stderr
    assert recorded_videos(tmp_path / "out") == {"v1": str(videos / "v1.mp4")}
    assert features.read_bytes() == before
    moved = (videos / "v1.mp4").rename(tmp_path / "v1.mp4")  # the same video at another path
    assert run(model, moved, "--output", tmp_path / "out").returncode == 0
    assert features.read_bytes() == before
    shutil.copy(other, moved)  # replaced in place
    assert f"holds features of another video than {moved}" in run(model, moved, "--output", tmp_path / "out").stderr
    features.unlink()
    assert run(model, moved, "--output", tmp_path / "out").returncode == 0
    assert open_feature_store(tmp_path / "out").read_all("v1")[0].shape == (2, 32)  # of v2.mp4, which lasts 2 s


def test_features_of_earlier_versions_are_kept_with_a_warning(model, videos, tmp_path, caplog):
    assert run(model, videos, "--output", tmp_path / "out").returncode == 0
    for path in (tmp_path / "out" / "v1.safetensors", tmp_path / "out" / "v2.safetensors"):
        rows = open_feature_store(tmp_path / "out").read_all(path.stem)[0]
        write_features(path, rows, 1.0)
    written = modification_times(tmp_path / "out")
    result = run(model, videos, "--output", tmp_path / "out")
    assert result.returncode == 0
    assert modification_times(tmp_path / "out") == written
    assert caplog.text.count("holds features of 2 of these videos from a version that did not record") == 1


def test_clips_and_the_predictor_are_options(videos, tmp_path):
    encoder = write_encoder(tmp_path / "encoder", "vjepa2")
    arguments = [encoder, videos / "v2.mp4", "--output", tmp_path / "out", "--clip_num_frames", 2]
    assert run(*arguments, "--predict_ahead_s", 0.5).returncode == 0
    store = open_feature_store(tmp_path / "out")
    record = encoder_of(store)
    assert record is not None
    assert (record.clip_num_frames, record.clip_frame_rate, record.predict_ahead_s) == (2, 8.0, 0.5)
    assert (record.feature_dim, store.feature_dim) == (64, 64)
    expected = PretrainedEncoder(encoder, clip_num_frames=2, predict_ahead_s=0.5)
    frames, clips = record.processor().read_moments(videos / "v2.mp4", np.array([1.0]))
    np.testing.assert_allclose(store.read("v2", [1.0]), expected(frames, clips.clips), atol=1e-5)
    assert "holds features with feature_dim=64, not 32" in run(*arguments).stderr
    assert "with predict_ahead_s=0.5, not 1.0" in run(*arguments, "--predict_ahead_s", 1.0).stderr
    assert "predict_ahead_s is -1.0: give a finite number of seconds" in run(*arguments, "--predict_ahead_s", -1).stderr


def test_a_model_with_other_content_is_refused_even_at_the_same_path(videos, tmp_path):
    encoder = write_encoder(tmp_path / "encoder", "vit")
    arguments = [videos / "v1.mp4", "--output", tmp_path / "out"]
    assert run(encoder, *arguments).returncode == 0
    encoder = encoder.rename(tmp_path / "moved")
    assert run(encoder, *arguments).returncode == 0
    write_encoder(encoder, "vit", seed=1)
    result = run(encoder, *arguments)
    assert result.returncode == 1
    assert f"{tmp_path / 'out'} holds features with model={tmp_path / 'encoder'}" in result.stderr
    write_encoder(tmp_path / "encoder", "vit", seed=1)
    assert "holds features with revision=" in run(tmp_path / "encoder", *arguments).stderr


def test_unreadable_videos_stop_the_run_or_are_listed_at_its_end(model, videos, tmp_path):
    (videos / "v2.mp4").write_bytes(b"no video")
    arguments = [model, videos, "--output", tmp_path / "out"]
    result = run(*arguments)
    assert result.returncode == 1
    assert f"error: Cannot read {videos / 'v2.mp4'}: it cannot be opened" in result.stderr.splitlines()[-1]
    assert list(modification_times(tmp_path / "out")) == ["v1"]

    result = run(*arguments, "--skip_unreadable")
    assert result.returncode == 1
    assert result.stderr.splitlines()[-2] == "error: these videos could not be read and are not in the store:"
    assert str(videos / "v2.mp4") in result.stderr.splitlines()[-1]
    assert sorted(modification_times(tmp_path / "out")) == ["v1", "v3", "v4"]


def test_errors_are_one_line(model, videos, tmp_path):
    for arguments in ([tmp_path / "missing_model", videos], [model, tmp_path / "missing.mp4"]):
        result = run(*arguments, "--output", tmp_path / "out")
        assert result.returncode == 1
        assert "Traceback" not in result.stderr
        assert result.stderr.splitlines()[-1].startswith("error: ")

"""Extraction: the right frames for each row, the models' own features, and runs that end early."""

import json

import pytest
import torch
from helpers.tiny_models import tiny_model, tiny_processor, tiny_vit_config
from helpers.videos import frame_number, numbered_frames, write_video
from transformers import VideoMAEConfig, VideoMAEModel, ViTModel, VJEPA2Config, VJEPA2Model

from avt_distill.features.extraction import (
    PretrainedEncoder,
    extract_features,
    extract_video,
    keep_extraction,
    video_digest,
)
from avt_distill.features.stores import SafetensorsFeatureStore
from modeling_avt import AVTVideoProcessor
from modeling_avt.video_io_avt import PictureFolder, VideoDecodeError, read_frames

WHOLE_FRAMES = AVTVideoProcessor(size=64, crop_size=64, train_size=(64, 64))
TINY = {
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 64,
    "image_size": 32,
    "patch_size": 8,
}
VIDEO_MAE = VideoMAEConfig(**TINY, num_frames=4)
VJEPA2 = VJEPA2Config(
    **TINY,
    crop_size=32,
    frames_per_clip=4,
    pred_hidden_size=24,
    pred_num_attention_heads=2,
    pred_num_hidden_layers=1,
    pred_num_mask_tokens=2,
)


def read_numbers(frames: torch.Tensor, positions: torch.Tensor):
    """An encoder whose features are the frame numbers of a clip, `(B, T)`."""
    images = ((frames * 0.5 + 0.5) * 255).permute(0, 2, 3, 1).numpy()
    return torch.tensor([frame_number(image) for image in images], dtype=torch.float32)[positions].numpy()


@pytest.fixture(scope="module")
def square_video(tmp_path_factory):
    """4.55 s at 20 fps: frames 0..90, square so that no crop cuts their numbers."""
    path = tmp_path_factory.mktemp("video") / "square.mp4"
    return write_video(path, numbered_frames(91, 64, 64), fps=20, g=12)


@pytest.mark.parametrize("num_workers", [0, 2])
def test_rows_are_the_frames_shown_at_their_times(square_video, num_workers):
    options = {"batch_size": 4, "num_workers": num_workers}
    features = extract_video(square_video, read_numbers, WHOLE_FRAMES, frame_rate=3, **options)
    # Rows are at 0, 1/3, ... 13/3 s; the video ends at 4.55 s.
    assert features[:, 0].tolist() == [0, 6, 13, 20, 26, 33, 40, 46, 53, 60, 66, 73, 80, 86]


def test_clips_end_at_their_rows_and_repeat_the_first_frame(square_video):
    options = {"num_frames": 4, "clip_frame_rate": 5, "batch_size": 3}
    features = extract_video(square_video, read_numbers, WHOLE_FRAMES, frame_rate=2, **options)
    assert features.shape == (10, 4)
    assert features[:3].tolist() == [[0, 0, 0, 0], [0, 2, 6, 10], [8, 12, 16, 20]]
    assert features[9].tolist() == [78, 82, 86, 90]


def test_later_frames_change_no_earlier_row(tmp_path):
    options = {"num_frames": 3, "clip_frame_rate": 4, "frame_rate": 4}
    frames = numbered_frames(40, 64, 64)
    whole = extract_video(write_video(tmp_path / "a.mp4", frames), read_numbers, WHOLE_FRAMES, **options)
    frames[20:] = 0
    black = extract_video(write_video(tmp_path / "b.mp4", frames), read_numbers, WHOLE_FRAMES, **options)
    assert (whole[:8] == black[:8]).all()  # rows at 0 ... 1.75 s; frame 20 is shown from 2 s on
    assert (whole[8:] != black[8:]).any(axis=1).all()


def test_the_store_returns_what_a_video_shows(square_video, tmp_path):
    results = list(extract_features({"square": square_video}, tmp_path, read_numbers, WHOLE_FRAMES, frame_rate=20))
    assert [(result.video_id, result.num_rows) for result in results] == [("square", 91)]
    times = [0.0, 0.049, 0.05, 2.0, 4.5, 4.55]
    features = SafetensorsFeatureStore(tmp_path).read("square", times)
    shown = [frame_number(frame) for frame in read_frames(square_video, times)]
    assert features[:, 0].tolist() == shown == [0, 0, 1, 40, 90, 90]


def test_image_features_are_those_of_encode_frames(square_video, tmp_path):
    model = tiny_model(tiny_vit_config())
    model.avt.backbone.save_pretrained(tmp_path)
    encoder = PretrainedEncoder(tmp_path)
    assert (encoder.is_video_model, encoder.num_frames) == (False, 1)
    features = extract_video(square_video, encoder, tiny_processor(), frame_rate=2, batch_size=4)
    pixels = tiny_processor()(read_frames(square_video, [i / 2 for i in range(10)]))["pixel_values_videos"][0]
    with torch.no_grad():
        expected = model.encode_frames(pixels)
    torch.testing.assert_close(torch.from_numpy(features), expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize("model", [VideoMAEModel(VIDEO_MAE), VJEPA2Model(VJEPA2)], ids=["videomae", "vjepa2"])
def test_video_models_see_clips_and_their_tokens_are_averaged(square_video, tmp_path, model):
    model.eval().save_pretrained(tmp_path)
    encoder = PretrainedEncoder(tmp_path)
    assert (encoder.is_video_model, encoder.num_frames) == (True, 4)
    options = {"num_frames": 4, "clip_frame_rate": 5, "batch_size": 4}
    features = extract_video(square_video, encoder, tiny_processor(), frame_rate=2, **options)
    clip = tiny_processor()(read_frames(square_video, [0.9, 1.1, 1.3, 1.5]))["pixel_values_videos"]  # row 3
    with torch.no_grad():
        expected = model(clip).last_hidden_state.mean(1)[0]
    assert features.shape == (10, 32)
    torch.testing.assert_close(torch.from_numpy(features[3]), expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize("model", [ViTModel(tiny_vit_config().backbone_config), VideoMAEModel(VIDEO_MAE)])
def test_bfloat16_is_near_float32(tmp_path, model):
    model.save_pretrained(tmp_path)
    frames, positions = torch.randn(6, 3, 32, 32), torch.tensor([[0, 1, 2, 3], [2, 3, 4, 5]])
    exact = PretrainedEncoder(tmp_path)(frames, positions)
    rounded = PretrainedEncoder(tmp_path, dtype=torch.bfloat16)(frames, positions)
    assert rounded.dtype == exact.dtype == "float32"
    assert 0 < abs(rounded - exact).max() < 0.1


@pytest.mark.parametrize("model", [ViTModel(tiny_vit_config().backbone_config), VJEPA2Model(VJEPA2)])
def test_what_is_compiled_is_what_computes(tmp_path, monkeypatch, model):
    calls = []

    def compiled(function, **options):
        return lambda *args, **inputs: calls.append(function) or function(*args, **inputs)

    monkeypatch.setattr(torch, "compile", compiled)
    model.save_pretrained(tmp_path)
    encoder = PretrainedEncoder(tmp_path, compile_model=True)
    encoder(torch.randn(4, 3, 32, 32), torch.arange(encoder.num_frames)[None])
    assert len(calls) == 1


@pytest.mark.slow
def test_compiled_models_compute_the_same(tmp_path):
    ViTModel(tiny_vit_config().backbone_config).save_pretrained(tmp_path)
    encoder, compiled = PretrainedEncoder(tmp_path), PretrainedEncoder(tmp_path, compile_model=True)
    for count in (4, 4, 3):
        frames, positions = torch.randn(count, 3, 32, 32), torch.arange(count)[:, None]
        torch.testing.assert_close(compiled(frames, positions), encoder(frames, positions), atol=1e-5, rtol=0)


def test_a_changed_picture_or_rate_is_another_video(tmp_path):
    for number in range(3):
        (tmp_path / f"img_{number:03d}.png").write_bytes(bytes([number]))
    digest = video_digest(f"{PictureFolder(str(tmp_path), 10.0)}")
    assert video_digest(f"{PictureFolder(str(tmp_path), 10.0)}") == digest
    assert video_digest(f"{PictureFolder(str(tmp_path), 5.0)}") != digest
    (tmp_path / "img_001.png").write_bytes(b"x")
    assert video_digest(f"{PictureFolder(str(tmp_path), 10.0)}") != digest


def test_interrupted_runs_continue_and_leave_no_half_file(square_video, tmp_path):
    calls = []

    def fail_in_the_third_video(frames, positions):
        calls.append(len(positions))
        if len(calls) == 2 * 4 + 3:  # four batches a video
            raise KeyboardInterrupt
        return read_numbers(frames, positions)

    videos = dict.fromkeys("abcd", square_video)
    options = {"frame_rate": 4, "batch_size": 5}
    with pytest.raises(KeyboardInterrupt):
        list(extract_features(videos, tmp_path, fail_in_the_third_video, WHOLE_FRAMES, **options))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.safetensors", "b.safetensors"]
    finished = {path.name: path.stat().st_mtime_ns for path in tmp_path.iterdir()}

    results = list(extract_features(videos, tmp_path, read_numbers, WHOLE_FRAMES, **options))
    assert [result.num_rows for result in results] == [0, 0, 19, 19]
    for name, modified in finished.items():
        assert (tmp_path / name).stat().st_mtime_ns == modified
    store = SafetensorsFeatureStore(tmp_path)
    assert (store.read("c", [0.0, 4.5]) == store.read("a", [0.0, 4.5])).all()


def test_damaged_files_are_extracted_anew(square_video, tmp_path):
    (tmp_path / "a.safetensors").write_bytes(b"what a full disk left")
    results = list(extract_features({"a": square_video}, tmp_path, read_numbers, WHOLE_FRAMES, frame_rate=1))
    assert results[0].num_rows == 5
    assert SafetensorsFeatureStore(tmp_path).read("a", [1.0])[0, 0] == 20


@pytest.mark.parametrize("num_workers", [0, 1])
def test_unreadable_videos_are_named_or_skipped(square_video, tmp_path, num_workers):
    whole = square_video.read_bytes()
    (tmp_path / "cut.mp4").write_bytes(whole[: len(whole) // 2])
    videos = {"cut": tmp_path / "cut.mp4", "square": square_video}
    folder, options = tmp_path / "features", {"frame_rate": 1, "batch_size": 2, "num_workers": num_workers}
    with pytest.raises(VideoDecodeError, match=r"Cannot read .*cut\.mp4: it cannot be opened"):
        list(extract_features(videos, folder, read_numbers, WHOLE_FRAMES, **options))
    results = list(extract_features(videos, folder, read_numbers, WHOLE_FRAMES, skip_unreadable=True, **options))
    assert [(result.num_rows, result.error is None) for result in results] == [(0, False), (5, True)]
    assert [path.name for path in folder.iterdir()] == ["square.safetensors"]


def test_no_kind_of_broken_video_ends_a_run_that_skips(square_video, tmp_path):
    known = write_video(tmp_path / "known.mp4", numbered_frames(10), codec="libx264").read_bytes()
    broken = {
        "a_codec.mp4": known.replace(b"avc1", b"zzz9"),
        "b_text.mp4": b"ffconcat version 1.0\nfile 'square.mp4'\n",
        "c_empty.ts": b"",
        "d_noise.mkv": bytes(range(256)) * 40,
    }
    for name, data in broken.items():
        (tmp_path / name).write_bytes(data)
    videos = {name: tmp_path / name for name in broken} | {"square": square_video}
    results = list(
        extract_features(videos, tmp_path / "f", read_numbers, WHOLE_FRAMES, frame_rate=1, skip_unreadable=True)
    )
    assert [result.error is None for result in results] == [False] * 4 + [True]


def test_errors_in_the_middle_of_a_video_pass_through_workers(square_video, tmp_path, monkeypatch):
    def fail_late(video, times_s):
        if max(times_s) > 2:
            raise VideoDecodeError(str(video), "decoding failed.", max(times_s))
        return read_frames(video, times_s)

    monkeypatch.setattr("modeling_avt.video_processing_avt.read_frames", fail_late)
    for num_workers in (0, 1):
        options = {"frame_rate": 1, "batch_size": 2, "num_workers": num_workers}
        with pytest.raises(VideoDecodeError, match=r"at 3\.000 s: decoding failed") as caught:
            extract_video(square_video, read_numbers, WHOLE_FRAMES, **options)
        assert caught.value.time_s == 3.0


def test_one_folder_holds_one_kind_of_features(tmp_path):
    keep_extraction(tmp_path / "new", {"model": "m", "frame_rate": 4.0, "size": (1, 2)})
    keep_extraction(tmp_path / "new", {"model": "m", "frame_rate": 4.0, "size": (1, 2)})
    (tmp_path / "new" / "a.safetensors").touch()
    with pytest.raises(ValueError, match=r"with frame_rate=4\.0, not 2\.0"):
        keep_extraction(tmp_path / "new", {"model": "m", "frame_rate": 2.0, "size": (1, 2)})
    (tmp_path / "old").mkdir()
    (tmp_path / "old" / "a.safetensors").touch()
    with pytest.raises(ValueError, match="their encoder is unknown"):
        keep_extraction(tmp_path / "old", {"model": "m"})


def test_the_model_is_recorded_by_every_process_and_may_move(tmp_path):
    moved = {"model": "b", "revision": "1", "frame_rate": 4.0}
    (tmp_path / "videos.json").touch()
    for settings in ({**moved, "frame_rate": 2.0}, {**moved, "model": "a"}, moved):  # before any features are written
        keep_extraction(tmp_path, settings)
        assert json.loads((tmp_path / "extraction.json").read_text()) == settings
    (tmp_path / "a.safetensors").touch()
    keep_extraction(tmp_path, {**moved, "model": "c"})
    assert json.loads((tmp_path / "extraction.json").read_text()) == moved


@pytest.mark.parametrize("name", ["frame_rate", "clip_frame_rate", "batch_size"])
def test_rates_and_sizes_must_be_positive(square_video, name):
    with pytest.raises(ValueError, match=f"{name} is 0"):
        extract_video(square_video, read_numbers, WHOLE_FRAMES, **{"frame_rate": 1, name: 0})

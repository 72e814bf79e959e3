"""Folders of pictures as videos give the same frames as the video that they were taken from."""

import numpy as np
import pytest
from helpers.tiny_models import tiny_model, tiny_processor, tiny_vit_config
from helpers.videos import numbered_frames, write_pictures

from modeling_avt import ActionAnticipationPipeline
from modeling_avt.video_io_avt import PictureFolder, probe, read_frames
from modeling_avt.video_source_avt import VideoDecodeError

FRAMES = numbered_frames(60)


@pytest.mark.parametrize("first", [0, 1, 7])
def test_pictures_are_shown_at_their_rate(tmp_path, first):
    folder = PictureFolder(str(write_pictures(tmp_path / "p", FRAMES, first=first)), 10.0)
    times = [5.9, 0.0, 0.1, 0.19, 6.0, 0.0]
    shown = read_frames(folder, times)
    np.testing.assert_array_equal(shown, np.stack([FRAMES[i] for i in (59, 0, 1, 1, 59, 0)]))
    np.testing.assert_array_equal(read_frames(str(folder), times), shown)
    info = probe(folder)
    assert (info.duration_s, info.fps, info.num_frames) == (6.0, 10.0, 60)
    assert (info.height, info.width) == FRAMES[0].shape[:2]


@pytest.mark.parametrize("rate", [np.float64(10), np.float32(10), np.int64(10), 10])
def test_a_rate_of_numpy_is_read_from_the_name_of_a_folder(tmp_path, rate):
    """Rows of data sets hold this name, in which `repr` would write `np.float64(10.0)`."""
    name = str(PictureFolder(str(write_pictures(tmp_path / "p", FRAMES[:20])), rate))
    np.testing.assert_array_equal(read_frames(name, [1.5])[0], FRAMES[15])


@pytest.mark.parametrize("rate", ["10", None, True, np.nan])
def test_a_rate_that_is_no_number_is_refused(tmp_path, rate):
    with pytest.raises(VideoDecodeError, match=r"frames_per_second is .*: give a finite number, above 0"):
        PictureFolder(str(tmp_path), rate)


def test_jpeg_pictures_of_ten_digits(tmp_path):
    folder = PictureFolder(str(write_pictures(tmp_path / "p", FRAMES, "frame_%010d.jpg")), 30.0)
    assert read_frames(folder, [1.0], resize_short_side=16).shape[1:3] == (
        16,
        16 * FRAMES[0].shape[1] // FRAMES[0].shape[0],
    )
    assert np.abs(read_frames(folder, [1.0])[0].astype(int) - FRAMES[30]).mean() < 6


def test_a_folder_without_a_rate_is_refused(tmp_path):
    folder = write_pictures(tmp_path / "p", FRAMES[:2])
    for read in (lambda: read_frames(folder, [0.0]), lambda: probe(str(folder))):
        with pytest.raises(VideoDecodeError, match="have no frame rate: give frames_per_second"):
            read()
    for rate in (0.0, float("nan"), -1.0):
        with pytest.raises(VideoDecodeError, match="give a finite number, above 0"):
            PictureFolder(str(folder), rate)


def test_folders_that_would_shift_frames_are_refused(tmp_path):
    folder = write_pictures(tmp_path / "p", FRAMES[:4])
    with pytest.raises(VideoDecodeError, match=r"it ends at 0\.400 s"):
        read_frames(PictureFolder(str(folder), 10.0), [0.5])
    (folder / "img_00002.png").rename(folder / "other_00002.png")
    with pytest.raises(VideoDecodeError, match=r"img_<number>\.png, other_<number>\.png"):
        probe(PictureFolder(str(folder), 10.0))
    (folder / "other_00002.png").unlink()
    with pytest.raises(VideoDecodeError, match="picture 3 follows 1"):
        probe(PictureFolder(str(folder), 10.0))
    (folder / "img_00002.png").write_bytes(b"no picture")
    with pytest.raises(VideoDecodeError, match=r"img_00002\.png: it is not a picture"):
        read_frames(PictureFolder(str(folder), 10.0), [0.1])


def test_the_pipeline_answers_the_same_for_pictures_and_for_frames(tmp_path):
    folder = write_pictures(tmp_path / "p", FRAMES)
    model = tiny_model(tiny_vit_config(tau_a=0.5))
    anticipate = ActionAnticipationPipeline(model, video_processor=tiny_processor())
    expected = anticipate(np.stack(FRAMES), at=5.0, frames_per_second=10.0)
    for video in (str(folder), folder, {"video": str(folder), "frames_per_second": 10.0}):
        given = {} if isinstance(video, dict) else {"frames_per_second": 10.0}
        assert anticipate(video, at=5.0, **given) == expected
    assert anticipate(PictureFolder(str(folder), 10.0), at=5.0) == expected
    with pytest.raises(ValueError, match="have no frame rate: give frames_per_second"):
        anticipate(str(folder), at=5.0)

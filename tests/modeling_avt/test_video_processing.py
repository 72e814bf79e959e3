"""The processor: geometry, views, training crops and normalization on frames with known pixels."""

import numpy as np
import pytest
import torch
from helpers.tiny_models import tiny_processor
from helpers.videos import frame_number

from modeling_avt import AVTVideoProcessor


def gradient_frames(height: int = 72, width: int = 108, count: int = 2) -> np.ndarray:
    """Red grows from left to right, green from top to bottom, blue is 0."""
    frames = np.zeros((count, height, width, 3), dtype=np.uint8)
    frames[..., 0] = np.linspace(0, 255, width).round()[None, None, :]
    frames[..., 1] = np.linspace(0, 255, height).round()[None, :, None]
    return frames


def to_pixels(values: torch.Tensor) -> torch.Tensor:
    return (values * 0.5 + 0.5) * 255


def halved(index: int, length: int) -> float:
    """Returns the gradient's value at one pixel after halving, between two pixels of the original."""
    return (2 * index + 0.5) * 255 / (length - 1)


def test_short_side_is_resized_and_the_centre_cropped():
    processor = tiny_processor(size=36, crop_size=32)
    clip = processor(gradient_frames())["pixel_values_videos"]
    assert clip.shape == (1, 2, 3, 32, 32)
    assert clip.dtype == torch.float32
    pixels = to_pixels(clip[0, 0])
    # 72 x 108 becomes 36 x 54; the crop spans columns 11..42 and rows 2..33.
    assert pixels[0, 16, 0].item() == pytest.approx(halved(11, 108), abs=1)
    assert pixels[0, 16, -1].item() == pytest.approx(halved(42, 108), abs=1)
    assert pixels[1, 0, 16].item() == pytest.approx(halved(2, 72), abs=1)
    assert pixels[2].abs().max() == pytest.approx(0, abs=1e-4)


def test_three_crops_and_their_mirror_images():
    processor = tiny_processor(size=36, crop_size=32)
    views = processor(gradient_frames(), num_crops=3, flip_views=True)["pixel_values_videos"]
    assert views.shape == (1, 6, 2, 3, 32, 32)
    pixels = to_pixels(views[0, :, 0])  # (V, 3, 32, 32)
    first_columns = [halved(left, 108) for left in (0, 11, 22)]
    first_rows = [halved(top, 72) for top in (0, 2, 4)]
    for view in range(3):
        assert pixels[view, 0, 16, 0].item() == pytest.approx(first_columns[view], abs=1.5)
        assert pixels[view, 1, 0, 16].item() == pytest.approx(first_rows[view], abs=1.5)
        assert torch.equal(pixels[view + 3], pixels[view].flip(-1))
    assert torch.equal(views[0, 1], processor(gradient_frames())["pixel_values_videos"][0])


def test_training_crops_are_the_same_over_a_clip_and_follow_the_generator():
    processor = tiny_processor(size=36, crop_size=32, train_size=(36, 48))
    frames = np.repeat(gradient_frames(count=1), 3, axis=0)

    def draw(seed):
        generator = torch.Generator().manual_seed(seed)
        return processor(frames, training=True, generator=generator)["pixel_values_videos"][0]

    assert draw(0).shape == (3, 3, 32, 32)
    assert torch.equal(draw(0)[0], draw(0)[2])
    assert torch.equal(draw(3), draw(3))
    draws = [draw(seed) for seed in range(30)]
    mirrored = sum(bool((clip[0, 0, :, 0] > clip[0, 0, :, -1]).all()) for clip in draws)
    assert 8 <= mirrored <= 22
    # With a short side between 36 and 48, a crop covers between 32/36 and 32/48 of the height.
    shown = [abs((clip[0, 1, -1, 16] - clip[0, 1, 0, 16]).item()) / 2 for clip in draws]
    assert 31 / 48 - 0.03 < min(shown) < 0.75 < 0.8 < max(shown) < 31 / 36 + 0.03
    corners = {round(clip[0, 1, 0, 16].item(), 1) for clip in draws}
    assert len(corners) > 3


def test_antialiasing_can_be_left_out_as_the_reference_does():
    frames = np.zeros((1, 72, 72, 3), dtype=np.uint8)
    frames[:, :, ::2] = 255  # alternating columns become gray only by averaging
    smooth = to_pixels(tiny_processor(size=36, crop_size=32)(frames)["pixel_values_videos"])
    assert (smooth - 127.5).abs().max() < 40
    sharp = AVTVideoProcessor(size=36, crop_size=32, train_size=(36, 36), antialias=False, num_frames=4, tau_o=4.0)
    expected = torch.nn.functional.interpolate(
        torch.from_numpy(gradient_frames(144, 144)).permute(0, 3, 1, 2).float(), size=(36, 36), mode="bilinear"
    )
    ours = to_pixels(sharp(gradient_frames(144, 144))["pixel_values_videos"][0])
    torch.testing.assert_close(ours, expected[..., 2:34, 2:34], atol=1e-3, rtol=0)


def test_normalisation_uses_each_channels_mean_and_std():
    frames = np.full((1, 32, 32, 3), (255, 0, 51), dtype=np.uint8)
    processor = tiny_processor(
        size=32, crop_size=32, train_size=(32, 32), image_mean=(0.5, 0.1, 0.2), image_std=(0.5, 0.2, 0.4)
    )
    pixels = processor(frames)["pixel_values_videos"][0, 0, :, 0, 0]
    assert pixels.tolist() == pytest.approx([1.0, -0.5, 0.0], abs=1e-6)


def test_channels_first_lists_of_frames_and_batches_are_the_same_clip():
    frames, processor = gradient_frames(), tiny_processor()
    expected = processor(frames)["pixel_values_videos"]
    for same in (frames.transpose(0, 3, 1, 2), list(frames), torch.from_numpy(frames), [frames]):
        assert torch.equal(processor(same)["pixel_values_videos"], expected)
    batch = processor([frames, gradient_frames(100, 80)])["pixel_values_videos"]
    assert batch.shape == (2, 2, 3, 32, 32)


def test_frames_may_be_views_with_negative_strides():
    frames = gradient_frames()
    expected = tiny_processor()(frames[..., ::-1].copy())["pixel_values_videos"]
    for view in (frames[..., ::-1], [frame[..., ::-1] for frame in frames], [frames[..., ::-1]]):
        assert torch.equal(tiny_processor()(view)["pixel_values_videos"], expected)


@pytest.mark.parametrize("convert", [np.array, torch.tensor, tuple])
def test_moments_of_several_files_may_be_an_array(video, convert):
    processor, files = tiny_processor(), [video, video]
    expected, found = processor(files, at_s=[3.0, 5.0]), processor(files, at_s=convert([3.0, 5.0]))
    assert torch.equal(found["pixel_values_videos"], expected["pixel_values_videos"])
    assert torch.equal(found["frame_mask"], expected["frame_mask"])
    with pytest.raises(ValueError, match="at_s has 3 entries for 2 videos"):
        processor(files, at_s=convert([3.0, 4.0, 5.0]))
    one = processor(video, at_s=np.float32(3.0))
    assert torch.equal(processor(video, at_s=np.array(3.0))["pixel_values_videos"], one["pixel_values_videos"])


def test_files_are_sampled_at_the_end_of_the_window(video):
    processor = tiny_processor()
    frames, mask = processor.read(video, at_s=4.25)
    assert [frame_number(frame) for frame in frames] == [12, 22, 32, 42]
    assert mask.tolist() == [True] * 4
    frames, mask = processor.read(video)
    assert [frame_number(frame) for frame in frames] == [30, 40, 50, 59]
    batch = processor([video, str(video)], at_s=[1.5, 6.0])
    assert batch["frame_mask"].tolist() == [[False, False, True, True], [True] * 4]
    assert batch["pixel_values_videos"].shape == (2, 4, 3, 32, 32)


def test_moments_before_the_video_are_black(video):
    frames, mask = tiny_processor().read(video.read_bytes(), at_s=1.5)
    assert mask.tolist() == [False, False, True, True]
    assert frames[:2].max() == 0
    assert [frame_number(frame) for frame in frames[2:]] == [5, 15]


def test_saved_processor_is_the_same(tmp_path):
    processor = tiny_processor(antialias=False, frame_rate=2.0, image_mean=(0.1, 0.2, 0.3))
    processor.save_pretrained(tmp_path)
    loaded = AVTVideoProcessor.from_pretrained(tmp_path)
    assert loaded.to_dict() == processor.to_dict()
    assert loaded.size == {"shortest_edge": 36}
    frames = gradient_frames()
    assert torch.equal(loaded(frames)["pixel_values_videos"], processor(frames)["pixel_values_videos"])


@pytest.mark.parametrize(
    ("videos", "options", "message"),
    [
        (gradient_frames().astype(np.float32), {}, "frames are torch.float32"),
        (np.zeros((2, 40, 40, 4), np.uint8), {}, r"shape \(2, 40, 40, 4\)"),
        ([], {}, "videos is empty"),
        (None, {}, "A NoneType is given instead of an array"),
        ([torch.zeros(40, 40, 3), np.zeros((40, 48, 3))], {}, r"shapes \[\(40, 40, 3\), \(40, 48, 3\)\]"),
        (gradient_frames(), {"num_crops": 2}, "num_crops=2: give 1 or 3"),
        (gradient_frames(), {"training": True, "num_crops": 3}, "in training neither 3 crops"),
        (gradient_frames(), {"num_frames": 8}, "num_frames=8, but this processor samples 4"),
        (gradient_frames(), {"at_s": [1.0, 2.0]}, "at_s has 2 entries for 1 videos"),
        ([gradient_frames(), gradient_frames(count=3)], {}, r"The videos have \[2, 3\] frames"),
    ],
)
def test_refuses(videos, options, message):
    with pytest.raises(ValueError, match=message):
        tiny_processor()(videos, **options)


def test_refuses_a_crop_larger_than_the_frame():
    with pytest.raises(ValueError, match="larger than the smallest short side, 30"):
        tiny_processor(size=30)

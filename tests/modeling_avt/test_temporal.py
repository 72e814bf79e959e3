"""Windows and frame times, worked out by hand in seconds."""

import numpy as np
import pytest

from modeling_avt.temporal_avt import frame_indices, observed_window, sample_frame_times


def test_observed_window_ends_tau_a_before_the_action():
    assert observed_window(20.0, tau_a=1.0, tau_o=10.0) == (9.0, 19.0)
    assert observed_window(3.0, tau_a=0.5, tau_o=10.0) == (-7.5, 2.5)


def test_exact_protocol_counts_back_from_the_end_of_the_window():
    times, mask = sample_frame_times(9.0, 19.0, video_fps=30, frame_rate=2.0, num_frames=4)
    assert times.tolist() == [17.5, 18.0, 18.5, 19.0]
    assert mask.all()
    indices, _ = frame_indices(9.0, 19.0, video_fps=30, frame_rate=2.0, num_frames=4)
    assert indices.tolist() == [525, 540, 555, 570]


def test_moments_before_the_video_are_left_padding():
    times, mask = sample_frame_times(-7.5, 2.5, video_fps=30, frame_rate=1.0, num_frames=5)
    assert times.tolist() == [-1.5, -0.5, 0.5, 1.5, 2.5]
    assert mask.tolist() == [False, False, True, True, True]
    indices, _ = frame_indices(-7.5, 2.5, video_fps=30, frame_rate=1.0, num_frames=5)
    assert indices.tolist() == [0, 0, 15, 45, 75]


def test_moments_before_the_window_are_left_padding():
    times, mask = sample_frame_times(7.0, 9.0, video_fps=30, frame_rate=1.0, num_frames=4)
    assert times.tolist() == [6.0, 7.0, 8.0, 9.0]
    assert mask.tolist() == [False, True, True, True]


def test_frame_number_is_of_the_frame_shown_and_survives_rounding():
    # 0.1 + 0.2 is 0.30000000000000004, and 0.3 * 10 a little below 3: both are frame 3.
    for end in (0.1 + 0.2, 0.3, 0.39999):
        indices, _ = frame_indices(end - 1, end, video_fps=10, frame_rate=10.0, num_frames=1)
        assert indices.tolist() == [3]


def test_window_that_ends_at_the_first_frame_sees_it():
    times, mask = sample_frame_times(-10.0, 0.0, video_fps=30, frame_rate=1.0, num_frames=3)
    assert mask.tolist() == [False, False, True]
    assert times[-1] == 0


def test_avt_protocol_repeats_the_first_frame_of_a_short_window():
    indices, mask = frame_indices(
        -8.0, 2.0, video_fps=30, frame_rate=1.0, num_frames=5, protocol="avt", source="features"
    )
    assert indices.tolist() == [30, 30, 30, 30, 60]
    assert mask.all()
    times, _ = sample_frame_times(
        -8.0, 2.0, video_fps=30, frame_rate=1.0, num_frames=5, protocol="avt", source="features"
    )
    # 60 frames are spread over [0, 2], including both ends: frame 30, the 30th, is assigned 29 * 2 / 59 s.
    np.testing.assert_allclose(times, [29 * 2 / 59] * 4 + [2.0], atol=1e-6)


def test_features_and_video_differ_under_the_avt_protocol():
    window = {"video_fps": 24, "frame_rate": 1.0, "num_frames": 3, "protocol": "avt"}
    assert frame_indices(0.0, 10.0, **window, source="features")[0].tolist() == [240, 270, 300]
    assert frame_indices(0.0, 10.0, **window, source="video")[0].tolist() == [192, 216, 240]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"window_end_s": -0.1, "window_start_s": -9.0}, "before the first frame"),
        ({"window_end_s": 0.02, "window_start_s": -9.0, "protocol": "avt"}, "before the first frame"),
        ({"window_end_s": 5.0, "window_start_s": 5.0}, "is empty"),
        ({"frame_rate": 0.0}, "frame_rate is 0"),
        ({"num_frames": 0}, "num_frames is 0"),
        ({"video_fps": float("nan")}, "video_fps is nan"),
        ({"protocol": "rulstm"}, "protocol is 'rulstm'"),
        ({"source": "audio"}, "source 'audio'"),
    ],
)
def test_refuses(arguments, message):
    window = {"window_start_s": 0.0, "window_end_s": 10.0, "video_fps": 30, "frame_rate": 1.0, "num_frames": 4}
    with pytest.raises(ValueError, match=message):
        sample_frame_times(**{**window, **arguments})

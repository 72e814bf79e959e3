"""Mean over classes of future frames: compared with a plain loop, by hand, segments as frames, and refusals."""

import itertools

import numpy as np
import pytest

from avt_distill.metrics import frame_labels, mean_over_classes


def test_by_hand():
    # Of 10 frames, 2 are observed. The next 10 % is frame 2, the next 50 % are frames 2 to 6.
    actual = [np.array([0, 0, 1, 1, 1, 2, 2, 3, 3, 3])]
    predicted = [np.array([9, 9, 1, 1, 2, 2, 1])]
    found = mean_over_classes(predicted, actual, observed=0.2, horizons=(0.1, 0.5))
    assert found == {"moc_0.2_0.1": 100.0, "moc_0.2_0.5": pytest.approx(100 * (2 / 3 + 1 / 2) / 2)}


@pytest.mark.parametrize("observed", [0.2, 0.3])
def test_counts_are_summed_over_videos_and_then_averaged_over_classes(observed):
    rng = np.random.default_rng(0)
    actual = [rng.integers(0, 4, rng.integers(20, 200)) for _ in range(6)]
    predicted = [np.where(rng.random(len(video)) < 0.5, video, rng.integers(-100, 6)) for video in actual]
    found = mean_over_classes(predicted, actual, observed=observed)
    assert list(found) == [f"moc_{observed}_{horizon}" for horizon in (0.1, 0.2, 0.3, 0.5)]
    for horizon in (0.1, 0.2, 0.3, 0.5):
        right, counts = np.zeros(4), np.zeros(4)
        for truth, guess in zip(actual, predicted, strict=True):
            for frame in range(int(observed * len(truth)), int((observed + horizon) * len(truth))):
                counts[truth[frame]] += 1
                right[truth[frame]] += truth[frame] == guess[frame]
        assert found[f"moc_{observed}_{horizon}"] == pytest.approx(100 * (right / counts).mean())


def test_classes_that_do_not_occur_are_left_out_and_missing_predictions_are_errors():
    actual = [np.array([0] * 8 + [7] * 2)]
    found = mean_over_classes([np.array([-100] * 4 + [0] * 6)], actual, observed=0.2, horizons=(0.5,))
    assert found == {"moc_0.2_0.5": pytest.approx(100 * 3 / 5)}
    assert np.isnan(mean_over_classes([np.array([0])], [np.array([0])], observed=0.2, horizons=(0.1,))["moc_0.2_0.1"])


def test_segments_become_frames_at_the_files_rate():
    segments = [(3, 0.0, 0.2), (1, 0.2, 0.4), (2, 0.5, 9.0)]
    assert frame_labels(segments, 8, 15).tolist() == [3, 3, 3, 1, 1, 1, -100, -100]
    assert frame_labels(segments, 10, 15, between=0)[6:].tolist() == [0, 0, 2, 2]  # 0.5 s is frame 7.5
    assert frame_labels([], 2, 30).tolist() == [-100, -100]


@pytest.mark.parametrize("frame_rate", [15, 30])
def test_segments_of_whole_frames_are_those_frames_whatever_the_rounding(frame_rate):
    """In floating point, `i / rate * rate` is not exactly `i` for every frame."""
    cuts = np.arange(0, 2001, 7)
    segments = [
        (index, first / frame_rate, last / frame_rate) for index, (first, last) in enumerate(itertools.pairwise(cuts))
    ]
    assert frame_labels(segments, 1995, frame_rate).tolist() == np.repeat(np.arange(285), 7).tolist()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"predicted": []}, "There are 0 predicted and 1 actual videos"),
        ({"observed": 1.0}, "observed is 1.0"),
        ({"horizons": ()}, "horizons is"),
        ({"horizons": (0.9,)}, r"horizons is \(0.9,\): give shares above 0 that end by 1 - 0.2"),
        ({"predicted": [np.zeros(6, int)]}, r"predicted\[0\] has 6 frames, but 0.2 \+ 0.5 of its 10 frames end at 7"),
        ({"predicted": [np.zeros(9)]}, r"predicted\[0\] has shape \(9,\) and type float64"),
        ({"actual": [np.full(10, -100)]}, r"actual\[0\] has -100"),
    ],
)
def test_refuses(changes, message):
    given = {"predicted": [np.zeros(10, int)], "actual": [np.zeros(10, int)], "observed": 0.2, "horizons": (0.5,)}
    with pytest.raises(ValueError, match=message):
        mean_over_classes(**{**given, **changes})


@pytest.mark.parametrize(
    ("segments", "message"),
    [
        ([(0, 0.0, 1.0), (1, 0.9, 2.0)], "the one before ends at 1.0"),
        ([(0, 1.0, 2.0), (1, 0.0, 1.0)], "in the order of time"),
        ([(0, 1.0, 0.5)], "the end not before the start"),
        ([(0, -1.0, 0.5)], "give finite seconds from 0"),
        ([(0, 0.0, float("nan"))], "give finite seconds"),
        ([(-100, 0.0, 1.0)], "give an action id from 0"),
    ],
)
def test_segments_that_are_refused(segments, message):
    with pytest.raises(ValueError, match=message):
        frame_labels(segments, 30, 15)


def test_rates_that_are_refused():
    for num_frames, frame_rate in ((0, 15), (3, 0), (3, float("inf"))):
        with pytest.raises(ValueError, match="give positive numbers"):
            frame_labels([], num_frames, frame_rate)

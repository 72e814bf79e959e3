"""Labels of observed frames and histories, on segments written by hand."""

import numpy as np
import pandas as pd
import pytest

from avt_distill.data.history import action_histories
from avt_distill.data.past_labels import label_frames, shown_actions
from avt_distill.data.rows import RowOptions, can_be_anticipated

# Video a: action 0 in [0, 4), 1 in [4, 10), and within it 2 in [5, 7); video b: 3 in [0, 2), unlabelled [2, 3).
SEGMENTS = pd.DataFrame(
    {
        "video_id": ["a", "a", "a", "b", "b"],
        "start_s": [0.0, 4.0, 5.0, 0.0, 2.0],
        "end_s": [4.0, 10.0, 7.0, 2.0, 3.0],
        "action": [0, 1, 2, 3, -100],
    }
)


def label(times, video="a", **options):
    return label_frames(np.array([video]), np.array([times]), SEGMENTS, **options)[0].tolist()


def test_a_frame_has_the_label_of_its_own_time():
    assert label([0.0, 3.9, 4.0, 12.0, -1.0]) == [0, 0, 1, -100, -100]
    assert label([0.0, 1.9, 2.5], video="b") == [3, 3, -100]
    assert label([1.0], video="c") == [-100]
    assert label([float("nan"), 1.0]) == [-100, 0]


def test_unlabeled_segments_are_not_background():
    times = np.array([[0.0, 1.9, 2.5, 3.0, np.nan], [5.0, 9.9, 10.0, -1.0, 6.0]])
    labels = shown_actions(np.array(["b", "a"]), times, SEGMENTS, num_actions=4)
    assert labels.tolist() == [[3, 3, -100, 4, -100], [2, 1, 4, 4, 2]]


def test_the_nearest_centre_wins_where_segments_overlap():
    # Centres: 7 s for action 1, 6 s for action 2; they are equally near at 6.5 s, where the first in the table wins.
    assert label([5.0, 6.4, 6.5, 6.9]) == [2, 2, 1, 1]


def test_the_reference_takes_the_half_duration_for_the_centre_and_both_ends():
    # Half-durations: 3 s for action 1, 1 s for action 2: action 1 is nearer at all times after 2 s.
    assert label([5.0, 6.0, 7.0], protocol="avt") == [1, 1, 1]
    # At 4.0 both action 0 (half-duration 2) and action 1 (3) apply.
    assert label([4.0], protocol="avt") == [1]


def test_whole_tables_equal_a_plain_loop():
    random = np.random.default_rng(0)
    starts = random.uniform(0, 50, 200)
    segments = pd.DataFrame(
        {
            "video_id": random.choice(["a", "b", "c"], 200),
            "start_s": starts,
            "end_s": starts + random.exponential(4, 200),
            "action": random.integers(0, 9, 200),
        }
    )
    videos, times = random.choice(["a", "b", "c", "d"], 60), random.uniform(-5, 60, (60, 7))
    labels = label_frames(videos, times, segments)
    for video, row, ours in zip(videos, times, labels, strict=True):
        for time_s, action in zip(row, ours, strict=True):
            there = segments[(segments.video_id == video) & (segments.start_s <= time_s) & (time_s < segments.end_s)]
            distance = (there.start_s / 2 + there.end_s / 2 - time_s).abs()
            assert action == (-100 if there.empty else there.action[distance.idxmin()])


@pytest.mark.parametrize(
    ("cutoff", "expected"),
    [("started", [0, 1, 2]), ("ended", [0]), ("segment_start", [0, 1, 2])],
)
def test_history_before_an_action_at_8_s_observed_until_6_s(cutoff, expected):
    rows = pd.DataFrame({"video_id": ["a"], "start_s": [8.0], "observed_end_s": [6.0]})
    assert [list(history) for history in action_histories(rows, SEGMENTS, cutoff=cutoff)] == [expected]


def test_history_rules_differ_in_actions_of_the_gap():
    rows = pd.DataFrame({"video_id": ["a", "b", "c"], "start_s": [5.0, 9.0, 1.0], "observed_end_s": [4.0, 8.0, 0.0]})
    histories = {
        cutoff: action_histories(rows, SEGMENTS, cutoff=cutoff) for cutoff in ("started", "ended", "segment_start")
    }
    # The segment that starts as the window ends cannot have been recognized yet; the unlabelled one is left out.
    assert [list(h) for h in histories["started"]] == [[0], [3], []]
    assert [list(h) for h in histories["ended"]] == [[0], [3], []]
    assert [list(h) for h in histories["segment_start"]] == [[0, 1], [3], []]


@pytest.mark.parametrize("frame", [1, 2, 7, 8])
def test_rounding_does_not_add_an_action_that_starts_as_the_window_ends(frame):
    start_s = (frame + 30) / 30
    rows = pd.DataFrame({"video_id": ["a"], "start_s": [start_s], "observed_end_s": [start_s - 1.0]})
    segments = SEGMENTS[:2].assign(start_s=[0.0, frame / 30], end_s=[frame / 30, 9.0])
    assert [list(history) for history in action_histories(rows, segments, cutoff="started")] == [[0]]
    assert [list(history) for history in action_histories(rows, segments, cutoff="ended")] == [[0]]


def test_rounding_does_not_decide_the_label_of_a_frame_between_two_actions():
    frames = np.arange(1, 200)
    for frame, time_s in zip(frames, (frames + 30) / 30 - 1.0, strict=True):
        segments = SEGMENTS[:2].assign(start_s=[0.0, frame / 30], end_s=[frame / 30, 9.0])
        assert label_frames(np.array(["a"]), np.array([[time_s]]), segments).tolist() == [[1]]


def test_rounding_does_not_drop_an_action_whose_window_ends_with_the_first_frame():
    segments = SEGMENTS[:2].assign(start_s=[0.3, 0.2], end_s=9.0)
    assert can_be_anticipated(segments, RowOptions(tau_a=0.1 + 0.2)).tolist() == [True, False]


def test_history_is_in_order_of_time_whatever_the_order_of_the_file():
    rows = pd.DataFrame({"video_id": ["a"], "start_s": [20.0], "observed_end_s": [19.0]})
    assert list(action_histories(rows, SEGMENTS.iloc[::-1])[0]) == [0, 1, 2]


def test_refuses_another_cutoff():
    with pytest.raises(ValueError, match="history_cutoff is 'before'"):
        action_histories(SEGMENTS, SEGMENTS, cutoff="before")

"""With `tau_a` 0 the window ends where the action starts, and must not show it."""

import pandas as pd
import pytest

from avt_distill.data.rows import RowOptions, anticipation_rows


def rows(segments: list[tuple], **options) -> pd.DataFrame:
    columns = ["start_s", "end_s", "action"]
    table = pd.DataFrame(segments, columns=columns).assign(video_id="a", verb=-100, noun=-100, narration="")
    table["uid"] = [str(row) for row in range(len(table))]
    given = {"tau_a": 0.0, "tau_o": 4.0, "num_frames": 3, "frame_rate": 1.0, **options}
    return anticipation_rows(table, RowOptions(**given), video_fps={"a": 30.0})


SEGMENTS = [(2.0, 5.0, 0), (5.0, 8.0, 1), (9.0, 12.0, 2), (9.0, 10.0, 3)]


def test_the_last_observed_frame_is_not_labelled_with_the_action():
    past = rows(SEGMENTS)["past_actions"].map(list).tolist()
    assert past == [[-100, -100, -100], [0, 0, -100], [1, -100, -100], [1, -100, -100]]


@pytest.mark.parametrize("source", ["video", "features"])
def test_nor_is_it_under_the_references_protocol(source):
    past = rows(SEGMENTS, protocol="avt", source=source)["past_actions"].map(list).tolist()
    for action, labels in enumerate(past):
        assert action not in labels
    assert past[1][-1] == 0  # the frame at the end of action 0, both ends included
    assert past[2] == past[3]
    assert 3 not in past[2]


def test_frames_that_show_what_began_before_keep_their_labels():
    overlapping = rows([(2.0, 8.0, 0), (5.0, 7.0, 1)])
    assert overlapping["past_actions"].map(list).tolist()[1] == [0, 0, 0]


@pytest.mark.parametrize("cutoff", ["started", "ended", "segment_start"])
def test_a_history_never_holds_the_action(cutoff):
    """Also holds for an action of length zero, which ends when it starts."""
    histories = rows([(2.0, 3.0, 0), (5.0, 5.0, 1)], history_cutoff=cutoff)["history"].map(list).tolist()
    assert histories == [[], [0]]


def test_with_a_gap_nothing_changes():
    past = rows(SEGMENTS, tau_a=0.5)["past_actions"].map(list).tolist()
    assert past == [[-100, -100, -100], [0, 0, 0], [1, 1, -100], [1, 1, -100]]


@pytest.mark.parametrize(("name", "value"), [("tau_a", -2), ("num_frames", 2.5), ("tau_a", float("nan"))])
def test_invalid_windows_are_refused(name, value):
    with pytest.raises(ValueError, match=f"{name} is {value}: give"):
        rows(SEGMENTS, **{name: value})

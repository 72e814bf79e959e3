"""Faulty camera clocks: frames stamped far ahead, clocks set back. Streams continue, and log how they handled it."""

import logging
import math

import numpy as np
import pytest
import torch
from helpers.readers import reading_model
from helpers.tiny_models import tiny_model

from modeling_avt import AVTStream
from modeling_avt.stream_inputs_avt import Verdict, judge

HOUR_S = 3600.0


@pytest.fixture(scope="module")
def model():
    return tiny_model()


def clock(until_s: float, from_s: float = 0.0) -> list[float]:
    """Returns times of a camera of 4 frames/s, which floats represent exactly."""
    return [number / 4 for number in range(round(from_s * 4), round(until_s * 4))]


def watch(stream: AVTStream, times_s) -> dict[float, torch.Tensor]:
    """Calls `watch_rows` with rows that depend only on their number."""
    return watch_rows(stream, rows_of(times_s), times_s)


def watch_rows(stream: AVTStream, rows, times_s) -> dict[float, torch.Tensor]:
    """Pushes rows as the loop in the README does, and returns the logits of each answer by its `at_s`."""
    answers = {}
    for row, time_s in zip(rows, times_s, strict=True):
        if answer := stream.push(row, time_s):
            answers[answer[0]["at_s"]] = stream.logits
    return answers


def rows_of(times_s) -> torch.Tensor:
    return torch.randn(len(times_s), 12, generator=torch.Generator().manual_seed(0))


def assert_equal(answers: dict, expected: dict):
    assert list(answers) == list(expected)
    for at_s, logits in answers.items():
        torch.testing.assert_close(logits, expected[at_s], atol=1e-6, rtol=0)


@pytest.mark.parametrize(
    "outliers",
    [
        [HOUR_S],
        [2**33 / 90_000],  # MPEG's clock wraps around
        [9.2e18],
        [1e300],
        [-1e300],
        [-HOUR_S],
        [7e5, 3e5, 1e5],
        [HOUR_S, -HOUR_S, 2 * HOUR_S, -2 * HOUR_S],
        [HOUR_S] * 5,  # a repetition confirms nothing
    ],
)
def test_frames_stamped_far_off_are_as_if_they_had_never_come(model, outliers):
    """Such frames are set aside, and dropped when the next one continues the clock; answers are not affected."""
    times_s = clock(7)
    expected = watch_rows(model.stream(), rows_of(times_s), times_s)
    stream, rows = model.stream(), rows_of(times_s)
    answers = watch_rows(stream, rows[:17], times_s[:17])
    for outlier in outliers:
        assert stream.push(torch.ones(12), outlier) is None
    answers |= watch_rows(stream, rows[17:], times_s[17:])
    assert_equal(answers, expected)
    assert stream.num_left_out == len(set(outliers))
    assert stream.num_restarts == 0


@pytest.mark.parametrize("outlier", [HOUR_S, -HOUR_S])
def test_a_far_off_frame_every_other_time(model, outlier):
    """As if two cameras shared a stream: it follows the first one."""
    times_s = clock(10)
    stream, rows, answers = model.stream(), rows_of(times_s), {}
    for row, time_s in zip(rows, times_s, strict=True):
        answers |= watch_rows(stream, [row], [time_s])
        assert stream.push(torch.ones(12), time_s + outlier) is None
    assert_equal(answers, watch_rows(model.stream(), rows, times_s))
    assert (stream.num_left_out, stream.num_restarts) == (len(times_s) - 1, 0)  # the last one is set aside


@pytest.mark.parametrize("ran_s", [3.0, 6.0, HOUR_S])
@pytest.mark.parametrize("restarts_at_s", [0.0, -5.0])
def test_a_clock_that_restarts_begins_a_new_video(model, ran_s, restarts_at_s):
    """Also if it ran for less than `max_gap_s`: otherwise a camera that restarts repeatedly would never be answered."""
    before = [0.0, *clock(ran_s, max(ran_s - 5, 0.25))]
    after = clock(restarts_at_s + 5, restarts_at_s)
    stream, fresh = model.stream(max_gap_s=math.inf), model.stream()
    watch_rows(stream, rows_of(before), before)
    rows = rows_of(after)
    assert stream.push(rows[0], after[0]) is None
    answers = {}
    for row, time_s in zip(rows[1:], after[1:], strict=True):
        answers |= watch_rows(stream, [row], [time_s])
    expected = watch_rows(fresh, rows, after)
    assert list(expected) == [restarts_at_s + second for second in range(5)]
    assert_equal(answers, expected)
    assert (stream.num_restarts, stream.num_left_out, stream.start_s) == (1, 0, restarts_at_s)


def test_a_camera_that_restarts_again_and_again_is_answered_each_time(model):
    stream = model.stream()
    for restart in range(4):
        answers = watch(stream, clock(6))
        assert list(answers) == [0, 1, 2, 3, 4, 5], restart
        assert stream.num_restarts == restart
    stream.reset()
    assert (stream.num_restarts, stream.num_left_out, stream.start_s, stream.time_s) == (0, 0, None, None)


def test_a_reader_begins_anew_with_the_clock():
    model = reading_model()
    stream, fresh = model.stream(), model.stream()
    watch(stream, clock(20))
    assert watch(stream, clock(5)).keys() == watch(fresh, clock(5)).keys()
    assert stream.reader.num_frames == fresh.reader.num_frames
    torch.testing.assert_close(stream.reader.next_action(), fresh.reader.next_action())
    assert all(entry["start_s"] <= 5 for entry in stream.advance(5.0)[0]["history"])


@pytest.mark.parametrize("gap_s", [60.0, 61.0, 1e8])
@pytest.mark.parametrize("fps", [1.0, 4.0])
def test_a_gap_loses_no_frame_and_no_window(model, gap_s, fps):
    """After a gap longer than `max_gap_s`, the first answer comes with the second frame."""
    times_s = [i / fps for i in range(8)]
    times_s += [times_s[-1] + gap_s + i / fps for i in range(8)]
    patient, believing = model.stream(), model.stream(max_gap_s=math.inf)
    rows = rows_of(times_s)
    answers, expected = watch_rows(patient, rows, times_s), watch_rows(believing, rows, times_s)
    assert (patient.num_left_out, patient.num_restarts) == (0, 0)
    # The frame that confirms the one set aside completes a newer answer itself.
    missing = set(expected) - set(answers)
    assert missing == ({math.floor(times_s[8])} if gap_s > 60 else set())
    for at_s, logits in answers.items():
        torch.testing.assert_close(logits, expected[at_s], atol=1e-6, rtol=0)


def test_a_camera_slower_than_the_longest_gap_is_answered_a_frame_later(model):
    times_s = [100.0 * i for i in range(10)]
    stream, believing, rows = model.stream(), model.stream(max_gap_s=math.inf), rows_of(times_s)
    answers, expected = watch_rows(stream, rows, times_s), watch_rows(believing, rows, times_s)
    answer = stream.advance(900.0)  # its last frame
    assert answer[0]["at_s"] == 900
    assert_equal({**answers, 900.0: stream.logits}, expected)
    assert stream.num_left_out == 0


def test_the_last_frame_of_a_video_is_answered_by_advance(model):
    stream, believing = model.stream(), model.stream(max_gap_s=math.inf)
    first, last = rows_of([0, 1])
    stream.push(first, 0.0), believing.push(first, 0.0)
    assert stream.push(last, HOUR_S) is None
    assert stream.advance(10.0)[0]["at_s"] == 10  # before the frame that is set aside, which is kept
    assert stream.advance(HOUR_S + 0.5) == believing.push(last, HOUR_S)
    assert (stream.num_left_out, stream.time_s) == (0, HOUR_S + 0.5)


def test_advance_between_a_jump_and_the_frame_that_confirms_it(model):
    stream = model.stream()
    rows = rows_of([0, 1, 2])
    stream.push(rows[0], 0.0)
    assert stream.push(rows[1], 61.0) is None
    stream.advance(30.0)
    assert stream.push(rows[2], 61.25)[0]["at_s"] == 61
    assert stream.num_left_out == 0


def test_advance_confirms_a_clock_that_was_set(model):
    stream = model.stream()
    watch(stream, clock(HOUR_S, HOUR_S - 5))
    assert stream.push(torch.ones(12), 0.0) is None
    with pytest.raises(ValueError, match="give a later time"):
        stream.advance(-1.0)
    assert stream.advance(2.0)[0]["at_s"] == 2
    assert (stream.start_s, stream.time_s, stream.num_restarts) == (0, 2, 1)
    with pytest.raises(ValueError, match="more than 30 years after"):
        stream.advance(1e300)


def test_frames_out_of_order_are_left_out(model):
    times_s = clock(10)
    expected = watch_rows(model.stream(), rows_of(times_s), times_s)
    stream, answers = model.stream(), {}
    for number, (row, time_s) in enumerate(zip(rows_of(times_s), times_s, strict=True)):
        answers |= watch_rows(stream, [row], [time_s])
        if number >= 4:
            for late_s in (0.9, 0.6, 0.3):
                assert stream.push(torch.ones(12), time_s - late_s) is None
    assert_equal(answers, expected)
    assert (stream.num_left_out, stream.num_restarts) == (3 * 36, 0)


def test_an_outlier_within_the_longest_gap_costs_one_frame(model):
    """The outlier is accepted; the clock then seems to be set back, and continues with the second frame."""
    stream = model.stream()
    watch(stream, clock(5))
    assert stream.push(torch.ones(12), 30.0)[0]["at_s"] == 30
    answers = watch(stream, clock(10, 5))
    assert list(answers) == [5, 6, 7, 8, 9]
    assert stream.num_restarts == 1


@pytest.mark.parametrize("first_s", [-9.2e18, 0.0, 1e300, 2**33 / 90_000])
def test_a_first_frame_with_a_wild_time(model, first_s):
    """Such as 0, before the camera has set its clock."""
    stream, times_s = model.stream(), [1.7e9 + time_s for time_s in clock(5)]
    stream.push(torch.ones(12), first_s)
    assert_equal(watch(stream, times_s), watch(model.stream(), times_s))
    assert stream.num_restarts == 1


def test_what_was_done_is_logged_once_of_each_kind(model, caplog):
    stream = model.stream()
    with caplog.at_level(logging.WARNING):
        watch(stream, [*clock(5), HOUR_S, 5.0, HOUR_S, *clock(10, 5.25), *clock(5), *clock(5)])
    left_out, restarted = [record.getMessage() for record in caplog.records]
    assert left_out.startswith(
        "A frame at 3600.000 s was left out: it does not fit the stream's clock, which is at 4.750"
    )
    assert restarted.startswith("The clock of the frames was set from 9.750 s to 0.000 s: a new video begins")
    assert (stream.num_left_out, stream.num_restarts) == (2, 2)


def test_refused_frames_change_nothing_about_the_one_set_aside(model):
    times_s = [*clock(5), *clock(HOUR_S + 5, HOUR_S)]
    expected, stream, answers = watch(model.stream(), times_s), model.stream(), {}
    for row, time_s in zip(rows_of(times_s), times_s, strict=True):
        for frame, moment, message in ((row, math.nan, "give seconds"), (row * math.nan, time_s, "NaN")):
            with pytest.raises(ValueError, match=message):
                stream.push(frame, moment)
        answers |= watch_rows(stream, [row], [time_s])
    assert_equal(answers, expected)


def test_a_failing_model_leaves_the_frame_set_aside(model, monkeypatch):
    stream, rows = model.stream(), rows_of([0, 1, 2, 3])
    stream.push(rows[0], 50.0)
    stream.push(rows[1], 0.0)
    with monkeypatch.context() as patch:
        patch.setattr(model.avt.head, "forward", lambda *_, **__: (_ for _ in ()).throw(RuntimeError("out of memory")))
        with pytest.raises(RuntimeError, match="out of memory"):
            stream.push(rows[2], 0.25)
    assert (stream.start_s, stream.num_restarts) == (50, 0)
    assert stream.push(rows[2], 0.25)[0]["at_s"] == 0
    assert stream.num_restarts == 1


def test_streams_pushed_together_judge_each_their_own_clock(model):
    clocks = [clock(10), [*clock(5), *clock(5)], [*clock(5), *clock(HOUR_S + 5, HOUR_S)]]
    together, alone = [model.stream() for _ in clocks], [model.stream() for _ in clocks]
    rows = rows_of(clocks[0])
    for number, row in enumerate(rows):
        times_s = [times_s[number] for times_s in clocks]
        answers = AVTStream.push_together(together, [row] * 3, times_s)
        for answer, stream, time_s in zip(answers, alone, times_s, strict=True):
            own = stream.push(row, time_s)
            assert (answer and answer[0]["at_s"]) == (own and own[0]["at_s"])
    assert [stream.num_restarts for stream in together] == [0, 1, 0]
    for ours, theirs in zip(together, alone, strict=True):
        torch.testing.assert_close(ours.logits, theirs.logits, atol=1e-5, rtol=0)


def test_no_clock_silences_a_stream():
    """Clocks of 4 frames/s jump at random: whatever happened before, a regular clock is soon answered again."""
    model, random = tiny_model(), np.random.default_rng(0)
    for _ in range(4):
        stream, time_s = model.stream(), 0.0
        for row in rows_of(range(40)):
            if random.random() < 0.2:
                time_s += random.normal() * 10 ** random.uniform(-1, 6)
            time_s += 0.25
            stream.push(row, time_s)
        wild = random.normal() * 10 ** random.uniform(0, 9)
        answers = watch(stream, [wild + moment for moment in clock(6)])
        assert len(answers) >= 4
        assert max(answers) > wild + 4


@pytest.mark.parametrize(
    ("elapsed_s", "aside_s", "verdict"),
    [
        (10.5, None, Verdict.GOES_ON),
        (70.0, None, Verdict.GOES_ON),
        (70.1, None, Verdict.JUMPS),
        (10.0, None, Verdict.REPEATED),
        (9.0, None, Verdict.OUT_OF_ORDER),
        (8.9, None, Verdict.JUMPS),
        (10.5, 100.0, Verdict.GOES_ON),
        (99.0, 100.0, Verdict.JUMPS),
        (100.0, 100.0, Verdict.REPEATED),
        (100.1, 100.0, Verdict.CONFIRMS),
        (900.0, 100.0, Verdict.CONFIRMS),
        (9.5, 100.0, Verdict.OUT_OF_ORDER),
        (2.0, 100.0, Verdict.JUMPS),
        (3.1, 3.0, Verdict.CONFIRMS),
        (2.9, 3.0, Verdict.JUMPS),
        (9.5, 3.0, Verdict.OUT_OF_ORDER),
        (10.5, 3.0, Verdict.GOES_ON),
        (100.0, 3.0, Verdict.JUMPS),
    ],
)
def test_verdicts(elapsed_s, aside_s, verdict):
    """Verdicts of a stream that is at 10 s and accepts gaps of up to a minute."""
    after_aside_s = None if aside_s is None else elapsed_s - aside_s
    assert judge(elapsed_s - 10, elapsed_s - 10, after_aside_s, 60.0) is verdict

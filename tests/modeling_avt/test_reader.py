"""The reader: equal to exact enumeration, causal, the same online and offline, with clear errors for invalid input."""

import copy
import itertools

import numpy as np
import pytest
import torch
from helpers.readers import ACTIONS, loglinear_reader, ngram_reader, noise, random_reader, settings

from modeling_avt.reader_avt import HistoryReader, pool
from modeling_avt.transitions_avt import text_state

NUM_ACTIONS = len(ACTIONS)


def sure(action: int) -> np.ndarray:
    """Returns a perfect recognizer's log probabilities; `NUM_ACTIONS` is the background."""
    return np.where(np.arange(NUM_ACTIONS + 1) == action, 0.0, -1e4)


def after(reader: HistoryReader, history) -> np.ndarray:
    """Returns the transition model's own probabilities after a true history."""
    return np.exp(reader.transitions.log_probs(*text_state(reader.transitions, [history]))[0])


def forbid_repeats(reader: HistoryReader) -> HistoryReader:
    """Excludes repetitions, which look like one long action: without them, frames determine the history."""
    transitions = reader.transitions
    transitions.last_weights[0, :NUM_ACTIONS] -= 1e4 * torch.eye(NUM_ACTIONS)
    return reader


def test_perfect_recognizer_answers_as_the_transition_model_on_the_true_history():
    reader, history, frames = forbid_repeats(loglinear_reader(evidence_weight=1.0)), [], 0
    reader = reader.begin_video()
    for action in (2, 0, 2, 1, 2):
        history.append(action)
        for shown in [action] * 4 + [NUM_ACTIONS] * 2:
            reader.update(sure(shown), frames / 2)
            frames += 1
        expected = after(reader, history)
        np.testing.assert_allclose(reader.upcoming_action().exp(), expected, atol=1e-8)
        np.testing.assert_allclose(reader.next_action(0.5).exp(), expected, atol=1e-8)
        assert [entry["action"] for entry in reader.history()] == history
    assert [entry["start_s"] for entry in reader.history()] == [0, 3, 6, 9, 12]
    assert all(entry["probability"] == pytest.approx(1) for entry in reader.history())


def enumerated(reader: HistoryReader, frames: np.ndarray, ahead: int):
    """Returns P(start `ahead` frames later), P(next) and log likelihood, summed over every path of hidden states."""
    leave_phase, gap_after = reader.leave_phase.double().numpy(), reader.gap_after.double().numpy()
    leave_gap, leave_start, num_phases = float(reader.leave_gap), float(reader.leave_start), reader.settings.num_phases

    def moves(history, phase):  # phase 0: a gap
        if phase == 0:
            leave = leave_gap if history else leave_start
            yield (history, 0), 1 - leave, None
        else:
            leave = leave_phase[history[-1]]
            yield (history, phase), 1 - leave, None
            if phase < num_phases:
                yield (history, phase + 1), leave, None
                return
            yield (history, 0), leave * gap_after[history[-1]], None
            leave *= 1 - gap_after[history[-1]]
        for action, chance in enumerate(after(reader, history)):
            yield ((*history, action), 1), leave * chance, action

    def a_frame_on(paths, frame=None):
        following, starts = {}, np.zeros(NUM_ACTIONS)
        for state, weight in paths.items():
            for (history, phase), chance, action in moves(*state):
                shown = 1.0 if frame is None else np.exp(frame[history[-1] if phase else NUM_ACTIONS])
                following[history, phase] = following.get((history, phase), 0) + weight * chance * shown
                if action is not None:
                    starts[action] += weight * chance
        return following, starts

    log_posterior = frames - np.log(np.exp(frames).sum(1, keepdims=True))
    log_prior = reader.log_prior.double().log_softmax(0).numpy()
    evidence = reader.settings.evidence_weight * (log_posterior - log_prior)
    paths = {((), 0): 1.0}
    for frame in evidence:
        paths, _ = a_frame_on(paths, frame)
    total = sum(paths.values())
    upcoming = sum(weight * after(reader, history) for (history, _), weight in paths.items()) / total
    for _ in range(ahead):
        paths, starts = a_frame_on(paths)
    return starts / starts.sum(), upcoming, np.log(total)


@pytest.mark.parametrize("ahead", [1, 3])
@pytest.mark.parametrize(
    "build",
    [
        loglinear_reader,
        lambda **o: loglinear_reader(length=2, **o),
        lambda **o: ngram_reader(3, **o),
        lambda **o: ngram_reader(1, **o),
    ],
)
def test_a_beam_that_holds_all_hypotheses_is_exact(build, ahead):
    reader, frames = build(beam=10_000, min_start=0.0, num_phases=2), noise(6)
    reader.read(frames, np.arange(6) / 2)
    starts, upcoming, log_likelihood = enumerated(reader, frames, ahead)
    np.testing.assert_allclose(reader.next_action(ahead / 2).exp(), starts, rtol=1e-7)
    np.testing.assert_allclose(reader.upcoming_action().exp(), upcoming, rtol=1e-7)
    assert reader.log_likelihood == pytest.approx(log_likelihood, rel=1e-10)


def test_an_ignorant_recognizer_gives_the_prior_over_time():
    prior = loglinear_reader().log_prior.double().numpy()
    reader, shifted = loglinear_reader(beam=10_000, min_start=0.0), loglinear_reader(beam=10_000, min_start=0.0)
    reader.read(np.tile(prior, (6, 1)), np.arange(6) / 2)
    shifted.read(np.tile(prior + 7.0, (6, 1)), np.arange(6) / 2)  # a constant carries no evidence either
    unseen = enumerated(reader, np.tile(prior, (6, 1)), 2)
    np.testing.assert_allclose(reader.next_action(1.0).exp(), unseen[0], rtol=1e-7)
    np.testing.assert_allclose(reader.next_action(1.0), shifted.next_action(1.0), rtol=1e-12)
    assert reader.log_likelihood == pytest.approx(0, abs=1e-12)


def test_time_without_frames_passes_as_with_uninformative_frames():
    frames, prior = noise(8), loglinear_reader().log_prior.double().numpy()
    gap, filled = loglinear_reader(), loglinear_reader()
    for time in (0, 1, 5, 6):
        gap.update(frames[time], time / 2)
    for time in range(7):
        filled.update(prior if time in (2, 3, 4) else frames[time], time / 2)
    np.testing.assert_allclose(gap.next_action(), filled.next_action(), rtol=1e-9)
    assert gap.num_frames == filled.num_frames == 7


def test_nothing_after_the_window_counts_and_asking_changes_nothing():
    past, answers = noise(30), []
    for seed in (1, 2):
        reader = random_reader(beam=20)
        for time, frame in enumerate(np.concatenate([past, noise(30, seed)])):
            reader.update(frame, time / 2)
            if seed == 1:
                reader.next_action(3.0), reader.upcoming_action(), reader.expected_in_s()  # at every frame, or once
            if time == 29:
                answers.append((reader.next_action(1.5), reader.upcoming_action(), reader.expected_in_s()))
    for first, second in zip(*answers, strict=True):
        np.testing.assert_array_equal(first, second)


def test_a_stream_answers_as_each_window_read_anew():
    frames, stream = noise(25), random_reader(beam=20)
    offline = random_reader(beam=20).read(frames, np.arange(25) / 2, tau_a=1.0)
    for end, frame in enumerate(frames, 1):
        stream.update(frame, (end - 1) / 2)
        window = random_reader(beam=20)
        window.read(frames[:end], np.arange(end) / 2)
        np.testing.assert_array_equal(stream.next_action(1.0), window.next_action(1.0))
        np.testing.assert_array_equal(stream.next_action(1.0), offline[end - 1])
        assert stream.history() == window.history()


def test_rounding_of_times_does_not_decide_how_far_ahead_a_reader_looks():
    """At every moment halfway between two frames, tau_a reaches halfway between two frames, too: the later one."""
    reader, log_probs = loglinear_reader(frame_rate=5.0), noise(21)
    ahead = loglinear_reader(frame_rate=5.0)
    for moment in range(1, 40, 2):
        read = 1 + moment // 2
        answers = ahead.read(log_probs[:read], np.arange(read) / 5, tau_a=6 / 5)
        [(answer, _)] = reader.answers_at([moment * 0.1], log_probs[:read], np.arange(read) / 5, tau_a=1.0)
        torch.testing.assert_close(answer, answers[-1])
        torch.testing.assert_close(reader.timeline(0.4, moment * 0.1), ahead.timeline(0.6)[1:])


def test_a_reader_used_before_answers_as_a_new_one():
    used, new = random_reader(beam=20), random_reader(beam=20)
    used.read(noise(30, 5), np.arange(30) / 2)
    again = used.begin_video()
    np.testing.assert_array_equal(again.read(noise(30, 6), np.arange(30)), new.read(noise(30, 6), np.arange(30)))
    assert used.num_frames == 30  # frames of the other video are not counted


@pytest.mark.parametrize("build", [loglinear_reader, lambda **o: ngram_reader(3, **o)])
def test_merged_histories_stay_merged(build):
    """The text state after an action depends only on the text state before it, so that merged histories stay equal."""
    transitions, after_action = build().transitions, {}
    for history in itertools.product(range(NUM_ACTIONS), repeat=4):
        for action in range(NUM_ACTIONS):
            key = (*(part.tobytes() for part in text_state(transitions, [history])), action)
            state = [part.tobytes() for part in text_state(transitions, [(*history, action)])]
            assert after_action.setdefault(key, state) == state


def test_a_narrow_beam_is_close():
    frames, answers = 3 * noise(60), []
    for options in ({"beam": 60}, {"beam": 10_000, "min_start": 0.0}):
        reader = random_reader(**options)
        reader.read(frames, np.arange(60))
        answers.append(reader.next_action().exp())
    assert (answers[0] - answers[1]).abs().max() < 0.02


def test_the_likeliest_followers_are_close():
    count, answers = 30, []
    for options in ({"followers": 15}, {"min_start": 0.0}):
        reader = random_reader(num_actions=count, beam=300, **options)
        reader.read(noise(20, num_actions=count), np.arange(20))
        answers.append(reader.next_action(2.0).exp())
    assert (answers[0] - answers[1]).abs().max() < 0.02
    assert answers[0].sum() == pytest.approx(1)


def test_probability_of_other_actions_than_followers_is_not_lost():
    """A unigram ignores frames: its two likeliest actions keep their probabilities, and the third gets the rest."""
    reader = ngram_reader(1, followers=2)
    reader.read(noise(5), np.arange(5) / 2)
    unigram = reader.transitions.context_log_probs[0].double().exp().numpy()
    prior = reader.log_prior.double().exp().numpy()[:-1]
    kept = np.sort(np.argsort(unigram)[1:])
    expected = np.where(np.isin(np.arange(3), kept), unigram, 0.0)
    expected += (1 - expected.sum()) * prior / prior.sum()
    np.testing.assert_allclose(reader.upcoming_action().exp(), expected, rtol=1e-6)
    np.testing.assert_allclose(reader.next_action(0.5).exp(), expected, rtol=1e-6)


def test_verbs_and_nouns_apart_equal_one_model_of_all_pairs():
    """With two verbs and two nouns, compares with the sum of the parts' weights."""
    from modeling_avt.transitions_avt import LogLinearTransitions

    parts = LogLinearTransitions(4, num_parts=4, parts_per_action=2)
    parts.action_parts.copy_(torch.tensor([[0, 2], [0, 3], [1, 2], [1, 3]]))
    generator = torch.Generator().manual_seed(0)
    for buffer in (parts.last_weights, parts.past_weights, parts.bias):
        buffer.normal_(generator=generator)
    history = [1, 2]  # verb 0 noun 3, verb 1 noun 2: all four parts happened
    found = parts.log_probs(*text_state(parts, [history]))[0]
    scores = parts.last_weights[0, 1] + parts.last_weights[0, 2] + parts.past_weights.sum(0)
    expected = torch.stack([scores[verb] + scores[noun] for verb in (0, 1) for noun in (2, 3)]) + parts.bias
    np.testing.assert_allclose(found, expected.log_softmax(-1), atol=1e-6)


def test_expected_start_is_the_mean_over_time():
    """Compares with the sum over k of P(no start before frame k)."""
    reader = random_reader(num_phases=2, min_start=0.0, beam=1000)
    reader.read(noise(5), np.arange(5) / 2)
    tables, beam = reader._reading.tables, reader._reading.beam
    expected, waiting = 0.0, 1.0
    for _ in range(2000):
        expected += waiting
        moved, _starting = reader._reading._step(beam)
        beam = copy.copy(beam)
        beam.log_weights = moved
        waiting = float(np.exp(moved).sum())
    assert tables.frames_to_start.shape == (NUM_ACTIONS + 1, 3)
    assert reader.expected_in_s() == pytest.approx(expected / 2, rel=1e-6)


def test_memory_is_constant_over_a_long_video():
    reader = random_reader(beam=50)
    sizes = set()
    for time in range(3000):
        reader.update(5 * noise(1, time)[0], time / 2)
        beam = reader._reading.beam
        sizes.add(sum(getattr(beam, name).nbytes for name in vars(beam)) // len(beam.last))
    assert len(sizes) == 1
    assert len(beam.last) <= 50
    assert len(reader.history()) == 64  # the newest ones


def test_what_cannot_be_read_is_refused_and_changes_nothing():
    reader, untouched = random_reader(), random_reader()
    for time, frame in enumerate(noise(5)):
        reader.update(frame, time / 2), untouched.update(frame, time / 2)
    for frame, time_s, message in (
        (noise(1)[0], 1.0, "time_s is 1.0, but the reader is at 2.0 s"),
        (noise(1)[0], 2.0, "give frames in order"),
        (noise(1)[0], np.nan, "time_s is nan"),
        (noise(1)[0, :-1], 2.5, r"shape \(3,\): this reader was fitted on 3 actions and needs \(4,\)"),
        (np.full(4, np.nan), 2.5, "frame_log_probs is not finite"),
        (np.array([0, 0, 0, -np.inf]), 2.5, "frame_log_probs is not finite"),
    ):
        with pytest.raises(ValueError, match=message):
            reader.update(frame, time_s)
    with pytest.raises(ValueError, match=r"the last frame is at 2\.0 s: give that time or a later one"):
        reader.next_action(1.0, at_s=1.0)
    with pytest.raises(ValueError, match="tau_a is -1"):
        reader.next_action(-1.0)
    np.testing.assert_array_equal(reader.next_action(), untouched.next_action())


def test_a_first_frame_without_a_time_begins_no_video():
    reader = random_reader()
    with pytest.raises(ValueError, match="time_s is inf"):
        reader.update(noise(1)[0], np.inf)
    with pytest.raises(ValueError, match="The reader has not read any frame"):
        reader.next_action()
    assert reader.history() == []
    assert reader.num_frames == 0


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"frame_rate": 0}, "frame_rate is 0"),
        ({"frame_rate": "1"}, "frame_rate is '1'"),
        ({"frame_rate": 1e9}, "frame_rate is 1000000000.0: give a finite number of frames per second"),
        ({"evidence_weight": float("nan")}, "evidence_weight is nan"),
        ({"num_phases": 1.0}, "num_phases is 1.0"),
        ({"beam": True}, "beam is True"),
        ({"followers": "all"}, "followers is 'all': give a whole number, 1 or more, or None"),
        ({"actions": 5}, "actions is 5: give text"),
        ({"transitions": "ngram"}, "transitions is 'ngram': give a dict"),
        ({"transitions": {"kind": "ngram", "order": 0, "num_contexts": 1}}, "The transitions' order is 0"),
        ({"transitions": {"kind": "ngram", "order": 2}}, "lack 'num_contexts'"),
        ({"transitions": {"kind": "log_linear", "length": -1}}, "The transitions' length is -1"),
        ({"transitions": {"kind": "log_linear", "width": 1}}, "transitions of kind 'log_linear' have 'width'"),
        ({"fusion_weights": "01"}, "fusion_weights are '01'"),
        ({"fusion_weights": [1.0]}, r"fusion_weights are \[1.0\]: give two numbers"),
        ({"fusion_weights": [1.0, float("inf")]}, "fusion_weights are"),
        ({"evidence_weight": -1.0}, "evidence_weight is -1.0"),
        ({"beam": 0}, "beam is 0"),
        ({"followers": 0}, "followers is 0"),
        ({"min_start": 1.0}, "min_start is 1.0"),
        ({"fusion_weights": [1.0, -0.5]}, r"fusion_weights are \[1.0, -0.5\]"),
        ({"fusion_weights": [0.0, 0.0]}, "fusion_weights"),
        ({"transitions": {"kind": "copy"}}, "transitions are of kind 'copy'"),
    ],
)
def test_settings_out_of_range_are_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        HistoryReader(settings(**changes), NUM_ACTIONS)


def test_casting_keeps_the_tables_and_moving_moves_them():
    reader = random_reader()
    expected = reader.read(noise(5), np.arange(5))
    torch.testing.assert_close(reader.to(torch.bfloat16).read(noise(5), np.arange(5)), expected, rtol=0, atol=0)
    assert reader.leave_phase.dtype == torch.float32
    assert reader.to("meta").leave_phase.device.type == "meta"


def test_pool_is_the_weighted_product_of_probabilities():
    of_model, of_reader = torch.tensor([0.2, 0.8]).log(), torch.tensor([0.5, 0.5]).log()
    expected = torch.tensor([0.2**0.5, 0.8**0.5])
    torch.testing.assert_close(pool(of_model + 3, of_reader, (0.5, 1.0)).exp(), expected / expected.sum())

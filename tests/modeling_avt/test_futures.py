"""Beyond the next action: sequences and timelines, exact where they can be enumerated, and the same in a stream."""

import itertools

import numpy as np
import pytest
import torch
from helpers.readers import ACTIONS, loglinear_reader, ngram_reader, noise, reading_model
from helpers.tiny_models import processor_of, tiny_config, tiny_encoder_config, tiny_model
from helpers.videos import numbered_frames

from modeling_avt import ActionAnticipationPipeline
from modeling_avt.futures_avt import Question, of_steps, spans
from modeling_avt.transitions_avt import text_state

NUM_ACTIONS = len(ACTIONS)
ALL_TRIPLES = list(itertools.product(range(NUM_ACTIONS), repeat=3))


def read(reader, frames):
    reader = reader.begin_video()
    for number, frame in enumerate(frames):
        reader.update(frame, number / reader.settings.frame_rate)
    return reader


def sure(*shown: int) -> np.ndarray:
    return np.where(np.arange(NUM_ACTIONS + 1) == np.array(shown)[:, None], 0.0, -1e4)


def as_dict(sequences, log_probs) -> dict[tuple[int, ...], float]:
    return dict(zip(map(tuple, sequences.tolist()), log_probs.exp().tolist(), strict=True))


# Sequences


def test_sequences_after_a_certain_history_equal_the_transition_model():
    reader = loglinear_reader(evidence_weight=1.0, length=2)
    reader.transitions.last_weights[0, :NUM_ACTIONS] -= 1e4 * torch.eye(NUM_ACTIONS)  # no repetitions, which look alike
    reader = read(reader, sure(2, 2, NUM_ACTIONS, 0, 0))
    expected = {}
    for sequence in ALL_TRIPLES:
        history, probability = [2, 0], 1.0
        for action in sequence:
            state = text_state(reader.transitions, [history])
            probability *= float(np.exp(reader.transitions.log_probs(*state)[0, action]))
            history.append(action)
        expected[sequence] = probability
    found = as_dict(*reader.next_actions(3, 27))
    assert found == pytest.approx(expected, abs=1e-8)
    assert list(found) == sorted(found, key=found.get, reverse=True)


def test_over_uncertain_histories_sequences_are_sums():
    """The future of a bigram model depends only on the first action."""
    reader = read(ngram_reader(2), noise(6))
    first = reader.upcoming_action().exp().tolist()
    bigram = np.exp(reader.transitions.log_probs(*text_state(reader.transitions, [[a] for a in range(NUM_ACTIONS)])))
    expected = {(a, b, c): first[a] * bigram[a, b] * bigram[b, c] for a, b, c in ALL_TRIPLES}
    assert as_dict(*reader.next_actions(3, 27)) == pytest.approx(expected, abs=1e-8)


def test_the_likeliest_are_the_likeliest_of_all():
    reader = read(loglinear_reader(length=2), noise(8))
    every = as_dict(*reader.next_actions(3, 27))
    assert sum(every.values()) == pytest.approx(1)
    few = as_dict(*reader.next_actions(3, 4))
    assert few == pytest.approx(dict(itertools.islice(every.items(), 4)))


def test_samples_are_as_frequent_as_sequences_are_likely():
    reader = read(loglinear_reader(length=2), noise(8))
    torch.manual_seed(0)
    sequences, log_probs = reader.next_actions(3, 10_000, do_sample=True)
    assert sequences.shape == (10_000, 3)
    assert (log_probs <= 0).all()
    drawn = np.bincount(sequences.numpy() @ [9, 3, 1], minlength=27) / 10_000
    every = as_dict(*reader.next_actions(3, 27))
    for sequence, probability in every.items():
        deviation = (probability * (1 - probability) / 10_000) ** 0.5
        assert abs(drawn[np.dot(sequence, [9, 3, 1])] - probability) < 5 * deviation
    torch.manual_seed(0)
    again, _ = reader.next_actions(3, 10_000, do_sample=True)
    assert torch.equal(again, sequences)


def test_many_hypotheses_and_actions_keep_the_order():
    reader = read(loglinear_reader(num_actions=40, length=2, beam=100), noise(30, num_actions=40))
    sequences, log_probs = reader.next_actions(20, 5)
    assert sequences.shape == (5, 20)
    assert len(set(map(tuple, sequences.tolist()))) == 5
    assert (log_probs.diff() <= 0).all()


def test_sequences_of_independent_steps():
    log_probs = torch.randn(3, NUM_ACTIONS, generator=torch.Generator().manual_seed(0)).double().log_softmax(-1).numpy()
    every = {sequence: log_probs[[0, 1, 2], sequence].sum() for sequence in ALL_TRIPLES}
    sequences, totals = of_steps(log_probs, 5)
    assert list(map(tuple, sequences.tolist())) == sorted(every, key=every.get, reverse=True)[:5]
    np.testing.assert_allclose(totals, [every[tuple(sequence)] for sequence in sequences.tolist()])
    torch.manual_seed(0)
    sequences, totals = of_steps(log_probs, 10_000, do_sample=True)
    for step in range(3):
        frequencies = np.bincount(sequences[:, step], minlength=NUM_ACTIONS) / 10_000
        np.testing.assert_allclose(frequencies, np.exp(log_probs[step]), atol=0.02)
    assert totals[0] == pytest.approx(every[tuple(sequences[0].tolist())])


def test_an_impossible_action_is_never_drawn():
    with np.errstate(divide="ignore"):
        log_probs = np.log(np.array([[0.0, 1.0, 0.0], [0.5, 0.0, 0.5]]))
    sequences, _ = of_steps(log_probs, 1000, do_sample=True)
    assert set(map(tuple, sequences.tolist())) == {(1, 0), (1, 2)}


# Timelines


def test_an_action_in_a_timeline_lasts_for_its_duration():
    reader = read(loglinear_reader(evidence_weight=1.0), sure(1, 1, 1))
    stays = 1 - float(reader.leave_phase[1])
    timeline = reader.timeline(4.0)
    assert timeline.shape == (8, NUM_ACTIONS + 1)
    torch.testing.assert_close(timeline.sum(1), torch.ones(8, dtype=torch.float64))
    # The action itself continues, or is repeated.
    assert timeline[0, 1] == pytest.approx(1, abs=1e-6)
    again = float(np.exp(reader.transitions.log_probs(*text_state(reader.transitions, [[1]]))[0, 1]))
    expected = stays + (1 - stays) * (1 - float(reader.gap_after[1])) * again
    assert timeline[1, 1] == pytest.approx(expected, abs=1e-6)


def test_a_timeline_is_what_frames_without_evidence_would_leave():
    """A frame whose probabilities equal the prior has no evidence: reading it only advances hypotheses in time."""
    reader = read(loglinear_reader(), noise(5))
    timeline = reader.timeline(3.0)
    for number in range(5, 8):
        reader.update(reader.log_prior, number / 2)
        torch.testing.assert_close(reader.timeline(0.5)[0], timeline[number - 4])
    later = read(loglinear_reader(), noise(5)).timeline(1.5, at_s=3.5)
    torch.testing.assert_close(later, timeline[3:])


def test_spans_are_runs_of_the_likeliest_action():
    probabilities = np.array([[0.7, 0.2, 0.1], [0.5, 0.4, 0.1], [0.1, 0.2, 0.7], [0.3, 0.6, 0.1]])
    assert spans(probabilities, 10.0, 0.5, 11.8) == [
        {"action": 0, "starts_at_s": 10.0, "ends_at_s": 11.0, "score": pytest.approx(0.6)},
        {"action": 2, "starts_at_s": 11.0, "ends_at_s": 11.5, "score": pytest.approx(0.7)},
        {"action": 1, "starts_at_s": 11.5, "ends_at_s": 11.8, "score": pytest.approx(0.6)},
    ]


# Pipeline and stream


def features(num_rows: int = 40) -> torch.Tensor:
    return 2 * torch.randn(num_rows, 12, generator=torch.Generator().manual_seed(0))


def ask(model, **options):
    return ActionAnticipationPipeline(model)({"video_features": features(), "frames_per_second": 2.0}, **options)


def streamed(model, num_frames: int, **options):
    stream = model.stream(**options)
    for number, frame in enumerate(features()[:num_frames]):
        answer = stream.push(frame, number / 2)
    return answer


def without_times(entries) -> list[dict]:
    names = ("label", "verb", "noun", "score", "actions", "starts_at_s", "ends_at_s")
    return [{name: entry[name] for name in names if name in entry} for entry in entries]


def test_one_step_ahead_is_the_next_action():
    model = tiny_model(tiny_config(id2label=dict(enumerate(ACTIONS)), tau_a=0.5))
    usual, one = ask(model, at=8.0, top_k=3), ask(model, at=8.0, num_actions=1, num_sequences=3)
    assert [entry["actions"][0]["label"] for entry in one] == [entry["label"] for entry in usual]
    assert [entry["score"] for entry in one] == pytest.approx([entry["score"] for entry in usual], abs=1e-6)
    assert one[0].keys() == {"score", "actions", "observed_from_s", "observed_until_s"}


def test_sequences_with_a_reader_are_its_own():
    """Sequences begin with the action that starts next, not with one that may start after `tau_a`."""
    model = reading_model(tau_a=0.5)
    answers = ask(model, at=8.0, num_actions=4, num_sequences=2)
    reader = model.reader.begin_video()
    [_] = reader.read_to([8.0], model.recognize_frames(features()[:17]), np.arange(17) / 2)
    sequences, totals = reader.next_actions(4, 2)
    named = [[ACTIONS[action] for action in sequence] for sequence in sequences.tolist()]
    assert [[action["label"] for action in entry["actions"]] for entry in answers] == named
    assert [entry["score"] for entry in answers] == pytest.approx(totals.exp().tolist(), rel=1e-4)
    assert all("history" in entry for entry in answers)
    (one,) = ask(model, at=8.0, num_actions=1, num_sequences=1)
    assert one["actions"][0]["label"] == ACTIONS[reader.upcoming_action().argmax()]


def test_without_a_reader_the_roll_out_answers():
    model = tiny_model(tiny_config(id2label=dict(enumerate(ACTIONS)), tau_a=0.5, frame_rate=2.0, tau_o=2.0))
    with torch.no_grad():
        steps = model(video_features=features()[None, 13:17], num_future_steps=3).future_logits[0].softmax(-1)  # (3, A)
    (answer,) = ask(model, at=8.0, num_actions=3, num_sequences=1)
    assert [action["label"] for action in answer["actions"]] == [ACTIONS[a] for a in steps.argmax(-1).tolist()]
    assert answer["score"] == pytest.approx(float(steps.max(-1).values.prod()), rel=1e-5)
    # The horizon is from 8 to 10 s, in steps of half a second that begin after tau_a.
    timeline = ask(model, at=8.0, horizon_s=2.0)
    assert timeline[0]["starts_at_s"] == 8.5
    assert timeline[-1]["ends_at_s"] == 10.0
    shown = [
        entry["label"] for entry in timeline for _ in range(round(2 * (entry["ends_at_s"] - entry["starts_at_s"])))
    ]
    assert shown == [ACTIONS[a] for a in steps.argmax(-1).tolist()]


def test_a_timeline_with_a_reader_begins_now():
    model = reading_model(tau_a=0.5)
    timeline = ask(model, at=8.0, horizon_s=5.2)
    assert (timeline[0]["starts_at_s"], timeline[-1]["ends_at_s"]) == (8.0, 13.2)
    assert all(before["ends_at_s"] == after["starts_at_s"] for before, after in itertools.pairwise(timeline))
    assert all(0 < entry["score"] <= 1 and entry["label"] in (*ACTIONS, None) for entry in timeline)
    assert all("history" in entry for entry in timeline)


@pytest.mark.parametrize("options", [{"num_actions": 3, "num_sequences": 2}, {"horizon_s": 4.0}])
@pytest.mark.parametrize("reader", [True, False])
def test_streams_and_moments_of_a_timeline_answer_alike(options, reader):
    model = reading_model(tau_a=0.5)
    expected = ask(model, at=8.0, reader=reader, **options)
    in_stream = streamed(model, 17, reader=reader, **options)
    assert {entry["at_s"] for entry in in_stream} == {8.0}
    for entry, other in zip(without_times(in_stream), without_times(expected), strict=True):
        assert entry == {**other, "score": pytest.approx(other["score"], abs=1e-6)}
    moments = ask(model, every=4.0, reader=reader, **options)
    (moment,) = (moment for moment in moments if moment["at_s"] == 8.0)
    for entry, other in zip(without_times(moment["anticipated"]), without_times(expected), strict=True):
        assert entry == {**other, "score": pytest.approx(other["score"], abs=1e-6)}


def test_spans_without_a_likely_action_have_no_label():
    model = reading_model(tau_a=0.5)
    model.reader.gap_after.fill_(0.999)
    model.reader.leave_gap.fill_(0.001)
    model.reader.leave_phase.fill_(0.9)
    timeline = ask(model, at=8.0, horizon_s=60.0)
    assert {name: timeline[-1][name] for name in ("label", "verb", "noun")} == dict.fromkeys(("label", "verb", "noun"))
    assert timeline[-1]["ends_at_s"] == 68.0


def test_a_question_of_the_call_replaces_the_one_of_the_construction():
    model = reading_model(tau_a=0.5)
    video = {"video_features": features(), "frames_per_second": 2.0}
    anticipate = ActionAnticipationPipeline(model, num_actions=3)
    assert len(anticipate(video)[0]["actions"]) == 3
    assert "ends_at_s" in anticipate(video, horizon_s=60.0)[0]


BAD = [
    ({"num_actions": 0}, "num_actions is 0: give a whole number from 1 to 1000, or None"),
    ({"num_actions": 2.5}, "num_actions is 2.5"),
    ({"num_actions": 3, "num_sequences": 0}, "num_sequences is 0"),
    ({"num_actions": 3, "do_sample": "yes"}, "do_sample is 'yes'"),
    ({"horizon_s": 0}, "horizon_s is 0: give a finite number of seconds, above 0"),
    ({"horizon_s": float("nan")}, "horizon_s is nan"),
    ({"horizon_s": 1e9}, "horizon_s is 1000000000.0: .*at most 86400"),
    ({"num_actions": 3, "horizon_s": 5.0}, "Give either num_actions, for sequences, or horizon_s"),
]


@pytest.mark.parametrize(("options", "message"), BAD)
def test_what_cannot_be_asked_is_refused(options, message):
    model = reading_model()
    with pytest.raises(ValueError, match=message):
        ask(model, **options)
    with pytest.raises(ValueError, match=message):
        model.stream(**options)


def test_what_this_model_cannot_answer_is_refused():
    model = tiny_model(tiny_config(id2label=dict(enumerate(ACTIONS)), tau_a=1.0))
    with pytest.raises(ValueError, match=r"horizon_s is 1: without a reader, the model answers from tau_a = 1 s on"):
        ask(model, horizon_s=1.0)
    with pytest.raises(ValueError, match="positions"):
        ask(model, num_actions=1000)
    with pytest.raises(ValueError, match="horizon_s needs a clock"):
        ActionAnticipationPipeline(model)(features(4), horizon_s=2.0)
    probe = tiny_model(tiny_encoder_config("vjepa2", head_type="probe"))
    video = {"video": numbered_frames(60), "frames_per_second": 10}
    with pytest.raises(ValueError, match="a probe does not roll out"):
        ActionAnticipationPipeline(probe, video_processor=processor_of(probe))(video, num_actions=2)


def test_a_stream_refuses_what_its_model_cannot_answer_at_construction():
    """It was once refused at the first answer, when a camera was already running."""
    model = tiny_model(tiny_config(id2label=dict(enumerate(ACTIONS)), tau_a=1.0))
    for options, message in (
        ({"horizon_s": 0.5}, r"horizon_s is 0.5: without a reader, the model answers from tau_a = 1 s on"),
        ({"num_actions": 14}, "4 frames and 14 future steps do not fit: the head has 16 positions"),
        ({"horizon_s": 15.0}, "4 frames and 14 future steps do not fit"),
    ):
        with pytest.raises(ValueError, match=message):
            model.stream(**options)
    assert len(model.stream(num_actions=13).push(features()[0], 0.0)[0]["actions"]) == 13
    probe = tiny_model(tiny_encoder_config("vjepa2", head_type="probe"))
    with pytest.raises(ValueError, match="a probe does not roll out"):
        probe.stream(processor_of(probe), num_actions=2)
    reading = reading_model()
    assert len(reading.stream(num_actions=20).push(features()[0], 0.0)[0]["actions"]) == 20
    with pytest.raises(ValueError, match="4 frames and 20 future steps do not fit"):
        reading.stream(num_actions=20, reader=False)


def test_a_question_is_checked_where_it_is_made():
    assert Question().num_future_steps(tiny_config()) == 1
    with pytest.raises(ValueError, match="top_k is 0"):
        Question(top_k=0)

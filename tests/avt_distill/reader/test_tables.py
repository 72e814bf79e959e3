"""A reader's tables compared with the models and segments they are computed from."""

import numpy as np
import pandas as pd
import pytest
import torch
from helpers.readers import reading_model

from avt_distill.reader.asking import AskedTransitions, MixedTransitions
from avt_distill.reader.fusion import fit_weights, pooled
from avt_distill.reader.tables import as_tables, build_reader, timing, transition_model, whole_histories
from avt_distill.teacher.count_models import NGramModel
from avt_distill.teacher.log_linear import LogLinearModel
from modeling_avt.reader_avt import HistoryReader
from modeling_avt.transitions_avt import build_transitions, text_state


def table(*segments) -> pd.DataFrame:
    return pd.DataFrame(segments, columns=["video_id", "start_s", "end_s", "action"])


SEGMENTS = table(
    *[("a", 4.0, 10.0, 0), ("a", 10.0, 13.0, 1), ("a", 17.0, 23.0, 0), ("b", 2.0, 8.0, 0), ("b", 3.0, 5.0, 2)],
    ("b", 30.0, 31.0, -100),
)


def random_scripts(num_actions: int = 6, num_videos: int = 12) -> pd.DataFrame:
    rng = np.random.default_rng(0)
    rows = [
        (f"v{video}", float(step), step + 0.5, int(rng.integers(num_actions)))
        for video in range(num_videos)
        for step in range(8)
    ]
    return table(*rows)


@pytest.mark.parametrize("order", [1, 2, 3])
def test_n_gram_tables_equal_the_count_model(order):
    histories, actions = whole_histories(random_scripts())
    model = NGramModel(order, 6).fit(histories, actions)
    tables = as_tables(model)
    tables.prepare()
    asked = [*histories, [0, 0, 0, 0], [5, 5], []]
    np.testing.assert_allclose(tables.log_probs(*text_state(tables, asked)), model.logits(asked), atol=1e-6)


@pytest.mark.parametrize("parts", [None, np.array([[0, 2], [0, 3], [0, 4], [1, 2], [1, 3], [1, 4]])])
@pytest.mark.parametrize("num_last", [1, 2, 3])
def test_log_linear_tables_equal_the_model(num_last, parts):
    histories, actions = whole_histories(random_scripts())
    model = LogLinearModel(6, num_last=num_last, action_parts=parts).fit(histories, actions)
    tables = as_tables(model)
    asked = [*histories, [0, 0, 0, 0], [5], []]
    np.testing.assert_allclose(tables.log_probs(*text_state(tables, asked)), model.logits(asked), atol=1e-5)
    again = build_transitions(tables.sizes, 6)
    again.load_state_dict(tables.state_dict())
    np.testing.assert_array_equal(
        again.log_probs(*text_state(tables, asked)), tables.log_probs(*text_state(tables, asked))
    )


def test_whole_histories_are_all_labelled_actions_before_each():
    histories, actions = whole_histories(SEGMENTS)
    assert [list(history) for history in histories] == [[], [0], [0, 1], [], [0]]
    assert actions == [0, 1, 0, 0, 2]


def test_a_distilled_teacher_reproduces_its_probabilities():
    class Teacher:
        def logits(self, histories):
            return np.array([[2.0, 0, 0] if len(history) % 2 else [0, 0, 3.0] for history in histories])

    segments = table(*[("v", float(step), step + 1.0, step % 2) for step in range(6)])
    fitted = transition_model("teacher", 3, prior_weight=1e-4, teacher=Teacher())(segments)
    found = fitted.logits([[], [0], [0, 1]])
    expected = torch.tensor(Teacher().logits([[], [0], [0, 1]])).log_softmax(-1)
    np.testing.assert_allclose(np.exp(found[1:]), expected[1:].exp().numpy(), atol=0.05)


def test_a_stronger_prior_is_nearer_to_the_unigram():
    segments = random_scripts()
    spread = [np.ptp(transition_model("log-linear", 6, prior_weight=w)(segments).weights.numpy()) for w in (0.1, 10)]
    assert spread[0] > 3 * spread[1]
    with pytest.raises(ValueError, match="prior_weight is 0"):
        LogLinearModel(6, prior_weight=0)


def test_timing_is_that_of_the_segments():
    """By hand: lengths are 6, 6, 6 of action 0, 3 of 1, 2 of 2, with mean 23 / 5, which counts as two more segments of
    each action; a gap follows 0 in 0 of 2 cases, and 1 in 1 of 1, with mean 1 / 3."""
    found = timing(SEGMENTS, 4, frame_rate=1.0, num_phases=2)
    mean = 23 / 5
    lengths = np.array([(18 + 2 * mean) / 5, (3 + 2 * mean) / 3, (2 + 2 * mean) / 3, mean])
    np.testing.assert_allclose(found["leave_phase"], 2 / lengths)
    np.testing.assert_allclose(found["gap_after"], [(2 / 3) / 4, (1 + 2 / 3) / 3, 1 / 3, 1 / 3])
    assert found["leave_gap"] == pytest.approx(1 / 4)
    assert found["leave_start"] == pytest.approx(1 / (1 + 3))
    faster = timing(SEGMENTS, 4, frame_rate=10.0, num_phases=2)
    np.testing.assert_allclose(faster["leave_phase"], found["leave_phase"] / 10)


def test_lengths_have_the_mean_of_the_segments():
    """Simulates the chain of phases."""
    leave = timing(table(("a", 0.0, 12.0, 0)), 1, frame_rate=1.0, num_phases=3)["leave_phase"][0]
    phases, lengths = np.array([1.0, 0, 0]), []
    for _ in range(400):
        leaving = phases * leave
        phases = phases - leaving + np.array([0, *leaving[:-1]])
        lengths.append(leaving[-1])
    assert sum((index + 1) * share for index, share in enumerate(lengths)) == pytest.approx(12, rel=1e-6)


def test_actions_shorter_than_a_frame_and_videos_without_gaps_are_timed():
    found = timing(table(("a", 0.0, 0.1, 0), ("a", 0.1, 0.2, 1)), 2, frame_rate=1.0, num_phases=2)
    assert all(((values > 0) & (values < 1)).all() for values in found.values())


def test_weights_are_those_of_the_least_log_loss():
    rng = np.random.default_rng(0)
    labels = rng.integers(4, size=400)
    good = rng.normal(size=(400, 4)) + 2 * np.eye(4)[labels]
    noise = rng.normal(size=(400, 4))
    members = [torch.tensor(member).log_softmax(-1).numpy() for member in (good, noise)]
    weights = fit_weights(members, labels)
    assert weights[1] < 0.2 < weights[0]
    assert min(weights) >= 0

    def loss(weights):
        return -pooled(members, weights)[np.arange(400), labels].mean()

    for step in ([0.05, 0], [-0.05, 0], [0, 0.05]):
        assert loss(weights) <= loss(np.add(weights, step)) + 1e-6


class CountingTeacher:
    """An n-gram model that counts the histories it is given."""

    def __init__(self, model: NGramModel):
        self.model, self.num_asked = model, 0

    def logits(self, histories):
        self.num_asked += len(histories)
        return self.model.logits(histories)


def test_a_teacher_scores_each_history_once_and_answers_as_its_tables():
    histories, actions = whole_histories(random_scripts())
    teacher = CountingTeacher(NGramModel(3, 6).fit(histories, actions))
    asked, tables = AskedTransitions(teacher, 6, length=2), as_tables(teacher.model)
    tables.prepare()
    for _ in range(2):
        expected = tables.log_probs(*text_state(tables, histories))
        np.testing.assert_allclose(asked.log_probs(*text_state(asked, histories)), expected, atol=1e-6)
    assert teacher.num_asked == asked.num_asked == len({tuple(history[-2:]) for history in histories})


def reader_of(model) -> HistoryReader:
    settings = {"frame_rate": 1.0, "actions": "0" * 16, "evidence_weight": 0.5, "fusion_weights": [0.5, 0.5]}
    return build_reader(random_scripts(), [np.array([6, 0, 0, 1, 6, 2])], lambda _: model, 6, settings)


def test_a_reader_asks_a_teacher_in_its_beam_alone_or_beside_its_tables():
    histories, actions = whole_histories(random_scripts())
    parts = np.array([[0, 2], [0, 3], [0, 4], [1, 2], [1, 3], [1, 4]])
    tables = as_tables(LogLinearModel(6, num_last=2, action_parts=parts).fit(histories, actions))
    teacher = NGramModel(4, 6).fit(histories, actions)
    mixed = MixedTransitions([AskedTransitions(teacher, 6, length=3), tables], [0.3, 0.7])
    expected = 0.3 * np.exp(teacher.logits(histories)) + 0.7 * np.exp(tables.log_probs(*text_state(tables, histories)))
    np.testing.assert_allclose(np.exp(mixed.log_probs(*text_state(mixed, histories))), expected, atol=1e-6)

    reader = reader_of(teacher)
    frames, times = np.random.default_rng(0).normal(size=(8, 7)), np.arange(8.0)
    answers = reader.read(frames, times)
    asked = AskedTransitions(teacher, 6, length=3)
    for transitions in (asked, MixedTransitions([asked, reader.transitions], [0.3, 0.7])):
        reader.transitions = transitions
        np.testing.assert_allclose(reader.read(frames, times), answers, atol=1e-6)


@pytest.mark.parametrize("weights", [[0.5], [0.5, 0.6], [-0.5, 1.5]])
def test_weights_that_are_not_a_mixture_are_refused(weights):
    with pytest.raises(ValueError, match=r"weights is .*: give one of at least 0 for each member, with a sum of 1"):
        MixedTransitions([as_tables(NGramModel(1, 6))] * 2, weights)


def test_a_checkpoint_is_not_saved_without_its_tables(tmp_path):
    model = reading_model()
    tables = model.reader.transitions
    asked = AskedTransitions(NGramModel(2, 3), 3, length=1)
    for transitions in (asked, MixedTransitions([asked, tables], [0.5, 0.5])):
        model.reader.transitions = transitions
        with pytest.raises(ValueError, match="transitions cannot be saved, since checkpoints hold only tables"):
            model.save_pretrained(tmp_path / "model")
        assert not list(tmp_path.glob("**/*.safetensors"))
    model.reader.transitions = tables
    model.save_pretrained(tmp_path / "model")


def test_a_teacher_of_other_actions_is_refused():
    asked = AskedTransitions(NGramModel(2, 7), 6, length=1)
    with pytest.raises(ValueError, match="scores 7 actions, not 6: give one for these actions"):
        asked.log_probs(*text_state(asked, [[0]]))

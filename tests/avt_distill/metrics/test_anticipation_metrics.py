"""Metrics: compared with a plain loop on random input, by hand, ties, absent classes, groups, and refusals."""

import numpy as np
import pytest

from avt_distill.data.labels import LabelSpace
from avt_distill.metrics import (
    all_class_mean_accuracy,
    anticipation_metrics,
    decomposed_accuracy,
    expected_calibration_error,
    label_ranks,
    late_fuse,
    late_fuse_kinds,
    log_loss,
    many_shot_actions,
    marginal_scores,
    metrics_table,
    per_class_table,
)

# Verb "wash" and noun "pan" have no action.
KITCHEN = LabelSpace(
    ("cut egg", "cut oil", "mix egg", "mix oil", "mix flour"),
    ("cut", "mix", "wash"),
    ("egg", "oil", "flour", "pan"),
    ((0, 0), (0, 1), (1, 0), (1, 1), (1, 2)),
)
SCORES = np.array([[5.0, 4, 3, 2, 1], [1, 5, 4, 3, 2], [1, 2, 3, 4, 5], [5, 4, 3, 2, 1]])
LABELS = np.array([0, 3, 3, 4])  # ranks 0, 2, 1, 4


def random_input(num_rows=60, num_classes=9, seed=0):
    rng = np.random.default_rng(seed)
    return rng.standard_normal((num_rows, num_classes)).astype(np.float32), rng.integers(0, 7, num_rows)


def test_by_hand():
    assert label_ranks(SCORES, LABELS).tolist() == [0, 2, 1, 4]
    metrics = anticipation_metrics(SCORES, LABELS, ks=(1, 2, 3))
    assert metrics == {
        "action_top1_accuracy": 25.0,
        "action_class_mean_top1_recall": pytest.approx(100 / 3),
        "action_top2_accuracy": 50.0,
        "action_class_mean_top2_recall": pytest.approx(100 * (1 + 1 / 2 + 0) / 3),
        "action_top3_accuracy": 75.0,
        "action_class_mean_top3_recall": pytest.approx(100 * (1 + 1 + 0) / 3),
    }
    assert all_class_mean_accuracy(SCORES, LABELS) == pytest.approx(100 * 1 / 5)


@pytest.mark.parametrize("seed", range(5))
def test_equals_plain_lines_on_random_input(seed):
    scores, labels = random_input(seed=seed)
    best = np.argsort(-scores, axis=1)[:, :5]
    hits = np.array([label in row for label, row in zip(labels, best, strict=True)])
    metrics = anticipation_metrics(scores, labels)
    assert metrics["action_top5_accuracy"] == pytest.approx(100 * hits.mean())
    recalls = [hits[labels == label].mean() for label in set(labels.tolist())]
    assert metrics["action_class_mean_top5_recall"] == pytest.approx(100 * sum(recalls) / len(recalls))


def test_ties_count_against_the_label_whatever_its_number():
    constant = np.zeros((5, 5))
    metrics = anticipation_metrics(constant, np.arange(5), ks=(1, 4, 5))
    assert [metrics[f"action_top{k}_accuracy"] for k in (1, 4, 5)] == [0.0, 0.0, 100.0]
    tied_pair = np.array([[2.0, 2, 1]])
    assert [label_ranks(tied_pair, [label]).item() for label in range(3)] == [1, 1, 2]


def test_class_numbering_and_row_order_change_nothing():
    scores, labels = random_input()
    rng = np.random.default_rng(1)
    classes, rows = rng.permutation(9), rng.permutation(60)
    renumbered = np.empty_like(scores)
    renumbered[:, classes] = scores
    expected = anticipation_metrics(scores, labels)
    assert anticipation_metrics(renumbered[rows], classes[labels][rows]) == pytest.approx(expected)


def test_absent_classes_do_not_enter_the_class_mean():
    scores, labels = random_input()
    wider = np.concatenate([scores, np.full((60, 30), -9, dtype=np.float32)], axis=1)
    expected = anticipation_metrics(scores, labels)
    assert anticipation_metrics(wider, labels) == expected
    # ... but do in the reference's measure: 7 of 9 classes occur, then 7 of 39.
    top1 = expected["action_class_mean_top1_recall"]
    assert all_class_mean_accuracy(scores, labels) == pytest.approx(top1 * 7 / 9)
    assert all_class_mean_accuracy(wider, labels) == pytest.approx(top1 * 7 / 39)


def test_more_classes_than_k_are_not_needed():
    assert anticipation_metrics(SCORES[:, :2], [0, 1, 1, 0])["action_top5_accuracy"] == 100.0


def test_marginals_sum_probabilities_and_not_logits():
    scores = np.log([[0.3, 0.05, 0.2, 0.25, 0.2]])
    verbs, nouns = marginal_scores(scores, KITCHEN)
    np.testing.assert_allclose(verbs, [[0.35, 0.65, 0]], atol=1e-12)
    np.testing.assert_allclose(nouns, [[0.5, 0.3, 0.2, 0]], atol=1e-12)
    metrics = anticipation_metrics(scores, [2], label_space=KITCHEN, ks=(1,))
    assert {name: value for name, value in metrics.items() if "accuracy" in name} == {
        "action_top1_accuracy": 0.0,
        "verb_top1_accuracy": 100.0,
        "noun_top1_accuracy": 100.0,
    }


def test_marginals_equal_a_matrix_product_over_several_chunks(monkeypatch):
    monkeypatch.setattr("avt_distill.metrics.anticipation.ROWS_AT_ONCE", 7)
    scores = np.random.default_rng(0).standard_normal((20, 5)).astype(np.float32) * 50
    probabilities = np.exp(scores.astype(np.float64))
    probabilities /= probabilities.sum(1, keepdims=True)
    for column, marginal in enumerate(marginal_scores(scores, KITCHEN)):
        one_hot = np.eye(marginal.shape[1])[KITCHEN.verb_noun_ids[:, column]]
        np.testing.assert_allclose(marginal, probabilities @ one_hot, atol=1e-12)


def test_marginals_of_huge_logits_do_not_overflow():
    verbs, _ = marginal_scores(np.array([[1e5, 1e5, -1e5, 0, 0]], dtype=np.float32), KITCHEN)
    np.testing.assert_array_equal(verbs, [[1, 0, 0]])


def test_own_verb_and_noun_scores_replace_the_marginals():
    verbs = np.eye(3)[[2, 1, 1, 1]]  # the first row's verb is wrong
    nouns = np.eye(4)[[0, 1, 1, 2]]
    metrics = anticipation_metrics(
        SCORES, LABELS, label_space=KITCHEN, verb_scores=verbs, noun_scores=nouns, ks=(1,), many_shot={"verb": [1]}
    )
    assert metrics["verb_top1_accuracy"] == 75.0
    assert metrics["verb_class_mean_top1_recall"] == 50.0
    assert metrics["verb_top1_accuracy_many_shot"] == 100.0
    assert metrics["noun_top1_accuracy"] == 100.0
    one_given = anticipation_metrics(SCORES, LABELS, label_space=KITCHEN, verb_scores=verbs, ks=(1,))
    marginal = anticipation_metrics(SCORES, LABELS, label_space=KITCHEN, ks=(1,))
    assert one_given["verb_top1_accuracy"] == 75.0 != marginal["verb_top1_accuracy"]
    assert one_given["noun_top1_accuracy"] == marginal["noun_top1_accuracy"]


def test_groups_are_the_metrics_of_their_rows():
    scores, labels = random_input()
    unseen = np.arange(60) % 3 == 0
    metrics = anticipation_metrics(scores, labels, many_shot=[0, 1], tail={"action": {5, 6}}, unseen_mask=unseen)
    for suffix, rows in {"_many_shot": labels < 2, "_tail": labels > 4, "_unseen": unseen}.items():
        for name, value in anticipation_metrics(scores[rows], labels[rows]).items():
            assert metrics[name + suffix] == value
    assert len(metrics) == 16


def test_groups_without_a_row_are_nan():
    metrics = anticipation_metrics(SCORES, LABELS, tail=[1, 2], unseen_mask=np.zeros(4, dtype=bool), ks=(1,))
    for suffix in ("_tail", "_unseen"):
        assert np.isnan(metrics[f"action_top1_accuracy{suffix}"])
        assert np.isnan(metrics[f"action_class_mean_top1_recall{suffix}"])
    assert not np.isnan(metrics["action_top1_accuracy"])


def test_dropped_rows_count_as_errors_in_every_measure():
    unseen = np.array([True, False, False, False, True, False])
    metrics = anticipation_metrics(
        SCORES, LABELS, label_space=KITCHEN, dropped_labels=[0, 2], unseen_mask=unseen, tail=[2, 3], ks=(1, 9)
    )
    assert metrics["action_top1_accuracy"] == pytest.approx(100 * 1 / 6)
    assert metrics["action_top1_accuracy_unseen"] == 50.0
    # With k=9 and 5 classes only dropped rows are misses. The recalls of classes 0, 2, 3, 4 are 1/2, 0, 1, 1.
    assert metrics["action_top9_accuracy"] == pytest.approx(100 * 4 / 6)
    assert metrics["action_class_mean_top9_recall"] == pytest.approx(100 * 2.5 / 4)
    assert metrics["action_class_mean_top9_recall_tail"] == 50.0
    assert metrics["verb_top9_accuracy"] == metrics["noun_top9_accuracy"] == pytest.approx(100 * 4 / 6)


def test_many_shot_rules():
    assert many_shot_actions(KITCHEN, [1], [0, 1]) == [2, 3]
    assert many_shot_actions(KITCHEN, [1], [0, 1], rule="or") == [0, 1, 2, 3, 4]
    assert many_shot_actions(KITCHEN, [2], [3], rule="or") == []


def test_decomposed_top_k_is_not_a_top_k_of_verbs():
    # The best actions are 0, 1, 4, 0 for the labels 0, 3, 3, 4: the verb is right in rows 0 and 2, the noun in 0 and 1.
    assert decomposed_accuracy(SCORES, LABELS, KITCHEN, k=1) == {"verb": 50.0, "noun": 50.0}
    assert decomposed_accuracy(SCORES, LABELS, KITCHEN, k=3) == {"verb": 100.0, "noun": 75.0}
    tied = np.zeros((1, 5))
    assert decomposed_accuracy(tied, [2], KITCHEN, k=1) == {"verb": 0.0, "noun": 100.0}  # action 0, "cut egg"


def test_decomposed_accuracy_leaves_its_input_alone():
    scores = SCORES.copy()
    decomposed_accuracy(scores, LABELS, KITCHEN, k=2)
    np.testing.assert_array_equal(scores, SCORES)


def test_late_fusion_weighs_and_normalises():
    first, second = np.array([[3.0, 4]]), np.array([[1.0, 0]])
    np.testing.assert_array_equal(late_fuse([first, second]), [[4, 4]])
    np.testing.assert_array_equal(late_fuse([first, second], [1, 0.5]), [[3.5, 4]])
    fused = late_fuse([first, second], [1, 2], norm=2)
    np.testing.assert_allclose(fused, [[3 / (5 + 1e-6) + 2 / (1 + 1e-6), 4 / (5 + 1e-6)]], atol=1e-15)
    np.testing.assert_allclose(late_fuse([first], norm=1), first / (7 + 1e-6), atol=1e-15)
    assert np.isfinite(late_fuse([np.zeros((1, 2))], norm=2)).all()


def test_late_fusion_of_kinds_sums_logits_and_probabilities():
    models = [SCORES, SCORES[::-1] / 2]
    fused = late_fuse_kinds(models, [1, 2], label_space=KITCHEN)
    np.testing.assert_array_equal(fused["scores"], SCORES + SCORES[::-1])
    for column, name in enumerate(("verb_scores", "noun_scores")):
        first, second = (marginal_scores(scores, KITCHEN)[column] for scores in models)
        np.testing.assert_allclose(fused[name], first + 2 * second)
    assert set(late_fuse_kinds(models)) == set(late_fuse_kinds(models[:1], label_space=KITCHEN)) == {"scores"}


def test_metrics_table_has_a_line_for_each_kind_and_group():
    metrics = anticipation_metrics(SCORES, LABELS, label_space=KITCHEN, many_shot=[3], tail={"verb": [2]}, ks=(2,))
    lines = metrics_table(metrics).splitlines()
    assert lines[0].split("  ")[-1].strip() == "class mean top2 recall"
    assert [line[:16].strip() for line in lines[1:]] == ["action", "action many_shot", "verb", "verb tail", "noun"]
    assert lines[2].split()[-2:] == ["50.00", "50.00"]
    assert lines[4].split()[-2:] == ["-", "-"]


def test_per_class_table_averages_to_the_class_mean():
    scores, labels = random_input()
    table = per_class_table(scores, labels, ks=(1, 5))
    assert [row["class"] for row in table] == list(range(7))
    assert sum(row["count"] for row in table) == 60
    expected = anticipation_metrics(scores, labels)
    assert np.mean([row["top5_recall"] for row in table]) == pytest.approx(expected["action_class_mean_top5_recall"])
    assert per_class_table(SCORES, LABELS, names=KITCHEN.actions, ks=(2,))[1] == {
        "class": 3,
        "name": "mix oil",
        "count": 2,
        "top2_recall": 50.0,
    }


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"scores": SCORES[0]}, r"scores has shape \(5,\)"),
        ({"scores": SCORES[:0], "labels": LABELS[:0]}, r"scores has shape \(0, 5\)"),
        ({"scores": np.where(SCORES == 3, np.nan, SCORES)}, "scores is not finite in row 0"),
        ({"labels": LABELS[:3]}, "labels has 3 entries for 4 rows"),
        ({"labels": LABELS.astype(float)}, "labels has shape .* type float64"),
        ({"labels": [0, -100, 3, -100]}, "labels has 2 rows of -100, an unknown label"),
        ({"labels": [0, 1, 2, 5]}, "labels has 5: give class ids from 0 to 4"),
        ({"labels": [0, 1, 2, -1]}, "labels has -1"),
        ({"ks": ()}, "ks is"),
        ({"ks": (0, 5)}, "ks is"),
        ({"label_space": LabelSpace(("cut", "mix"))}, "scores has 5 columns for 2 actions"),
        ({"many_shot": [5]}, r"many_shot\['action'\] has ids from 5 to 5"),
        ({"tail": {"verbs": [0]}}, "tail has keys"),
        ({"tail": {"verb": [0]}}, "give a label_space with action_to_verb_noun"),
        ({"tail": {"verb": [3]}, "label_space": KITCHEN}, r"tail\['verb'\] has ids from 3 to 3"),
        ({"verb_scores": SCORES}, "verb_scores needs a label_space"),
        ({"verb_scores": SCORES, "label_space": KITCHEN}, r"verb_scores has shape \(4, 5\): give \(N, 3\)"),
        ({"noun_scores": np.eye(4)[:3], "label_space": KITCHEN}, "noun_scores has 3 rows and scores 4"),
        ({"unseen_mask": [0, 1, 0, 1]}, "unseen_mask has shape .* type int64"),
        ({"unseen_mask": np.ones(4, dtype=bool), "dropped_labels": [0]}, r"give bool of shape \(5,\)"),
        ({"dropped_labels": [7]}, "dropped_labels has 7"),
    ],
)
def test_refuses(changes, message):
    with pytest.raises(ValueError, match=message):
        anticipation_metrics(**{"scores": SCORES, "labels": LABELS, **changes})


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: many_shot_actions(KITCHEN, [0], [0], rule="both"), "rule is 'both'"),
        (lambda: many_shot_actions(KITCHEN, [9], [0]), "many_shot_verbs has ids from 9"),
        (lambda: many_shot_actions(LabelSpace(("cut",)), [0], [0]), "no action_to_verb_noun"),
        (lambda: decomposed_accuracy(SCORES, LABELS, KITCHEN, k=6), "k is 6"),
        (lambda: late_fuse([]), "list_of_scores is empty"),
        (lambda: late_fuse([SCORES, SCORES[:2]]), "give equal shapes"),
        (lambda: late_fuse([SCORES], [1, 2]), "weights has 2 numbers for 1 models"),
        (lambda: per_class_table(SCORES, LABELS, names=["cut"]), "names has 1 entries for 5 classes"),
    ],
)
def test_helpers_refuse(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_log_loss_is_the_mean_of_minus_log_probabilities():
    probabilities = np.array([[0.5, 0.25, 0.25], [0.1, 0.1, 0.8]])
    expected = -(np.log(0.25) + np.log(0.8)) / 2
    assert log_loss(np.log(probabilities), np.array([1, 2])) == pytest.approx(expected)
    assert log_loss(np.log(probabilities) + 7, np.array([1, 2])) == pytest.approx(expected)  # logits are normalised
    with pytest.raises(ValueError, match="not finite in row 0"):
        log_loss(np.array([[-np.inf, 0.0]]), np.array([0]))


def test_expected_calibration_error_by_hand():
    """Two bins of width 0.5: confidences 0.6 and 0.8, one correct, |0.5 - 0.7|; and 0.4, wrong, |0 - 0.4|."""
    probabilities = np.array([[0.6, 0.3, 0.1], [0.1, 0.8, 0.1], [0.4, 0.3, 0.3]])
    found = expected_calibration_error(np.log(probabilities), np.array([0, 2, 1]), num_bins=2)
    assert found == pytest.approx(100 * (2 * 0.2 + 1 * 0.4) / 3)


def test_a_model_whose_accuracy_equals_its_confidence_is_calibrated():
    log_probs = np.log(np.tile([0.75, 0.25], (4, 1)))
    assert expected_calibration_error(log_probs, np.array([0, 0, 0, 1])) == pytest.approx(0, abs=1e-9)

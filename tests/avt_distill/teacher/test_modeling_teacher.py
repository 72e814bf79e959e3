"""The teacher model: every backbone, pooling, losses, saving, refusals."""

import copy

import pytest
import torch
from tiny_language_models import DECODERS, ENCODERS
from torch.nn.functional import cross_entropy

from avt_distill.teacher.modeling_teacher import TextTeacher, TextTeacherConfig, pool

LABELS = {
    "id2label": dict(enumerate(["open fridge", "take egg", "cut tomato"])),
    "verb_id2label": {0: "open", 1: "take", 2: "cut"},
    "noun_id2label": {0: "fridge", 1: "egg"},
}
MULTI_TASK = {"label_weights": {"action": 0.7, "verb": 0.2, "noun": 0.1}}


def teacher(kind: str = "bert", **fields) -> TextTeacher:
    torch.manual_seed(0)
    backbone_config = copy.deepcopy({**ENCODERS, **DECODERS}[kind])
    return TextTeacher(TextTeacherConfig(backbone_config=backbone_config, **{**LABELS, **fields})).eval()


@pytest.mark.parametrize("kind", [*ENCODERS, *DECODERS])
@pytest.mark.parametrize("pooling", ["first", "last", "mean"])
def test_padding_changes_nothing(kind, pooling):
    model = teacher(kind, pooling=pooling)
    ids = torch.tensor([[2, 5, 11, 20, 3]])
    padded, mask = torch.tensor([[2, 5, 11, 20, 3, 0, 0]]), torch.tensor([[1, 1, 1, 1, 1, 0, 0]])
    torch.testing.assert_close(model(padded, mask).logits, model(ids).logits, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("kind", [*ENCODERS, *DECODERS])
def test_every_weight_learns(kind):
    model = teacher(kind, pooling="last" if kind in DECODERS else "first", **MULTI_TASK).train()
    ids = torch.tensor([[2, 5, 11, 20, 3], [2, 6, 12, 3, 0]])
    labels = torch.tensor([0, 2])
    model(ids, (ids != 0).long(), labels, labels, torch.tensor([1, 0])).loss.backward()
    without = [name for name, weight in model.named_parameters() if weight.grad is None or not weight.grad.any()]
    assert without == []


def test_pooling_takes_first_last_and_mean_of_what_is_not_padding():
    states = torch.arange(8.0).view(2, 4, 1)
    right, left = torch.tensor([[1, 1, 1, 0], [1, 0, 0, 0]]), torch.tensor([[0, 1, 1, 1], [0, 0, 0, 1]])
    assert pool(states, right, "first").flatten().tolist() == [0, 4]
    assert pool(states, right, "last").flatten().tolist() == [2, 4]
    assert pool(states, right, "mean").flatten().tolist() == [1, 4]
    assert pool(states, left, "first").flatten().tolist() == [1, 7]
    assert pool(states, left, "last").flatten().tolist() == [3, 7]


def test_the_loss_is_the_weighted_sum_over_label_types_of_labelled_rows():
    model = teacher(**MULTI_TASK)
    model.class_weights = torch.tensor([1.0, 2.0, 4.0])
    ids = torch.tensor([[2, 5, 3], [2, 6, 3], [2, 7, 3]])
    action, verb, noun = torch.tensor([0, 2, -100]), torch.tensor([1, 1, 0]), torch.tensor([-100, -100, -100])
    output = model(ids, labels=action, verb_labels=verb, noun_labels=noun)
    log_p = output.logits.log_softmax(-1)
    weighted = -(1 * log_p[0, 0] + 4 * log_p[1, 2]) / (1 + 4)
    expected = 0.7 * weighted + 0.2 * cross_entropy(output.verb_logits, verb)  # no row has a noun: no term, no NaN
    torch.testing.assert_close(output.loss, expected)


def test_a_saved_teacher_loads_where_the_package_is_not(tmp_path, clean_process):
    model = teacher(**MULTI_TASK, action_texts=["open fridge", "take egg", "cut tomato"])
    model.save_pretrained(tmp_path / "teacher")
    printed = clean_process(f"""
        import torch
        from transformers import AutoModel, AutoModelForSequenceClassification
        for auto in (AutoModel, AutoModelForSequenceClassification):
            model = auto.from_pretrained({str(tmp_path / "teacher")!r}, trust_remote_code=True).eval()
            print(model(torch.tensor([[2, 5, 11, 3]])).logits.tolist(), model.config.action_texts[1])
    """)
    logits = model(torch.tensor([[2, 5, 11, 3]])).logits.tolist()
    assert printed.strip().splitlines() == [f"{logits} take egg"] * 2
    assert TextTeacher.from_pretrained(tmp_path / "teacher").config.noun_id2label == {0: "fridge", 1: "egg"}


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"pooling": "max"}, "pooling is 'max'"),
        ({"label_weights": {"verb": 1.0}}, "give weights of 'action'"),
        ({"label_weights": {"action": 1.0, "noum": 1.0}}, "give weights of 'action'"),
        ({"label_weights": {"action": -1.0}}, "weights of 0 or more"),
        ({"label_weights": {"action": 1.0, "verb": 1.0}, "verb_id2label": None}, "verb_id2label is empty"),
        ({"action_texts": ["open fridge"]}, "1 texts for 3 actions"),
        ({"history_length": -2}, "history_length is -2"),
    ],
)
def test_configurations_that_contradict_themselves_are_refused(fields, message):
    with pytest.raises(ValueError, match=message):
        teacher(**fields)


def test_a_loss_without_its_labels_is_refused():
    with pytest.raises(ValueError, match="has no verb labels"):
        teacher(**MULTI_TASK)(torch.tensor([[2, 5, 3]]), labels=torch.tensor([0]))

"""Teacher logits: equal to those of each history alone, and computed once per history."""

import numpy as np
import pytest
import torch

from avt_distill.teacher import prediction
from avt_distill.teacher.language_models import load_text_backbone, load_tokenizer
from avt_distill.teacher.modeling_teacher import TextTeacher, TextTeacherConfig
from avt_distill.teacher.prediction import TeacherScorer

TEXTS = ["open fridge", "take egg", "cut tomato", "wash knife or pan"]


def scorer(folder, **fields) -> TeacherScorer:
    torch.manual_seed(0)
    backbone = load_text_backbone(folder)
    config = TextTeacherConfig(
        backbone_config=backbone.config, id2label=dict(enumerate(TEXTS)), **{"action_texts": TEXTS, **fields}
    )
    return TeacherScorer(TextTeacher(config), load_tokenizer(folder))


def some_histories() -> list[list[int]]:
    generator = np.random.default_rng(0)
    return [generator.integers(0, 4, generator.integers(0, 9)).tolist() for _ in range(60)]


@pytest.mark.parametrize(("kind", "pooling"), [("bert", "first"), ("gpt2", "last")])
def test_logits_are_those_of_each_history_alone(language_models, monkeypatch, kind, pooling):
    monkeypatch.setattr(prediction, "TOKENS_AT_ONCE", 64)
    teacher = scorer(language_models[kind], pooling=pooling, history_length=5)
    together = teacher.logits(some_histories())
    alone = np.concatenate([teacher.logits([history]) for history in some_histories()])
    assert together.dtype == np.float32
    np.testing.assert_allclose(together, alone, rtol=1e-4, atol=1e-5)


def test_histories_that_read_the_same_are_computed_once(language_models, monkeypatch):
    teacher = scorer(language_models["bert"], history_length=2)
    rows = []
    original = teacher._batch_logits
    monkeypatch.setattr(teacher, "_batch_logits", lambda ids: rows.extend(ids) or original(ids))
    logits = teacher.logits([[3, 0, 1], [2, 0, 1], [0, 1], [1], []])
    assert len(rows) == 3
    np.testing.assert_array_equal(logits[0], logits[2])


def test_the_newest_action_may_come_first_and_the_oldest_are_then_cut(language_models):
    teacher = scorer(language_models["bert"], newest_first=True, max_length=8)
    (ids,) = prediction.encode_histories([[3, 0, 1, 2]], teacher.model.config, teacher.tokenizer)
    assert teacher.tokenizer.convert_ids_to_tokens(ids) == ["[CLS]", "cut", "tomato", ",", "take", "egg", ",", "[SEP]"]
    again = scorer(language_models["bert"], max_length=5)
    (ids,) = prediction.encode_histories([[3, 0, 1, 2]], again.model.config, teacher.tokenizer)
    assert teacher.tokenizer.convert_ids_to_tokens(ids) == ["[CLS]", ",", "cut", "tomato", "[SEP]"]


def test_no_histories_give_no_logits(language_models):
    logits = scorer(language_models["bert"]).logits([])
    assert (logits.shape, logits.dtype) == ((0, 4), np.float32)


def test_folders_without_a_teacher_are_refused(language_models, tmp_path):
    with pytest.raises(ValueError, match="Cannot read a teacher from"):
        TeacherScorer.from_pretrained(tmp_path)
    with pytest.raises(ValueError, match="has no action_texts"):
        scorer(language_models["bert"], action_texts=None)


def test_a_configuration_that_is_a_list_is_refused_in_one_sentence(tmp_path):
    (tmp_path / "config.json").write_text("[]")
    with pytest.raises(ValueError, match=r"config\.json holds a list instead of an object"):
        TeacherScorer.from_pretrained(tmp_path)

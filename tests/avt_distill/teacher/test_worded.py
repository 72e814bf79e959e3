"""Vectors of names, computed by a language model."""

import numpy as np
import pytest

from avt_distill.data.labels import LabelSpace
from avt_distill.teacher.worded import WordedLogLinear, name_vectors, principal, text_vectors

SPACE = LabelSpace(
    actions=("cut_egg", "cut_oil", "mix_egg"),
    verbs=("cut", "mix"),
    nouns=("egg", "oil"),
    action_to_verb_noun=((0, 0), (0, 1), (1, 0)),
)


def test_a_vector_does_not_depend_on_the_other_texts_of_a_batch(language_models):
    texts = [f"cut {'egg ' * number}" for number in range(1, 70)]  # several batches and lengths
    together = text_vectors(texts, str(language_models["bert"]))
    alone = text_vectors(texts[68:], str(language_models["bert"]))
    np.testing.assert_allclose(together[68:], alone, atol=1e-5)
    assert len(np.unique(together.round(4), axis=0)) > 1


def test_random_weights_are_others(language_models):
    given, path = ["cut egg", "mix oil"], str(language_models["bert"])
    assert np.abs(text_vectors(given, path) - text_vectors(given, path, random_weights=True)).max() > 1e-3


def test_no_histories_give_no_logits():
    logits = WordedLogLinear(3, np.eye(3)).fit([[], [0]], [0, 1]).logits([])
    assert (logits.shape, logits.dtype) == ((0, 3), np.float32)


@pytest.mark.parametrize(("parts_apart", "count"), [(False, 3), (True, 4)])
def test_names_have_vectors_of_their_own_or_their_verbs_and_nouns_do(language_models, parts_apart, count):
    found = name_vectors(SPACE, str(language_models["bert"]), head_noun_first=False, parts_apart=parts_apart)
    assert len(found) == count
    np.testing.assert_allclose(np.square(found).sum(1).mean(), 1, rtol=1e-5)
    np.testing.assert_allclose(found.mean(0), 0, atol=1e-5)


def test_main_directions_keep_distances():
    vectors = np.random.default_rng(0).normal(size=(10, 200))
    found = principal(vectors)
    distances = [np.linalg.norm(array[:, None] - array[None], axis=2) for array in (vectors, found)]
    np.testing.assert_allclose(distances[1] / distances[1][0, 1], distances[0] / distances[0][0, 1], rtol=1e-4)

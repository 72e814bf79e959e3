"""Action text: label cleaning, histories, and the reference's text on request."""

import hashlib
import json

import pytest
from helpers.places import require_shared

from avt_distill.data import anticipation_builder
from avt_distill.teacher.action_text import ActionText


def test_labels_read_as_english():
    text = ActionText()
    assert text.label("Inspect/Read_recipe") == "inspect or read recipe"
    assert text.label("Take_eating:utensil") == "take eating utensil"
    assert text.label("place_tomato_into_bowl") == "place tomato into bowl"
    assert text.label(" stir ") == "stir"
    assert ActionText(head_noun_first=True).label("pick-up_jug:measuring") == "pick up measuring jug"


def test_markers_are_between_verb_and_object_and_between_actions():
    text = ActionText("markers", head_noun_first=True)
    assert text.label("pick-up_jug:measuring") == "pick-up <v> measuring jug"
    assert text.recipe([("preheat", "oven"), ("add", "salt")]) == "preheat <v> oven <a> add <v> salt"


def test_histories_keep_the_last_actions():
    text, texts = ActionText(), ["cut tomato", "open fridge", "take egg"]
    assert text.history([2, 1, 0], texts, 2) == "open fridge, cut tomato"
    assert text.history([2, 1, 0], texts, None) == "take egg, open fridge, cut tomato"
    assert text.history([2, 1, 0], texts, 0) == ""
    assert text.history([], texts, 5) == ""
    assert text.history([2, 1, 0], texts, 2, newest_first=True) == "cut tomato, open fridge"


def test_other_forms_are_refused():
    with pytest.raises(ValueError, match="form is 'prose'"):
        ActionText("prose")


@pytest.mark.parametrize(
    ("benchmark", "folder", "key", "head_noun_first", "before"),
    [("egtea", "egtea", "egtea_label_text", False, ""), ("epic_kitchens_55", "ek55", "ek55_label_text", True, " ")],
)
def test_markers_equal_the_references_label_texts(benchmark, folder, key, head_noun_first, before):
    """Compares the digest of all texts; on EPIC-Kitchens the reference has a space before each."""
    recorded = json.loads(require_shared("golden/teacher/teacher_text.json").read_text())[key]
    builder = anticipation_builder(benchmark, data_dir=require_shared(f"data/annotations/{folder}"))
    texts = ActionText("markers", head_noun_first).labels(builder.annotations.label_space.actions)
    assert [before + texts[int(action)] for action in recorded["examples"]] == list(recorded["examples"].values())
    joined = "\n".join(before + text for text in texts)
    assert hashlib.sha256(joined.encode()).hexdigest() == recorded["sha256_joined_newline"]

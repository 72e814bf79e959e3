"""Detecting English instructions, which needs no parser."""

import gzip
import json

import pytest
from helpers.places import require_shared

from avt_distill.recipes.language import are_english


@pytest.mark.parametrize(
    "text",
    [
        "\u00d6l in der Pfanne erhitzen und die Zwiebeln darin anbraten.",
        "Couper les oignons en d\u00e9s.",
        "Pelar las patatas y cortarlas en rodajas.",
        "Tagliare la cipolla e soffriggere nell'olio.",
        "Corte as cebolas em rodelas e frite no azeite.",
        "Snijd de ui en bak deze in olie.",
        "Hacka l\u00f6ken och fr\u00e4s i sm\u00f6r.",
        "\u041d\u0430\u0440\u0435\u0437\u0430\u0442\u044c \u043b\u0443\u043a.",
        "\u5207\u6d0b\u8471\u3002",
        "\u7389\u306d\u304e\u3092\u5207\u308b",
    ],
)
def test_other_languages_are_detected(text):
    assert are_english([text]) == [False]
    assert are_english([text, "Heat the oil in the pan and add the salt."]) == [False, True]


@pytest.mark.parametrize(
    "text",
    [
        "Preheat oven.",
        "Serve.",
        "Enjoy!",
        "",
        "Saut\u00e9 onions.",
        "Add cr\u00e8me de menthe.",
        "Cut the tofu (\u8c46\u8150).",
    ],
)
def test_english_with_foreign_names_stays(text):
    assert are_english([text]) == [True]


def test_instructions_without_evidence_are_classified_with_the_others():
    assert are_english(["Zwiebeln hacken.", "Mit Salz und Pfeffer."]) == [False, False]
    assert are_english(["Enjoy!", "Add the salt."]) == [True, True]


def test_hardly_anything_of_english_recipes_is_left_out():
    left_out = total = 0
    with gzip.open(require_shared("data", "recipes", "recipes_20k.jsonl.gz"), "rt", encoding="utf-8") as lines:
        for line in lines:
            instructions = json.loads(line)["instructions"]
            texts = [text["text"] if isinstance(text, dict) else text for text in instructions]
            english = are_english(texts)
            left_out, total = left_out + english.count(False), total + len(english)
    assert total > 60_000
    assert left_out < total / 2000

"""Detecting English instructions, since the parser would extract noise from any other language."""

import re
import unicodedata
from collections.abc import Sequence

from .words import KITCHEN_VERBS, words

# Words that are frequent in recipes of one language and are no words, or rare ones, of recipes in English.
_ENGLISH = KITCHEN_VERBS | words(
    """the and of with for until into from about at this then when over your you it is are aside together each well
    minutes hours oven bowl pan pot water salt oil heat"""
)
_OTHERS = words(
    """der das den dem des und mit ein eine einen einer im zum zur auf bei aus nach oder f\u00fcr \u00fcber kurz dann
    alles lassen geben minuten
    le les une dans avec et du au aux sur \u00e0 puis pendant faire jusqu d\u00e9couper ajouter
    el los las del con en y una unos para hasta por sobre durante se minutos a\u00f1adir
    il lo gli nel nella della delle di e fino sul aggiungere minuti
    os em na dos das at\u00e9 um uma adicione
    de het een met tot voor van op te en voeg
    og det och f\u00f6r p\u00e5 som tills
    oraz lub nie przez dodaj ve ile bir i\u00e7in ekleyin"""
)
_WORD = re.compile(r"[^\W\d_]+")


def are_english(instructions: Sequence[str]) -> list[bool]:
    """Returns whether each instruction of a recipe is English; undecidable ones follow the others.

    Args:
        instructions (`Sequence[str]`): The instructions of one recipe.
    """
    evidence = [_evidence(text) for text in instructions]
    of_recipe = sum(evidence)
    return [(own or of_recipe) >= 0 for own in evidence]


def _evidence(text: str) -> int:
    """Returns the number of English words minus that of other languages, which include all words in other scripts."""
    words = _WORD.findall(unicodedata.normalize("NFC", text).lower())
    return sum((word in _ENGLISH) - (word in _OTHERS or not _is_latin(word[0])) for word in words)


def _is_latin(letter: str) -> bool:
    return letter.isascii() or unicodedata.name(letter, "").startswith("LATIN")

"""The one text form of actions: recipes, video histories and class names are all written by it."""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

BETWEEN_ACTIONS = {"natural": ", ", "markers": " <a> "}
BETWEEN_VERB_AND_OBJECT = {"natural": " ", "markers": " <v> "}
FORMS = tuple(BETWEEN_ACTIONS)


@dataclass(frozen=True)
class ActionText:
    """How actions are written.

    `"natural"` reads as English, "open fridge, take eating utensil"; `"markers"` is the reference's, "open <v> fridge
    <a> take <v> eating utensil", where the markers are ordinary text that the tokenizer splits (egtea_finetuning.py:
    362-373, recipe_json2actionseq.py). Everything is lower case.

    Args:
        form (`str`, *optional*, defaults to `"natural"`): `"natural"` or `"markers"`.
        head_noun_first (`bool`, *optional*, defaults to `False`): Whether a noun's parts between colons are in
            reverse, as EPIC-Kitchens writes them: "jug:measuring" is a measuring jug. EGTEA Gaze+ writes
            "eating:utensil".

    Raises:
        ValueError: If the form is neither.
    """

    form: str = "natural"
    head_noun_first: bool = False

    def __post_init__(self):
        if self.form not in FORMS:
            raise ValueError(f"form is '{self.form}': write actions as one of {FORMS}.")

    def label(self, name: str) -> str:
        """Returns the text of a benchmark's label, `verb_noun`: "Inspect/Read_recipe" is "inspect or read recipe".

        Underscores after the first are spaces, slashes become "or", colons join the parts of a noun; natural text
        also writes "pick-up" as "pick up".
        """
        verb, _, noun = name.strip().lower().replace("/", " or ").partition("_")
        parts = noun.replace("_", " ").split(":")
        return self.pair(verb, " ".join(reversed(parts) if self.head_noun_first else parts))

    def labels(self, names: Iterable[str]) -> list[str]:
        """Returns the text of each label."""
        return [self.label(name) for name in names]

    def pair(self, verb: str, noun: str) -> str:
        """Returns the text of a verb and its object, such as one action of a recipe."""
        if self.form == "natural":
            verb, noun = verb.replace("-", " "), noun.replace("-", " ")
        text = verb + (BETWEEN_VERB_AND_OBJECT[self.form] + noun if noun else "")
        return re.sub(r"\s+", " ", text).strip().lower()

    def sequence(self, texts: Iterable[str]) -> str:
        """Returns actions in a row as one text."""
        return BETWEEN_ACTIONS[self.form].join(texts)

    def history(
        self, history: Sequence[int], texts: Sequence[str], length: int | None, *, newest_first: bool = False
    ) -> str:
        """Returns the last `length` actions of a history as one text; all of them for `None`.

        Args:
            history (`Sequence[int]`): Action ids, oldest first.
            texts (`Sequence[str]`): The text of each action id, as `labels` gives them.
            length (`int`, *optional*): The number of actions to keep. 0 keeps none.
            newest_first (`bool`, *optional*): Write them from the newest to the oldest.
        """
        kept = history if length is None else history[max(0, len(history) - length) :]
        return self.sequence(texts[action] for action in (reversed(kept) if newest_first else kept))

    def recipe(self, actions: Iterable[tuple[str, str]]) -> str:
        """Returns a recipe's (verb, object) pairs as one text."""
        return self.sequence(self.pair(verb, noun) for verb, noun in actions)

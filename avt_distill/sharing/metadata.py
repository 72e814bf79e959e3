"""Metadata in the headers of cards: licenses, data sets, base models and results; and required versions."""

import re
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TypeVar

import yaml
from huggingface_hub import (
    CardData,
    EvalResult,
    EvalResultEntry,
    ModelCard,
    RepoCard,
    eval_result_entries_to_yaml,
    parse_eval_result_entries,
)
from huggingface_hub.constants import EVAL_RESULTS_FOLDER
from huggingface_hub.utils import HFValidationError, validate_repo_id

from modeling_avt.versions_avt import MINIMUM_OF_VIDEOS, MINIMUM_VERSIONS

from ..data.benchmarks.demo import DemoKitchen
from ..data.builder import AnticipationBuilder
from ..features.encoder_record import DIGEST_LENGTH
from ..runs.folder import write_text

Card = TypeVar("Card", bound=RepoCard)

OF_LICENSE = ("license", "license_name", "license_link")
TEXT_MODELS_NEED = "4.57"  # the oldest release of transformers that was tested to load them
NAMELESS = (AnticipationBuilder.TITLE, DemoKitchen.TITLE)
LEAK_NOTE = re.compile(r"^- (.*)<!-- leak note -->$", re.MULTILINE)  # as in the template of a student's card
REPOSITORY = re.compile(r"""(?:model=|from_pretrained\()"([^"/]+/[^"/]+)\"""")  # in the example of a card
FILLED_RESULTS = "# filled by avt-distill from the card\n"
# Upper bounds of the Hub's categories of sizes.
SIZES = {1_000: "n<1K", 10_000: "1K<n<10K", 100_000: "10K<n<100K", 1_000_000: "100K<n<1M", 10_000_000: "1M<n<10M"}


@dataclass(frozen=True)
class Stated:
    """Metadata that no run records, stated by the user who pushes, or by the existing card.

    Args:
        license, license_name, license_link (`str`, *optional*): See `licenses.checked_license`.
        dataset (`str`, *optional*): The data set's repository on the Hub, `user/name`.
        base_model (`str`, *optional*): The repository of the model that this one starts from.
        leak_note (`str`, *optional*): For students: a sentence on what the data's own protocol leaks, as Markdown.

    Raises:
        ValueError: If a data set or model is not a name on the Hub.
    """

    license: str | list[str] | None = None
    license_name: str | None = None
    license_link: str | None = None
    dataset: str | None = None
    base_model: str | None = None
    leak_note: str | None = None

    def __post_init__(self):
        for option, value in {"hub_dataset": self.dataset, "base_model": self.base_model}.items():
            if value is not None and not (is_hub_name(value) and "/" in value):
                raise ValueError(f"--{option} is '{value}': give a repository on the Hub, USER/NAME.")

    @classmethod
    def in_card(cls, path: Path, card_class: type[RepoCard] = ModelCard) -> "Stated":
        """Returns the metadata stated in a card; empty if the card does not exist."""
        if not path.is_file():
            return cls()
        card = loaded_card(path, card_class)
        note = LEAK_NOTE.search(card.text)
        return cls.in_header(card.data) | cls(leak_note=note and note[1])

    @classmethod
    def in_header(cls, data: CardData) -> "Stated":
        """Returns the metadata stated in the header of a card."""
        of_license = {name: data.get(name) for name in OF_LICENSE}
        names = {"dataset": data.get("datasets"), "base_model": data.get("base_model")}
        return cls(**of_license, **{field: _first_on_hub(of_field) for field, of_field in names.items()})

    def __or__(self, other: "Stated") -> "Stated":
        """Returns the union of two statements; this one takes precedence. License fields are not mixed."""
        own = {name: value for name, value in asdict(self).items() if value is not None}
        others = {name: value for name, value in asdict(other).items() if not (self.license and name in OF_LICENSE)}
        return Stated(**{**others, **own})

    def __bool__(self) -> bool:
        return any(value is not None for value in asdict(self).values())

    @property
    def license_fields(self) -> dict[str, Any]:
        """The license, as fields of a card's header."""
        return {name: getattr(self, name) for name in OF_LICENSE if getattr(self, name) is not None}


def loaded_card(path: Path, card_class: type[Card]) -> Card:
    """Returns a card, as the library reads it.

    Raises:
        ValueError: If the header cannot be read. The message names the file.
    """
    try:
        return card_class.load(path)
    except (ValueError, TypeError, KeyError, AttributeError, yaml.YAMLError) as error:
        reason = " ".join(str(error).split())
        raise ValueError(f"The header of {path} cannot be read ({reason}): correct it, or delete the file.") from error


def repository_in(path: Path, *, default: str) -> str:
    """Returns the repository on the Hub, `user/name`, that the example in a card loads from; else `default`."""
    found = REPOSITORY.search(path.read_text(encoding="utf-8", errors="replace")) if path.is_file() else None
    return default if found is None else found[1]


def is_hub_name(name: str) -> bool:
    """Returns whether a text can be the name of a repository on the Hub."""
    try:
        validate_repo_id(name)
    except HFValidationError:
        return False
    return True


def _first_on_hub(names: str | list[str] | None) -> str | None:
    names = [names] if isinstance(names, str) else names or []
    return next((name for name in names if "/" in name and is_hub_name(name)), None)


def state_in_header(path: Path, stated: Stated, card_class: type[RepoCard] = ModelCard):
    """Adds stated metadata to the header of a user's card, without changing its text.

    Args:
        path (`Path`): The card.
        stated (`Stated`): Its fields that are `None` change nothing.
        card_class (`type`, *optional*): The library's class of such cards.
    """
    card = loaded_card(path, card_class)
    if stated.license is not None:
        for name in OF_LICENSE:
            card.data[name] = getattr(stated, name)
    if stated.base_model is not None:
        card.data["base_model"] = stated.base_model
    if stated.dataset is not None:
        card.data["datasets"] = [stated.dataset]
        for result in card.data.get("eval_results") or []:
            result.dataset_type = stated.dataset
    if (text := str(card)) != path.read_text(encoding="utf-8"):
        write_text(path, text)


NOTHING = Stated()


# Data sets and base models


def data_set_type(title: str) -> str:
    """Returns a data set's title in the characters that the Hub takes: `"EGTEA Gaze+"` as `"egtea-gaze-plus"`."""
    plain = title.lower().replace("+", "-plus").replace("'", "")
    return re.sub(r"[^a-z0-9]+", "-", plain).strip("-")


def is_nameless(title: str) -> bool:
    """Returns whether a title is that of private data rather than a known data set."""
    return title in NAMELESS


def data_set_names(title: str, stated: Stated) -> list[str] | None:
    """Returns the training data of a model: the stated repository, or else the name of the benchmark, if any."""
    if stated.dataset is not None:
        return [stated.dataset]
    return None if is_nameless(title) else [data_set_type(title)]


def starting_point(settings: dict, option: str, content: str) -> str | None:
    """Returns the model on the Hub that a run started from; `None` if there is none, or if it was in a folder.

    Args:
        settings (`dict`): What the run wrote down.
        option (`str`): The name of the option that named the model.
        content (`str`): The name of the digests of its files, which are empty if it was on the Hub.
    """
    name = settings.get(option)
    on_hub = name is not None and settings.get(content) == {} and is_hub_name(name)
    return name if on_hub else None


def encoder_on_hub(feature_encoder: dict | None) -> str | None:
    """Returns the model on the Hub that made a student's features, see `EncoderRecord`; else `None`."""
    if not feature_encoder or len(feature_encoder.get("revision") or "") in (0, DIGEST_LENGTH):
        return None
    return feature_encoder["model"] if is_hub_name(feature_encoder["model"]) else None


def size_category(num_rows: int) -> str:
    """Returns the Hub's name for a number of rows."""
    return next((name for bound, name in SIZES.items() if num_rows < bound), "10M<n<100M")


# Results


def write_eval_results(folder: Path):
    """Writes the metrics of a model's card as `.eval_results/NAME.yaml`, which the Hub shows and ranks.

    Each entry names a data set on the Hub and a task in that data set's `eval.yaml`: the Hub reads no others. Without a
    stated data set on the Hub, no entries are written; the card has the metrics in any case. Tasks are named
    `CONFIGURATION_METRIC`, such as `split1_top_1_accuracy`. Files that an earlier call wrote for another are removed.

    Args:
        folder (`Path`): Of the model, with its card.
    """
    results = loaded_card(folder / "README.md", ModelCard).data.get("eval_results") or []
    entries: dict[str, list[EvalResultEntry]] = {}
    for result in results:
        if "/" in result.dataset_type:
            file = f"{result.dataset_type.rpartition('/')[2]}.yaml"
            entries.setdefault(file, []).append(_entry(result))
    place = folder / EVAL_RESULTS_FOLDER
    for path in eval_result_files(folder):
        if path.name not in entries and path.read_text(encoding="utf-8").startswith(FILLED_RESULTS):
            path.unlink()
    for file, of_data_set in entries.items():
        place.mkdir(exist_ok=True)
        content = yaml.safe_dump(eval_result_entries_to_yaml(of_data_set), sort_keys=False, allow_unicode=True)
        write_text(place / file, FILLED_RESULTS + content)


def _entry(result: EvalResult) -> EvalResultEntry:
    parts = [result.dataset_config or "default", result.metric_name or result.metric_type]
    notes = {"split": result.dataset_split, **(result.dataset_args or {})}
    seed = (result.metric_args or {}).get("seed")
    notes |= {} if seed is None else {"seed": seed}
    return EvalResultEntry(
        dataset_id=result.dataset_type,
        task_id="_".join(re.sub(r"\W+", "_", part.lower()).strip("_") for part in parts),
        value=result.metric_value,
        notes=", ".join(f"{name} {value}" for name, value in notes.items() if value is not None),
    )


def eval_result_files(folder: Path) -> list[Path]:
    """Returns the files of results in a model's folder, sorted."""
    found = (folder / EVAL_RESULTS_FOLDER).glob("*.yaml")
    return sorted(path for path in found if path.is_file() and not path.name.startswith("."))


def check_eval_results(folder: Path):
    """Raises `ValueError` if a file of results is invalid, with its name: the Hub would ignore it."""
    for path in eval_result_files(folder):
        try:
            parse_eval_result_entries(yaml.safe_load(path.read_text(encoding="utf-8")))
        except (ValueError, TypeError, KeyError, AttributeError, yaml.YAMLError) as error:
            raise ValueError(
                f"{path} holds no results as the Hub reads them ({type(error).__name__}: {error}): correct it as in "
                "https://huggingface.co/docs/hub/eval-results, or delete it."
            ) from error


# Versions


def needed_versions(*, reads_videos: bool) -> str:
    """Returns a sentence on the minimum versions for a student, which `versions_avt` checks on loading."""
    *most, last = [f"{name} {version}" for name, version in MINIMUM_VERSIONS.items()]
    of_videos = " and ".join(f"{name} {version}" for name, version in MINIMUM_OF_VIDEOS.items())
    needs = f"Needs {', '.join(most)} and {last} or newer"
    return f"{needs}; for videos also {of_videos} or newer." if reads_videos else f"{needs}."


def needed_by_text_model(least: str, versions: dict[str, str]) -> str:
    """Returns a sentence on the releases that load a teacher or language model, which check no versions themselves.

    Args:
        least (`str`): The oldest release of transformers.
        versions (`dict[str, str]`): Of `torch` and `transformers`, with which it was made and measured.
    """
    made_with = " and ".join(f"{name} {versions[name]}" for name in ("torch", "transformers"))
    return f"Needs torch and transformers {least} or newer; made and measured with {made_with}."

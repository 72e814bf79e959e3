"""Cards generated from the recorded results of runs. A missing number raises instead of leaving a blank."""

import hashlib
import logging
from pathlib import Path
from typing import Any

from huggingface_hub import CardData, DatasetCard, DatasetCardData, EvalResult, ModelCard, ModelCardData, RepoCard
from jinja2 import Environment, StrictUndefined, UndefinedError

from ..runs.folder import read_record, write_text
from .card_values import (
    MEASURES,
    calibrated_values,
    gain_fields,
    read_results,
    reader_values,
    results_table,
    settings_table,
    withheld_values,
)
from .markdown import Markdown, escaped, table
from .metadata import (
    NOTHING,
    TEXT_MODELS_NEED,
    Stated,
    data_set_names,
    data_set_type,
    encoder_on_hub,
    is_nameless,
    loaded_card,
    needed_by_text_model,
    needed_versions,
    size_category,
    starting_point,
    state_in_header,
    write_eval_results,
)
from .shipped import shipped_folder

logger = logging.getLogger(__name__)

RESULTS, SETTINGS, CONFIG, README = "results.json", "settings.json", "config.json", "README.md"
FILLED = "<!-- filled by avt-distill, {digest} -->"
ADAPTATION = "adaptation.json"
COMPARISON = "comparison.json"  # in the folder of a run, of all of its students
ATTACHED = "attached.json"  # record of `avt-distill attach_encoder`
STUDENT_SETTINGS = (
    *("learning_rate", "optim", "optim_args", "lr_scheduler_type", "warmup_steps", "weight_decay", "batch_size"),
    *("distill_weight", "distill_temperature", "distill_top_k", "distill_reduction", "balance_soft_labels"),
    "label_smoothing_factor",
)
TEACHER_SETTINGS = (
    *("learning_rate", "classifier_learning_rate", "optim", "lr_scheduler_type", "warmup_steps", "weight_decay"),
    *("per_device_train_batch_size", "gradient_accumulation_steps", "label_weights", "class_weights", "lora_rank"),
    *("held_out_fraction", "bf16", "seed"),
)
GRADIO_VERSION = "6.31.0"  # the version that `space/` was tested with


def student_card(
    folder: str | Path,
    repo_id: str,
    *,
    comparison: dict | None = None,
    stated: Stated = NOTHING,
) -> ModelCard:
    """Returns the card of a student trained by `avt-distill distill`, with or without a reader.

    Args:
        folder (`str` or `Path`): The student's checkpoint, with `results.json` and `settings.json`; with a reader, as
            `avt-distill fit_reader` writes it, also `reader_comparison.json`.
        repo_id (`str`): The repository, `user/name`.
        comparison (`dict`, *optional*): Content of the run's `comparison.json`: adds the baseline, over all seeds.
        stated (`Stated`, *optional*): License, data set, base model and a note. Default: those of the existing card.

    Raises:
        ValueError: If a file or a number is missing.
    """
    folder = Path(folder)
    config, results, settings = (read_results(folder / name) for name in (CONFIG, RESULTS, SETTINGS))
    stated |= Stated.in_card(folder / README)
    metadata, labels = results["scores"], config["id2label"]
    attached = read_results(folder / ATTACHED) if (folder / ATTACHED).exists() else None
    takes_features = config["backbone_config"] is None
    values = {
        **config,
        **results,
        **metadata,
        "num_actions": len(labels),
        "leak_note": stated.leak_note and Markdown(" ".join(stated.leak_note.split())),
    }
    values |= {
        "takes_features": takes_features,
        "attached": attached,
        "calibrated": calibrated_values(folder, config),
        "withheld": withheld_values(config),
        "features": settings["features"] if settings["features"] is None else Path(settings["features"]).name,
        "needs": needed_versions(reads_videos=not takes_features),
        "results_table": results_table(results["metrics"], comparison),
        "horizons": results.get("horizons"),
        "compared_seeds": None if comparison is None else comparison["seeds"],
        "settings_table": settings_table(settings, STUDENT_SETTINGS),
        "reader": reader_values(folder, config, results) if config.get("reader") else None,
        "actions": ", ".join(labels[key] for key in sorted(labels, key=int)),
    }
    base_model = stated.base_model or _base_of_student(config, settings, attached)
    needs_encoder = takes_features and settings.get("model_name_or_path") is None
    tags = ["action-anticipation", "video", "avt", "custom_code"]
    data = _model_data(
        repo_id,
        stated,
        base_model=base_model,
        base_model_relation="adapter" if needs_encoder else "finetune",
        datasets=data_set_names(metadata["dataset"], stated),
        pipeline_tag="video-classification",
        tags=[*tags, "knowledge-distillation"] if results["teacher"] else tags,
        eval_results=_eval_results(
            results["metrics"], "video-classification", metadata, results["seed"], comparison, stated=stated
        ),
    )
    return ModelCard(_filled("model_card.md", folder, repo_id, data, values))


def teacher_card(folder: str | Path, repo_id: str, *, stated: Stated = NOTHING) -> ModelCard:
    """Returns the card of a teacher trained by `avt-distill finetune_teacher`, with count models for comparison.

    Args:
        folder (`str` or `Path`): The teacher's folder, with `results.json`, `training.json` and `settings.json`.
        repo_id, stated: See `student_card`.

    Raises:
        ValueError: If a file or a number is missing.
    """
    folder = Path(folder)
    config, results, training, settings = (
        read_results(folder / name) for name in (CONFIG, RESULTS, "training.json", SETTINGS)
    )
    stated |= Stated.in_card(folder / README)
    metadata, texts = results["scores"], config["action_texts"]
    own = results["metrics"]["teacher"]
    columns = [name for name in MEASURES if name in own]
    rows = [
        ["this model" if model == "teacher" else model, *(f"{metrics[name]:.2f}" for name in columns)]
        for model, metrics in results["metrics"].items()
    ]
    values = {**config, **training, **metadata, "num_rows": results["num_rows"], "training_s": results["training_s"]}
    values["num_rows_trained"] = training["num_rows"]
    values |= {
        "num_actions": len(texts),
        "language_model": f"{Path(settings['model_name_or_path']).name} ({config['backbone_config']['model_type']})",
        "from_random": settings["random_weights"],
        "needs": needed_by_text_model(TEXT_MODELS_NEED, results["versions"]),
        "results_table": table(["", *(MEASURES[name][1] for name in columns)], rows),
        "settings_table": settings_table(settings, TEACHER_SETTINGS),
        "knows_the_gap": config["history_cutoff"] == "segment_start",
        "actions": ", ".join(texts),
    }
    started_from = None if settings["random_weights"] else _base_of_text(settings)
    data = _model_data(
        repo_id,
        stated,
        base_model=stated.base_model or started_from,
        base_model_relation="finetune",
        datasets=data_set_names(metadata["dataset"], stated),
        pipeline_tag="text-classification",
        tags=["action-anticipation", "text-teacher", "custom_code"],
        eval_results=_eval_results(own, "text-classification", metadata, settings["seed"], stated=stated),
    )
    return ModelCard(_filled("teacher_card.md", folder, repo_id, data, values))


def checkpoint_card(folder: str | Path, repo_id: str, *, stated: Stated = NOTHING) -> ModelCard:
    """Returns the card of a folder: generated from its results, or its `README.md` written by a user.

    Args:
        folder (`str` or `Path`): Folder of a student, a teacher or a converted checkpoint.
        repo_id, stated: See `student_card`; a user's card is not changed.

    Raises:
        ValueError: If the folder holds no checkpoint, or neither results nor a card.
    """
    folder = Path(folder)
    if not (folder / CONFIG).exists():
        raise ValueError(f"{folder} has no {CONFIG}: give the folder of a student or a teacher.")
    if (folder / RESULTS).exists():
        config = read_record(folder / CONFIG, "model_type")
        if config["model_type"] == "text_teacher":
            return teacher_card(folder, repo_id, stated=stated)
        return student_card(folder, repo_id, comparison=_comparison_of(folder, config), stated=stated)
    if (folder / ADAPTATION).exists():
        return language_model_card(folder, repo_id, stated=stated)
    if (folder / README).exists():
        return loaded_card(folder / README, ModelCard)
    raise ValueError(
        f"{folder} has neither {RESULTS}, which avt-distill distill, fit_reader and finetune_teacher write, nor a "
        "README.md of your own: write a README.md, or give the folder of one of these commands."
    )


def _comparison_of(folder: Path, config: dict) -> dict | None:
    """Returns the comparison of the run that a distilled student is of; `None` without one.

    A student with a reader has a comparison of its own, and `avt-distill compare_runs` may have written one of other
    models under this name.
    """
    results, path = read_record(folder / RESULTS, "scores", "seed"), folder.resolve().parent / COMPARISON
    if config.get("reader") or not results.get("teacher") or not path.exists():
        return None
    comparison = read_record(path)
    split = results["scores"].get("split")
    is_own = results["seed"] in comparison.get("seeds", []) and comparison.get("split", split) == split
    return comparison if is_own else None


def language_model_card(folder: str | Path, repo_id: str, *, stated: Stated = NOTHING) -> ModelCard:
    """Returns the card of a language model adapted by `avt-distill adapt_language_model`.

    Args:
        folder (`str` or `Path`): Folder of the language model, with `adaptation.json`.
        repo_id, stated: See `student_card`.

    Raises:
        ValueError: If a file or a number is missing.
    """
    folder = Path(folder)
    results, config = read_results(folder / ADAPTATION), read_results(folder / CONFIG)
    stated |= Stated.in_card(folder / README)
    arguments = results["arguments"]
    (architecture,) = config["architectures"]
    is_masked = architecture.endswith("ForMaskedLM")
    recipes_file = Path(arguments["recipes"]).name
    values = {
        **results,
        "architecture": architecture,
        "auto_class": "AutoModelForMaskedLM" if is_masked else "AutoModelForCausalLM",
        "is_masked": is_masked,
        "base": Path(arguments["model_name_or_path"]).name,
        "recipes_file": recipes_file,
        "needs": needed_by_text_model(TEXT_MODELS_NEED, results["versions"]),
    }
    recorded = {**results.get("decisive", {}), "model_name_or_path": arguments["model_name_or_path"]}
    task = "fill-mask" if is_masked else "text-generation"
    perplexity = EvalResult(
        task_type=task,
        dataset_type=stated.dataset or data_set_type(recipes_file.split(".")[0]),
        dataset_name=f"{recipes_file}, recipes held out",
        metric_type="perplexity",
        metric_name="Perplexity",
        metric_value=round(results["after"]["perplexity"], 2),
    )
    data = _model_data(
        repo_id,
        stated,
        base_model=stated.base_model or _base_of_text(recorded),
        base_model_relation="finetune",
        datasets=None if stated.dataset is None else [stated.dataset],
        pipeline_tag=task,
        tags=["action-anticipation", "recipes"],
        eval_results=[perplexity],
    )
    return ModelCard(_filled("language_model_card.md", folder, repo_id, data, values))


def dataset_card(
    configs: dict[str, dict], repo_id: str, data: DatasetCardData, stated: Stated = NOTHING, *, has_facts: bool = True
) -> DatasetCard:
    """Returns the card of anticipation rows.

    Args:
        configs (`dict[str, dict]`): `AnticipationBuilder.facts` of each configuration by its name.
        repo_id (`str`): The repository, `user/name`.
        data (`DatasetCardData`): The header written by `datasets`, with the paths of the files; other fields are added.
        stated (`Stated`, *optional*): The license. Default: that of `data`.
        has_facts (`bool`, *optional*, defaults to `True`): Whether the facts are in `facts/`, as on the Hub, rather
            than the label space and the dropped actions next to the rows, as in an exported folder.

    Raises:
        ValueError: If a fact is missing.
    """
    first = next(iter(configs.values()))
    stated |= Stated.in_header(data)
    for field, value in stated.license_fields.items():
        data[field] = value
    data.task_categories, data.tags = ["video-classification"], ["action-anticipation", "video", "avt-distill"]
    data.pretty_name = f"{first['title']}, action anticipation"
    # The largest configuration counts, since configurations are folds and variants of the same actions. No language is
    # stated for user data.
    data.size_categories = [size_category(max(map(_num_rows, configs.values())))]
    data.language = None if is_nameless(first["title"]) else ["en"]
    leaks = any(facts["history_cutoff"] == "segment_start" for facts in configs.values())
    options = ("tau_a", "tau_o", "num_frames", "frame_rate", "protocol", "history_cutoff")
    rows = [[name, *(facts[option] for option in options)] for name, facts in configs.items()]
    splits = [
        [name, split, counts["rows"], counts["videos"], counts["left_out"]]
        for name, facts in configs.items()
        for split, counts in facts["splits"].items()
    ]
    values = {
        "title": first["title"],
        "actions": ", ".join(first["actions"]),
        "num_actions": len(first["actions"]),
        "options_table": table(["configuration", *(Markdown(f"`{name}`") for name in options)], rows),
        "splits_table": table(["configuration", "split", "rows", "videos", "left out"], splits),
        "default_config": next(iter(configs)),
        "first_split": next(iter(first["splits"])),
        "leaks": leaks,
        "has_facts": has_facts,
        "num_future_actions": first.get("num_future_actions", 0),
    }
    return DatasetCard(_filled("dataset_card.md", repo_id, repo_id, data, values))


def card_to_push(folder: Path, repo_id: str, *, stated: Stated, overwrite: bool = False):
    """Writes the card to push with a folder, and its result files: see `checkpoint_card` and `write_eval_results`.

    The text of a card written or edited by a user is kept; only stated fields are added to its header.

    Args:
        folder (`Path`): Folder of a student, a teacher, a language model or a converted checkpoint.
        repo_id, stated: See `student_card`.
        overwrite (`bool`, *optional*, defaults to `False`): Whether to replace an edited card.

    Raises:
        ValueError: See `checkpoint_card`.
    """
    card = checkpoint_card(folder, repo_id, stated=stated)
    is_filled = any((folder / name).exists() for name in (RESULTS, ADAPTATION))
    is_kept = not is_filled or not write_card(folder, card, overwrite=overwrite)
    if is_kept and stated:
        state_in_header(folder / README, stated)
    if stated.dataset is not None or is_filled_card(folder / README):
        write_eval_results(folder)


def _num_rows(facts: dict) -> int:
    return sum(counts["rows"] for counts in facts["splits"].values())


def space_card(repo_id: str, model_id: str) -> RepoCard:
    """Returns the card of a Space that runs a model, with the header that the Hub needs to start it.

    Args:
        repo_id (`str`): The Space's name: `user/name`.
        model_id (`str`): The model's name: `user/name`.
    """
    header = {"emoji": "🍳", "colorFrom": "blue", "colorTo": "yellow", "sdk": "gradio", "sdk_version": GRADIO_VERSION}
    header |= {"app_file": "app.py", "python_version": "3.11", "license": "apache-2.0", "models": [model_id]}
    data = CardData(title="What happens next?", **header)
    return RepoCard(_filled("space_card.md", "the Space", repo_id, data, {"model_id": model_id}))


def write_card(folder: Path, card: RepoCard, *, overwrite: bool = False) -> bool:
    """Writes a card as `README.md` unless a user wrote or edited the existing one; returns whether it was written.

    The last line of a generated card is a comment with a digest of the rest, which reveals edits.

    Args:
        folder (`Path`): Folder to write to.
        card (`RepoCard`): The card.
        overwrite (`bool`, *optional*, defaults to `False`): Whether to replace a user's card.
    """
    path = folder / README
    if path.exists() and not overwrite and not _is_filled(path.read_text(encoding="utf-8", errors="replace")):
        logger.warning("%s was written or edited by hand and is kept: give --overwrite, or delete it.", path)
        return False
    text = str(card).rstrip("\n")
    write_text(path, f"{text}\n\n{FILLED.format(digest=_digest(text))}\n")
    return True


def is_filled_card(path: Path) -> bool:
    """Returns whether a command generated a card, which may have been edited since."""
    begin, _, _ = FILLED.partition("{digest}")
    return path.is_file() and begin in path.read_text(encoding="utf-8", errors="replace")


def _is_filled(text: str) -> bool:
    body, _, last = text.rstrip("\n").rpartition("\n\n")
    return last == FILLED.format(digest=_digest(body))


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _filled(template: str, source: str | Path, repo_id: str, data: CardData, values: dict) -> str:
    values = {
        **values,
        **_links(data),
        "repo_id": repo_id,
        "name": _name(repo_id),
        "card_data": Markdown(data.to_yaml()),
    }
    # All text is escaped when it is inserted, except for `Markdown`.
    options = {"undefined": StrictUndefined, "autoescape": False, "trim_blocks": False, "finalize": _shown}
    environment = Environment(**options)
    try:
        text = (shipped_folder("hub_cards") / template).read_text(encoding="utf-8")
        return environment.from_string(text).render(values)
    except UndefinedError as error:
        raise ValueError(
            f"The card of {source} cannot be filled ({error}): rerun the command that wrote its results."
        ) from error


def _shown(value: object) -> object:
    return escaped(value) if isinstance(value, str) else value


def _name(repo_id: str) -> str:
    return repo_id.rpartition("/")[2]


def _links(data: CardData) -> dict[str, Markdown | None]:
    """Returns the links in cards: the license, the data set on the Hub and the base model, if stated."""
    base_model = data.get("base_model")
    data_set = next((name for name in data.get("datasets") or [] if "/" in name), None)
    return {
        "license_text": _license_text(data),
        "base_link": base_model and Markdown(f"[{base_model}](https://huggingface.co/{base_model})"),
        "data_set_link": data_set and Markdown(f"[{data_set}](https://huggingface.co/datasets/{data_set})"),
    }


def _license_text(data: CardData) -> Markdown:
    stated = data.get("license")
    if stated is None:
        return Markdown("No license is stated: ask the owner of this repository before you use what is in it.")
    if data.get("license_name") is not None:
        return Markdown(f"[{escaped(data['license_name'])}]({escaped(data.get('license_link'))})")
    names = [stated] if isinstance(stated, str) else stated
    return Markdown(", ".join(f"`{escaped(name)}`" for name in names))


def _model_data(
    repo_id: str, stated: Stated, *, base_model: str | None, base_model_relation: str, **fields: Any
) -> ModelCardData:
    """Returns the header of a model's card, with the relation to the base model if there is a known one."""
    related = {} if base_model is None else {"base_model": base_model, "base_model_relation": base_model_relation}
    return ModelCardData(
        **stated.license_fields,
        library_name="transformers",
        **related,
        metrics=sorted({result.metric_type for result in fields["eval_results"]}),
        model_name=_name(repo_id),
        **fields,
    )


def _base_of_student(config: dict, settings: dict, attached: dict | None) -> str | None:
    """Returns the model on the Hub that a student started from, whose backbone it has or whose features it reads."""
    for option in ("model_name_or_path", "backbone"):
        if settings.get(option) is not None:
            return starting_point(settings, option, f"{option}_content")
    if attached is not None:
        # Folders are recorded by their last part only, without a slash.
        return attached["encoder"] if "/" in attached["encoder"] else None
    return encoder_on_hub(config.get("feature_encoder"))


def _base_of_text(settings: dict) -> str | None:
    return starting_point(settings, "model_name_or_path", "model_content")


def _eval_results(
    metrics: dict[str, float],
    task: str,
    metadata: dict,
    seed: int,
    comparison: dict | None = None,
    *,
    stated: Stated,
) -> list[EvalResult]:
    """Returns the metrics of actions as a model index holds them; `metadata` is that of a score table's metadata."""
    title, config = metadata["dataset"], metadata["config_name"]
    found = {name: value for name, value in metrics.items() if name in MEASURES}
    if not found:
        raise ValueError("results.json has no metrics of actions: measure the model first.")
    return [
        EvalResult(
            task_type=task,
            task_name="action anticipation",
            dataset_type=stated.dataset or data_set_type(title),
            dataset_name=title if config == "default" else f"{title}, {config}",
            dataset_config=config,
            dataset_split=metadata["split"],
            dataset_args={name: metadata[name] for name in ("protocol", "tau_a", "history_cutoff") if name in metadata},
            metric_type=MEASURES[name][0],
            metric_name=MEASURES[name][1],
            metric_value=round(value, 2),
            metric_args={"seed": seed, **gain_fields(comparison, name)},
        )
        for name, value in found.items()
    ]

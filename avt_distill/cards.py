"""Model cards, filled from what a run measured and wrote down. A number that is missing is an error, not a blank."""

import json
from pathlib import Path

from huggingface_hub import EvalResult, HfApi, ModelCard, ModelCardData
from jinja2 import Environment, StrictUndefined

TEMPLATES = Path(__file__).resolve().parent.parent / "hub_cards"
RESULTS, SETTINGS, CONFIG, COMPARISON = "results.json", "settings.json", "config.json", "comparison.json"
MEASURES = {
    "action_top1_accuracy": ("accuracy", "Top-1 accuracy"),
    "action_top5_accuracy": ("accuracy", "Top-5 accuracy"),
    "action_class_mean_top1_recall": ("recall", "Class-mean top-1 recall"),
    "action_class_mean_top5_recall": ("recall", "Class-mean top-5 recall"),
    "action_class_mean_top5_recall_many_shot": ("recall", "Class-mean top-5 recall, many-shot"),
}
SHOWN_SETTINGS = (
    *("learning_rate", "optim", "optim_args", "lr_scheduler_type", "warmup_steps", "weight_decay", "batch_size"),
    *("distill_weight", "distill_temperature", "distill_top_k", "distill_reduction"),
)
KNOWS_THE_GAP = (
    "The teacher read actions that began less than `tau_a` before the one it predicted, which nothing that is deployed "
    "could know in time; the student never sees text."
)


def student_card(
    folder: str | Path, repo_id: str, *, comparison: dict | None = None, leak_note: str | None = None
) -> ModelCard:
    """Returns the card of a student that `run_distill.py` trained.

    Args:
        folder (`str` or `Path`): The student's checkpoint, with `results.json` and `settings.json`.
        repo_id (`str`): Where it will be found: `user/name`.
        comparison (`dict`, *optional*): Content of the run's `comparison.json`: adds the baseline, over all seeds.
        leak_note (`str`, *optional*): A sentence on what the data's own protocol leaks.

    Raises:
        ValueError: where a file or a number is missing.
    """
    folder = Path(folder)
    config, results, settings = (_read(folder / name) for name in (CONFIG, RESULTS, SETTINGS))
    about, labels = results["scores"], config["id2label"]
    values = {**config, **results, **about, "num_actions": len(labels), "repo_id": repo_id, "leak_note": leak_note}
    values |= {
        "name": repo_id.rpartition("/")[2],
        "takes_features": config["backbone_config"] is None,
        "features": settings["features"] if settings["features"] is None else Path(settings["features"]).name,
        "results_table": _results_table(results["metrics"], comparison),
        "comparison_note": _comparison_note(comparison),
        "settings_table": _table(["setting", "value"], [[k, settings[k]] for k in SHOWN_SETTINGS if k in settings]),
        "teacher_note": _teacher_note(results["teacher"]),
        "actions": ", ".join(labels[key] for key in sorted(labels, key=int)),
        "card_data": _card_data(results, repo_id).to_yaml(),
    }
    template = Environment(undefined=StrictUndefined, autoescape=False, trim_blocks=False).from_string(
        (TEMPLATES / "model_card.md").read_text(encoding="utf-8")
    )
    try:
        return ModelCard(template.render(values))
    except Exception as error:
        raise ValueError(f"The card of {folder} cannot be filled ({error}): train it with run_distill.py.") from error


def push_student(folder: str | Path, repo_id: str, *, private: bool = False, token: str | None = None) -> str:
    """Uploads a student's checkpoint with its code, card, scores and results, and returns its address.

    Args:
        folder (`str` or `Path`): The student's; its Trainer checkpoints stay at home.
        repo_id (`str`): `user/name`, or `name` for one's own.
        private (`bool`, *optional*): Whether a new repository is private.
        token (`str`, *optional*): By default the one that was logged in with.
    """
    api = HfApi(token=token)
    repo = api.create_repo(repo_id, private=private, exist_ok=True)
    api.upload_folder(
        repo_id=repo.repo_id,
        folder_path=str(folder),
        ignore_patterns=["checkpoint-*", "training_args.bin"],
        commit_message="A student, its card, scores and results",
    )
    return str(repo)


def _read(path: Path) -> dict:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ValueError(f"{path} is missing: a card is made of what run_distill.py wrote.") from error


def _card_data(results: dict, repo_id: str) -> ModelCardData:
    about = results["scores"]
    data = {"dataset_type": about["dataset"], "dataset_name": f"{about['dataset']} {about['config_name']}"}
    found = {name: value for name, value in results["metrics"].items() if name in MEASURES}
    if not found:
        raise ValueError("results.json has no metrics of actions: measure the student first.")
    evaluations = [
        EvalResult(
            task_type="video-classification",
            task_name="action anticipation",
            dataset_split=about["split"],
            metric_type=MEASURES[name][0],
            metric_name=MEASURES[name][1],
            metric_value=round(value, 2),
            **data,
        )
        for name, value in found.items()
    ]
    tags = ["action-anticipation", "video", "avt", "custom_code"]
    return ModelCardData(
        library_name="transformers",
        pipeline_tag="video-classification",
        tags=[*tags, "knowledge-distillation"] if results["teacher"] else tags,
        model_name=repo_id.rpartition("/")[2],
        eval_results=evaluations,
    )


def _results_table(metrics: dict[str, float], comparison: dict | None) -> str:
    """Returns this model's metrics, and of the comparison both sides' means over seeds."""
    rows = [[MEASURES[name][1], f"{metrics[name]:.2f}"] for name in MEASURES if name in metrics]
    if comparison is None:
        return _table(["", "this model"], rows)
    compared = {row["measure"]: row for row in comparison["rows"]}
    lines = []
    for name, value in rows:
        row = compared.get(f"action {name[0].lower()}{name[1:]}")
        cells = ["", "", "", ""]
        if row is not None:
            by_seed = row.get("seeds", row)
            cells = [f"{row['baseline']:.2f}", f"{row['candidate']:.2f}"]
            cells += [f"{row['difference']:+.2f} [{by_seed['low']:+.2f}, {by_seed['high']:+.2f}]"]
            cells += [f"{row['p_value']:.4f}"]
        lines.append([name, value, *cells])
    header = ["", "this model", "without teacher, mean", "with teacher, mean", "difference, 95 %", "p over rows"]
    return _table(header, lines)


def _comparison_note(comparison: dict | None) -> str:
    if comparison is None:
        return "It was not compared with the same student without a teacher."
    seeds = comparison["seeds"]
    over = "a Student-t interval over seeds" if len(seeds) > 1 else "a bootstrap interval over rows"
    listed = f"{len(seeds)} seed{'s' if len(seeds) > 1 else ''} ({', '.join(map(str, seeds))})"
    return (
        f"Means over {listed} of this student and of its twin without a teacher, from the same initial weights and the "
        f"same order of rows; {over}, and the p-value of a paired bootstrap over rows."
    )


def _teacher_note(teacher: dict | None) -> str:
    if teacher is None:
        return ""
    folds = int(teacher.get("cross_fit") or 0)
    how = f"Cross-fitted in {folds} folds: each video was labelled by a teacher that had not seen it."
    if not folds:
        how = "It labelled the videos that it was trained on, unless it was not trained at all."
    cutoff = teacher["history_cutoff"]
    gap = f" {KNOWS_THE_GAP}" if cutoff == "segment_start" else ""
    return f"{how} Its histories: `{cutoff}`, `tau_a` {teacher['tau_a']} s.{gap}"


def _table(header: list[str], rows: list[list]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(str(cell) for cell in line) + " |" for line in lines)

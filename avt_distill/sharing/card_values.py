"""What cards show of recorded results: tables of metrics, and the values of readers and calibrations."""

from collections.abc import Sequence
from pathlib import Path

from ..runs.folder import read_record
from ..runs.names import without_local_paths
from .markdown import Markdown, escaped, table

READER_COMPARISON = "reader_comparison.json"
CALIBRATED = "calibrated.json"  # record of `avt-distill calibrate`
MEASURES = {
    "action_top1_accuracy": ("accuracy", "Top-1 accuracy"),
    "action_top5_accuracy": ("accuracy", "Top-5 accuracy"),
    "action_class_mean_top1_recall": ("recall", "Class-mean top-1 recall"),
    "action_class_mean_top5_recall": ("recall", "Class-mean top-5 recall"),
    "action_class_mean_top5_recall_many_shot": ("recall", "Class-mean top-5 recall, many-shot"),
}
# Metrics of probabilities, by their names in comparisons.
PROBABILITIES = {
    "log loss": "Log loss, nats",
    "Brier score": "Brier score",
    "expected calibration error": "Expected calibration error, %",
}
READER_SETTINGS = ("evidence_weight", "num_phases", "followers", "min_start")
ORDERS = {1: "unigram", 2: "bigram", 3: "trigram"}


class _Measured(dict):
    """The content of a result file; missing keys raise `ValueError`."""

    def __missing__(self, key: str):
        raise ValueError(f"The results have no '{key}', which the card needs: rerun the command that wrote them.")


def read_results(path: Path) -> dict:
    """Returns the content of a result file without local paths; a missing file or key raises `ValueError`."""
    if not path.exists():
        raise ValueError(f"{path} is missing, but the card needs it: rerun the command that writes it.")
    return without_local_paths(read_record(path, object_hook=_Measured))


def settings_table(settings: dict, names: Sequence[str]) -> Markdown:
    """Returns a table of the named settings that a run recorded."""
    return table(["setting", "value"], [[name, settings[name]] for name in names if name in settings])


def results_table(metrics: dict[str, float], comparison: dict | None) -> Markdown:
    """Returns this model's metrics, and of the comparison both sides' means over seeds."""
    header, rows = ["", "this model"], []
    if comparison is not None:
        header += ["without teacher, mean", "with teacher, mean", "difference, 95 %", "p over rows"]
    compared = "{baseline:.2f}", "{candidate:.2f}", "{difference:+.2f} [{low:+.2f}, {high:+.2f}]", "{p_value:.4f}"
    for name in (name for name in MEASURES if name in metrics):
        cells = [""] * (len(header) - 2)
        if row := _compared(comparison, name):
            cells = [cell.format(**row) for cell in compared]
        rows.append([MEASURES[name][1], f"{metrics[name]:.2f}", *cells])
    for row in (comparison or {}).get("calibration", []):  # runs of earlier versions have none
        cells = [cell.replace(".2f", ".3f").format(**_with_interval(row)) for cell in compared]
        rows.append([PROBABILITIES[row["measure"]], "", *cells])
    return table(header, rows)


def reader_values(folder: Path, config: dict, results: dict) -> dict:
    """Returns the card's values for a reader: its settings, and the comparison of all models fitted with it."""
    compared, settings = read_results(folder / READER_COMPARISON), config["reader"]
    member = results["scores"]["model"]
    if member not in compared["metrics"]:
        raise ValueError(
            f"{folder / READER_COMPARISON} has no '{member}', of which the card is: fit the readers again."
        )
    return {
        "frame_rate": settings["frame_rate"],
        "transitions": _transitions(settings["transitions"], member),
        "fusion_weights": [f"{weight:.3f}" for weight in settings["fusion_weights"]],
        "beam": settings["beam"],
        "num_rows": compared["num_rows"],
        "num_videos": compared["num_videos"],
        "num_folds": len(compared["chosen"]),
        "seeds": compared["seeds"],
        "reference": compared["reference"],
        "table": _members_table(compared, member),
        "settings_table": settings_table({**settings, "followers": settings["followers"] or "all"}, READER_SETTINGS),
        "calibration": _calibration_table(_calibrations_of_reader(folder, config, compared, member)),
    }


def _calibrations_of_reader(folder: Path, config: dict, compared: dict, member: str) -> dict:
    """Returns the measured calibrations of a comparison, without that of `member` if `calibrate` replaced it."""
    is_replaced = calibrated_values(folder, config) is not None
    found = compared.get("calibration", {})
    return {name: measured for name, measured in found.items() if not (is_replaced and name == member)}


def calibration_of_answers(config: dict) -> dict | None:
    """Returns the calibration that a checkpoint's answers have: with a reader, that of both together."""
    return (config.get("reader") or config).get("calibration")


def withheld_values(config: dict) -> dict | None:
    """Returns the card's values for answers that are withheld, in percent; `None` if all answers are given."""
    calibration = calibration_of_answers(config)
    if calibration is None or calibration.get("error_rate") is None:
        return None
    threshold = calibration["threshold"]
    return {
        "error_rate": f"{100 * calibration['error_rate']:g}",
        "confidence": f"{100 * (1 - calibration['delta']):g}",
        "threshold": None if threshold is None else f"{threshold:.3g}",
    }


def calibrated_values(folder: Path, config: dict) -> dict | None:
    """Returns the card's values for a calibration by `avt-distill calibrate`; `None` if the checkpoint has another."""
    if not (folder / CALIBRATED).exists():
        return None
    record = read_results(folder / CALIBRATED)
    if record["calibration"] != calibration_of_answers(config):
        return None
    measured = record["measured"]
    return {
        "fitted_to": record,
        "temperature": f"{record['calibration']['temperature']:.3f}",
        "measured": measured,
        "table": "" if measured is None else _calibration_table({"this model": measured}),
    }


def _calibration_table(calibration: dict) -> str:
    """Returns a table of metrics before and after calibration on the evaluation rows; empty without calibration."""
    rows = []
    for name, found in calibration.items():
        cells = [
            f"{found['before'][measure]:.2f} / {found['after'][measure]:.2f}"
            for measure in ("log_loss", "brier_score", "expected_calibration_error")
        ]
        answered, errors = "all", ""
        if "coverage" in found:
            answered = f"{found['coverage']:.1f} %, for at most {found['error_rate']:g} % errors"
            none = found["error"] is None
            errors = "every answer was withheld" if none else "{error:.1f} % [{low:.1f}, {high:.1f}]".format(**found)
        rows.append([name, *cells, answered, errors])
    header = [
        "",
        "log loss",
        "Brier score",
        "calibration error (%)",
        "answered",
        "errors among answers, 95 % over videos",
    ]
    return table(header, rows) if rows else ""


def _transitions(settings: dict, member: str) -> Markdown:
    """Returns a description of a reader's transition model, and of the part of the history that it reads."""
    if settings["kind"] == "ngram":
        order = settings["order"]
        last = {1: "no past action", 2: "the last action"}.get(order, f"the last {order - 1} actions")
        return Markdown(f"{ORDERS.get(order, f'{order}-gram')} counts of the training videos, which read {last}")
    length = settings["length"]
    last = "last action" if length == 1 else f"last {length} actions in their order"
    source = ", distilled from a text teacher" if "reader, teacher" in member else ""
    source = ", shaped by vectors of the actions' names" if "reader, worded" in member else source
    return Markdown(f"a log-linear model{source}, which reads the {last} and the set of all others")


def _members_table(compared: dict, this: str) -> Markdown:
    """Returns a table of the metrics of all compared models, with `this` in bold, and their difference to the
    reference."""
    columns = list(compared["metrics"][this])
    difference = f"top-1 to {compared['reference']}, 95 % over videos"
    rows = []
    for name, metrics in compared["metrics"].items():
        cells = ["", ""]
        if name != compared["reference"]:
            found = compared["comparisons"][name]
            numbers = {"difference": found["difference"], **found["over_videos"]}
            cells = ["{difference:+.2f} [{low:+.2f}, {high:+.2f}]".format(**numbers), "{p_value:.4f}".format(**numbers)]
        row = [name, _kind(name), *(f"{metrics[column]:.2f}" for column in columns), *cells]
        rows.append([Markdown(f"**{escaped(cell)}**") if cell else "" for cell in row] if name == this else row)
    return table(["", "text", *columns, difference, "p"], rows)


def _kind(member: str) -> str:
    """Returns which text, if any, a model in a reader's comparison was trained on or reads."""
    if member == "true history":
        return "true history"
    parts = member.split(" + ")
    reads = any(part.startswith("reader") and part != "reader, unigram" for part in parts)  # which knows no order
    kinds = ["distilled"] * ("distilled" in parts) + ["read"] * reads
    return ", ".join(kinds) or "none"


def _compared(comparison: dict | None, name: str) -> dict | None:
    """Returns a comparison's row of a metric, with the interval over seeds if there is one, else over rows."""
    title = MEASURES[name][1]
    measure = f"action {title[0].lower()}{title[1:]}"
    row = next((row for row in (comparison or {"rows": []})["rows"] if row["measure"] == measure), None)
    return row and _with_interval(row)


def _with_interval(row: dict) -> dict:
    """Returns a comparison's row with the interval over seeds if there is one, else over rows."""
    return {**row, **{end: row.get("seeds", row)[end] for end in ("low", "high")}}


def gain_fields(comparison: dict | None, name: str) -> dict:
    """Returns the fields that a comparison adds to a metric in the model index: the gain over all seeds and its
    interval."""
    row = _compared(comparison, name)
    if comparison is None or row is None:
        return {}
    gain = {"low": row["low"], "mean": row["difference"], "high": row["high"]}
    rounded = {part: round(value, 2) for part, value in gain.items()}
    return {"compared_seeds": comparison["seeds"], "without_teacher": round(row["baseline"], 2), "gain": rounded}

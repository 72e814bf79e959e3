"""Calibration of a checkpoint by score files: fitted to held-out videos, kept in its `config.json`."""

import json
from pathlib import Path

from ..data.labels import UNLABELLED
from ..evaluation.calibrating import calibration_table, fitted_calibration, measured_calibration
from ..evaluation.scores import LABEL_SPACE_HASH, WEIGHTS, ScoreTable
from ..runs.fingerprints import weights_digest
from ..runs.folder import read_record, write_json, write_text
from ..sharing.cards import CALIBRATED, CONFIG, README, RESULTS, checkpoint_card, is_filled_card, write_card

TRAIN = "train"  # the split that students learn from unless their run recorded another one
OF_CHECKPOINT = ("dataset", "config_name")  # what else its own scores and those of other splits agree in


def calibrate(
    folder: Path,
    scores: Path,
    *,
    error_rate: float | None = None,
    measure_on: Path | None = None,
    unchecked: bool = False,
) -> str:
    """Writes a checkpoint's calibration into its `config.json`, and returns as text what it does.

    Of a checkpoint with a reader, what the two answer together is calibrated: `config.reader["calibration"]`. The
    weights of that pool are as they were fitted, on other rows than these, and get a temperature of their own.

    Args:
        folder (`Path`): The checkpoint.
        scores (`Path`): What it answers on rows of videos that it did not learn from, before calibration.
        error_rate (`float`, *optional*): Share of the answers that may be wrong. `None`: answers are never withheld.
        measure_on (`Path`, *optional*): Its scores of other rows, to measure the calibration on.
        unchecked (`bool`, *optional*): Take score files that do not record which weights, or which split, they are of.

    Raises:
        ValueError: If the scores belong to other weights, other actions or the training split, a row has no label or is
            in both files, or no temperature is best for the scores.
    """
    config = read_record(folder / CONFIG, "id2label")
    table = _checked(folder, config, scores, unchecked=unchecked)
    # Videos matter to a threshold alone.
    performances = table.uids if error_rate is None else table.performances()
    calibration = fitted_calibration(table.scores, table.labels, performances, error_rate=error_rate)
    record: dict = {"scores": scores.name, "num_rows": len(table.uids), "split": table.metadata.get("split")}
    record |= {"num_videos": _num_videos(table), "calibration": calibration, "measured": None}
    lines = [_fitted_text(record)]
    if measure_on is not None:
        other = _checked(folder, config, measure_on, unchecked=unchecked)
        if both := sorted(set(table.uids) & set(other.uids)):
            raise ValueError(
                f"--measure_on {measure_on} has '{both[0]}' and {len(both) - 1} more rows of {scores}, which the "
                "calibration is fitted to: give scores of another split."
            )
        videos = other.uids if error_rate is None else other.performances()
        measured = measured_calibration([other.scores], other.labels, videos, [calibration] * len(videos))
        rows = {
            "split": other.metadata.get("split"),
            "num_rows": len(other.uids),
            "num_videos": _num_videos(other),
        }
        record["measured"] = {**rows, **measured}
        lines.append(f"\nOn {len(other.uids)} other rows{_of_videos(other)}, before -> after\n")
        lines[-1] += calibration_table({"with its reader" if config.get("reader") else "the student": measured})
    _write(folder, config, record)
    lines.append(f"\nwritten to {folder / CONFIG}")
    return "\n".join(lines)


def _checked(folder: Path, config: dict, path: Path, *, unchecked: bool) -> ScoreTable:
    """Returns a score table that is known to be of a checkpoint, and not of what the checkpoint learned from."""
    table = ScoreTable.load(path)
    metadata, num_actions = table.metadata, len(config["id2label"])
    record = read_record(folder / RESULTS, "scores")["scores"] if (folder / RESULTS).is_file() else {}
    spaces = [of.get(LABEL_SPACE_HASH) for of in (metadata, record)]
    if table.scores.shape[1] != num_actions or (record and spaces[0] != spaces[1]):
        raise ValueError(
            f"{path} has scores of {table.scores.shape[1]} actions of label space {spaces[0]}, but {folder} answers "
            f"with {num_actions} of {spaces[1]}: give its own scores."
        )
    if (unlabelled := int((table.labels == UNLABELLED).sum())) > 0:
        raise ValueError(
            f"{path} has {unlabelled} rows without a label, of {len(table.uids)}: give scores of a split whose next "
            "actions are known."
        )
    of_both = ", of student and reader together as avt-distill fit_reader writes them" if config.get("reader") else ""
    if WEIGHTS in metadata and metadata[WEIGHTS] != weights_digest(folder):
        raise ValueError(
            f"{path} has scores of other weights than those of {folder}, for which its probabilities mean nothing: "
            f"give scores of this checkpoint{of_both}."
        )
    if WEIGHTS not in metadata and not unchecked:
        raise ValueError(
            f"{path} does not record which weights gave its scores: give scores that this version of avt-distill "
            f"wrote, or --unchecked if they are of {folder}{of_both}."
        )
    _check_split(folder, path, metadata, record, unchecked=unchecked)
    return table


def _check_split(folder: Path, path: Path, metadata: dict, record: dict, *, unchecked: bool):
    """Refuses scores of rows that a checkpoint may have learned from."""
    if "split" not in metadata and not unchecked:
        raise ValueError(
            f"{path} does not record which split its rows are of: give scores with a split in their metadata, or "
            f"--unchecked if {folder} did not learn from these videos."
        )
    if metadata.get("split") == record.get("train_split", TRAIN):
        raise ValueError(
            f"{path} has scores of the split '{metadata['split']}', which {folder} learned from, so that it would "
            "become too sure of itself: give scores of another split."
        )
    for name in OF_CHECKPOINT:
        if record and metadata.get(name) != record.get(name):
            raise ValueError(
                f"{path} has scores of {name} '{metadata.get(name)}', but {folder} was measured on '{record[name]}', "
                "whose other splits it may have learned from: give scores of that data set."
            )


def _write(folder: Path, config: dict, record: dict):
    """Writes what was fitted and how, the configuration last, and the card anew unless somebody wrote it."""
    write_json(folder / CALIBRATED, record)
    of_answers = config["reader"] if config.get("reader") else config
    of_answers["calibration"] = record["calibration"]
    write_text(folder / CONFIG, json.dumps(config, indent=2, sort_keys=True) + "\n")  # as transformers writes it
    if is_filled_card(folder / README):
        write_card(folder, checkpoint_card(folder, folder.resolve().name))


def _fitted_text(record: dict) -> str:
    calibration, num_videos = record["calibration"], record["num_videos"]
    of_videos = "" if num_videos is None else f" of {num_videos} videos"
    text = f"{record['num_rows']} rows{of_videos}: temperature {calibration['temperature']:.3f}"
    if "error_rate" not in calibration:
        return f"{text}; answers are never withheld"
    rate, threshold = f"{100 * calibration['error_rate']:g} %", calibration["threshold"]
    if threshold is None:
        return f"{text}; no threshold keeps {rate} errors with confidence, so every answer will be withheld: add videos"
    confidence = f"with a confidence of {100 * (1 - calibration['delta']):g} % over the videos"
    return f"{text}; given from a probability of {threshold:g} on, for at most {rate} errors {confidence}"


def _num_videos(table: ScoreTable) -> int | None:
    return None if table.video_ids is None else len(set(table.performances()))


def _of_videos(table: ScoreTable) -> str:
    num_videos = _num_videos(table)
    return "" if num_videos is None else f" of {num_videos} videos"

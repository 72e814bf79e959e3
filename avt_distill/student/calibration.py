"""Calibration of a checkpoint from score files of held-out videos, stored in its `config.json`."""

import json
import logging
from pathlib import Path

from ..data.labels import UNLABELLED
from ..evaluation.calibrating import calibration_table, fitted_calibration, measured_calibration
from ..evaluation.scores import LABEL_SPACE_HASH, WEIGHTS, ScoreTable
from ..runs.fingerprints import weights_digest
from ..runs.folder import read_record, write_json, write_text
from ..sharing.card_values import CALIBRATED
from ..sharing.cards import CONFIG, README, RESULTS, checkpoint_card, is_filled_card, write_card
from ..sharing.metadata import repository_in

logger = logging.getLogger(__name__)

TRAIN = "train"  # the training split if the run did not record another one
VERSION = "transformers_version"  # in a configuration: of the library that wrote it
OF_CHECKPOINT = ("dataset", "config_name")  # metadata that must be equal in its own scores and those of other splits


def calibrate(
    folder: Path,
    scores: Path,
    *,
    error_rate: float | None = None,
    measure_on: Path | None = None,
    unchecked: bool = False,
) -> str:
    """Writes a checkpoint's calibration into its `config.json`, and returns a text report.

    For a checkpoint with a reader, the pooled answers are calibrated: `config.reader["calibration"]`. The weights of
    the pool were fitted on other rows, so the pool gets its own temperature.

    Args:
        folder (`Path`): The checkpoint.
        scores (`Path`): Its uncalibrated scores on rows of videos that it was not trained on.
        error_rate (`float`, *optional*): Share of the answers that may be wrong. `None`: answers are never withheld.
        measure_on (`Path`, *optional*): Its scores of other rows, to measure the calibration on.
        unchecked (`bool`, *optional*, defaults to `False`): Whether to accept score files that do not record their
            weights or split.

    Raises:
        ValueError: If the scores belong to other weights, other actions or the training split, a row has no label or is
            in both files, or no temperature is best for the scores.
    """
    config = read_record(folder / CONFIG, "id2label")
    table = _checked(folder, config, scores, unchecked=unchecked)
    # Only a threshold depends on videos.
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
    """Loads a score table after checking that it belongs to a checkpoint, and not to its training split."""
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
    """Raises `ValueError` for scores of rows that a checkpoint may have been trained on."""
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


def keep_calibration(folder: Path, unfinished: Path):
    """Carries the calibration of a checkpoint that `calibrate` wrote over to the same checkpoint, saved again.

    Args:
        folder (`Path`): The earlier checkpoint, if there is one.
        unfinished (`Path`): The new one, which is to replace it. If weights or settings differ, it keeps its own
            calibration.
    """
    if not (folder / CALIBRATED).is_file():
        return
    record = read_record(folder / CALIBRATED, "calibration")
    config, again = (read_record(of / CONFIG, "id2label") for of in (folder, unfinished))
    _calibrated_answers(again)["calibration"] = record["calibration"]
    is_same = {**again, VERSION: None} == {**config, VERSION: None}
    if not is_same or weights_digest(folder) != weights_digest(unfinished):
        logger.warning("The calibration of %s is dropped, since it is another model now: calibrate it again.", folder)
        return
    _write_calibration(unfinished, again, record)


def _calibrated_answers(config: dict) -> dict:
    """Returns the part of a configuration that has the calibration of a checkpoint's answers."""
    return config["reader"] if config.get("reader") else config


def _write_calibration(folder: Path, config: dict, record: dict):
    """Writes the calibration and its record, the configuration last."""
    write_json(folder / CALIBRATED, record)
    _calibrated_answers(config)["calibration"] = record["calibration"]
    write_text(folder / CONFIG, json.dumps(config, indent=2, sort_keys=True) + "\n")  # as transformers writes it


def _write(folder: Path, config: dict, record: dict):
    """Writes the calibration and its record, and regenerates the card unless a user wrote it."""
    _write_calibration(folder, config, record)
    if is_filled_card(folder / README):
        repo_id = repository_in(folder / README, default=folder.resolve().name)
        write_card(folder, checkpoint_card(folder, repo_id))


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

"""Grouping of videos that show the same performance, which must be in the same split."""

import re
from collections.abc import Iterable

# Breakfast's names: person, camera, person, activity. Several cameras record the same preparation of a dish.
OF_CAMERA = re.compile(r"(P\d+)_(?:cam|webcam|stereo)\d+_\1_(\w+)")


def performance_of(video_id: str) -> str:
    """Returns the name that all cameras of one performance share, such as `"P03_cereals"` of `"P03_cam01_P03_cereals"`.

    A video whose name does not follow Breakfast's pattern is a performance of its own, with its own name.
    """
    match = OF_CAMERA.fullmatch(video_id)
    return f"{match[1]}_{match[2]}" if match else video_id


def check_unseen(what: str, seen: Iterable[str], evaluation: Iterable[str], training: Iterable[str] = ()):
    """Raises `ValueError` if a model learned from videos that it or its student is to be measured on.

    Other cameras of the same performance count: they show the same actions.

    Args:
        what (`str`): The model, as the subject of the message, such as `"The teacher teacher/"`.
        seen (iterable of `str`): The videos that it learned from; empty if unknown.
        evaluation (iterable of `str`): The videos to measure on.
        training (iterable of `str`, *optional*): The videos that the student is trained on anyway. Whoever measures
            on these knows.
    """
    performances = {performance_of(video): video for video in sorted(set(seen))}
    measured = {performance_of(video) for video in evaluation}
    if both := sorted(measured & performances.keys() - {performance_of(video) for video in training}):
        raise ValueError(
            f"{what} learned from '{performances[both[0]]}' and {len(both) - 1} more of the {len(measured)} videos to "
            "measure on, which would be no measure of anticipation: give one that was trained on other videos."
        )

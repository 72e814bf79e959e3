"""Grouping of videos that show the same performance, which must be in the same split."""

import re

# Breakfast's names: person, camera, person, activity. Several cameras record the same preparation of a dish.
OF_CAMERA = re.compile(r"(P\d+)_(?:cam|webcam|stereo)\d+_\1_(\w+)")


def performance_of(video_id: str) -> str:
    """Returns the name that all cameras of one performance share, such as `"P03_cereals"` of `"P03_cam01_P03_cereals"`.

    A video whose name does not follow Breakfast's pattern is a performance of its own, with its own name.
    """
    match = OF_CAMERA.fullmatch(video_id)
    return f"{match[1]}_{match[2]}" if match else video_id

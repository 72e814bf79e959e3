"""Videos of one performance, which must not be on both sides of a split."""

import re

# Breakfast's names: person, camera, person, activity. Several cameras record the same preparation of a dish.
OF_CAMERA = re.compile(r"(P\d+)_(?:cam|webcam|stereo)\d+_\1_(\w+)")


def performance_of(video_id: str) -> str:
    """Returns the name that all cameras of one performance share, such as `"P03_cereals"` of `"P03_cam01_P03_cereals"`.

    Videos that are not named as Breakfast's are each a performance of their own, by their own name.
    """
    match = OF_CAMERA.fullmatch(video_id)
    return f"{match[1]}_{match[2]}" if match else video_id

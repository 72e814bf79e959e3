"""What a visitor uploads: how much of it is taken, and when it is deleted."""

import os

LARGEST_MB = 100
LONGEST_S = 600.0
DELETED_AFTER_S = 1800  # where a visitor neither replaces a video nor closes the page
CHECKED_EVERY_S = 60


def check_length(duration_s: float):
    """Raises `ValueError` for a video that would keep the machine busy for too long."""
    if duration_s > LONGEST_S:
        raise ValueError(
            f"The video lasts {duration_s:.0f} s: upload one of {LONGEST_S:g} s at most, such as a part of this one."
        )


def forget(path: str | None):
    """Deletes an uploaded file, and its folder where nothing else is in it; it may be gone already."""
    if path is None:
        return
    try:
        os.unlink(path)
        os.rmdir(os.path.dirname(path))
    except OSError:  # deleted by the page itself, or the folder holds more
        pass

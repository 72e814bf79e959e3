"""Which checkpoint a killed training goes on from."""

import json
from pathlib import Path

from transformers.trainer import TRAINER_STATE_NAME


def last_whole_checkpoint(folder: str | Path) -> str | None:
    """Returns the newest of a `Trainer`'s checkpoints in a folder that was written to its end, or `None`.

    `Trainer` writes `trainer_state.json` last. A checkpoint without it, or with half of it, was cut off by a kill, and
    cannot be gone on from.
    """
    checkpoints = [path for path in Path(folder).glob("checkpoint-*") if path.name.rpartition("-")[2].isdigit()]
    for checkpoint in sorted(checkpoints, key=lambda path: int(path.name.rpartition("-")[2]), reverse=True):
        try:
            json.loads((checkpoint / TRAINER_STATE_NAME).read_text())
        except (OSError, json.JSONDecodeError):
            continue
        return str(checkpoint)
    return None

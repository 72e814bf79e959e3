"""Checks of RULSTM's LMDB files: complete, with the expected keys and number type.

LMDB maps its file into memory. If the file is shorter than its header states, reading beyond the end kills the process.
"""

import os
import re
import struct
from collections.abc import Iterable
from pathlib import Path

import numpy as np

MAGIC = 0xBEEFC0DE
META_SIZE = 152  # bytes of a header written by a 64-bit machine
KEY = re.compile(r"(.+)_frame_(\d+)\.jpg")
SAMPLED = 64  # values that show the type of numbers

FEWEST = 256  # fewer numbers are not enough to draw conclusions from zeros
PLAUSIBLE = (1e-12, 1e12)  # absolute values of features


def check_complete(path: Path):
    """Raises `ValueError` if `data.mdb` is shorter than its header states.

    Args:
        path (`Path`): The LMDB folder.
    """
    file = path / "data.mdb"
    with open(file, "rb") as content:
        first = content.read(META_SIZE)
        page_size = struct.unpack_from("<I", first, 40)[0] if len(first) == META_SIZE else 0
        content.seek(page_size)
        metas = [meta for meta in (first, content.read(META_SIZE)) if len(meta) == META_SIZE]
    size = os.path.getsize(file)
    valid = [meta for meta in metas if struct.unpack_from("<I", meta, 16)[0] == MAGIC]
    if len(valid) < 2 or page_size < 256:
        raise ValueError(f"Cannot read {path} as an LMDB folder: data.mdb has no header. Fetch it again.")
    # Of the two headers, that of the newer transaction is valid. It states the last page, counted from 0.
    last_page, _ = max((struct.unpack_from("<QQ", meta, 136) for meta in valid), key=lambda pair: pair[1])
    if size < (last_page + 1) * page_size:
        raise ValueError(
            f"{file} has {size} bytes of {(last_page + 1) * page_size}: it was cut off while being copied or "
            "downloaded. Fetch it again."
        )


def video_and_frame(key: bytes, path: Path) -> tuple[str, int]:
    """Parses the video and the frame number from a key.

    Raises:
        ValueError: If the key has another format.
    """
    match = KEY.fullmatch(key.decode(errors="replace"))
    if match is None:
        shown = repr(key.decode(errors="replace")[:80])
        raise ValueError(f"{path} has the key {shown}: RULSTM's are <video>_frame_<number>.jpg. Give its LMDB folder.")
    return match[1], int(match[2])


def check_float32(values: Iterable[bytes], path: Path):
    """Raises `ValueError` if values are float64.

    Read as float32, every other number would be the lower half of a fraction: absurdly large or small, or always zero.

    Args:
        values (iterable of `bytes`): Some of the stored values.
        path (`Path`): The LMDB folder, for the message.
    """
    words = np.frombuffer(b"".join(value for value in values if len(value) % 8 == 0), dtype="<f4")
    low, high = np.abs(words[0::2]), np.abs(words[1::2])
    if not len(low):
        return
    halves = _implausible(low) >= 0.25 and _implausible(high) <= 0.02
    zeros = len(low) >= FEWEST and not np.count_nonzero(low) and np.count_nonzero(high) >= len(high) / 2
    if halves or zeros:
        raise ValueError(f"{path} holds float64 values: store features as float32, astype('float32').tobytes().")


def _implausible(numbers: np.ndarray) -> float:
    """Returns the share of numbers that are implausible for a feature."""
    smallest, largest = PLAUSIBLE
    with np.errstate(invalid="ignore"):
        return float(np.mean((numbers != 0) & ~((numbers >= smallest) & (numbers <= largest))))

"""Damaged files: any content quickly gives frames or a `VideoDecodeError`."""

import time
from collections import Counter

import numpy as np
import pytest
from helpers.videos import frame_number, numbered_frames, write_video

from modeling_avt.video_io_avt import VideoDecodeError, probe, read_frames

FPS = 10
FILES = {
    "a.mp4": {"codec": "libx264", "g": 20, "bf": 2, "sc_threshold": 0},
    "b.mkv": {"codec": "libx264", "g": 20, "bf": 2, "sc_threshold": 0},
    "c.ts": {"codec": "libx264", "g": 20, "bf": 2, "sc_threshold": 0},
    "d.webm": {"codec": "libvpx-vp9", "g": 20, "deadline": "realtime", "cpu-used": 8},
    "e.avi": {"codec": "mpeg4", "g": 20, "bf": 2},
    "f.flv": {"codec": "libx264", "g": 20, "bf": 2},
}
# Largest share of moments that show another frame than the undamaged file: because the decoder hides the damage, a
# header was changed, or the first frames are lost and time 0 moves to the first remaining one.
MOST_WRONG = {"a.mp4": 0.05, "b.mkv": 0.08, "c.ts": 0.02, "d.webm": 0.06, "e.avi": 0.2, "f.flv": 0.06}


def mutated(content: bytes, random: np.random.Generator) -> bytes:
    """Returns a file's content with bits flipped, or with a part zeroed, cut out, cut off, inserted or made noise."""
    data = bytearray(content)
    begin = int(random.integers(0, len(data)))
    end = min(begin + int(random.integers(1, len(data) // 20)), len(data))
    noise = random.integers(0, 256, end - begin, dtype=np.uint8).tobytes()
    match random.choice(["flip", "zero", "cut out", "cut off", "insert", "noise"]):
        case "flip":
            for position in random.integers(0, len(data), int(random.integers(1, 20))):
                data[position] ^= 1 << int(random.integers(0, 8))
        case "zero":
            data[begin:end] = bytes(end - begin)
        case "cut out":
            del data[begin:end]
        case "cut off":
            del data[begin:]
        case "insert":
            data[begin:begin] = noise
        case _:
            data[begin:end] = noise
    return bytes(data)


def read_mutations(name: str, folder, count: int) -> Counter:
    """Reads mutations of a file at five moments each, one by one, and counts how many were refused or wrong."""
    path = write_video(folder / name, numbered_frames(100), fps=FPS, **FILES[name])
    content, random, outcomes = path.read_bytes(), np.random.default_rng(7), Counter()
    for _ in range(count):
        path.write_bytes(mutated(content, random))
        started = time.monotonic()
        for number in random.choice(100, 5, replace=False).tolist():
            outcomes["moments"] += 1
            try:
                (image,) = read_frames(path, [(number + 0.5) / FPS])
            except VideoDecodeError:
                outcomes["refused"] += 1
            else:
                outcomes["wrong"] += frame_number(image) != number
        try:
            probe(path)
        except VideoDecodeError:
            outcomes["not probed"] += 1
        assert time.monotonic() - started < 10
    return outcomes


@pytest.mark.parametrize("name", FILES)
def test_damage_raises_nothing_else(name, tmp_path):
    outcomes = read_mutations(name, tmp_path, 40)
    assert outcomes["moments"] == 200
    assert outcomes["refused"] > 20


@pytest.mark.slow
@pytest.mark.parametrize("name", FILES)
def test_most_damage_is_noticed(name, tmp_path):
    outcomes = read_mutations(name, tmp_path, 300)
    print(name, dict(outcomes))
    assert outcomes["wrong"] <= MOST_WRONG[name] * outcomes["moments"]

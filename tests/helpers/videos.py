"""Generated videos whose frames encode their number."""

from fractions import Fraction
from pathlib import Path

import av
import numpy as np


def numbered_frames(count: int, height: int = 48, width: int = 64) -> np.ndarray:
    """Returns frames that encode their own number as 8 gray blocks, one per bit; see `frame_number`."""
    bits = np.arange(8)
    frames = np.zeros((count, height, width, 3), dtype=np.uint8)
    for number in range(count):
        blocks = np.where((number >> bits) & 1, 220, 30).astype(np.uint8)
        frames[number] = np.repeat(blocks, width // 8)[None, :, None]
    return frames


def frame_number(frame: np.ndarray) -> int:
    """Returns the number that `numbered_frames` encoded in a frame, also after video encoding or scaling."""
    blocks = frame.mean((0, 2)).reshape(8, -1).mean(1)
    return int(((blocks > 125) << np.arange(8)).sum())


def write_video(
    path: Path, frames: np.ndarray, fps: int = 10, codec: str = "mpeg4", times_s=None, rotation: int = 0, **options
) -> Path:
    """Encodes frames as a video; `times_s` sets irregular presentation times, `rotation` is the display rotation in
    degrees counterclockwise, and `options` are passed to the encoder (`g`, `bf`)."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=fps, options={key: str(value) for key, value in options.items()})
        stream.width, stream.height, stream.pix_fmt = frames.shape[2], frames.shape[1], "yuv420p"
        stream.bit_rate = 4_000_000
        if rotation:
            stream.set_display_rotation(rotation)
        if times_s is not None:
            stream.codec_context.time_base = stream.time_base = Fraction(1, 1000)
        for number, image in enumerate(frames):
            frame = av.VideoFrame.from_ndarray(image, format="rgb24")
            if times_s is not None:
                frame.time_base, frame.pts = stream.time_base, round(times_s[number] * 1000)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


def write_pictures(folder: Path, frames: np.ndarray, pattern: str = "img_%05d.png", first: int = 1) -> Path:
    """Writes frames as numbered pictures, starting with number `first`."""
    folder.mkdir(parents=True, exist_ok=True)
    is_png = pattern.endswith("png")
    for number, frame in enumerate(frames, start=first):
        codec = av.CodecContext.create("png" if is_png else "mjpeg", "w")
        codec.width, codec.height, codec.pix_fmt = frame.shape[1], frame.shape[0], "rgb24" if is_png else "yuvj420p"
        codec.time_base = Fraction(1, 10)
        picture = av.VideoFrame.from_ndarray(np.ascontiguousarray(frame), format="rgb24").reformat(format=codec.pix_fmt)
        packets = [*codec.encode(picture), *codec.encode(None)]
        (folder / (pattern % number)).write_bytes(b"".join(bytes(packet) for packet in packets))
    return folder

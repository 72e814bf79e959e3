"""A video with what was anticipated written below its frames. Matplotlib, which draws the text, is of the extra
`plots`."""

from collections.abc import Iterator, Mapping, Sequence
from fractions import Fraction
from pathlib import Path

import av
import numpy as np

from modeling_avt.video_io_avt import probe, read_frames

SHORT_SIDE_PX, LINE_PX, DPI = 360, 24, 100
MAX_FPS = 25.0
FRAMES_AT_ONCE = 64
CODECS = ("libx264", "mpeg4")  # the first that PyAV was built with; browsers play H.264


def write_annotated_video(video: str | Path, timeline: Sequence[Mapping], path: str | Path, top_k: int = 3):
    """Writes an mp4 that shows, below each frame, the last answers given by then: nobody sees ahead of time.

    Args:
        video (`str` or `Path`): The video that the timeline is of. It is shown 360 pixels high (or wide, if upright),
            at up to 25 frames per second, without sound.
        timeline (`Sequence[Mapping]`): What the pipeline answers with `every`: at least one moment.
        path (`str` or `Path`): mp4 to write.
        top_k (`int`, *optional*, defaults to 3): How many actions are shown.

    Raises:
        VideoDecodeError: where the video cannot be read.
        ValueError: without moments.
    """
    if not timeline:
        raise ValueError("timeline is empty: give at least one moment.")
    info = probe(video)
    fps = Fraction(min(info.fps, MAX_FPS)).limit_denominator(1001)
    times = np.arange(max(int(info.duration_s * fps), 1)) / float(fps)
    top_k = min(top_k, len(timeline[0]["anticipated"]))
    at_s = [moment["at_s"] for moment in timeline]
    codec = next(name for name in CODECS if name in av.codecs_available)
    captions = {}
    with av.open(str(path), "w", format="mp4") as container:
        stream = container.add_stream(codec, rate=fps)
        stream.pix_fmt = "yuv420p"
        for time_s, frame in _frames(video, times):
            number = int(np.searchsorted(at_s, time_s + 1e-6)) - 1  # -1: before the first
            if number not in captions:
                answered = timeline[number] if number >= 0 else None
                captions = {number: draw_caption(answered, timeline[0]["at_s"], frame.shape[1], top_k)}
            image = np.concatenate([frame, captions[number]])
            if stream.codec_context.width != image.shape[1]:  # the first frame
                stream.width, stream.height = image.shape[1], image.shape[0]
            container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        container.mux(stream.encode())


def _frames(video: str | Path, times: np.ndarray) -> Iterator[tuple[float, np.ndarray]]:
    for first in range(0, len(times), FRAMES_AT_ONCE):
        chunk = times[first : first + FRAMES_AT_ONCE]
        frames = read_frames(video, chunk, resize_short_side=SHORT_SIDE_PX)
        height, width = frames.shape[1] // 2 * 2, frames.shape[2] // 2 * 2  # yuv420p halves both
        yield from zip(chunk, np.ascontiguousarray(frames[:, :height, :width]), strict=True)


def draw_caption(moment: Mapping | None, first_at_s: float, width_px: int, top_k: int) -> np.ndarray:
    """Returns what was anticipated at a moment as a picture, uint8 `(H, width_px, 3)`, H even.

    Args:
        moment (`Mapping` or `None`): A moment of a timeline. `None`: there is no answer yet.
        first_at_s (`float`): When the first will be given.
        width_px (`int`): Width of the picture.
        top_k (`int`): How many actions it has room for.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg  # of an extra
    from matplotlib.figure import Figure
    from matplotlib.patches import Rectangle

    height_px = LINE_PX * (top_k + 1) + 12
    figure = Figure(figsize=(width_px / DPI, height_px / DPI), dpi=DPI, facecolor="#0d1117")
    canvas = FigureCanvasAgg(figure)

    def write(line: int, left_px: float, words: str, **style):
        bottom = 1 - (6 + LINE_PX * (line + 0.72)) / height_px
        figure.text(left_px / width_px, bottom, words, fontsize=10.5, parse_math=False, **style)

    if moment is None:
        write(0, 8, f"observing; first answer at {first_at_s:.1f} s", color="#8b949e")
    else:
        times = (moment["at_s"], moment["starts_at_s"])
        write(0, 8, "seen until {:.1f} s; starting at {:.1f} s:".format(*times), color="#8b949e")
        for line, answer in enumerate(moment["anticipated"][:top_k], start=1):
            bar = answer["score"] * (width_px - 66)
            corner = 58 / width_px, 1 - (6 + LINE_PX * (line + 0.95)) / height_px
            figure.add_artist(Rectangle(corner, bar / width_px, 0.9 * LINE_PX / height_px, color="#1f6feb", alpha=0.55))
            write(line, 50, f"{100 * answer['score']:.0f} %", color="white", ha="right")
            write(line, 63, answer["label"], color="white", weight="bold" if line == 1 else "normal")
    canvas.draw()
    return np.ascontiguousarray(np.asarray(canvas.buffer_rgba())[:, :, :3])

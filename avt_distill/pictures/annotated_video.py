"""Videos annotated with the anticipated actions below the frames."""

from collections.abc import Iterator, Mapping, Sequence
from fractions import Fraction
from pathlib import Path

import av
import numpy as np

from modeling_avt.video_io_avt import probe, read_frames

from ..runs.folder import whole_file
from .style import COLORS, OTHER, shortened

SHORT_SIDE_PX, LINE_PX, DPI = 360, 24, 100
BAR_PX, LETTER_PX = 60, 10  # left edge of the bars; average width of a bold letter
RECOGNIZED = 3  # past actions in the band at the bottom
MAX_FPS = 25.0
FRAMES_AT_ONCE = 64
CODECS = ("libx264", "mpeg4")  # the first that PyAV was built with; browsers play H.264


def write_annotated_video(
    video: str | Path, timeline: Sequence[Mapping], path: str | Path, top_k: int = 3, *, mark: str = ""
):
    """Writes an mp4 that shows, below each frame, the last answers given by then, never later ones.

    With a reader, a band at the bottom shows the last actions recognized by then.

    Args:
        video (`str` or `Path`): The video of the timeline. It is shown 360 pixels high (or wide, if upright), at up to
            25 frames per second, without sound.
        timeline (`Sequence[Mapping]`): The pipeline's answer with `every`: at least one moment.
        path (`str` or `Path`): mp4 to write.
        top_k (`int`, *optional*, defaults to 3): How many actions are shown.
        mark (`str`, *optional*): By which `runs.outputs` recognizes who made the file.

    Raises:
        VideoDecodeError: If the video cannot be read.
        ValueError: If there are no moments.
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
    with whole_file(path) as partial, av.open(str(partial), "w", format="mp4") as container:
        container.metadata["comment"] = mark
        stream = container.add_stream(codec, rate=fps)
        stream.pix_fmt = "yuv420p"
        for time_s, frame in _frames(video, times):
            number = int(np.searchsorted(at_s, time_s + 1e-6)) - 1  # -1: before the first
            if number not in captions:
                moment = timeline[number] if number >= 0 else None
                place = (timeline[0]["at_s"], frame.shape[1], top_k, "history" in timeline[0])
                captions = {number: draw_caption(moment, *place)}
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


def draw_caption(
    moment: Mapping | None, first_at_s: float, width_px: int, top_k: int, has_history: bool = False
) -> np.ndarray:
    """Returns a picture of what was anticipated at a moment, uint8 `(H, width_px, 3)`, H even.

    Args:
        moment (`Mapping` or `None`): A moment of a timeline. `None`: there is no answer yet.
        first_at_s (`float`): Time of the first answer.
        width_px (`int`): Width of the picture.
        top_k (`int`): How many actions it has room for.
        has_history (`bool`, *optional*): Whether it has room for a band of the last actions recognized.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg  # of an extra
    from matplotlib.figure import Figure

    lines = top_k + 2 * has_history  # the band is the last of them, the one above it its heading
    figure = Figure((width_px / DPI, LINE_PX * (lines + 1.5) / DPI), DPI, facecolor="#0d1117")
    canvas = FigureCanvasAgg(figure)
    axes = figure.add_axes((0, 0, 1, 1), xlim=(0, width_px), ylim=(lines + 0.75, -0.75))  # x in pixels, y in lines
    axes.axis("off")
    style = {"fontsize": 10.5, "va": "center_baseline", "parse_math": False}
    if moment is None:
        axes.text(8, 0, f"observing; first answer at {first_at_s:.1f} s", color=OTHER, **style)
    else:
        header = f"observed until {moment['at_s']:.1f} s; starting at {moment['starts_at_s']:.1f} s:"
        axes.text(8, 0, header, color=OTHER, **style)
        width = width_px - BAR_PX - 8
        for line, answer in enumerate(moment["anticipated"][:top_k], start=1):
            axes.barh(line, width * answer["score"], 0.9, BAR_PX, color=COLORS[0], alpha=0.8)
            axes.text(BAR_PX - 6, line, f"{100 * answer['score']:.0f} %", color="white", ha="right", **style)
            label = shortened(answer["label"], width // LETTER_PX)
            axes.text(BAR_PX + 5, line, label, color="white", weight="bold" if line == 1 else "normal", **style)
        if has_history:
            _draw_history(axes, moment["history"], lines, width_px, style)
    canvas.draw()
    return np.ascontiguousarray(np.asarray(canvas.buffer_rgba())[:, :, :3])


def _draw_history(axes, history: Sequence[Mapping], line: int, width_px: int, style: dict):
    """Draws the last actions recognized side by side, the newest on the right, the surer the more opaque."""
    words = "recognized so far, newest last:" if history else "no action recognized yet"
    axes.text(8, line - 1, words, color=OTHER, **style)
    width = (width_px - 16) / RECOGNIZED
    for place, entry in enumerate(history[-RECOGNIZED:]):
        left = 8 + place * width
        axes.barh(line, width - 3, 0.9, left, color=COLORS[0], alpha=0.2 + 0.6 * entry["probability"])
        axes.text(left + 5, line, shortened(entry["label"], int(width) // LETTER_PX), color="white", **style)

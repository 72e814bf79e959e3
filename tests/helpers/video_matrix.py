"""Videos of every container, codec and recorder setting, and a full decode of each for comparison."""

from collections import Counter
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av
import numpy as np

from modeling_avt.video_io_avt import VideoDecodeError, probe, read_frames

from .videos import numbered_frames

FPS, COUNT = 25, 150
CODECS = {
    "mp4": ("libx264", "libx265", "mpeg4", "libsvtav1", "libvpx-vp9"),
    "mov": ("libx264", "mpeg4", "mjpeg", "prores"),
    "fragmented.mp4": ("libx264", "mpeg4"),
    "3gp": ("libx264", "mpeg4"),
    "mkv": ("libx264", "libx265", "mpeg2video", "mpeg4", "libvpx", "libvpx-vp9", "ffv1"),
    "webm": ("libvpx", "libvpx-vp9", "libsvtav1"),
    "ts": ("libx264", "libx265", "mpeg2video", "mpeg1video", "mpeg4"),
    "m2ts": ("libx264", "mpeg2video"),
    "mpg": ("mpeg1video", "mpeg2video", "libx264"),
    "vob": ("mpeg2video", "mpeg1video"),
    "avi": ("mpeg4", "libx264", "mjpeg", "msmpeg4"),
    "flv": ("flv", "libx264"),
    "wmv": ("wmv2", "msmpeg4"),
    "nut": ("libx264",),
    "ivf": ("libvpx", "libvpx-vp9"),
    "gif": ("gif",),
    "h264": ("libx264",),
    "hevc": ("libx265",),
    "m2v": ("mpeg2video",),
    "m1v": ("mpeg1video",),
    "mjpeg": ("mjpeg",),
}
FORMATS = {
    "fragmented.mp4": "mp4",
    "m2ts": "mpegts",
    "mpg": "mpeg",
    "wmv": "asf",
    "m2v": "mpeg2video",
    "m1v": "mpeg1video",
}
BARE = ("h264", "hevc", "m2v", "m1v", "mjpeg")
WITH_B_FRAMES = ("libx264", "libx265", "mpeg4", "mpeg2video", "mpeg1video")
INTRA_ONLY = ("mjpeg", "prores", "ffv1", "gif")
PIXELS = {"mjpeg": "yuvj420p", "prores": "yuv422p10le", "gif": "rgb8"}
CUTS_S = {"cut on a key frame": 1.37, "cut later": 3.63, "begins between key frames": 1.37}


@dataclass(frozen=True)
class Recording:
    """How a video is written.

    Args:
        container, codec (`str`): As in `CODECS`.
        key_frames (`int`): Number of frames from one key frame to the next.
        habit (`str`): `"plain"`, `"b_frames"`, `"refresh"` (rolling intra refresh) or `"open"` (open groups).
        start_s (`float`): Time at which its clock begins, in seconds.
        cut (`str`, *optional*): One of `CUTS_S`.
    """

    container: str
    codec: str
    key_frames: int
    habit: str = "plain"
    start_s: float = 0.0
    cut: str | None = None

    @property
    def name(self) -> str:
        habits = "_".join(filter(None, [self.habit, f"from{self.start_s:g}", (self.cut or "").replace(" ", "_")]))
        return f"{self.codec}_{self.key_frames}_{habits}.{self.container}"


def recordings() -> list[Recording]:
    """Returns all recordings of the matrix."""
    made = []
    for container, codecs in CODECS.items():
        for codec in codecs:
            habits = ("plain", "b_frames") if codec in WITH_B_FRAMES else ("plain",)
            for key_frames in (1,) if codec in INTRA_ONLY else (25, 125, 250):
                for habit in habits:
                    made.append(Recording(container, codec, key_frames, habit))
                    made += [Recording(container, codec, key_frames, habit, cut=cut) for cut in CUTS_S]
                    if container not in BARE:
                        made.append(Recording(container, codec, key_frames, habit, start_s=10.0))
            if codec == "libx264" and container not in BARE:
                for habit, key_frames in (("refresh", 50), ("open", 25)):
                    made.append(Recording(container, codec, key_frames, habit))
                    made += [Recording(container, codec, key_frames, habit, cut=cut) for cut in CUTS_S]
    return made


def record(recording: Recording, folder: Path) -> Path:
    """Writes a recording, and returns its path.

    Raises:
        ValueError: If a cut needs times that the whole recording does not have.
    """
    path = folder / recording.name
    if recording.cut is not None:
        whole = Recording(recording.container, recording.codec, recording.key_frames, recording.habit)
        source = folder / whole.name
        return cut_without_decoding(source if source.exists() else record(whole, folder), path, recording)
    with _create(path, recording.container) as container:
        stream = container.add_stream(recording.codec, rate=FPS, options=_options(recording))
        stream.width, stream.height, stream.bit_rate = 80, 64, 2_000_000
        stream.pix_fmt = PIXELS.get(recording.codec, "yuv420p")
        stream.codec_context.time_base = Fraction(1, FPS)
        for number, image in enumerate(numbered_frames(COUNT, 64, 80)):
            frame = av.VideoFrame.from_ndarray(image, format="rgb24")
            frame.pts, frame.time_base = number + round(recording.start_s * FPS), Fraction(1, FPS)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


def cut_without_decoding(source: Path, path: Path, recording: Recording) -> Path:
    """Copies packets as `ffmpeg -ss CUT -i source -c copy` does: from the key frame before the cut on, with times
    relative to the cut. For recordings that begin between key frames, only packets after the cut are copied."""
    with av.open(str(source)) as opened, _create(path, recording.container) as container:
        stream = opened.streams.video[0]
        packets = [packet for packet in opened.demux(stream) if packet.size]
        if any(packet.pts is None or packet.dts is None for packet in packets):
            raise ValueError(f"{source} states no times to cut at.")
        shift = min(packet.pts for packet in packets) + round(CUTS_S[recording.cut] / stream.time_base)
        begin = max(i for i, packet in enumerate(packets) if packet.is_keyframe and packet.pts <= shift)
        if recording.cut == "begins between key frames":
            begin = next(i for i, packet in enumerate(packets) if packet.dts >= shift)
        copy = container.add_stream_from_template(stream)
        for packet in packets[begin:]:
            packet.pts, packet.dts, packet.stream = packet.pts - shift, packet.dts - shift, copy
            container.mux(packet)
    return path


def _create(path: Path, container: str):
    options = {
        "fragmented.mp4": {"movflags": "frag_keyframe+empty_moov+default_base_moof"},
        "m2ts": {"mpegts_m2ts_mode": "1"},
    }
    return av.open(str(path), "w", format=FORMATS.get(container), options=options.get(container, {}))


def _options(recording: Recording) -> dict[str, str]:
    key, codec = str(recording.key_frames), recording.codec
    num_b = {"plain": 0, "b_frames": 2, "refresh": 0, "open": 3}[recording.habit]
    options = {"g": key}
    if codec in WITH_B_FRAMES:
        options |= {"bf": str(num_b), "sc_threshold": "0" if codec == "libx264" else "1000000000"}
    if codec == "libx264":
        options |= {"keyint_min": key, "preset": "veryfast"}
        options |= {"intra-refresh": "1"} if recording.habit == "refresh" else {}
        options |= {"x264-params": "open-gop=1"} if recording.habit == "open" else {}
    if codec == "libx265":
        params = f"keyint={key}:min-keyint={key}:scenecut=0:bframes={num_b}:log-level=none"
        options = {"x265-params": params, "preset": "ultrafast"}
    if codec == "libsvtav1":
        options = {"preset": "12", "svtav1-params": f"keyint={key}"}
    if codec in ("libvpx", "libvpx-vp9"):
        options |= {"deadline": "good", "cpu-used": "5", "auto-alt-ref": "1", "lag-in-frames": "16"}
    return options | ({"strict": "unofficial"} if codec == "mjpeg" else {})


def decode_in_order(path: Path) -> tuple[np.ndarray, list[np.ndarray], float]:
    """Decodes all packets from the first key frame on in order, and returns the start of each frame, `(N,)` in seconds
    from the first, the frames, and the usual time between two of them."""
    with av.open(str(path)) as container:
        stream = container.streams.best("video")
        packets = list(container.demux(stream))
        begin = next((i for i, packet in enumerate(packets) if packet.is_keyframe), 0)
        frames = [frame for packet in packets[begin:] for frame in packet.decode()]
        ticks = [frame.pts for frame in frames]
        if container.format.name == "avi":  # decoding times are its only clock; the last frames have none
            ticks = [frame.dts for frame in frames]
            for number, value in enumerate(ticks):
                ticks[number] = ticks[number - 1] + 1 if value is None else value
        step_s = float(1 / (stream.average_rate or stream.guessed_rate))
        is_bare = container.format.name in ("mpegvideo", "m4v", "h264", "hevc", "mjpeg")
        if is_bare or None in ticks or sorted(set(ticks)) != ticks:
            begins = np.arange(len(frames)) * step_s
        else:
            begins = np.array([float((value - ticks[0]) * stream.time_base) for value in ticks])
        return begins, [frame.to_ndarray(format="rgb24") for frame in frames], step_s


def differences(path: Path, count: Counter) -> list[str]:
    """Returns where moments, windows, timelines and `probe` differ from a full decode, and counts requested and
    refused moments, by reason, in `count`."""
    begins, images, step_s = decode_in_order(path)
    if not images:
        return _shown_without_frames(path, count)
    random = np.random.default_rng(0)
    middles = np.append(begins[1:] - np.diff(begins) / 2, begins[-1] + step_s / 2)
    single = [*random.choice(middles, 8), *middles[[0, 1, -1, -2]], *random.choice(begins, 3)]
    questions = [*([time_s] for time_s in single), random.choice(middles, 8), np.arange(0, begins[-1], 0.5)]
    try:
        info = probe(path)
        questions.append([info.duration_s])
    except VideoDecodeError as error:
        info = None
        count[f"refused: {error.cause}"] += 1
    found = []
    for times_s in questions:
        count["moments"] += len(times_s)
        expected = np.searchsorted(begins, np.asarray(times_s) + 1e-6, side="right") - 1
        try:
            shown = read_frames(path, times_s)
        except VideoDecodeError as error:
            count[f"refused: {error.cause}"] += 1
            continue
        for time_s, number, image in zip(times_s, expected, shown, strict=True):
            if not np.array_equal(image, images[number]):
                found.append(f"{time_s:.3f} s of {list(times_s)} does not show frame {number}")
    if info is not None and info.num_frames != len(images):
        found.append(f"probe counts {info.num_frames} frames of {len(images)}")
    if info is not None and abs(info.duration_s - begins[-1] - step_s) > 0.025:  # the frame rate may be a guess
        found.append(f"probe gives {info.duration_s} s instead of {begins[-1] + step_s}")
    return found


def _shown_without_frames(path: Path, count: Counter) -> list[str]:
    try:
        read_frames(path, [0.0])
    except VideoDecodeError as error:
        count[f"refused: {error.cause}"] += 1
        return []
    return ["a frame is shown of a file that decodes to none"]

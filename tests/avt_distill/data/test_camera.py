"""Live sources: frames and times as they arrive, failures, and sources that must not be opened."""

import io
import os
import sys
import threading
import time
import types
from pathlib import Path

import av
import numpy as np
import pytest
from helpers.live_sources import http_server, rtsp_server
from helpers.videos import frame_number, numbered_frames, write_video

from avt_distill.data import camera
from avt_distill.data.camera import is_live, live_frames, source_name
from modeling_avt.video_io_avt import VideoDecodeError


def jpeg(image: np.ndarray) -> bytes:
    file = io.BytesIO()
    with av.open(file, "w", format="mjpeg") as container:
        stream = container.add_stream("mjpeg", rate=10)
        stream.height, stream.width, stream.pix_fmt = *image.shape[:2], "yuvj420p"
        container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        container.mux(stream.encode())
    return file.getvalue()


def with_cover(video: Path | None, path: Path) -> bytes:
    """Returns a video whose first stream is a cover picture, or the cover alone."""
    (image,) = numbered_frames(1, height=480, width=640)
    with av.open(str(path), "w", options={"movflags": "faststart"}) as container:
        cover = container.add_stream("mjpeg", rate=10)
        cover.height, cover.width, cover.pix_fmt = *image.shape[:2], "yuvj420p"
        cover.disposition = av.stream.Disposition.attached_pic.value  # PyAV 15 accepts only an integer
        packets = [*cover.encode(av.VideoFrame.from_ndarray(image, format="rgb24")), *cover.encode()]
        if video is not None:
            with av.open(str(video)) as source:
                stream = container.add_stream_from_template(source.streams.video[0])
                for packet in source.demux(source.streams.video[0]):
                    if packet.size:
                        packet.stream = stream
                        packets.append(packet)
        for packet in packets:
            container.mux(packet)
    return path.read_bytes()


@pytest.fixture(scope="module")
def transport_stream(tmp_path_factory):
    """6 s of numbered frames at 10 fps, with a key frame every 12 frames, and B-frames."""
    path = tmp_path_factory.mktemp("live") / "stream.ts"
    return write_video(path, numbered_frames(60), codec="libx264", g=12, sc_threshold=0)


@pytest.fixture(scope="module")
def web(transport_stream, video):
    content = transport_stream.read_bytes()
    files = {
        "stream.ts": content,
        "late.ts": content[len(content) // 10 :],  # as for a client that joins late: it begins between two key frames
        # Packets are lost in the middle of the second second, and in the last one.
        "damaged.ts": content[: 188 * 60] + content[188 * 64 :],
        "damaged_at_its_end.ts": content[: -188 * 20] + content[-188 * 16 :],
        "numbered.mp4": video.read_bytes(),
        "cover.mp4": with_cover(video, transport_stream.parent / "cover.mp4"),
        "cover_alone.mp4": with_cover(None, transport_stream.parent / "cover_alone.mp4"),
        "list.m3u8": b"#EXTM3U\n#EXT-X-TARGETDURATION:6\n#EXTINF:6,\nstream.ts\n#EXT-X-ENDLIST\n",
        "list.txt": f"ffconcat version 1.0\nfile {transport_stream}\n".encode(),
        "empty.ts": b"",
        **{f"JPEG{number:03}": jpeg(image) for number, image in enumerate(numbered_frames(12))},
    }
    with http_server(files) as address:
        yield address


def watch(source: str) -> list[tuple[int, float]]:
    return [(frame_number(frame), time_s) for frame, time_s in live_frames(source)]


def watch_until_it_breaks(source: str) -> tuple[list[tuple[int, float]], str]:
    frames = []
    try:
        for frame, time_s in live_frames(source):
            frames.append((frame_number(frame), time_s))
    except VideoDecodeError as error:
        return frames, str(error)
    raise AssertionError(f"{source} did not break.")


def assert_whole(frames: list[tuple[int, float]], count: int = 60):
    assert [number for number, _ in frames] == list(range(count))
    assert [time_s for _, time_s in frames] == pytest.approx(np.arange(count) / 10)


@pytest.mark.parametrize(
    "source",
    ["stream.ts", "numbered.mp4", "stream.ts?unknown_length", "stream.ts?chunked", "numbered.mp4?chunked", "cover.mp4"],
)
def test_every_frame_of_a_video_over_http(web, source):
    assert_whole(watch(f"{web}/{source}"))


def test_a_stream_that_is_joined_between_key_frames_begins_with_the_next(web):
    frames = watch(f"{web}/late.ts")
    assert [number for number, _ in frames] == list(range(12, 60))
    assert frames[0][1] == 0


@pytest.mark.parametrize("how", ["half", "reset"])
def test_frames_before_a_connection_broke(web, how):
    frames, message = watch_until_it_breaks(f"{web}/stream.ts?{how}")
    assert 20 <= len(frames) < 40
    assert_whole(frames[:-1], len(frames) - 1)  # the frame at which the connection broke may be incomplete
    assert message.startswith(f"Cannot read {web}/stream.ts?{how}: it broke off (")


def test_a_source_that_falls_silent(web, monkeypatch):
    monkeypatch.setattr(camera, "NETWORK_TIMEOUT_S", 0.3)
    frames, message = watch_until_it_breaks(f"{web}/stream.ts?stall")
    assert len(frames) >= 20
    assert message.endswith("it broke off (no data for 0.3 s).")


def test_a_device_that_falls_silent(monkeypatch):
    """FFmpeg cannot be interrupted while it waits for a device."""
    monkeypatch.setattr(camera, "LONGEST_WAIT_S", 0.2)
    monkeypatch.setattr(camera, "LONGEST_CLOSE_S", 0.1)
    released = threading.Event()
    monkeypatch.setattr(camera._Decoder, "_open", lambda _: released.wait())
    with pytest.raises(VideoDecodeError, match=r"Cannot read /dev/video7: no picture arrived for 0 s"):
        watch("/dev/video7")
    released.set()


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("nothing.ts", r"cannot be opened \(Server returned 404 Not Found\)"),
        ("list.m3u8", r"cannot be opened .* Supported formats: mpegts, "),
        ("list.txt", r"cannot be opened .* Supported formats: mpegts, "),
        ("empty.ts", "cannot be opened"),
        ("cover_alone.mp4", "holds no video, only a picture"),
    ],
)
def test_sources_that_are_not_opened(web, source, message):
    with pytest.raises(VideoDecodeError, match=rf"^Cannot read {web}/{source}: it {message}"):
        watch(f"{web}/{source}")


def test_sources_that_cannot_be_connected_to_are_refused():
    with pytest.raises(VideoDecodeError, match=r"http://127\.0\.0\.1:1/x: it cannot be opened \(Connection refused\)"):
        watch("http://me:secret@127.0.0.1:1/x")
    with pytest.raises(VideoDecodeError, match=r"rtsp://127\.0\.0\.1:1/x: it cannot be opened \(Connection refused\)"):
        watch("rtsp://127.0.0.1:1/x")
    with pytest.raises(VideoDecodeError, match=r"/dev/video99: it cannot be opened \(No such file or directory\)"):
        watch("/dev/video99")


def test_a_camera_that_sends_jpegs(web):
    """The stream has no clock: the time of a frame is its arrival."""
    frames = watch(f"{web}/?fps=20")
    numbers, times_s = zip(*frames, strict=True)
    assert list(numbers) == sorted(set(numbers))
    assert len(numbers) >= 6  # at least half of the 12: a busy machine drops some
    assert numbers[-1] == 11
    assert 0.2 < times_s[-1] < 5


def test_frames_of_a_camera_that_come_in_the_meantime_are_dropped(transport_stream):
    with rtsp_server(transport_stream, duration_s=1.5) as address:
        began_s, frames = time.monotonic(), []
        for frame, time_s in live_frames(address):
            frames.append((frame_number(frame), time_s))
            time.sleep(0.4)
    assert 2 <= len(frames) <= 8
    assert time.monotonic() - began_s < 8  # all frames would have taken 24 s
    numbers, times_s = map(np.array, zip(*frames, strict=True))
    np.testing.assert_allclose(times_s, (numbers - numbers[0]) / 10, atol=1e-3)
    assert numbers[-1] == 59


def test_a_slow_reader_of_a_video_gets_every_frame(web):
    frames = []
    for frame, _ in live_frames(f"{web}/stream.ts"):
        frames.append(frame_number(frame))
        time.sleep(0.005)
    assert frames == list(range(60))


@pytest.fixture
def pipe(monkeypatch):
    """Returns a function that pipes bytes into standard input, in pieces as from a program."""
    threads = []

    def write(file: int, content: bytes):
        with os.fdopen(file, "wb") as out:
            for at in range(0, len(content), 1000):
                out.write(content[at : at + 1000])

    def feed(content: bytes):
        reading, writing = os.pipe()
        threads.append(threading.Thread(target=write, args=(writing, content)))
        threads[-1].start()
        monkeypatch.setattr(sys, "stdin", os.fdopen(reading))

    yield feed
    for thread in threads:
        thread.join()


def test_every_frame_of_a_pipe(pipe, transport_stream):
    pipe(transport_stream.read_bytes())
    assert_whole(watch("-"))


def test_what_is_piped_may_not_refer_to_other_files(pipe, transport_stream):
    pipe(f"ffconcat version 1.0\nfile {transport_stream}\n".encode())
    with pytest.raises(VideoDecodeError, match="Cannot read <standard input>: it cannot be opened"):
        watch("-")


def test_a_pipe_of_something_else(pipe):
    pipe(b"no video " * 1000)
    with pytest.raises(VideoDecodeError, match=r"Cannot read <standard input>: .* mp4 in a pipe must be fragmented"):
        watch("-")


def test_a_terminal_is_not_read(monkeypatch):
    monkeypatch.setattr(sys, "stdin", types.SimpleNamespace(isatty=lambda: True))
    with pytest.raises(ValueError, match="Standard input is a terminal: pipe a video"):
        live_frames("-")


def test_which_sources_are_live():
    for source in (
        "-",
        "/dev/video0",
        "/dev/v4l/by-id/usb",
        "video=Cam",
        "rtsp://host/a",
        "HTTPS://host",
        "ftp://host",
    ):
        assert is_live(source)
    for source in ("a.mp4", "./-", "clip: take 2.mp4", "concat:a|b", "pipe:0", "dev/video0", "/data/video/a.mp4"):
        assert not is_live(source)
    for source in ("ftp://host/a.ts", "file:///etc/passwd", "udp://@:1234", "gopher://me:secret@host"):
        with pytest.raises(
            ValueError, match=r"is not supported: give the path of a file, rtsp://, http://, https://, "
        ):
            live_frames(source)
    assert source_name("rtsp://me:se:c@ret@host:554/a@b") == "rtsp://host:554/a@b"


@pytest.mark.parametrize(
    ("platform", "source", "opened"),
    [
        ("linux", "/dev/video0", ("/dev/video0", "v4l2", {})),
        ("darwin", "video=0", ("0", "avfoundation", {"framerate": "30"})),
        ("win32", "video=Integrated Camera", ("video=Integrated Camera", "dshow", {})),
    ],
)
def test_how_devices_are_opened(monkeypatch, platform, source, opened):
    """No test machine has a camera; the names are FFmpeg's."""
    monkeypatch.setattr(sys, "platform", platform)
    found = camera._source(source)
    assert (found.file, found.format, found.options) == opened
    assert found.is_camera


def test_a_device_of_another_system():
    if sys.platform == "linux":
        with pytest.raises(ValueError, match="names a camera on Windows or macOS: give its file here"):
            live_frames("video=Cam")


def test_no_frame_is_made_up_where_packets_were_lost(web, caplog):
    frames = watch(f"{web}/damaged.ts")
    assert [round(10 * time_s) for _, time_s in frames] == [number for number, _ in frames]
    numbers = {number for number, _ in frames}
    (lost,) = [first for first in range(0, 60, 12) if not numbers >= set(range(first, first + 12))]
    assert numbers >= set(range(60)) - set(range(lost, lost + 12))
    assert [record.getMessage() for record in caplog.records] == [
        f"{web}/damaged.ts has damaged data: frames are skipped until the next key frame. This warning is shown once."
    ]


def test_damage_after_the_last_key_frame(web):
    frames, message = watch_until_it_breaks(f"{web}/damaged_at_its_end.ts")
    assert [number for number, _ in frames][:48] == list(range(48))
    assert message.endswith("it was damaged, and no key frame followed.")

"""Unusual real-world videos: odd names and sources, several streams, mirrored cameras, broken clocks, damage."""

import io
import struct
from fractions import Fraction

import av
import numpy as np
import pytest
from helpers.videos import frame_number, numbered_frames, write_video

from modeling_avt import video_packets_avt
from modeling_avt.video_io_avt import VideoDecodeError, probe, read_frames

FRAMES = numbered_frames(60)


@pytest.fixture
def mp4(tmp_path):
    return write_video(tmp_path / "clip: take 2.mp4", FRAMES, codec="libx264", g=20)


def numbers(video, times_s) -> list[int]:
    return [frame_number(frame) for frame in read_frames(video, times_s)]


# Names and sources


def test_a_name_with_a_colon_names_no_protocol(mp4, monkeypatch):
    monkeypatch.chdir(mp4.parent)
    assert numbers("clip: take 2.mp4", [1.05]) == numbers(mp4, [1.05]) == [10]
    assert probe("clip: take 2.mp4").num_frames == 60


@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview, io.BytesIO])
def test_content_of_any_kind(mp4, kind):
    content = kind(mp4.read_bytes())
    assert numbers(content, [3.05, 0.05]) == [30, 0]
    assert probe(content).num_frames == 60


def test_an_open_file_is_read_from_its_beginning_and_left_open(mp4):
    with mp4.open("rb") as file:
        file.seek(100)
        assert numbers(file, [3.05, 1.05]) == [30, 10]
        assert probe(file).duration_s == 6.0
        assert not file.closed
    with mp4.open(errors="replace") as text, pytest.raises(VideoDecodeError, match="opened with 'rb'"):
        read_frames(text, [0.0])


@pytest.mark.parametrize("video", [None, 3, object()])
def test_inputs_that_are_not_videos_are_refused(video):
    with pytest.raises(VideoDecodeError, match="give a path, bytes, or a file"):
        probe(video)


@pytest.mark.parametrize(
    "text",
    [
        "ffconcat version 1.0\nfile 'neighbor.mp4'\n",
        "#EXTM3U\n#EXT-X-TARGETDURATION:10\n#EXTINF:6,\nneighbor.ts\n#EXT-X-ENDLIST\n",
        '<?xml version="1.0"?><MPD xmlns="urn:mpeg:dash:schema:mpd:2011"></MPD>',
        "v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nt=0 0\nm=video 5004 RTP/AVP 96\n",
    ],
)
def test_a_text_that_names_other_files_does_not_open_them(text, tmp_path):
    for suffix in ("mp4", "ts"):
        write_video(tmp_path / f"neighbor.{suffix}", FRAMES, fps=25, codec="libx264")
    playlist = tmp_path / "innocent.mp4"
    playlist.write_text(text)
    for video in (playlist, text.encode()):
        with pytest.raises(VideoDecodeError, match="it cannot be opened"):
            read_frames(video, [0.0])


def test_a_file_that_changes_is_read_anew(tmp_path):
    path = write_video(tmp_path / "a.ts", FRAMES, fps=25, codec="libx264", g=25)
    assert (probe(path).num_frames, numbers(path, [1.01])) == (60, [25])
    write_video(path, FRAMES[::-1][:50], fps=25, codec="libx264", g=25)
    assert (probe(path).num_frames, numbers(path, [1.01])) == (50, [34])


# Streams, sizes, display


def with_cover(path, video, *, is_marked: bool, codec="mjpeg"):
    """A video file whose first stream is a picture."""
    with av.open(str(path), "w") as output, av.open(str(video)) as source:
        cover = output.add_stream(codec, rate=25)
        cover.width, cover.height, cover.pix_fmt = 32, 32, {"mjpeg": "yuvj420p", "png": "rgb24"}[codec]
        if is_marked:
            cover.disposition = av.stream.Disposition.attached_pic.value
        copy = output.add_stream_from_template(source.streams.video[0])
        copy.disposition = av.stream.Disposition.default.value
        picture = av.VideoFrame.from_ndarray(np.full((32, 32, 3), 200, np.uint8), format="rgb24")
        picture = picture.reformat(format=cover.pix_fmt)
        picture.pts = 0
        output.mux(cover.encode(picture))
        output.mux(cover.encode())
        for packet in source.demux(video=0):
            if packet.dts is not None:
                packet.stream = copy
                output.mux(packet)
    return path


@pytest.mark.parametrize("is_marked", [True, False])
@pytest.mark.parametrize(
    ("name", "codec"), [("a.mkv", "mjpeg"), ("a.mov", "mjpeg"), ("a.mov", "png"), ("a.mp4", "mjpeg"), ("a.mp4", "png")]
)
def test_a_cover_is_not_the_video(name, codec, is_marked, mp4, tmp_path):
    path = with_cover(tmp_path / name, mp4, is_marked=is_marked, codec=codec)
    assert numbers(path, [0.05, 3.05]) == [0, 30]
    assert (probe(path).num_frames, probe(path).width) == (60, 64)


def test_of_two_videos_the_default_one_is_read(tmp_path):
    small = write_video(tmp_path / "small.mkv", FRAMES, codec="libx264", g=20)
    large = write_video(tmp_path / "large.mkv", numbered_frames(60, 96, 128), codec="libx264", g=20)
    for default, width in ((0, 64), (1, 128)):
        path = tmp_path / f"both{default}.mkv"
        with av.open(str(path), "w") as output:
            sources = [av.open(str(video)) for video in (small, large)]
            copies = [output.add_stream_from_template(source.streams.video[0]) for source in sources]
            for number, copy in enumerate(copies):
                copy.disposition = av.stream.Disposition.default.value if number == default else 0
            for source, copy in zip(sources, copies, strict=True):
                for packet in source.demux(video=0):
                    if packet.dts is not None:
                        packet.stream = copy
                        output.mux(packet)
                source.close()
        assert probe(path).width == width


def test_sound_with_a_cover_holds_no_video(tmp_path):
    with av.open(str(tmp_path / "song.mp4"), "w") as output:
        cover = output.add_stream("mjpeg", rate=25)
        cover.width = cover.height = 32
        cover.pix_fmt, cover.disposition = "yuvj420p", av.stream.Disposition.attached_pic.value
        picture = av.VideoFrame.from_ndarray(np.zeros((32, 32, 3), np.uint8), format="rgb24")
        output.mux(cover.encode(picture.reformat(format="yuvj420p")))
        output.mux(cover.encode())
    with pytest.raises(VideoDecodeError, match="it holds no video, only a picture"):
        probe(tmp_path / "song.mp4")


MATRICES = [(x, 0, 0, y) for x in (1, -1) for y in (1, -1)] + [(0, x, y, 0) for x in (1, -1) for y in (1, -1)]


def with_matrix(video: bytes, a: int, b: int, c: int, d: int) -> bytes:
    """Returns a copy of an MP4 file with a display matrix for its track."""
    data = bytearray(video)
    begin = data.index(b"tkhd") + 4 + 40  # version 0: the matrix begins at the 41st byte
    data[begin : begin + 36] = struct.pack(">9i", *(65536 * value for value in (a, b, 0, c, d, 0, 0, 0)), 1 << 30)
    return bytes(data)


@pytest.mark.parametrize("matrix", [*MATRICES, (0, 0, 0, 0)])
def test_pictures_are_turned_and_mirrored_as_the_file_says(matrix, mp4):
    plain = read_frames(mp4, [0.55])[0]
    video = with_matrix(mp4.read_bytes(), *matrix)
    a, b, c, d = matrix if any(matrix) else (1, 0, 0, 1)
    rows, columns = np.mgrid[: plain.shape[0], : plain.shape[1]]
    x, y = a * columns + c * rows, b * columns + d * rows  # where each pixel is displayed, up to a shift
    x, y = x - x.min(), y - y.min()
    displayed = np.zeros((y.max() + 1, x.max() + 1, 3), np.uint8)
    displayed[y, x] = plain
    assert np.array_equal(read_frames(video, [0.55])[0], displayed)
    assert (probe(video).height, probe(video).width) == displayed.shape[:2]


def test_a_size_that_changes_on_the_way(tmp_path):
    path, packets = tmp_path / "turned.webm", []
    for part, (width, height) in enumerate(((64, 48), (48, 64))):
        encoder = av.CodecContext.create("libvpx", "w")
        encoder.width, encoder.height, encoder.pix_fmt = width, height, "yuv420p"
        encoder.time_base, encoder.framerate = Fraction(1, 10), Fraction(10)
        for number, image in enumerate(numbered_frames(30, height, width)):
            frame = av.VideoFrame.from_ndarray(image, format="rgb24").reformat(format="yuv420p")
            frame.pts, frame.time_base = 30 * part + number, Fraction(1, 10)
            packets += encoder.encode(frame)
        packets += encoder.encode(None)
    with av.open(str(path), "w") as output:
        stream = output.add_stream("libvpx", rate=10)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for packet in packets:
            packet.stream = stream
            output.mux(packet)
    assert read_frames(path, [1.0, 2.0]).shape == (2, 48, 64, 3)
    assert read_frames(path, [4.0]).shape == (1, 64, 48, 3)
    with pytest.raises(
        VideoDecodeError, match=r"turned\.webm at 4\.000 s: its pictures change from 64 x 48 to 48 x 64"
    ):
        read_frames(path, [1.0, 4.0])


def test_a_codec_that_ffmpeg_does_not_know(mp4):
    unknown = mp4.read_bytes().replace(b"avc1", b"zzz9")
    for ask in (probe, lambda video: read_frames(video, [0.0])):
        with pytest.raises(VideoDecodeError, match="FFmpeg does not support its codec"):
            ask(unknown)


def test_metadata_that_is_not_utf_8(tmp_path):
    path = tmp_path / "title.mkv"
    with av.open(str(path), "w") as container:
        container.metadata["title"] = "ABCDEFGH"
        stream = container.add_stream("libx264", rate=10)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for image in FRAMES[:10]:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        container.mux(stream.encode())
    path.write_bytes(path.read_bytes().replace(b"ABCDEFGH", b"\xff\xfeAB\xff\xfeZZ"))
    assert numbers(path, [0.55]) == [5]


# Clocks


@pytest.mark.parametrize(("name", "codec"), [("a.ts", "libx264"), ("a.mpg", "mpeg2video"), ("a.webm", "libvpx")])
def test_a_clock_that_jumps_back_is_refused(name, codec, tmp_path):
    """As after `cat a.ts b.ts`, or when a camera restarted."""
    path = write_video(tmp_path / name, FRAMES, fps=25, codec=codec, g=25)
    path.write_bytes(2 * path.read_bytes())
    for ask in (probe, lambda video: read_frames(video, [0.5, 2.39])):
        with pytest.raises(VideoDecodeError, match=r"its clock jumps back from 2\.\d+ to 0\.\d+ s: cut the file there"):
            ask(path)


def test_bare_pictures_without_a_frame_rate_are_refused(tmp_path):
    path = write_video(tmp_path / "a.mjpeg", FRAMES, codec="mjpeg", strict="unofficial")
    with pytest.raises(VideoDecodeError, match=r"it has no frame rate: remux it into a file that has"):
        probe(path)


def test_an_animated_png(tmp_path):
    with av.open(str(tmp_path / "a.apng"), "w", format="apng") as container:
        stream = container.add_stream("apng", rate=10)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "rgb24"
        for image in FRAMES[:20]:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        container.mux(stream.encode())
    assert numbers(tmp_path / "a.apng", [0.05, 1.05, 1.95]) == [0, 10, 19]


# Damage


def test_avi_that_was_cut_off_ends_where_its_frames_end(tmp_path):
    path = write_video(tmp_path / "a.avi", FRAMES, codec="mpeg4", g=12)
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 8 // 10])
    with av.open(str(path)) as container:
        assert container.streams.video[0].frames == 60  # according to its header
        num_frames = sum(1 for packet in container.demux(video=0) if packet.size)
    info = probe(path)
    assert info.num_frames == num_frames < 60
    with pytest.raises(VideoDecodeError, match="the video ends at"):
        read_frames(path, [info.duration_s + 0.2])


def without_packets(path, lost: range):
    """Removes the packets of some frames from a transport stream, but keeps those of its tables."""
    with av.open(str(path)) as container:
        packets = [packet.pos for packet in container.demux(video=0) if packet.size]
    data = path.read_bytes()
    path.write_bytes(data[: packets[lost.start]] + data[packets[lost.stop] :])


def test_moments_whose_frames_were_lost_are_refused(tmp_path):
    path = write_video(tmp_path / "a.ts", FRAMES, fps=25, codec="libx264", g=20, bf=0, sc_threshold=0)
    without_packets(path, range(26, 30))
    assert numbers(path, [20.5 / 25, 24.5 / 25, 41.5 / 25]) == [20, 24, 41]
    for number in (26, 29, 35):  # a lost frame, and frames that refer to lost ones
        with pytest.raises(VideoDecodeError, match=r"a\.ts at \d\.\d+ s: the frame is damaged, or frames at about"):
            read_frames(path, [(number + 0.5) / 25])


@pytest.mark.parametrize(("name", "codec"), [("a.webm", "libvpx"), ("a.mkv", "libx264")])
def test_a_matroska_file_that_lost_a_part_is_refused_there(name, codec, tmp_path):
    noise = np.random.default_rng(0).integers(0, 255, (60, 48, 64, 3), np.uint8)
    path = write_video(tmp_path / name, noise, codec=codec, g=60, keyint_min=60)  # one key frame
    with av.open(str(path)) as container:
        begins = [packet.pos for packet in container.demux(video=0) if packet.size]
    before, data = read_frames(path, [2.05]), bytearray(path.read_bytes())
    data[begins[22] - 8 : begins[26]] = bytes(begins[26] - begins[22] + 8)
    path.write_bytes(data)
    # FFmpeg continues with the next cluster, at 5.1 s, whose frames refer to lost ones.
    for time_s, shown_s in ((2.45, "2.100"), (5.05, "2.100"), (5.55, "5.500")):
        with pytest.raises(VideoDecodeError, match=f"the frame is damaged, or frames at about {shown_s} s are lost"):
            read_frames(path, [time_s])
    assert np.array_equal(read_frames(path, [2.05]), before)


def test_long_still_pictures_are_not_treated_as_lost_frames(tmp_path):
    """A screen recording has 25 frames per second while something moves, then none for 4 s."""
    times_s = [*np.arange(30) / 25, 5.2, 5.24]
    for name in ("screen.mp4", "screen.mkv", "screen.webm"):
        codec = "libvpx" if name.endswith("webm") else "libx264"
        path = write_video(tmp_path / name, FRAMES[:32], fps=25, codec=codec, times_s=times_s)
        assert numbers(path, [1.0, 3.0, 5.1, 5.21]) == [25, 29, 29, 30]


def test_packets_that_are_not_read_as_before_are_refused(tmp_path, monkeypatch):
    path = write_video(tmp_path / "a.ts", FRAMES, fps=25, codec="libx264", g=20)
    scan = video_packets_avt._scan

    def other(source):
        table, clock = scan(source)
        return table._replace(sizes=table.sizes + 1), clock

    monkeypatch.setattr(video_packets_avt, "_scan", other)
    with pytest.raises(VideoDecodeError, match="its packets differ from one read to the next"):
        read_frames(path, [1.0])

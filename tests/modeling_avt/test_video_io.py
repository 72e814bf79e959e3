"""Reading frames at given times: compared with frames that encode their number, and with full decodes of real clips."""

import pickle

import av
import numpy as np
import pytest
from helpers.places import SHARED, require_shared
from helpers.videos import frame_number, numbered_frames, write_video

from modeling_avt import video_io_avt
from modeling_avt.video_io_avt import VideoDecodeError, VideoInfo, probe, read_frames

CLIPS = sorted(path.name for path in (SHARED / "data" / "videos").glob("*"))
BROKEN = {"corrupted.mp4", "result.webm"}
IRREGULAR_S = np.cumsum(np.random.default_rng(0).choice([0.03, 0.1, 0.25], 60)) - 0.03
ENCODINGS = {
    "mpeg4.mp4": {"codec": "mpeg4", "g": 12},
    "mpeg4_b_frames.avi": {"codec": "mpeg4", "g": 12, "bf": 2},
    "h264_one_key_frame.mp4": {"codec": "libx264", "g": 250},
    "h264_b_frames.mp4": {"codec": "libx264", "g": 12, "bf": 2},
    "h264.mkv": {"codec": "libx264", "g": 12},
    "h264.ts": {"codec": "libx264", "g": 12},
    "vp9.webm": {"codec": "libvpx-vp9", "g": 12},
    "irregular.mkv": {"codec": "libx264", "g": 12, "times_s": IRREGULAR_S},
}


@pytest.mark.parametrize("name", ENCODINGS)
def test_each_moment_shows_its_frame(name, tmp_path):
    options = ENCODINGS[name]
    path = write_video(tmp_path / name, numbered_frames(60), **options)
    begins = options.get("times_s", np.arange(60) / 10)
    begins = begins - begins[0]
    order = np.random.default_rng(0).permutation(60)
    assert [frame_number(frame) for frame in read_frames(path, begins[order] + 0.015)] == order.tolist()
    for number in (0, 59, 37, 3):  # opened anew for each
        assert frame_number(read_frames(path, [begins[number] + 0.015])[0]) == number
    assert probe(path).num_frames == 60


def test_a_moment_belongs_to_the_frame_that_begins_at_it(video):
    numbers = [frame_number(frame) for frame in read_frames(video, [0, 0.099, 0.1, 0.1 + 0.2, 3 * 0.1, 5.9, 6.0])]
    assert numbers == [0, 0, 1, 3, 3, 59, 59]


@pytest.fixture
def decoded(monkeypatch) -> list[int]:
    """The numbers of the frames that were decoded."""
    numbers, keep = [], video_io_avt._VideoStream._keep

    def counting_keep(stream, frames):
        numbers.extend(frame_number(frame.to_ndarray(format="rgb24")) for frame in frames)
        keep(stream, frames)

    monkeypatch.setattr(video_io_avt._VideoStream, "_keep", counting_keep)
    return numbers


def test_only_the_stretch_from_the_key_frame_is_decoded(video, decoded):
    read_frames(video, [5.0, 3.7])  # frames 50 and 37; key frames are 0, 12, 24, 36 and 48
    assert decoded == [36, 37, 48, 49, 50]
    decoded.clear()
    read_frames(video, [3.6, 3.7, 3.8, 3.9])
    assert decoded == [36, 37, 38, 39]


def test_frames_that_no_other_needs_are_skipped(tmp_path, decoded):
    options = {"codec": "libx264", "g": 60, "bf": 1, "b_strategy": 0, "weightp": 0, "sc_threshold": 0}
    path = write_video(tmp_path / "b_frames.mp4", numbered_frames(60), **options)  # every second frame is a B-frame
    images = read_frames(path, [0.0, 3.0, 3.1])
    assert [frame_number(image) for image in images] == [0, 30, 31]
    assert {0, 30, 31} < set(decoded) <= {31, *range(0, 33, 2)}


def test_packets_that_do_not_bear_the_times_of_their_frames(tmp_path, monkeypatch):
    path = write_video(tmp_path / "clip.mp4", numbered_frames(40), codec="libx264", g=40, bf=2)
    find = video_io_avt._VideoStream._time_of_frame_at

    def wrong(stream, target):
        time = find(stream, target)
        return None if time is None else time + 1

    monkeypatch.setattr(video_io_avt._VideoStream, "_time_of_frame_at", wrong)
    assert [frame_number(image) for image in read_frames(path, [0.3, 1.9, 2.5])] == [3, 19, 25]


def test_content_reads_like_the_file(video):
    assert np.array_equal(read_frames(video.read_bytes(), [0.5, 4.2]), read_frames(video, [0.5, 4.2]))
    assert probe(video.read_bytes()) == probe(video) == VideoInfo(6.0, 10.0, 64, 48, 60)


@pytest.mark.skipif(not hasattr(av.VideoStream, "set_display_rotation"), reason="this PyAV cannot write rotated files")
@pytest.mark.parametrize("name", ["states_its_frames.mp4", "packets_are_counted.mkv"])
def test_probe_swaps_the_sides_of_rotated_files(name, tmp_path):
    path = write_video(tmp_path / name, numbered_frames(10), codec="libx264", rotation=90)
    assert read_frames(path, [0.0]).shape == (1, 64, 48, 3)
    assert (probe(path).height, probe(path).width, probe(path).num_frames) == (64, 48, 10)


def test_probe_counts_the_packet_that_gave_the_start_time(tmp_path):
    path = write_video(tmp_path / "clip.m2v", numbered_frames(10), fps=25, codec="mpeg2video")
    assert probe(path).num_frames == 10


def test_frames_are_scaled_by_their_short_side(video):
    frames = read_frames(video, [0.3, 2.1], resize_short_side=24)
    assert frames.shape == (2, 24, 32, 3)
    assert [frame_number(frame) for frame in frames] == [3, 21]


@pytest.mark.parametrize(
    ("times_s", "message"),
    [
        ([], "the list of times is empty"),
        ([1.0, -0.5], r"at -0.500 s: times are seconds from the first frame"),
        ([float("nan")], "at nan s"),
        ([1.0, 6.5], r"at 6.500 s: the video ends at 6.000 s"),
    ],
)
def test_refuses_times(video, times_s, message):
    with pytest.raises(VideoDecodeError, match=message):
        read_frames(video, times_s)


def test_errors_name_file_time_and_cause(tmp_path, video):
    missing = tmp_path / "missing.mp4"
    with pytest.raises(VideoDecodeError, match=r"missing\.mp4: .* \(No such file or directory\): correct the path"):
        read_frames(missing, [0.0])
    with pytest.raises(VideoDecodeError, match=r"<bytes>: it cannot be opened .*: give a complete video"):
        probe(b"not a video")
    truncated = tmp_path / "truncated.mp4"
    truncated.write_bytes(video.read_bytes()[:2000])
    with pytest.raises(VideoDecodeError, match=r"truncated\.mp4"):
        read_frames(truncated, [3.0])
    sound = tmp_path / "sound.wav"
    with av.open(str(sound), "w") as container:
        stream = container.add_stream("pcm_s16le", rate=8000, layout="mono")
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 800), dtype=np.int16), layout="mono")
        frame.sample_rate = 8000
        container.mux(stream.encode(frame))
    with pytest.raises(VideoDecodeError, match="it holds no video"):
        probe(sound)


def test_errors_cross_process_borders():
    error = pickle.loads(pickle.dumps(VideoDecodeError("a.mp4", "the frame is damaged.", 1.5)))
    assert (error.path, error.cause, error.time_s) == ("a.mp4", "the frame is damaged.", 1.5)
    assert str(error) == "Cannot read a.mp4 at 1.500 s: the frame is damaged."


@pytest.mark.parametrize("name", [name for name in CLIPS if name not in BROKEN] or ["none"])
def test_real_clips_read_like_a_full_decode(name):
    path = require_shared("data", "videos", name)
    with av.open(str(path)) as container:
        stream = container.streams.best("video")  # nasa_13013.mp4 holds two
        frames = list(container.decode(stream))
        tick_s = stream.time_base
    # Decoded frames are in display order, but their time stamps in AVI, which FFmpeg guesses, are not.
    begins = np.array([float((pts - min(f.pts for f in frames)) * tick_s) for pts in sorted(f.pts for f in frames)])
    images = [np.rot90(f.to_ndarray(format="rgb24"), f.rotation // 90) for f in frames]
    ends = begins[-1] + float(frames[-1].duration * tick_s)
    random = np.random.default_rng(0)
    times = np.concatenate([random.uniform(0, ends, 40), begins[:4], begins[-4:], [ends]])
    random.shuffle(times)
    shown = np.searchsorted(begins, times + 1e-6, side="right") - 1
    for number, frame in zip(shown, read_frames(path, times), strict=True):
        assert np.array_equal(frame, images[number]), number
    for time_s, number in list(zip(times, shown, strict=True))[:8]:
        assert np.array_equal(read_frames(path, [time_s])[0], images[number]), number
    info = probe(path)
    assert (info.num_frames, info.height, info.width) == (len(frames), *images[0].shape[:2])
    assert info.duration_s == pytest.approx(ends, abs=1e-3)
    assert frame_rate_of(begins) == pytest.approx(info.fps, rel=0.02)
    with pytest.raises(VideoDecodeError, match="the video ends at"):
        read_frames(path, [ends + 0.1])


def frame_rate_of(begins: np.ndarray) -> float:
    return (len(begins) - 1) / (begins[-1] - begins[0])


def test_broken_clips_name_path_and_cause():
    empty = require_shared("data", "videos", "result.webm")
    with pytest.raises(VideoDecodeError, match=r"result\.webm: it cannot be opened \(Invalid data.*: give a complete"):
        read_frames(empty, [0.0])
    damaged = require_shared("data", "videos", "corrupted.mp4")
    assert read_frames(damaged, [1.0]).shape == (1, 720, 1280, 3)  # before the damage
    for time_s in (3.0, 4.9):
        with pytest.raises(
            VideoDecodeError, match=rf"corrupted\.mp4 at {time_s:.3f} s: decoding failed \(Invalid data"
        ):
            read_frames(damaged, [1.0, time_s])

"""Every kind of recording shows at each moment what a full decode shows there, or is refused with a reason."""

from collections import Counter

import av
import pytest
from helpers.video_matrix import CUTS_S, Recording, decode_in_order, differences, record, recordings
from helpers.videos import frame_number

CLEAR_REASONS = (
    "refused: its frames carry no times, and it has no frame rate",  # bare JPEG pictures
    "refused: it holds no key frame to begin with",
    "refused: it holds no picture that can be shown",
)
SOME = [
    Recording("ts", "libx264", 250, "b_frames"),
    Recording("m2ts", "libx264", 25, "open", cut="begins between key frames"),
    Recording("ts", "libx265", 25, "b_frames", start_s=10.0),
    Recording("mpg", "mpeg1video", 25, "b_frames"),
    Recording("mpg", "libx264", 25, "b_frames"),
    Recording("vob", "mpeg2video", 25, "b_frames"),
    Recording("mp4", "libx264", 50, "refresh"),
    Recording("ts", "libx264", 50, "refresh", cut="begins between key frames"),
    Recording("mp4", "libx264", 25, "b_frames", cut="cut later"),
    Recording("mp4", "mpeg4", 125, "b_frames", cut="begins between key frames"),
    Recording("mkv", "mpeg2video", 25, "b_frames", cut="cut on a key frame"),
    Recording("webm", "libvpx", 25),
    Recording("fragmented.mp4", "libx264", 25, "b_frames"),
    Recording("avi", "libx264", 25, "b_frames", cut="cut later"),
    Recording("avi", "mpeg4", 25, start_s=10.0),
    Recording("flv", "libx264", 250, "b_frames"),
    Recording("h264", "libx264", 25, "b_frames"),
    Recording("m2v", "mpeg2video", 25, "b_frames", cut="cut on a key frame"),
    Recording("gif", "gif", 1),
    Recording("mp4", "mpeg4", 250, cut="begins between key frames"),  # all frames are marked as key frames
]


@pytest.mark.parametrize("recording", SOME, ids=lambda recording: recording.name)
def test_moments_show_what_a_full_decode_shows(recording, tmp_path):
    count = Counter()
    assert differences(record(recording, tmp_path), count) == []
    assert [reason for reason in count if reason != "moments" and not reason.startswith(CLEAR_REASONS)] == []


def test_the_full_decode_of_a_fresh_recording_shows_its_frames_at_their_times(tmp_path):
    for recording in (Recording("ts", "libx264", 25, "b_frames"), Recording("avi", "mpeg4", 25, "b_frames")):
        begins, images, _ = decode_in_order(record(recording, tmp_path))
        assert begins == pytest.approx([number / 25 for number in range(150)], abs=1e-3)
        assert [frame_number(image) for image in images] == list(range(150))


@pytest.mark.slow
def test_the_whole_matrix(tmp_path):
    count, found, unwritten = Counter(), {}, []
    for recording in recordings():
        try:
            path = record(recording, tmp_path)
            decode_in_order(path)
        except (av.FFmpegError, ValueError, IndexError, StopIteration):
            # There is no muxer, there are no times to cut at, or the cut leaves nothing to decode.
            unwritten.append(recording)
            continue
        count["files"] += 1
        if differing := differences(path, count):
            found[recording.name] = differing
    print(dict(count), f"not written: {len(unwritten)}")
    assert found == {}
    assert count["files"] > 600
    assert all(recording.cut in CUTS_S for recording in unwritten)
    assert [reason for reason in count if "refused" in reason and not reason.startswith(CLEAR_REASONS)] == []

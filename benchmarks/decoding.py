"""Measures the time to read the frames of observed windows from a video, compared with other readers.

    python -m benchmarks.decoding --cores 1 --output decoding.json

The clips are generated with PyAV: 60 s of moving texture at 30 frames/s, 456 x 256, H.264, with a key frame every 250
or every 30 frames. A window has 10 frames, one per second. Each reader reads one window, and six windows in order and
shuffled:

- `ours`: `read_frames`, which opens the file for each window.
- `whole_window`: decodes from the key frame before the window to the window's end, converts each frame of the window
  to RGB and selects the requested ones, as the reference does with torchvision's reader.
- `decord`: `VideoReader.get_batch`, with one reader for all windows.
- `opencv_seek`: one capture, which seeks to each frame.
- `opencv_grab`: one capture, which seeks to a window's first frame, grabs the following ones and converts only the
  requested ones.

Frames of `ours` and `whole_window` must be identical. The other readers convert colors differently, so their frames
must only be close. All readers are limited to `--cores` cores; decord and OpenCV use as many threads. Readers that
are not installed are reported and skipped.
"""

import argparse
import os
import tempfile
from functools import partial
from pathlib import Path

import av
import numpy as np

from benchmarks.measure import add_common_arguments, describe_machine, print_times, take_turns, write_result
from modeling_avt.video_io_avt import read_frames

FPS, SECONDS, HEIGHT, WIDTH = 30, 60, 256, 456
NUM_FRAMES = 10
WINDOW_ENDS_S = (12.0, 21.5, 31.0, 40.3, 49.8, 58.0)
KEY_FRAMES = {"key frames every 250": 250, "key frames every 30": 30}
CLOSE = 4.0  # largest accepted mean difference of colors, out of 255


def main(arguments: list[str] | None = None):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cores", type=int, help="number of cores to use (default: all)")
    parser.add_argument("--seconds", type=int, default=SECONDS, help="length of the clips in seconds")
    add_common_arguments(parser, repeats=5)
    args = parser.parse_args(arguments)
    all_cores = os.sched_getaffinity(0)
    os.sched_setaffinity(0, sorted(all_cores)[: args.cores])
    try:
        with tempfile.TemporaryDirectory() as folder:
            result = measure(args, Path(folder))
    finally:
        os.sched_setaffinity(0, all_cores)
    write_result(result, args.output)


def measure(args: argparse.Namespace, folder: Path) -> dict:
    cores = len(os.sched_getaffinity(0))
    result = {"machine": describe_machine("av", "decord", "opencv-python-headless"), "times": {}}
    readers = peers(cores)
    for name in {"decord", "opencv_seek"} - readers.keys():
        print(f"{name.partition('_')[0]} is not installed and is skipped.")
    ends = [end for end in WINDOW_ENDS_S if end < args.seconds - 1]
    shuffled = np.random.default_rng(0).permutation(ends).tolist()
    for title, interval in KEY_FRAMES.items():
        clip = write_clip(folder / f"{interval}.mp4", interval, args.seconds)
        for asked, windows in {"one window": ends[-1:], "in order": ends, "shuffled": shuffled}.items():
            ways = {name: partial(read, str(clip), windows) for name, read in readers.items()}
            frames, times = take_turns(ways, args.repeats)
            check_alike(frames)
            print_times(f"{title}, {asked}", times, baseline="whole_window")
            result["times"][f"{title}, {asked}"] = times
    return result


def peers(cores: int) -> dict:
    """Returns the installed readers: functions of a file and window ends that return uint8 `(N, T, H, W, 3)`."""
    readers = {"ours": ours, "whole_window": whole_windows}
    try:
        import decord

        readers["decord"] = partial(with_decord, decord, cores)
    except ImportError:
        pass
    try:
        import cv2

        cv2.setNumThreads(cores)
        readers["opencv_seek"], readers["opencv_grab"] = partial(seek_opencv, cv2), partial(grab_opencv, cv2)
    except ImportError:
        pass
    return readers


def frame_times(end_s: float) -> list[float]:
    return [end_s - NUM_FRAMES + 1 + number for number in range(NUM_FRAMES)]


def frame_numbers(end_s: float) -> list[int]:
    return [int((time_s + 1e-6) * FPS) for time_s in frame_times(end_s)]


def ours(clip: str, ends: list[float]) -> np.ndarray:
    return np.stack([read_frames(clip, frame_times(end)) for end in ends])


def whole_windows(clip: str, ends: list[float]) -> np.ndarray:
    windows = []
    for end in ends:
        numbers = frame_numbers(end)
        with av.open(clip) as container:
            stream = container.streams.video[0]
            stream.thread_type = "AUTO"
            container.seek(int(numbers[0] / FPS / stream.time_base), stream=stream)
            kept = {}
            for frame in container.decode(stream):
                number = round(float(frame.pts * stream.time_base) * FPS)
                if number >= numbers[0]:
                    kept[number] = frame.to_ndarray(format="rgb24")
                if number >= numbers[-1]:
                    break
        windows.append(np.stack([kept[number] for number in numbers]))
    return np.stack(windows)


def with_decord(decord, cores: int, clip: str, ends: list[float]) -> np.ndarray:
    reader = decord.VideoReader(clip, num_threads=cores)
    return np.stack([reader.get_batch(frame_numbers(end)).asnumpy() for end in ends])


def seek_opencv(cv2, clip: str, ends: list[float]) -> np.ndarray:
    capture = cv2.VideoCapture(clip)

    def frame(number: int) -> np.ndarray:
        capture.set(cv2.CAP_PROP_POS_FRAMES, number)
        return cv2.cvtColor(capture.read()[1], cv2.COLOR_BGR2RGB)

    windows = [[frame(number) for number in frame_numbers(end)] for end in ends]
    capture.release()
    return np.array(windows)


def grab_opencv(cv2, clip: str, ends: list[float]) -> np.ndarray:
    capture, windows = cv2.VideoCapture(clip), []
    for end in ends:
        numbers, images = frame_numbers(end), []
        capture.set(cv2.CAP_PROP_POS_FRAMES, numbers[0])
        for number in range(numbers[0], numbers[-1] + 1):
            capture.grab()
            if number in numbers:
                images.append(cv2.cvtColor(capture.retrieve()[1], cv2.COLOR_BGR2RGB))
        windows.append(images)
    capture.release()
    return np.array(windows)


def check_alike(frames: dict[str, np.ndarray]):
    np.testing.assert_array_equal(frames["ours"], frames["whole_window"])
    for name, images in frames.items():
        difference = np.abs(images.astype(np.int16) - frames["ours"]).mean()
        if difference > CLOSE:
            raise AssertionError(f"{name} returned different frames: the mean difference is {difference:.1f} of 255.")


def write_clip(path: Path, key_frame_interval: int, seconds: int) -> Path:
    """Writes a clip that pans over a noisy texture while two discs move across it, and returns its path."""
    random = np.random.default_rng(0)
    coarse = random.integers(0, 256, (24, 40, 3)).repeat(32, axis=0).repeat(32, axis=1)  # (768, 1280, 3)
    texture = np.clip(coarse + random.normal(0, 3, coarse.shape), 0, 255).astype(np.uint8)
    rows, columns = np.mgrid[:HEIGHT, :WIDTH]
    options = {"g": str(key_frame_interval), "keyint_min": str(key_frame_interval), "sc_threshold": "0", "crf": "23"}
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=FPS, options=options)
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        for number in range(seconds * FPS):
            top, left = int(200 + 180 * np.sin(number / 90)), int(400 + 380 * np.sin(number / 140))
            image = texture[top : top + HEIGHT, left : left + WIDTH].copy()
            for phase, colour in ((0, (250, 240, 90)), (3, (40, 60, 220))):
                y, x = 128 + 80 * np.sin(number / 11 + phase), 228 + 160 * np.cos(number / 17 + phase)
                image[(rows - y) ** 2 + (columns - x) ** 2 < 900] = colour
            container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        container.mux(stream.encode())
    return path


if __name__ == "__main__":
    main()

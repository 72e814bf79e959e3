"""`anticipate` with live sources: answers equal those of a stream as they arrive, and every ending is clean."""

import json
import os
import signal
import subprocess
import sys

import av
import pytest
from helpers.commands import avt_distill, run_command
from helpers.live_sources import http_server, rtsp_server
from helpers.places import PROJECT
from helpers.readers import reading_model
from helpers.tiny_models import tiny_config, tiny_model, tiny_processor, tiny_vit_config
from helpers.videos import numbered_frames, write_video

from avt_distill.commands import anticipate
from avt_distill.data import camera
from modeling_avt import AVTForAnticipation

# Background processes of a script ignore Ctrl-C, and so do their children; the tests may be one of them.
INTERRUPTIBLE = """
import signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)
from avt_distill.__main__ import main
main(sys.argv[1:])
"""


@pytest.fixture(scope="module")
def reader(tmp_path_factory) -> str:
    folder = tmp_path_factory.mktemp("reader")
    reading_model(tiny_vit_config, tau_a=0.5).save_pretrained(folder)
    tiny_processor().save_pretrained(folder)
    return str(folder)


@pytest.fixture(scope="module")
def transport_stream(tmp_path_factory):
    path = tmp_path_factory.mktemp("live") / "stream.ts"
    return write_video(path, numbered_frames(60), codec="libx264", g=12)


@pytest.fixture(scope="module")
def web(transport_stream):
    content = transport_stream.read_bytes()
    with http_server({"stream.ts": content, "twice.ts": 2 * content}) as address:
        yield address


@pytest.fixture(scope="module")
def frames(transport_stream) -> list:
    """Every frame of the stream and its start time, as PyAV decodes it."""
    with av.open(str(transport_stream)) as container:
        decoded = [(frame.to_ndarray(format="rgb24"), frame.time) for frame in container.decode(video=0)]
    return [(image, time_s - decoded[0][1]) for image, time_s in decoded]


def answers_of(folder: str, frames, **options) -> list[list[dict]]:
    stream = AVTForAnticipation.from_pretrained(folder).stream(tiny_processor(), **options)
    return [answer for frame, time_s in frames if (answer := stream.push(frame, time_s))]


def assert_answers(moments: list[dict], expected: list[list[dict]]):
    assert [moment["at_s"] for moment in moments] == pytest.approx([answer[0]["at_s"] for answer in expected])
    for moment, answer in zip(moments, expected, strict=True):
        for ours, theirs in zip(moment["anticipated"], answer, strict=True):
            assert ours["score"] == pytest.approx(theirs["score"], abs=1e-6)
            assert [ours[key] for key in ("label", "verb", "noun")] == [theirs[k] for k in ("label", "verb", "noun")]
            assert ours["observed_until_s"] == moment["at_s"]
            assert ours["observed_from_s"] == max(moment["at_s"] - 4, 0)
            assert ours["starts_at_s"] == moment["starts_at_s"] == moment["at_s"] + 0.5


def test_json_lines_of_a_video_over_http_are_the_streams_answers(model, web, frames):
    url = f"{web}/stream.ts"
    result = run_command("anticipate", url, "--model", model, "--every", 0.5, "--top_k", 2, "--json", "-")
    assert result.returncode == 0, result.stderr
    moments = [json.loads(line) for line in result.stdout.splitlines()]
    assert len(moments) == 12
    assert_answers(moments, answers_of(model, frames, every=0.5, top_k=2))
    assert f"{url}, answers of {model} (tau_a 0.5 s, tau_o 4 s)" in result.stderr


def test_a_table_and_json_with_what_was_recognized(reader, web, frames, tmp_path):
    out = tmp_path / "out.json"
    result = run_command("anticipate", f"{web}/stream.ts", "--model", reader, "--json", out)
    lines = result.stdout.splitlines()
    assert lines[1] == "    observed (s)  starts at  likeliest first; after |: the last action recognized"
    written = json.loads(out.read_text())
    moments, expected = written.pop("moments"), answers_of(reader, frames)
    assert written == {"video": f"{web}/stream.ts", "model": reader, "tau_a": 0.5, "tau_o": 4.0}
    assert_answers(moments, expected)
    for moment, answer, line in zip(moments, expected, lines[2:8], strict=True):
        assert [entry["label"] for entry in moment["history"]] == [entry["label"] for entry in answer[0]["history"]]
        assert moment["expected_in_s"] == pytest.approx(answer[0]["expected_in_s"], abs=1e-3)
        score = f"{100 * moment['anticipated'][0]['score']:5.1f} % {moment['anticipated'][0]['label']}"
        assert line.startswith(f"{moment['anticipated'][0]['observed_from_s']:6.1f} to {moment['at_s']:6.1f}")
        assert score in line
    assert lines[8:-1] == anticipate.history_lines(moments[-1])
    assert lines[-1] == f"JSON saved to {out}"
    without = run_command("anticipate", f"{web}/stream.ts", "--model", reader, "--no_reader")
    assert "recognized" not in without.stdout


@pytest.mark.parametrize("asked", [{"num_actions": 3, "num_sequences": 2}, {"horizon_s": 3.0}])
def test_sequences_and_timelines_of_a_live_source(reader, web, frames, tmp_path, asked):
    out = tmp_path / "out.json"
    options = [word for name, value in asked.items() for word in (f"--{name}", value)]
    result = run_command("anticipate", f"{web}/stream.ts", "--model", reader, "--json", out, *options)
    assert result.returncode == 0, result.stderr
    moments, expected = json.loads(out.read_text())["moments"], answers_of(reader, frames, **asked)
    for moment, answer in zip(moments, expected, strict=True):
        assert moment["starts_at_s"] == moment["at_s"] + 0.5
        assert len(moment["anticipated"]) == len(answer)
        for ours, theirs in zip(moment["anticipated"], answer, strict=True):
            names = ("actions",) if "num_actions" in asked else ("label", "starts_at_s", "ends_at_s")
            assert [ours[name] for name in names] == [theirs[name] for name in names]
            assert ("starts_at_s" in ours) == ("horizon_s" in asked)
    lines = anticipate.answer_lines(moments[-1])
    assert "\n".join(lines) in result.stdout


def test_two_streams_one_after_the_other_are_two_videos(model, web, frames, caplog):
    """A camera that restarts: its clock is set back."""
    result = run_command("anticipate", f"{web}/twice.ts", "--model", model, "--json", "-")
    moments = [json.loads(line) for line in result.stdout.splitlines()]
    expected = answers_of(model, frames)
    assert_answers(moments[:6], expected)
    assert_answers(moments[6:], expected)
    assert "a new video begins" in caplog.text


def test_a_camera(model, transport_stream):
    """Frames are answered as they arrive; which ones depends on how long the answers take."""
    with rtsp_server(transport_stream, duration_s=1.0) as address:
        result = run_command("anticipate", address, "--model", model, "--json", "-")
    assert result.returncode == 0, result.stderr
    at_s = [json.loads(line)["at_s"] for line in result.stdout.splitlines()]
    assert at_s[0] == 0
    assert at_s == sorted(set(at_s))
    assert at_s[-1] >= 1


def test_a_source_that_breaks_off_leaves_its_answers_and_one_sentence(model, web, frames, tmp_path):
    out, url = tmp_path / "out.json", f"{web}/stream.ts?half"
    result = run_command("anticipate", url, "--model", model, "--json", out)
    assert result.returncode == 1
    assert result.stderr.splitlines()[-1].startswith(f"error: Cannot read {url}: it broke off (")
    moments = json.loads(out.read_text())["moments"]
    assert len(moments) >= 2
    assert_answers(moments, answers_of(model, frames)[: len(moments)])
    assert len(result.stdout.splitlines()) == 2 + len(moments) + 1


def test_a_missing_source_leaves_files_unchanged(model, web, tmp_path):
    out = tmp_path / "out.json"
    out.write_text("of yesterday")
    with pytest.raises(SystemExit, match=r"error: Cannot read .*/none\.ts: it cannot be opened \(Server returned 404"):
        avt_distill("anticipate", f"{web}/none.ts", "--model", model, "--json", out)
    assert out.read_text() == "of yesterday"


def test_interrupted_while_frames_come(model, frames, tmp_path, monkeypatch):
    closed, out = [], tmp_path / "out.json"

    def interrupted(_):
        try:
            yield from frames[:25]
            raise KeyboardInterrupt
        finally:
            closed.append(True)

    monkeypatch.setattr(camera, "live_frames", interrupted)
    result = run_command("anticipate", "/dev/video0", "--model", model, "--json", out)
    assert (result.returncode, closed) == (130, [True])
    assert_answers(json.loads(out.read_text())["moments"], answers_of(model, frames[:25]))
    assert "Traceback" not in result.stderr
    assert result.stdout.splitlines()[-1] == f"JSON saved to {out}"


def test_ctrl_c_while_a_pipe_is_silent(model, transport_stream, tmp_path):
    """By then every answer has been printed, and the file is complete although the command is still running."""
    out, content = tmp_path / "out.json", transport_stream.read_bytes()
    command = [sys.executable, "-c", INTERRUPTIBLE, "anticipate", "-", "--model", model, "--json", str(out)]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with subprocess.Popen(command, cwd=PROJECT, **pipes) as process:
        process.stdin.write(content[: len(content) // 2])
        process.stdin.flush()
        for line in process.stdout:
            if line.startswith(b"   0.0 to    2.0"):
                break
        assert [moment["at_s"] for moment in json.loads(out.read_text())["moments"]] == [0, 1, 2]
        process.send_signal(signal.SIGINT)
        process.wait(timeout=60)  # before `communicate` closes the pipe, whose end may be read before the signal
        printed, errors = process.communicate(timeout=20)
    assert process.returncode == 130
    assert printed.decode().splitlines() == [f"JSON saved to {out}"]
    assert b"Traceback" not in errors
    assert b"error" not in errors
    assert len(json.loads(out.read_text())["moments"]) == 3


def test_a_closed_output_pipe_ends_the_command():
    reading, writing = os.pipe()
    os.close(reading)
    command = [sys.executable, "-m", "avt_distill", "--help"]
    result = subprocess.run(command, cwd=PROJECT, stdout=writing, stderr=subprocess.PIPE)
    os.close(writing)
    assert (result.returncode, result.stderr) == (141, b"")


def test_json_lines_of_a_file(model, video, tmp_path):
    out = tmp_path / "out.json"
    lines = run_command("anticipate", video, "--model", model, "--every", 2, "--json", "-")
    run_command("anticipate", video, "--model", model, "--every", 2, "--json", out)
    moments = [json.loads(line) for line in lines.stdout.splitlines()]
    assert moments == json.loads(out.read_text())["moments"]
    assert f"{video}, answers of {model}" in lines.stderr


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--at", 3], "--at needs the whole file, but http://host/a.ts is a live source"),
        (["--read_from_s", 3], "--read_from_s needs the whole file"),
        (["--timeline", "a.png", "--every", 1], "--timeline needs the whole file"),
        (["--video", "a.mp4"], "--video needs the whole file"),
    ],
)
def test_options_that_need_a_whole_file(options, message):
    with pytest.raises(SystemExit, match=f"error: {message}"):
        avt_distill("anticipate", "http://me:secret@host/a.ts", "--model", "none", *options)


def test_refusals_before_the_source_is_opened(model, tmp_path):
    with pytest.raises(SystemExit, match=r"error: ftp://host/a\.ts is not supported: give the path of a file"):
        avt_distill("anticipate", "ftp://host/a.ts", "--model", "none")
    with pytest.raises(
        SystemExit, match=r"error: every is 0\.3: give the model's frame interval, 1 s, or that divided"
    ):
        avt_distill("anticipate", "/dev/video0", "--model", model, "--every", 0.3)
    tiny_model(tiny_config()).save_pretrained(tmp_path)
    with pytest.raises(SystemExit, match=r"error: .* has no backbone: it needs features, but a live"):
        avt_distill("anticipate", "/dev/video0", "--model", tmp_path)


def test_a_live_source_leaves_foreign_files_unchanged(model, web, tmp_path):
    out = tmp_path / "out.json"
    out.write_text("of yesterday")
    with pytest.raises(SystemExit, match=r"out\.json exists, and this command did not write it from the same inputs"):
        avt_distill("anticipate", f"{web}/stream.ts", "--model", model, "--json", out)
    assert out.read_text() == "of yesterday"

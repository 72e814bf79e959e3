"""`anticipate`: the table, the JSON, the picture and the video are the pipeline's answers; refusals."""

import json
import sys

import numpy as np
import pytest
from helpers.commands import avt_distill
from helpers.readers import reading_model
from helpers.timelines import moment, with_history
from helpers.tiny_models import tiny_config, tiny_model, tiny_processor, tiny_vit_config
from helpers.videos import frame_number
from transformers import ViTModel

from avt_distill.commands.anticipate import answer_lines, further_lines, history_lines, table
from avt_distill.pictures.annotated_video import SHORT_SIDE_PX, draw_caption
from modeling_avt import ActionAnticipationPipeline, AVTForAnticipation, AVTVideoProcessor
from modeling_avt.video_io_avt import probe, read_frames


@pytest.fixture
def anticipate(model) -> ActionAnticipationPipeline:
    processor = AVTVideoProcessor.from_pretrained(model)
    return ActionAnticipationPipeline(AVTForAnticipation.from_pretrained(model), video_processor=processor)


def test_one_moment(model, anticipate, video, capsys, tmp_path):
    avt_distill(
        "anticipate", str(video), "--model", model, "--at", "5", "--top_k", "2", "--json", str(tmp_path / "out.json")
    )
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == f"{video}, answers of {model} (tau_a 0.5 s, tau_o 4 s)"
    assert lines[1] == "observed: 1.0 to 5.0 s; starting at 5.5 s:"
    answer = anticipate(video, at=5.0, top_k=2)
    assert lines[2:4] == [f"{100 * entry['score']:6.1f} %  {entry['label']}" for entry in answer]
    assert lines[4:] == [f"JSON saved to {tmp_path / 'out.json'}"]
    written = json.loads((tmp_path / "out.json").read_text())
    moments = written.pop("moments")
    assert written == {"video": str(video), "model": model, "tau_a": 0.5, "tau_o": 4.0}
    assert moments == [{"at_s": 5.0, "starts_at_s": 5.5, "anticipated": answer}]


def test_the_end_of_the_video_by_default(model, video, capsys):
    avt_distill("anticipate", str(video), "--model", model)
    assert "observed: 2.0 to 6.0 s; starting at 6.5 s:" in capsys.readouterr().out


def test_a_timeline_with_everything(model, anticipate, video, capsys, tmp_path):
    pytest.importorskip("matplotlib")
    from matplotlib.image import imread

    out = {kind: tmp_path / f"out.{kind}" for kind in ("json", "png", "mp4")}
    options = ["--json", str(out["json"]), "--timeline", str(out["png"]), "--video", str(out["mp4"])]
    avt_distill("anticipate", str(video), "--model", model, "--every", "2", "--top_k", "4", *options)
    lines = capsys.readouterr().out.splitlines()
    timeline = anticipate(video, every=2.0, top_k=4)
    assert json.loads(out["json"].read_text())["moments"] == timeline
    assert lines[1:5] == table(timeline, 4)[:4]
    assert lines[5] == "(the 3 likeliest; the JSON holds all 4)"
    height, width, _ = imread(out["png"]).shape
    assert width > 1500
    assert height > 400
    info = probe(out["mp4"])
    assert (info.duration_s, info.fps, info.num_frames) == (pytest.approx(6.0), 10, 60)
    # Each frame is shown above a caption with the latest answer given by then.
    shown = read_frames(out["mp4"], [0.5, 1.95, 2.0, 3.5, 4.0])
    assert [frame_number(frame[:SHORT_SIDE_PX]) for frame in shown] == [5, 19, 20, 35, 40]
    captions = [draw_caption(said, 2.0, shown.shape[2], 3).astype(float) for said in (None, *timeline)]
    for frame, expected in zip(shown, [0, 0, 1, 1, 2], strict=True):
        distances = [np.abs(frame[SHORT_SIDE_PX:] - caption).mean() for caption in captions]
        assert np.argmin(distances) == expected


def test_table_of_a_timeline():
    timeline = [moment(1.0, cut=0.75, mix=0.25), moment(12.5, mix_all=1.0, cut=0.0)]
    assert table(timeline, 5) == [
        "    observed (s)  starts at  likeliest first",
        "   0.0 to    1.0      2.0 s   75.0 % cut       25.0 % mix",
        "   0.0 to   12.5     13.5 s  100.0 % mix all    0.0 % cut",
    ]


@pytest.fixture(scope="module")
def reader(tmp_path_factory) -> str:
    """A checkpoint with a reader."""
    folder = tmp_path_factory.mktemp("reader")
    reading_model(tiny_vit_config, tau_a=0.5).save_pretrained(folder)
    tiny_processor().save_pretrained(folder)
    return str(folder)


def pipeline_of(folder: str) -> ActionAnticipationPipeline:
    processor = AVTVideoProcessor.from_pretrained(folder)
    return ActionAnticipationPipeline(AVTForAnticipation.from_pretrained(folder), video_processor=processor)


def test_one_moment_and_what_was_recognized_by_then(reader, video, capsys, tmp_path):
    avt_distill("anticipate", video, "--model", reader, "--at", 5, "--json", tmp_path / "out.json")
    lines = capsys.readouterr().out.splitlines()
    answer = pipeline_of(reader)(video, at=5.0)
    history = answer[0]["history"]
    assert history
    assert lines[2:5] == [f"{100 * entry['score']:6.1f} %  {entry['label']}" for entry in answer]
    assert lines[5].startswith("recognized until 5.0 s, with the start of each action")
    newest = history[-1]
    assert lines[-2] == f"{100 * newest['probability']:6.1f} %  {newest['start_s']:6.1f} s  {newest['label']}"
    (written,) = json.loads((tmp_path / "out.json").read_text())["moments"]
    assert written["history"] == history
    answers = [{key: value for key, value in entry.items() if key != "history"} for entry in answer]
    assert written["anticipated"] == answers


def test_the_model_without_its_reader_and_a_reader_that_begins_later(reader, video, tmp_path):
    out = tmp_path / "out.json"
    anticipate = pipeline_of(reader)
    avt_distill("anticipate", video, "--model", reader, "--every", 2, "--no_reader", "--json", out)
    assert json.loads(out.read_text())["moments"] == anticipate(video, every=2.0, reader=False)
    avt_distill("anticipate", video, "--model", reader, "--at", 5, "--read_from_s", 3, "--json", out)
    (written,) = json.loads(out.read_text())["moments"]
    assert written["history"] == anticipate(video, at=5.0, read_from_s=3.0)[0]["history"]


def test_the_start_of_a_reader_is_refused_without_a_reader(model, video):
    with pytest.raises(SystemExit, match=r"--read_from_s sets where the reader begins, but .* has no reader"):
        avt_distill("anticipate", video, "--model", model, "--read_from_s", 1)
    with pytest.raises(SystemExit, match="--no_reader disables it: give one of them"):
        avt_distill("anticipate", video, "--model", "none", "--read_from_s", 1, "--no_reader")


def test_a_timeline_shows_what_was_recognized(reader, video, capsys, tmp_path):
    pytest.importorskip("matplotlib")
    out = {kind: tmp_path / f"out.{kind}" for kind in ("png", "mp4")}
    options = ["--timeline", out["png"], "--video", out["mp4"]]
    avt_distill("anticipate", video, "--model", reader, "--every", 2, *options)
    lines = capsys.readouterr().out.splitlines()
    timeline = pipeline_of(reader)(video, every=2.0)
    assert lines[1:5] == table(timeline, 5)
    assert lines[5 : 5 + len(history_lines(timeline[-1]))] == history_lines(timeline[-1])
    assert out["png"].stat().st_size > 0
    shown = read_frames(out["mp4"], [0.5, 2.5, 4.5])
    captions = [draw_caption(said, 2.0, shown.shape[2], 3, has_history=True) for said in (None, *timeline[:2])]
    for expected, frame in enumerate(shown):
        distances = [np.abs(frame[SHORT_SIDE_PX:] - caption.astype(float)).mean() for caption in captions]
        assert np.argmin(distances) == expected


def test_lines_of_what_was_recognized():
    timeline = [with_history(moment(1.0, cut=1.0)), with_history(moment(12.5, cut=1.0), mix=0.5, take_egg=3.0)]
    assert table(timeline, 5)[1:] == [
        "   0.0 to    1.0      2.0 s  100.0 % cut  | none yet",
        "   0.0 to   12.5     13.5 s  100.0 % cut  |  80.0 % take egg",
    ]
    assert history_lines(timeline[0]) == ["recognized until 1.0 s: no action yet"]
    assert history_lines(timeline[1]) == [
        "recognized until 12.5 s, with the start of each action:",
        "  80.0 %     0.5 s  mix",
        "  80.0 %     3.0 s  take egg",
    ]
    long = with_history(moment(9.0, cut=1.0), **{f"a{number}": float(number) for number in range(8)})
    assert history_lines(long)[0].endswith("(the last 5 of 8 actions):")
    assert len(history_lines(long)) == 6


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--at", "7"], "error: Cannot read .* at 7.000 s: the video ends at 6.000 s"),
        (["--at", "-1"], "error: The window ends at -1.000 s, before the first frame"),
        (["--every", "9"], "error: every=9.0 is longer than the video"),
        (["--top_k", "0"], "error: top_k is 0"),
        (["--every", "nan"], "error: every is nan: give a finite number of seconds"),
        (["--every", "-1"], "error: every is -1"),
    ],
)
def test_refuses_with_one_line(model, video, options, message):
    with pytest.raises(SystemExit, match=message):
        avt_distill("anticipate", str(video), "--model", model, *options)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--every", "1e-5"], r"every is 1e-05, which would be 100,000 moments .* so give 0\.001 s or more"),
        (["--every", "0"], "every is 0"),
        (["--top_k", "-1"], "top_k is -1"),
    ],
)
def test_refuses_what_cannot_be_answered_before_it_loads_a_model(video, options, message):
    with pytest.raises(SystemExit, match=message):
        avt_distill("anticipate", str(video), "--model", "no_model", *options)


def test_refuses_checkpoints_that_do_not_fit(model, video, tmp_path):
    ViTModel(tiny_vit_config().backbone_config).save_pretrained(tmp_path / "vit")
    tiny_model(tiny_config()).save_pretrained(tmp_path / "features")
    tiny_model(tiny_vit_config()).save_pretrained(tmp_path / "cut_off")
    weights = tmp_path / "cut_off" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:5000])
    for name, message in {
        "vit": "error: The checkpoint is of type 'vit', not 'avt'",
        "features": "error: This model has no backbone",
        "cut_off": "error: The weights of .* cannot be read",
    }.items():
        with pytest.raises(SystemExit, match=message):
            avt_distill("anticipate", str(video), "--model", str(tmp_path / name))
    with pytest.raises(SystemExit, match=r"error: Cannot read .*missing\.mp4: it cannot be opened"):
        avt_distill("anticipate", str(tmp_path / "missing.mp4"), "--model", model)


def test_outputs_into_missing_folders_are_refused_before_any_work(video, tmp_path):
    with pytest.raises(SystemExit, match=rf"--json is .*, but there is no folder {tmp_path / 'missing'}"):
        avt_distill("anticipate", video, "--model", "none", "--json", tmp_path / "missing" / "out.json")


def test_pictures_need_moments_and_matplotlib(video, monkeypatch):
    with pytest.raises(SystemExit, match="--video shows moments along the video: give --every"):
        avt_distill("anticipate", video, "--model", "none", "--video", "out.mp4")
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(SystemExit, match="--timeline needs matplotlib"):
        avt_distill("anticipate", video, "--model", "none", "--every", "1", "--timeline", "out.png")


def test_a_folder_of_pictures_with_its_rate(model, video, tmp_path, capsys):
    import av

    pictures = tmp_path / "pictures"
    pictures.mkdir()
    with av.open(str(video)) as container:
        for number, frame in enumerate(container.decode(video=0), start=1):
            frame.to_image().save(pictures / f"img_{number:05d}.png")
    avt_distill("anticipate", pictures, "--model", model, "--at", "5", "--frames_per_second", "10")
    answers = capsys.readouterr().out.splitlines()[1:]
    avt_distill("anticipate", video, "--model", model, "--at", "5")
    assert answers == capsys.readouterr().out.splitlines()[1:]
    with pytest.raises(SystemExit, match="have no frame rate: give frames_per_second"):
        avt_distill("anticipate", pictures, "--model", model)
    with pytest.raises(SystemExit, match="--frames_per_second is only for folders of pictures"):
        avt_distill("anticipate", video, "--model", model, "--frames_per_second", "10")


def test_sequences_and_timelines_are_the_pipelines(model, anticipate, video, capsys, tmp_path):
    of_command = ["anticipate", str(video), "--model", model, "--at", "5", "--json", str(tmp_path / "out.json")]
    for options, asked in (
        (["--num_actions", "3", "--num_sequences", "2"], {"num_actions": 3, "num_sequences": 2}),
        (["--horizon_s", "3"], {"horizon_s": 3.0}),
    ):
        avt_distill(*of_command, *options)
        (moment,) = json.loads((tmp_path / "out.json").read_text())["moments"]
        expected = anticipate(video, at=5.0, **asked)
        assert moment["anticipated"] == expected
        assert (moment["at_s"], moment["starts_at_s"]) == (5.0, 5.5)
        lines = capsys.readouterr().out.splitlines()
        assert lines[2 : 2 + len(expected)] == further_lines(moment)
    assert lines[1] == "observed: 1.0 to 5.0 s; expected:"
    avt_distill("anticipate", str(video), "--model", model, "--every", "2", "--num_actions", "3")
    lines = capsys.readouterr().out.splitlines()
    assert [number for number, line in enumerate(lines) if "the next 3 actions:" in line] == [1, 7, 13]


def test_actions_below_the_threshold_are_listed_but_not_the_answer():
    times = {"observed_from_s": 1.0, "observed_until_s": 5.0, "starts_at_s": 5.5}
    answer = {"label": "cut", "score": 0.5, **times}
    for says, line in ((None, "answer: withheld, as no action is likely enough"), ("cut", "answer: cut")):
        assert answer_lines({"anticipated": [{**answer, "says": says}]})[1:] == ["  50.0 %  cut", line]
    assert len(answer_lines({"anticipated": [answer]})) == 2


def test_how_sequences_and_timelines_are_printed():
    actions = [{"label": "cut", "verb": None, "noun": None}, {"label": "mix", "verb": None, "noun": None}]
    sequences = {"anticipated": [{"score": 0.25, "actions": actions}]}
    assert further_lines(sequences) == ["  25.0 %  cut > mix"]
    spans = [
        {"label": "cut", "score": 0.5, "starts_at_s": 8.0, "ends_at_s": 10.5},
        {"label": None, "score": 1.0, "starts_at_s": 10.5, "ends_at_s": 11.0},
    ]
    assert further_lines({"anticipated": spans}) == [
        "     8.0 to 10.5 s   50.0 %  cut",
        "    10.5 to 11.0 s  100.0 %  (no action)",
    ]


def test_options_of_sequences_that_mean_nothing_are_refused(model, video, tmp_path):
    for options, message in (
        (["--num_sequences", "3"], "--num_sequences and --do_sample need sequences: give --num_actions"),
        (["--do_sample"], "give --num_actions"),
        (["--num_actions", "3", "--every", "2", "--timeline", str(tmp_path / "out.png")], "leave --num_actions and"),
        (["--num_actions", "0"], "num_actions is 0: give a whole number from 1 to 1000, or None"),
        (["--num_actions", "3", "--num_sequences", "0"], "num_sequences is 0"),
        (["--horizon_s", "-1"], "horizon_s is -1.0: give a finite number of seconds"),
    ):
        with pytest.raises(SystemExit, match=message):
            avt_distill("anticipate", str(video), "--model", model, *options)

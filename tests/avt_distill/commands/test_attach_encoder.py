"""From features to video: the commands of docs/features.md, and encoders that are refused."""

import json
import re
import shlex
import shutil
from pathlib import Path

import numpy as np
import pytest
from helpers.commands import avt_distill, run_command
from helpers.encoders import write_encoder
from helpers.readers import reading_model
from helpers.tiny_models import tiny_config, tiny_model, tiny_vit_config
from helpers.videos import numbered_frames, write_video
from tiny_kitchen import write_video_kitchen

from avt_distill.features.backbones import load_backbone
from avt_distill.features.encoder_record import encoder_of
from avt_distill.features.stores import open_feature_store, write_features
from avt_distill.sharing.belongings import files_of_model
from avt_distill.student import attaching
from modeling_avt import ActionAnticipationPipeline, AVTConfig, AVTForAnticipation, AVTVideoProcessor

LARGER_WEIGHTS = '{"initializer_range": 0.1, "head_num_layers": 2}'  # with AVT's own, a tiny student's answers agree
CPU = {"extract_features": ["--cpu", "--num_workers", "0"], "distill": ["--use_cpu", "true"]}


COMMANDS = """\
extract_features facebook/dinov2-base my_data/videos/ --output my_data/features/ --frame_rate 4
distill --dataset my_data/ --features my_data/features/ --distill_weight 0 --seeds 0 --output_dir runs/mine
attach_encoder runs/mine/baseline_seed0
anticipate my_data/videos/v1.mp4 --model runs/mine/baseline_seed0_video --every 1
"""


def from_features_to_video(folder: Path, encoder: Path, more: dict[str, list]) -> dict:
    """Runs the commands in a folder with `my_data/`, with another encoder, and returns the resulting answers."""
    here = {"distill": ["--cache_dir", folder / "cache"], "anticipate": ["--json", "answers.json"]}
    for name, *words in map(shlex.split, COMMANDS.splitlines()):
        words = [str(encoder) if word == "facebook/dinov2-base" else word for word in words]
        options = [option for given in (CPU, here, more) for option in given.get(name, [])]
        result = run_command(name, *words, *options, folder=folder)
        assert result.returncode == 0, result.stderr
    return json.loads((folder / "answers.json").read_text())


def scores(moments: list[dict]) -> np.ndarray:
    """Returns the scores of each moment, sorted by label."""
    return np.array([[a["score"] for a in sorted(m["anticipated"], key=lambda a: a["label"])] for m in moments])


def answers_of_features(folder: Path, video: str) -> list[dict]:
    """Returns the student's own answers on a video's stored features."""
    model = AVTForAnticipation.from_pretrained(folder / "runs" / "mine" / "baseline_seed0")
    features, rate, _ = open_feature_store(folder / "my_data" / "features").read_all(video)
    return ActionAnticipationPipeline(model)({"video_features": features, "frames_per_second": rate}, every=1.0)


@pytest.mark.parametrize(
    ("kind", "of_encoder"),
    [
        ("vit", []),
        ("vjepa2", ["--clip_num_frames", "2", "--clip_frame_rate", "4", "--predict_ahead_s", "1.0"]),
    ],
)
def test_a_student_of_features_answers_on_videos(tmp_path, kind, of_encoder):
    write_video_kitchen(tmp_path / "my_data")
    encoder = write_encoder(tmp_path / "encoder", kind)
    more = {"extract_features": of_encoder, "distill": ["--model_options", LARGER_WEIGHTS]}
    answers = from_features_to_video(tmp_path, encoder, more)
    expected = answers_of_features(tmp_path, "v1")
    # At 9 s, the end of the video, the store has the row of 8.75 s, and the video has its last frame.
    moments, expected = answers["moments"][:-1], expected[:-1]
    assert [moment["at_s"] for moment in moments] == [moment["at_s"] for moment in expected] == [*range(1, 9)]
    np.testing.assert_allclose(scores(moments), scores(expected), atol=1e-4, rtol=0)
    assert scores(expected).std(0).max() > 0.01  # moments differ, so the comparison is meaningful

    student, attached = (tmp_path / "runs" / "mine" / name for name in ("baseline_seed0", "baseline_seed0_video"))
    recorded = AVTConfig.from_pretrained(student).feature_encoder
    assert (recorded["model"], recorded["clip_num_frames"]) == ("encoder", 2 if of_encoder else None)
    config = AVTConfig.from_pretrained(attached)
    assert (config.feature_encoder, config.backbone_config.model_type) == (None, kind)
    for folder in (student, attached):
        assert str(tmp_path) not in (folder / "config.json").read_text()
    assert "measured on stored features of the encoder `encoder`" in (attached / "README.md").read_text()
    results = json.loads((attached / "results.json").read_text())
    assert results["num_parameters"] == AVTForAnticipation.from_pretrained(attached).num_parameters()


@pytest.fixture(scope="module")
def kitchen(tmp_path_factory) -> Path:
    """A folder with `encoder/`, `video.mp4` of 6 s, `features/` and `student/`, trained on these."""
    folder = tmp_path_factory.mktemp("attach")
    write_encoder(folder / "encoder", "vit")
    write_video(folder / "video.mp4", numbered_frames(60))
    extract(folder, folder / "features")
    write_student(folder / "student", folder / "features")
    return folder


def extract(folder: Path, output: Path, *options):
    words = [folder / "encoder", folder / "video.mp4", "--output", output, "--frame_rate", 2, *CPU["extract_features"]]
    avt_distill("extract_features", *words, *options)


def write_student(folder: Path, store: Path, make=lambda **fields: tiny_model(tiny_config(**fields)), **overrides):
    """Writes a random student in the form in which a run on a store saves it."""
    store = open_feature_store(store)
    encoder = encoder_of(store)
    fields = {"feature_dim": store.feature_dim, "feature_encoder": encoder and encoder.to_config(), **overrides}
    make(**fields).save_pretrained(folder)
    (folder / "settings.json").write_text(json.dumps({"features": str(store.path), "feature_frame_rate": None}))
    return folder


@pytest.fixture
def copy(kitchen, tmp_path) -> Path:
    """A copy of the kitchen, whose student still refers to the original features and encoder."""
    return shutil.copytree(kitchen, tmp_path / "copy")


def refused(*arguments) -> str:
    result = run_command("attach_encoder", *arguments)
    assert result.returncode == 1
    assert "Traceback" not in result.stderr
    return result.stderr.splitlines()[-1]


def test_what_is_recorded_is_used_and_what_is_checked_is_printed(kitchen, tmp_path):
    result = run_command("attach_encoder", kitchen / "student", "--output", tmp_path / "out")
    assert result.returncode == 0, result.stderr
    assert f"8 features of {kitchen / 'video.mp4'}, computed by 'encoder', differ" in result.stdout
    assert f"avt-distill anticipate {kitchen / 'video.mp4'} --model {tmp_path / 'out'}" in result.stdout
    about = json.loads((tmp_path / "out" / "attached.json").read_text())
    assert about["num_rows"] == 8
    assert about["difference"] < 1e-5
    processor = AVTVideoProcessor.from_pretrained(tmp_path / "out")
    assert (processor.crop_size, processor.image_std) == ({"height": 32, "width": 32}, [0.25] * 3)
    assert (processor.num_frames, processor.tau_o) == (4, 4.0)
    again = run_command("attach_encoder", "student", "--output", tmp_path / "out", folder=kitchen)
    assert again.returncode == 0, again.stderr  # it replaces its own output


def test_an_encoder_of_another_width_is_refused(kitchen, tmp_path):
    other = write_encoder(tmp_path / "other", "vit", hidden_size=48)
    message = refused(kitchen / "student", "--encoder", other, "--output", tmp_path / "out")
    assert f"The encoder '{other}' computes features of width 48, but {kitchen / 'student'} needs 32" in message
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("changes", [{"seed": 1}, {"layer_norm_eps": 0.05}], ids=["weights", "settings"])
def test_an_encoder_that_computes_other_features_is_refused(kitchen, tmp_path, changes):
    other = write_encoder(tmp_path / "other", "vit", **changes)
    message = refused(kitchen / "student", "--encoder", other, "--output", tmp_path / "out")
    assert re.search(
        r"differs from the feature stored in .* by [\d.e+]+ % of its norm, but at most 0.2 % is accepted", message
    )
    assert not (tmp_path / "out").exists()


def test_another_video_under_the_name_of_a_stored_one_is_refused(kitchen, tmp_path):
    video = write_video(tmp_path / "video.mp4", numbered_frames(120)[60:])
    message = refused(kitchen / "student", "--video", video, "--output", tmp_path / "out")
    assert "or another video" in message
    other = shutil.copy(video, tmp_path / "other.mp4")
    assert "holds no features of a video 'other': give another, such as 'video'" in refused(
        kitchen / "student", "--video", other, "--output", tmp_path / "out"
    )


def test_a_store_of_another_encoder_is_refused(kitchen, copy, tmp_path):
    write_encoder(copy / "encoder", "vit", seed=1)
    extract(copy, tmp_path / "features")
    message = refused(kitchen / "student", "--features", tmp_path / "features", "--output", tmp_path / "out")
    assert (
        f"{tmp_path / 'features'} holds features of another encoder than {kitchen / 'student'} was trained" in message
    )
    assert "all that differ: revision" in message


def test_a_store_of_another_width_is_refused(kitchen, tmp_path):
    write_features(tmp_path / "video.safetensors", np.ones((12, 48)), 2.0)
    message = refused(kitchen / "student", "--features", tmp_path, "--output", tmp_path / "out")
    assert f"{tmp_path} holds features of width 48, but {kitchen / 'student'} needs 32" in message


def test_an_encoder_that_has_changed_or_moved_is_refused_unless_given(copy, tmp_path):
    extract(copy, copy / "own_features")
    student = write_student(tmp_path / "student", copy / "own_features")
    kept = shutil.copytree(copy / "encoder", tmp_path / "kept")
    write_encoder(copy / "encoder", "vit", seed=1)
    message = refused(student)
    assert f"The encoder in {copy / 'encoder'} has changed since the features were extracted" in message
    shutil.rmtree(copy / "encoder")
    assert f"was in the folder {copy / 'encoder'}, which is not here: give it as --encoder." in refused(student)
    assert run_command("attach_encoder", student, "--encoder", kept).returncode == 0


def test_without_a_store_or_a_video_nothing_is_written_unless_unchecked(kitchen, copy, tmp_path):
    student = copy / "student"
    (student / "settings.json").unlink()
    advice = "give it as --encoder, or its feature store, which records its path, as --features."
    assert f"was in the folder encoder, which is not here: {advice}" in refused(student)
    given = ["--encoder", kitchen / "encoder"]
    assert "is not found: give --features and --video to compare" in refused(student, *given)
    (copy / "features" / "videos.json").write_text(json.dumps({"video": str(copy / "moved.mp4")}))
    message = refused(student, *given, "--features", copy / "features")
    assert "is found at its recorded path: give --video, the file of one of them (such as 'video')" in message
    assert not (copy / "student_video").exists()
    result = run_command("attach_encoder", student, *given, "--unchecked")
    assert result.returncode == 0, result.stderr
    assert json.loads((copy / "student_video" / "attached.json").read_text())["difference"] is None
    assert "--video is for the comparison that --unchecked skips" in refused(student, "--unchecked", "--video", "x")


def test_attaching_an_encoder_unchecked_logs_a_warning(kitchen, tmp_path, caplog):
    avt_distill("attach_encoder", kitchen / "student", "--unchecked", "--output", tmp_path / "out")
    assert "Nothing was compared: whether " in caplog.text


def test_an_encoder_on_the_hub_is_loaded_at_its_commit(kitchen, copy, monkeypatch):
    commit, asked = "0123456789abcdef0123456789abcdef01234567", []
    record = json.loads((copy / "features" / "extraction.json").read_text())
    (copy / "features" / "extraction.json").write_text(json.dumps({**record, "model": "user/vit", "revision": commit}))

    def load(name, revision=None, **options):
        asked.append((name, revision))
        return load_backbone(kitchen / "encoder", **options)

    monkeypatch.setattr(attaching, "load_backbone", load)
    student = write_student(copy / "of_hub", copy / "features")
    assert run_command("attach_encoder", student).returncode == 0
    assert run_command("attach_encoder", student, "--encoder", "user/other").returncode == 0
    assert asked == [("user/vit", commit), ("user/other", None)]


def test_features_of_other_tools_need_the_encoder(kitchen, copy):
    for name in ("extraction.json", "videos.json"):
        (copy / "features" / name).unlink()
    student = write_student(copy / "of_others", copy / "features")
    message = refused(student)
    assert f"Neither {student} nor its feature store records the encoder of its features: give --encoder" in message
    given = ["--encoder", kitchen / "encoder", "--video", kitchen / "video.mp4"]
    result = run_command("attach_encoder", student, *given)
    assert result.returncode == 0, result.stderr
    features, rate, _ = open_feature_store(copy / "features").read_all("video")
    np.savez(copy / "features.npz", video=features)
    given += ["--features", copy / "features.npz"]
    result = run_command("attach_encoder", student, *given, "--feature_frame_rate", rate)
    assert result.returncode == 0, result.stderr
    assert "differs from the feature stored in" in refused(student, *given, "--feature_frame_rate", 2 * rate)


def test_no_encoder_alone_computes_memory(kitchen, tmp_path):
    avt_distill("add_feature_memory", kitchen / "features", "--windows_s", "0.5", "2", "--output", tmp_path / "memory")
    student = write_student(tmp_path / "student", tmp_path / "memory")
    assert AVTConfig.from_pretrained(student).feature_encoder is None
    assert "Where `avt-distill add_feature_memory` made the store, no encoder alone" in refused(student)
    assert "computes features of width 32, but" in refused(student, "--encoder", kitchen / "encoder")


def test_features_predicted_for_another_moment_are_refused(copy, tmp_path):
    write_encoder(copy / "encoder", "vjepa2")
    extract(copy, tmp_path / "features", "--predict_ahead_s", "0.5")
    student = write_student(tmp_path / "student", tmp_path / "features")
    message = refused(student)
    assert "V-JEPA 2 predicts 0.5 s ahead, but" in message
    assert "extract features with --predict_ahead_s 1, and train on these" in message
    assert run_command("attach_encoder", write_student(student, tmp_path / "features", tau_a=0.5)).returncode == 0


def test_features_computed_in_bfloat16_are_near_enough(kitchen, tmp_path):
    extract(kitchen, tmp_path / "features", "--dtype", "bfloat16")
    student = write_student(tmp_path / "student", tmp_path / "features")
    assert run_command("attach_encoder", student).returncode == 0
    about = json.loads((tmp_path / "student_video" / "attached.json").read_text())
    assert 1e-4 < about["difference"] < 5e-2


def test_the_reader_of_a_student_comes_with_it(kitchen, tmp_path):
    student = write_student(tmp_path / "student", kitchen / "features", reading_model)
    result = run_command("attach_encoder", student)
    assert result.returncode == 0, result.stderr
    of_features = ActionAnticipationPipeline(AVTForAnticipation.from_pretrained(student))
    attached = AVTForAnticipation.from_pretrained(tmp_path / "student_video")
    features, rate, _ = open_feature_store(kitchen / "features").read_all("video")
    given = {"video_features": features, "frames_per_second": rate}
    for expected, answer in zip(
        of_features(given, at=5.0),
        ActionAnticipationPipeline(attached)(str(kitchen / "video.mp4"), at=5.0),
        strict=True,
    ):
        assert answer["label"] == expected["label"]
        assert answer["score"] == pytest.approx(expected["score"], abs=1e-4)
        assert [entry["action"] for entry in answer["history"]] == [entry["action"] for entry in expected["history"]]


def test_a_checkpoint_that_takes_videos_already_is_refused(tmp_path):
    tiny_model(tiny_vit_config()).save_pretrained(tmp_path / "model")
    assert "has a backbone, a 'vit': it already accepts videos" in refused(tmp_path / "model")
    assert "user/student is not a folder, so there is no default output: give --output" in refused("user/student")


def test_foreign_files_are_kept(kitchen, copy):
    (copy / "student_video").mkdir()
    (copy / "student_video" / "config.json").write_text("of others")
    assert "this command did not write it from the same inputs" in refused(copy / "student")
    assert (copy / "student_video" / "config.json").read_text() == "of others"
    assert "would replace what student reads" in refused(copy / "student", "--output", copy)


def test_what_is_pushed_names_no_folder_of_this_machine(kitchen, tmp_path):
    avt_distill("attach_encoder", kitchen / "student", "--output", tmp_path / "out")
    for folder in (kitchen / "student", tmp_path / "out"):
        files = files_of_model(folder)
        for name, content in files.items():
            content = content if isinstance(content, bytes) else content.read_bytes()
            assert str(kitchen).encode() not in content, name
        assert "attached.json" not in files


def test_anticipate_says_how_a_student_of_features_takes_a_video(kitchen):
    student = kitchen / "student"
    for source in (kitchen / "video.mp4", "/dev/video0"):
        result = run_command("anticipate", source, "--model", student)
        assert result.returncode == 1
        assert result.stderr.splitlines()[-1].endswith(f": avt-distill attach_encoder {student}.")

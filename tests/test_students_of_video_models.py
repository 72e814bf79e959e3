"""Students with image and video models as encoders, from training to pipeline, stream and reader."""

import json
import textwrap
from pathlib import Path

import av
import pytest
import torch
from helpers.commands import avt_distill
from helpers.processes import command
from helpers.tiny_models import tiny_encoder
from safetensors.torch import load_file
from tiny_kitchen import kitchen_builder, write_soft_labels, write_video_kitchen
from transformers import AutoModel, TrainerCallback

from avt_distill.evaluation.scores import ScoreTable
from avt_distill.student import training
from modeling_avt import ActionAnticipationPipeline, AVTForAnticipation, AVTStream, AVTVideoProcessor

ROWS = {"num_frames": 2, "tau_o": 2.0}
STUDENTS = {
    "dinov2_probe": ("dinov2", {"head_type": "probe"}),
    "videomae_avt": ("videomae", {}),
    "vjepa2_avt": ("vjepa2", {"use_predictor": True}),
    "vjepa2_probe": ("vjepa2", {"head_type": "probe", "use_predictor": True}),
}


@pytest.fixture(scope="module")
def kitchen(tmp_path_factory) -> Path:
    folder = write_video_kitchen(tmp_path_factory.mktemp("videos") / "data", ("train", "train", "validation"))
    write_soft_labels(folder.parent / "soft.parquet", folder)
    return folder


def run_options(kitchen: Path, output: Path, name: str) -> list:
    kind, options = STUDENTS[name]
    eyes = kitchen.parent / kind
    if not eyes.exists():
        torch.manual_seed(0)
        AutoModel.from_config(tiny_encoder(kind)).save_pretrained(eyes)
    sizes = {"head_num_layers": 1, "head_num_positions": 16, "probe_num_layers": 2, "probe_num_heads": 4}
    model = {**sizes, **options} if kind == "dinov2" else {**sizes, **options, "clip_frame_rate": 2.0}
    given = ["--dataset", kitchen, "--cache_dir", kitchen / "cache", "--backbone", eyes]
    for option, value in ROWS.items():
        given += [f"--{option}", value]
    given += ["--processor_options", '{"size": 36, "crop_size": 32, "train_size": [36, 40]}']
    given += ["--model_options", json.dumps(model), "--soft_labels", kitchen.parent / "soft.parquet"]
    given += ["--output_dir", output, "--use_cpu", "true", "--disable_tqdm", "true", "--max_steps", 4]
    return [*given, "--save_strategy", "steps", "--save_steps", 1, "--learning_rate", 1e-3]


class KilledError(Exception):
    pass


class Kill(TrainerCallback):
    def on_step_end(self, args, state, control, **kwargs):
        if state.global_step == 3:
            raise KilledError


SLOW = ("dinov2_probe", "vjepa2_avt")
BOTH = [pytest.param(name, marks=[pytest.mark.slow] if name in SLOW else []) for name in STUDENTS]


@pytest.fixture(scope="module")
def trained(kitchen, tmp_path_factory):
    """Returns a function that gives the folder of a finished run of a student."""
    root, finished = tmp_path_factory.mktemp("trained"), set()

    def run(name: str) -> Path:
        if name not in finished:
            avt_distill("distill", *run_options(kitchen, root / name, name))
            finished.add(name)
        return root / name

    return run


@pytest.mark.parametrize("name", BOTH)
def test_what_was_measured_is_what_a_pipeline_and_a_stream_answer(kitchen, trained, name):
    folder = trained(name) / "distilled_seed42"
    assert not equal(folder, folder.with_name("baseline_seed42"))
    model, processor = AVTForAnticipation.from_pretrained(folder), AVTVideoProcessor.from_pretrained(folder)
    assert model.config.head_hidden_size == model.config.feature_dim  # derived from the encoder
    table = ScoreTable.load(folder / "scores_validation.parquet")
    anticipate = ActionAnticipationPipeline(model, video_processor=processor)
    for row in kitchen_builder(kitchen, **ROWS).rows("validation").itertuples():
        measured = torch.tensor(table.scores[table.uids.index(row.uid)])
        answers = {a["label"]: a["score"] for a in anticipate(row.video, at=row.observed_end_s, top_k=2)}
        expected = dict(zip(model.config.action_names, measured.softmax(-1).tolist(), strict=True))
        assert answers == pytest.approx(expected, abs=1e-5)
        stream = AVTStream(model, processor)
        push_file(stream, row.video, until_s=row.observed_end_s)
        torch.testing.assert_close(stream.logits, measured, atol=1e-5, rtol=0)


@pytest.mark.parametrize("name", [pytest.param(name, marks=pytest.mark.slow) for name in STUDENTS])
def test_a_killed_run_ends_with_the_weights_of_an_undisturbed_one(kitchen, trained, tmp_path, monkeypatch, name):
    made = training._trainer

    def killed(args, data):
        trainer = made(args, data)
        trainer.add_callback(Kill())
        return trainer

    with monkeypatch.context() as patches:
        patches.setattr(training, "_trainer", killed)
        with pytest.raises(KilledError):
            avt_distill("distill", *run_options(kitchen, tmp_path / "run", name))
    avt_distill("distill", *run_options(kitchen, tmp_path / "run", name))
    for student in ("baseline_seed42", "distilled_seed42"):
        assert equal(tmp_path / "run" / student, trained(name) / student)


@pytest.mark.slow
@pytest.mark.parametrize("name", STUDENTS)
def test_students_get_a_reader_and_are_pushed(kitchen, hub, tmp_path, name):
    """With a recognizer; the pushed student gives the same answers in a process without the package."""
    given = run_options(kitchen, tmp_path / "run", name)
    place = given.index("--model_options") + 1
    given[place] = json.dumps({**json.loads(given[place]), "recognizes_frames": True})
    avt_distill("fit_reader", *given, "--inner_folds", 2, "--beam", 20, "--reader_frame_rate", 1)
    folder = tmp_path / "run" / "reader_seed42"
    model, processor = AVTForAnticipation.from_pretrained(folder), AVTVideoProcessor.from_pretrained(folder)
    video = str(kitchen / "videos" / "v2.mp4")
    here = ActionAnticipationPipeline(model, video_processor=processor)(video, at=6.0)
    assert here[0]["history"]
    hub.run(command("push_to_hub", folder, "user/eyes"), "here")
    code = f"""
    from transformers import pipeline
    anticipate = pipeline("action-anticipation", model="user/eyes", trust_remote_code=True)
    print([entry["score"] for entry in anticipate({video!r}, at=6.0)])
    """
    scores = json.loads(hub.run(textwrap.dedent(code), "elsewhere").splitlines()[-1])
    assert scores == pytest.approx([entry["score"] for entry in here], abs=1e-5)


def push_file(stream: AVTStream, video: str, until_s: float):
    with av.open(video) as container:
        for frame in container.decode(video=0):
            if frame.time <= until_s + 1e-6:
                stream.push(frame.to_ndarray(format="rgb24"), frame.time)


def equal(one: Path, other: Path) -> bool:
    left, right = (load_file(folder / "model.safetensors") for folder in (one, other))
    return left.keys() == right.keys() and all(torch.equal(left[name], right[name]) for name in left)

"""Models answer, train and read on an accelerator as on the CPU; all tests are skipped without an accelerator."""

import copy
import json

import numpy as np
import pytest
import torch
from helpers.commands import Result, run_command
from helpers.readers import reading_model
from helpers.tiny_models import (
    VERB_NOUN,
    processor_of,
    tiny_config,
    tiny_encoder,
    tiny_encoder_config,
    tiny_model,
    tiny_processor,
    tiny_vit_config,
)
from helpers.videos import numbered_frames
from tiny_kitchen import write_kitchen, write_soft_labels
from transformers import AutoConfig, AutoModel
from transformers.utils import is_flash_attn_2_available

from avt_distill.evaluation.scores import ScoreTable
from avt_distill.features.extraction import PretrainedEncoder
from avt_distill.teacher.language_models import load_tokenizer
from avt_distill.teacher.modeling_teacher import TextTeacher, TextTeacherConfig
from avt_distill.teacher.prediction import TeacherScorer
from modeling_avt import ActionAnticipationPipeline, AVTForAnticipation, AVTStream

pytestmark = pytest.mark.gpu

# Allows for a different order of sums of a few dozen products; `device` disables TF32.
NEAR = {"atol": 1e-4, "rtol": 1e-4}
STUDENTS = {
    "features": tiny_config,
    "image model": tiny_vit_config,
    "video model": lambda: tiny_encoder_config("videomae"),
    "probe": lambda: tiny_encoder_config("vjepa2", head_type="probe", use_predictor=True, **VERB_NOUN),
}


@pytest.fixture
def device(monkeypatch) -> torch.device:
    """The accelerator, with TF32 disabled."""
    accelerator = torch.accelerator.current_accelerator(check_available=True)
    if accelerator is None:
        pytest.skip("needs an accelerator: this machine has none")
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)
    return torch.device(accelerator.type, 0)


def batch_for(model: AVTForAnticipation, size: int = 3) -> dict[str, torch.Tensor]:
    generator, config = torch.Generator().manual_seed(0), model.config
    name, shape = "video_features", (size, config.num_frames, config.feature_dim)
    if config.backbone_config is not None:
        window = config.clip_window.offsets_s if config.clip_num_frames else range(config.num_frames)
        name, shape = "pixel_values_videos", (size, len(window), 3, 32, 32)
    mask = torch.ones(size, config.num_frames, dtype=torch.bool)
    mask[0, :2] = False
    labels = {"labels": torch.arange(size), "verb_labels": torch.zeros(size).long(), "noun_labels": torch.arange(size)}
    past_labels = torch.randint(-1, 5, mask.shape, generator=generator)
    past_labels[past_labels < 0] = -100
    return {name: torch.randn(shape, generator=generator), "frame_mask": mask, "past_labels": past_labels, **labels}


def moved(batch: dict[str, torch.Tensor], device: torch.device) -> dict[str, torch.Tensor]:
    return {name: value.to(device) for name, value in batch.items()}


def with_gradients(model: AVTForAnticipation, batch: dict[str, torch.Tensor]):
    output = model(**batch)
    output.loss.backward()
    gradients = {name: weight.grad.cpu() for name, weight in model.named_parameters() if weight.grad is not None}
    return output.logits.detach().cpu(), output.loss.detach().cpu(), gradients


@pytest.mark.parametrize("kind", STUDENTS)
def test_scores_losses_and_gradients_are_those_of_the_cpu(kind, device):
    model = tiny_model(STUDENTS[kind]())
    there = copy.deepcopy(model).to(device)
    batch = batch_for(model)
    expected, found = with_gradients(model, batch), with_gradients(there, moved(batch, device))
    torch.testing.assert_close(found, expected, **NEAR)


def test_further_steps_and_views_are_those_of_the_cpu(device):
    model = tiny_model(tiny_vit_config())
    there = copy.deepcopy(model).to(device)
    views = torch.randn(2, 3, 4, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        expected = model(pixel_values_videos=views, num_future_steps=3).future_logits
        found = there(pixel_values_videos=views.to(device), num_future_steps=3).future_logits
    torch.testing.assert_close(found.cpu(), expected, **NEAR)


@pytest.mark.parametrize("kind", STUDENTS)
def test_a_step_in_bfloat16_has_nearly_the_same_loss(kind, device):
    model = tiny_model(STUDENTS[kind]()).to(device)
    batch = moved(batch_for(model), device)
    expected = model(**batch).loss
    with torch.autocast(device.type, torch.bfloat16):
        loss = model(**batch).loss
    loss.backward()
    assert all(weight.grad.isfinite().all() for weight in model.parameters() if weight.grad is not None)
    torch.testing.assert_close(loss.float(), expected, atol=0.05, rtol=0.05)


@pytest.mark.skipif(not is_flash_attn_2_available(), reason="needs an NVIDIA GPU and the package flash-attn")
def test_flash_attention_in_the_frame_encoder_computes_nearly_the_same(device):
    model = tiny_model(tiny_vit_config()).to(device, torch.bfloat16)
    frames = batch_for(model)["pixel_values_videos"].to(device)
    with torch.inference_mode():
        expected = model(pixel_values_videos=frames).logits
        model.avt.backbone.set_attn_implementation("flash_attention_2")
        torch.testing.assert_close(model(pixel_values_videos=frames).logits, expected, atol=0.05, rtol=0.05)


def test_checkpoints_move_between_devices(device, tmp_path):
    model = tiny_model(tiny_config(standardize_features=True)).to(device)
    model.save_pretrained(tmp_path)
    features = torch.randn(2, 4, 12, generator=torch.Generator().manual_seed(0))
    there = AVTForAnticipation.from_pretrained(tmp_path, device_map=str(device)).eval()
    here = AVTForAnticipation.from_pretrained(tmp_path).eval()
    assert there.device.type == device.type
    with torch.inference_mode():
        found, expected = there(video_features=features.to(device)).logits, here(video_features=features).logits
    torch.testing.assert_close(found.cpu(), expected, **NEAR)


@pytest.mark.parametrize("kind", ["image model", "video model", "probe"])
def test_pipeline_and_stream_answer_as_on_the_cpu(kind, device):
    model = tiny_model(STUDENTS[kind]())
    there = copy.deepcopy(model).to(device)
    frames = np.stack(list(numbered_frames(16, width=64, height=48)))
    answers = []
    for each, where in ((model, "cpu"), (there, device)):
        pipeline = ActionAnticipationPipeline(model=each, video_processor=processor_of(each), device=where)
        answers.append({one["label"]: one["score"] for one in pipeline(frames, at=7.5, frames_per_second=2, top_k=5)})
    assert answers[1] == pytest.approx(answers[0], abs=1e-4)
    streams = [AVTStream(each, processor_of(each), every=0.5) for each in (model, there)]
    for number, frame in enumerate(frames):
        for stream in streams:
            stream.push(frame, number / 2)
    torch.testing.assert_close(streams[1].logits.cpu(), streams[0].logits, **NEAR)


def test_a_reader_reads_as_on_the_cpu(device):
    model = reading_model(tiny_vit_config)
    there = copy.deepcopy(model).to(device)
    frames = np.stack(list(numbered_frames(16, width=64, height=48)))
    answers = []
    for each, where in ((model, "cpu"), (there, device)):
        pipeline = ActionAnticipationPipeline(model=each, video_processor=tiny_processor(), device=where)
        answers.append({one["label"]: one["score"] for one in pipeline(frames, at=7.5, frames_per_second=2, top_k=3)})
    assert answers[1] == pytest.approx(answers[0], abs=1e-4)


@pytest.mark.parametrize("reader", [True, False])
def test_sequences_and_timelines_are_those_of_the_cpu(device, reader):
    model = reading_model(tiny_vit_config, tau_a=0.5)
    frames, asked = np.stack(list(numbered_frames(16, width=64, height=48))), {"frames_per_second": 2, "reader": reader}
    answers = []
    for each, where in ((model, "cpu"), (copy.deepcopy(model).to(device), device)):
        anticipate = ActionAnticipationPipeline(model=each, video_processor=tiny_processor(), device=where)
        sequences = anticipate(frames, at=7.5, num_actions=3, num_sequences=27, **asked)
        scores = {tuple(action["label"] for action in entry["actions"]): entry["score"] for entry in sequences}
        spans = anticipate(frames, at=7.5, horizon_s=4.0, **asked)
        answers.append((scores, [(span["label"], span["ends_at_s"]) for span in spans]))
    assert answers[1][0] == pytest.approx(answers[0][0], abs=1e-4)
    assert answers[1][1] == answers[0][1]
    assert sum(answers[0][0].values()) == pytest.approx(1)


def test_a_stream_takes_no_more_memory_with_time(device):
    if device.type != "cuda":
        pytest.skip("only CUDA counts the memory that tensors take")
    stream = AVTStream(tiny_model(tiny_vit_config()).to(device), tiny_processor())
    taken = []
    for number in range(60):
        stream.push(np.full((48, 64, 3), number, dtype=np.uint8), float(number))
        taken.append(torch.cuda.memory_allocated(device))
    assert taken[-1] <= taken[20]


@pytest.mark.parametrize("kind", ["dinov2", "vjepa2"])
def test_features_are_those_of_the_cpu(kind, device, tmp_path):
    torch.manual_seed(0)
    AutoModel.from_config(tiny_encoder(kind)).save_pretrained(tmp_path)
    here, there = PretrainedEncoder(tmp_path), PretrainedEncoder(tmp_path, device=device)
    frames = torch.randn(8, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    positions = torch.arange(8).view(-1, here.num_frames)
    np.testing.assert_allclose(there(frames, positions), here(frames, positions), atol=1e-4, rtol=1e-4)


def test_a_teachers_logits_are_those_of_the_cpu(device, language_models):
    torch.manual_seed(0)
    texts = ["open fridge", "take egg", "cut tomato"]
    backbone = AutoConfig.from_pretrained(language_models["bert"])
    config = TextTeacherConfig(backbone_config=backbone, id2label=dict(enumerate(texts)), action_texts=texts)
    scorer = TeacherScorer(TextTeacher(config), load_tokenizer(language_models["bert"]))
    histories = [[0, 1, 2], [2], [], [1, 1, 0, 2]]
    expected = scorer.logits(histories)
    scorer.model.to(device)
    np.testing.assert_allclose(scorer.logits(histories), expected, atol=1e-4, rtol=1e-4)


@pytest.fixture(scope="module")
def kitchen(tmp_path_factory):
    folder = write_kitchen(tmp_path_factory.mktemp("kitchen") / "data")
    write_soft_labels(folder.parent / "soft.parquet", folder)
    return folder


def train(kitchen, folder, *options: str) -> Result:
    """Trains a student on features, with a teacher and without dropout."""
    model = {"head_hidden_size": 32, "head_num_layers": 2, "head_num_positions": 16, "initializer_range": 0.3}
    model |= {"head_dropout": 0.0, "classifier_dropout": 0.0}
    given = {"features": kitchen / "features", "soft_labels": kitchen.parent / "soft.parquet", "output_dir": folder}
    words = [word for name, value in given.items() for word in (f"--{name}", value)]
    return run_command("distill", kitchen / "run.yaml", *words, "--model_options", json.dumps(model), *options)


def scores_of_a_run(kitchen, folder, *options: str) -> np.ndarray:
    """Returns the scores `(N, A)` of validation rows after a run."""
    result = train(kitchen, folder, *options)
    assert result.returncode == 0, result.stderr
    (table,) = folder.glob("distilled_seed*/scores_validation.parquet")
    return ScoreTable.load(table).scores


@pytest.mark.parametrize(("bf16", "tolerance"), [("false", 1e-2), ("true", 0.2)])
def test_a_run_learns_what_it_learns_on_the_cpu(bf16, tolerance, device, kitchen, tmp_path):
    expected = scores_of_a_run(kitchen, tmp_path / "cpu", "--use_cpu", "true", "--bf16", "false")
    found = scores_of_a_run(kitchen, tmp_path / "accelerator", "--use_cpu", "false", "--bf16", bf16)
    np.testing.assert_allclose(found, expected, atol=tolerance)


def test_an_interrupted_run_on_the_accelerator_is_resumed(device, kitchen, tmp_path, monkeypatch):
    saving = ["--use_cpu", "false", "--bf16", "false", "--save_strategy", "epoch"]
    expected = scores_of_a_run(kitchen, tmp_path / "undisturbed", *saving)

    def interrupt(self, args, state, control, **kwargs):
        if state.epoch >= 2:
            raise KeyboardInterrupt

    with monkeypatch.context() as interrupted:
        interrupted.setattr("transformers.trainer_callback.TrainerCallback.on_epoch_begin", interrupt)
        assert train(kitchen, tmp_path / "run", *saving).returncode == 130
    assert not list((tmp_path / "run").glob("distilled_seed*/scores_validation.parquet"))
    np.testing.assert_allclose(scores_of_a_run(kitchen, tmp_path / "run", *saving), expected, atol=1e-4)

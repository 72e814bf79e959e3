"""Every committed run: its file parses, its model and data options exist, and its header contains its command.

Published students are built, without weights, at their true size: their parameters, moments, views, losses and
optimizers are compared with values from the literature, listed here.
"""

import json
import shlex
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace

import pandas as pd
import pytest
import torch
from accelerate.commands.config.config_args import load_config_from_file
from accelerate.commands.launch import _validate_launch_command, launch_command_parser
from accelerate.utils.launch import prepare_deepspeed_cmd_env
from helpers.commands import avt_distill
from helpers.places import PROJECT
from helpers.tiny_models import tiny_model
from tiny_kitchen import WIDTH, write_kitchen, write_tiny_vit, write_video_kitchen
from transformers import ViTConfig, ViTModel
from transformers.utils import is_torch_bf16_gpu_available

from avt_distill.commands.export_soft_labels import Arguments as SoftLabelRun
from avt_distill.commands.finetune_teacher import Arguments as TeacherRun
from avt_distill.data.builder import Annotations
from avt_distill.data.labels import LabelSpace
from avt_distill.data.loading import BUILDERS, dataset_builder
from avt_distill.features.backbones import load_backbone_processor
from avt_distill.losses import distillation_loss
from avt_distill.reader.arguments import ReaderArguments
from avt_distill.recipes.adaptation import AdaptationArguments
from avt_distill.runs.arguments import parse_run
from avt_distill.student import building
from avt_distill.student.arguments import RunArguments as StudentRun
from avt_distill.student.building import StudentInput, build_student, student_input
from avt_distill.student.trainer import DistillationTrainer
from modeling_avt import AVTConfig, AVTForAnticipation, AVTVideoProcessor

FOLDER = PROJECT / "configs"
LAUNCHERS = sorted((FOLDER / "accelerate").glob("*.yaml"))
NUM_PROCESSES = {"one_gpu": 1, "several_gpus": 4, "several_nodes": 32, "fsdp2": 4, "cpu_processes": 2}
NUM_PROCESSES |= {"deepspeed_zero2": 4, "deepspeed_zero3": 4}
CONFIGS = sorted(set(FOLDER.rglob("*.yaml")) - set(LAUNCHERS))
KINDS = {
    "teacher": TeacherRun,
    "adaptation": AdaptationArguments,
    "student": StudentRun,
    "avt": StudentRun,
    "reader": ReaderArguments,
    "video": StudentRun,
    "features": StudentRun,
}
SCRIPTS = {
    TeacherRun: "avt-distill finetune_teacher",
    AdaptationArguments: "avt-distill adapt_language_model",
    StudentRun: "run_distill.py",
    ReaderArguments: "avt-distill fit_reader",
}
# Options that the command line must add to a file.
GIVEN = {
    TeacherRun: [],
    AdaptationArguments: ["--model_name_or_path", "x", "--recipes", "y"],
    StudentRun: ["--soft_labels", "x"],
    ReaderArguments: ["--soft_labels", "x"],
}
NUM_ACTIONS = {"egtea": 106, "epic_kitchens_55": 2513, "epic_kitchens_100": 3806, "fifty_salads": 17}


@dataclass
class Published:
    """A student's settings according to Girdhar and Grauman (ICCV 2021) and Ghosh et al. (EACL 2023)."""

    frame_rate: float
    tau_a: float
    tau_o: float
    optimiser: type
    learning_rate: float  # per GPU
    weight_decay: float
    num_gpus: int
    batch_size: int  # per GPU
    epochs: int
    warmup_epochs: int
    dropout: float
    heads: int
    layers: int
    past_loss_weight: float | None  # `None`: past frames are not classified
    feature_loss_weight: float
    feature_dim: int | None  # `None`: frames through ViT-B/16
    million_parameters: float | None = None


SGD, ADAM = torch.optim.SGD, torch.optim.AdamW
EGTEA_AVT_B = Published(1, 0.5, 10, SGD, 5e-4, 1e-6, 32, 3, 10, 5, 0.2, 4, 2, 0.1, 1, None, 191.8)
EK55_IRCSN = Published(2, 1, 5, ADAM, 5e-6, 1e-4, 4, 32, 20, 0, 0.8, 8, 12, None, 2, 2048)
PUBLISHED = {
    "ek100/avt_b": Published(1, 1, 10, SGD, 1e-4, 1e-6, 32, 3, 50, 20, 0.2, 4, 6, 1, 1, None),
    "ek100/avt_tsn": Published(1, 1, 10, SGD, 1e-3, 1e-6, 2, 64, 50, 20, 0.2, 4, 6, 1, 1, 1024),
    "ek55/avt_tsn": Published(2, 1, 5, ADAM, 5e-6, 1e-4, 4, 32, 20, 5, 0.8, 8, 12, None, 2, 1024, 613.2),
    "ek55/avt_b": Published(1, 1, 20, SGD, 1e-4, 1e-4, 32, 3, 35, 5, 0.8, 4, 6, 1, 1, None, 395.1),
    "ek55/avt_ircsn": EK55_IRCSN,
    "ek55/student": EK55_IRCSN,
    "egtea/avt_tsn": Published(1, 0.5, 10, SGD, 1e-3, 1e-6, 2, 64, 15, 0, 0.8, 4, 2, 0.1, 1, 1024, 107.1),
    "egtea/avt_b": EGTEA_AVT_B,
    "egtea/student": EGTEA_AVT_B,
    "salads50/avt_b": Published(0.5, 1, 20, ADAM, 5e-7, 1e-4, 32, 2, 200, 20, 0.8, 8, 8, 1, 1, None),
}
# Temperature, number of compared classes, and the weight of the divergence itself (150 / 106, 20 / 50).
DISTILLED = {"egtea/student": (10.0, 106, 1.415), "ek55/student": (5.0, 50, 0.4)}


def kind_of(path):
    return next(arguments for name, arguments in KINDS.items() if path.stem.startswith(name))


def parsed(path, folder, *more: str):
    kind = kind_of(path)
    return parse_run(kind, [str(path), "--use_cpu", "--output_dir", str(folder), *GIVEN[kind], *more], description="")


def header_of(path) -> str:
    lines = path.read_text().splitlines()
    header = lines[: next(number for number, line in enumerate(lines) if not line.startswith("#"))]
    return "\n".join(line.removeprefix("#").strip() for line in header)


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: str(path.relative_to(FOLDER)))
def test_a_run_parses_and_its_header_has_its_command(path, tmp_path):
    kind = kind_of(path)
    command = f"{SCRIPTS[kind]} {path.relative_to(PROJECT)}"
    lines = header_of(path).replace("\\\n", "").splitlines()
    line = next((line for line in lines if command in line), "")
    assert line, f"the header does not say {command}"
    options = shlex.split(line.partition(command)[2].partition(";")[0])
    run = parse_run(kind, [str(path), *options, "--use_cpu", "--output_dir", str(tmp_path)], description="")
    if kind is not AdaptationArguments:
        names = [config.name for config in BUILDERS[run.dataset].BUILDER_CONFIGS]
        assert run.config_name is None or run.config_name in names
    if kind is TeacherRun:
        assert isinstance(run.label_weights, dict)


@pytest.fixture
def annotated(monkeypatch, tmp_path):
    """Returns a function that builds a run's data set with one segment and the benchmark's number of actions."""
    segment = pd.DataFrame({"uid": ["0"], "video_id": ["v"], "start_s": [30.0], "end_s": [31.0], "action": [0]})

    def builder_of(run):
        space = LabelSpace(tuple(map(str, range(NUM_ACTIONS[run.dataset]))))
        annotations = Annotations(space, {"train": segment, "validation": segment}, {"v": 30.0})
        monkeypatch.setattr(BUILDERS[run.dataset], "read_annotations", lambda self, folder: annotations)
        run.data_dir = str(tmp_path)
        return dataset_builder(run)

    return builder_of


TEXT_CONFIGS = [path for path in CONFIGS if path.stem in ("teacher", "adaptation")]


@pytest.mark.parametrize("path", TEXT_CONFIGS, ids=lambda path: str(path.relative_to(FOLDER)))
def test_a_run_parses_on_a_machine_without_bfloat16(path, tmp_path):
    """`use_cpu` is not given here, since the README's commands do not give it either."""
    kind = kind_of(path)
    run = parse_run(kind, [str(path), "--output_dir", str(tmp_path), *GIVEN[kind]], description="")
    assert run.bf16 in (False, is_torch_bf16_gpu_available())
    assert "bf16: true" not in path.read_text()


def test_counting_does_not_require_bfloat16(tmp_path):
    (tmp_path / "teacher.yaml").write_text("dataset: egtea\nbf16: true\nbf16_full_eval: true\n")
    argv = [str(tmp_path / "teacher.yaml"), "--output_dir", str(tmp_path)]
    for counts in (["--ngram", "2"], ["--log_linear", "true", "--cross_fit", "5"]):
        assert not parse_run(SoftLabelRun, [*argv, *counts], description="").bf16


@pytest.fixture
def vit_of_the_hub(monkeypatch, tmp_path):
    """ViT-B/16 without weights, and its preprocessing on the Hub."""
    square = {"size": {"height": 224, "width": 224}, "image_mean": [0.5] * 3, "image_std": [0.5] * 3}
    (tmp_path / "preprocessor_config.json").write_text(json.dumps({"rescale_factor": 1 / 255, **square}))
    asked_for = []

    def load_backbone(name, use_predictor):
        asked_for.append(name)
        with torch.device("meta"):
            return ViTModel(ViTConfig(), add_pooling_layer=False)

    monkeypatch.setattr(building, "load_backbone", load_backbone)
    monkeypatch.setattr(building, "load_backbone_config", lambda name: ViTConfig())
    monkeypatch.setattr(building, "load_backbone_processor", lambda name, vit: load_backbone_processor(tmp_path, vit))
    return asked_for


def built(run, builder, published: Published):
    """Returns the student of a run, without weights, and its input."""
    if published.feature_dim is None:
        seen = student_input(run, builder)
    else:
        seen = StudentInput(SimpleNamespace(feature_dim=published.feature_dim, path=Path("x")), None, {})
    with torch.device("meta"):
        return build_student(run, builder, seen), seen


@pytest.mark.parametrize("name", PUBLISHED)
def test_a_published_student_is_built_as_published(name, tmp_path, annotated, vit_of_the_hub):
    published = PUBLISHED[name]
    videos = ["--videos", str(tmp_path)] if published.feature_dim is None else ["--features", "x"]
    run = parsed(FOLDER / f"{name}.yaml", tmp_path, *videos)
    builder = annotated(run)
    assert (builder.config.protocol, builder.config.source) == (
        "avt",
        "video" if published.feature_dim is None else "features",
    )
    model, seen = built(run, builder, published)
    config = model.config
    moments = (published.frame_rate, published.tau_a, published.tau_o)
    assert (config.num_frames, config.frame_rate, config.tau_a, config.tau_o) == (10, *moments)
    head = (2048, published.layers, published.heads, published.dropout)
    assert (config.head_hidden_size, config.head_num_layers, config.head_num_heads, config.classifier_dropout) == head
    assert config.head_dropout == 0.1  # GPT-2's own
    assert config.num_classes == {"action": NUM_ACTIONS[run.dataset]}
    assert config.feature_loss_weight == published.feature_loss_weight
    assert config.classify_past == (published.past_loss_weight is not None)
    if config.classify_past:
        assert (config.past_loss_weight, config.past_loss_normalizer) == (published.past_loss_weight, "all")
    if published.million_parameters is not None:
        assert model.num_parameters() / 1e6 == pytest.approx(published.million_parameters, abs=0.1)
    if published.feature_dim is None:
        in21k = "-in21k" if run.dataset in ("epic_kitchens_100", "fifty_salads") else ""
        assert set(vit_of_the_hub) == {f"google/vit-base-patch16-224{in21k}"}
        own = {"num_frames": 10, "frame_rate": published.frame_rate, "tau_o": published.tau_o, "antialias": False}
        assert seen.processor.to_dict() == AVTVideoProcessor(**own).to_dict()
        assert seen.evaluation_views == {"num_crops": 3, "flip_views": True}
    else:
        assert run.feature_missing == "search_back"


@pytest.mark.parametrize("name", PUBLISHED)
def test_a_published_student_is_trained_as_published(name, tmp_path):
    """Compares optimizer and schedule as `Trainer` creates them, and the command's learning rate for all GPUs."""
    published = PUBLISHED[name]
    run = parsed(FOLDER / f"{name}.yaml", tmp_path)
    model = tiny_model()
    trainer = DistillationTrainer(model, run, data_collator=list)
    steps_per_epoch = 20
    steps = steps_per_epoch * published.epochs
    optimiser, schedule = trainer.create_optimizer(), trainer.create_scheduler(steps)
    assert type(optimiser) is published.optimiser
    classifier = model.classifiers["action"].weight
    weights = next(group for group in optimiser.param_groups if any(w is classifier for w in group["params"]))
    assert weights["weight_decay"] == published.weight_decay
    if published.optimiser is SGD:
        assert (weights["momentum"], weights["nesterov"]) == (0.9, True)
    rates = []
    for _ in range(steps):
        rates.append(optimiser.param_groups[0]["lr"])
        optimiser.step()
        schedule.step()
    highest = rates.index(max(rates))
    assert rates[highest] == pytest.approx(published.learning_rate, rel=1e-6)
    assert highest == pytest.approx(published.warmup_epochs * steps_per_epoch, abs=1)
    assert optimiser.param_groups[0]["lr"] == pytest.approx(5e-9 if name == "ek55/avt_b" else 0, abs=1e-12)
    assert (run.num_train_epochs, run.max_grad_norm) == (published.epochs, 0)
    assert run.per_device_train_batch_size == published.batch_size
    header = header_of(FOLDER / f"{name}.yaml")
    num_gpus = 8 if name == "egtea/student" else published.num_gpus  # the paper does not state the number
    assert f"--learning_rate {published.learning_rate * num_gpus:.1e}".replace("e-0", "e-") in header
    assert "not run here" in header
    if "several_nodes.yaml" not in header:
        assert f"several_gpus.yaml --num_processes {num_gpus} " in header


@pytest.mark.parametrize("name", PUBLISHED)
def test_the_weight_of_soft_labels_is_the_papers(name, tmp_path):
    run = parsed(FOLDER / f"{name}.yaml", tmp_path)
    if name not in DISTILLED:
        assert run.distill_weight == 0
        return
    temperature, num_compared, weight = DISTILLED[name]
    torch.manual_seed(0)
    student_logits, teacher_logits = torch.randn(2, 4, NUM_ACTIONS[run.dataset]).unbind()
    top_k = None if num_compared == NUM_ACTIONS[run.dataset] else num_compared
    given = distillation_loss(
        student_logits,
        teacher_logits,
        run.distill_temperature,
        top_k=run.distill_top_k,
        reduction=run.distill_reduction,
    )
    divergence = distillation_loss(student_logits, teacher_logits, temperature, top_k=top_k)
    assert (run.distill_weight * given / divergence).item() == pytest.approx(weight, abs=1e-3)


def test_every_published_student_has_its_file():
    found = {path.relative_to(FOLDER).with_suffix("").as_posix() for path in CONFIGS if path.stem.startswith("avt")}
    assert found == {name for name in PUBLISHED if "/avt_" in name}


@pytest.mark.parametrize("path", LAUNCHERS, ids=lambda path: path.name)
def test_accelerate_takes_a_launch_file(path):
    config = load_config_from_file(str(path))
    arguments = launch_command_parser().parse_args(["--config_file", str(path), "run_distill.py"])
    arguments, _, mixed_precision_from_file = _validate_launch_command(arguments)
    assert mixed_precision_from_file
    on_cpu = path.stem == "cpu_processes"
    assert arguments.mixed_precision == ("no" if on_cpu else "bf16")
    assert arguments.use_cpu == on_cpu
    assert arguments.num_processes == config.num_processes == NUM_PROCESSES[path.stem]
    assert arguments.num_machines == (4 if path.stem == "several_nodes" else 1)
    assert arguments.multi_gpu == (path.stem in ("several_gpus", "several_nodes", "cpu_processes"))
    assert arguments.use_fsdp == (path.stem == "fsdp2")
    assert arguments.use_deepspeed == path.stem.startswith("deepspeed")
    assert f"--config_file {path.relative_to(PROJECT)}" in header_of(path)


@pytest.mark.parametrize("stage", [2, 3])
def test_a_launch_file_of_deepspeed_sets_its_stage(stage):
    path = FOLDER / "accelerate" / f"deepspeed_zero{stage}.yaml"
    arguments = launch_command_parser().parse_args(["--config_file", str(path), "run_distill.py"])
    arguments, *_ = _validate_launch_command(arguments)
    arguments.deepspeed_fields_from_accelerate_config = ""
    _, variables = prepare_deepspeed_cmd_env(arguments)
    assert variables["ACCELERATE_USE_DEEPSPEED"] == "true"
    assert variables["ACCELERATE_DEEPSPEED_ZERO_STAGE"] == str(stage)
    assert variables["ACCELERATE_DEEPSPEED_OFFLOAD_OPTIMIZER_DEVICE"] == "none"
    if stage == 3:
        assert variables["ACCELERATE_DEEPSPEED_ZERO3_SAVE_16BIT_MODEL"] == "true"  # for from_pretrained


def test_the_blocks_that_are_divided_exist():
    config = load_config_from_file(str(FOLDER / "accelerate" / "fsdp2.yaml"))
    with torch.device("meta"):
        modules = {type(module).__name__ for module in AVTForAnticipation(AVTConfig(head_num_layers=1)).modules()}
    assert set(config.fsdp_config["fsdp_transformer_layer_cls_to_wrap"].split(",")) <= modules


@pytest.mark.parametrize("kind", ["features", "video"])
def test_user_data_train_with_a_folder_and_an_input(kind, tmp_path):
    if kind == "features":
        folder = write_kitchen(tmp_path / "my_data")
        seen, width = ["--features", folder / "features"], WIDTH
    else:
        folder = write_video_kitchen(tmp_path / "my_data")
        seen, width = ["--backbone", write_tiny_vit(tmp_path / "vit")], 32
    options = ["--data_dir", folder, *seen, "--cache_dir", tmp_path / "cache", "--num_train_epochs", 1, "--seeds", 0]
    avt_distill("distill", FOLDER / "own" / f"{kind}.yaml", *options, "--output_dir", tmp_path / "run", "--use_cpu")
    student = AVTForAnticipation.from_pretrained(tmp_path / "run" / "baseline_seed0")
    config = student.config
    assert (config.feature_dim, config.intermediate_dim, config.head_hidden_size) == (width, 64, 64)
    assert student.num_parameters() < 300_000
    assert (tmp_path / "run" / "frozen_features").exists() == (kind == "video")

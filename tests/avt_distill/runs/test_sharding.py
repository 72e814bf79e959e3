"""A model is divided among processes as requested, or the run is refused."""

from types import SimpleNamespace

import pytest
import torch
from accelerate.utils import DistributedType
from helpers.options import ALL, parse
from helpers.processes import WITH_THE_PROJECT
from transformers.integrations import deepspeed

from avt_distill.runs.sharding import LAUNCHED, asked_for, build_whole, check_made, check_saves_whole, whole

NOTHING = SimpleNamespace(fsdp=None, deepspeed=None)
FSDP, DEEPSPEED, MEGATRON = LAUNCHED


@pytest.fixture(autouse=True)
def no_launcher(monkeypatch):
    for name in LAUNCHED:
        monkeypatch.delenv(name, raising=False)


def accelerator(made: DistributedType, device="cpu", num_processes=2, zero=None):
    plugin = None if zero is None else SimpleNamespace(deepspeed_config={"zero_optimization": zero})
    return SimpleNamespace(
        distributed_type=made,
        device=torch.device(device),
        num_processes=num_processes,
        state=SimpleNamespace(deepspeed_plugin=plugin),
    )


def test_what_is_asked_for_comes_from_the_launcher_and_from_options(monkeypatch):
    assert asked_for(NOTHING) == []
    assert asked_for(SimpleNamespace(fsdp=True, deepspeed="zero.json")) == ["FSDP", "DEEPSPEED"]
    monkeypatch.setenv(FSDP, "true")
    monkeypatch.setenv(DEEPSPEED, "false")
    assert asked_for(NOTHING) == asked_for(SimpleNamespace(fsdp=True, deepspeed=None)) == ["FSDP"]


@pytest.mark.parametrize(
    ("variable", "made", "device", "message"),
    [
        (
            FSDP,
            DistributedType.MULTI_CPU,
            "cpu",
            r"^FSDP was asked for, but on the CPU Accelerate would train without it \(MULTI_CPU\), the whole model in "
            r"each of 2 processes: train on GPUs, or give .*cpu_processes\.yaml\.$",
        ),
        (DEEPSPEED, DistributedType.MULTI_CPU, "cpu", "^DeepSpeed was asked for, .*: unset ACCELERATE_USE_CPU"),
        (MEGATRON, DistributedType.MULTI_XPU, "xpu", "^Megatron-LM was asked for, but on this device, xpu, .*: corr"),
    ],
)
def test_what_accelerate_does_not_make_is_refused(variable, made, device, message, monkeypatch):
    check_made(NOTHING, accelerator(made, device))
    monkeypatch.setenv(variable, "true")
    check_made(NOTHING, accelerator(DistributedType(LAUNCHED[variable]), device))
    with pytest.raises(ValueError, match=message):
        check_made(NOTHING, accelerator(made, device))


def test_one_process_without_a_launcher_is_named(monkeypatch):
    with pytest.raises(ValueError, match=r"train without it \(NO\), the whole model in one process"):
        check_made(SimpleNamespace(fsdp=True, deepspeed=None), accelerator(DistributedType.NO, num_processes=1))


def test_a_model_that_would_be_saved_in_parts_is_refused():
    gathered = {"stage3_gather_16bit_weights_on_model_save": True}
    for zero in (None, {"stage": 2}, {"stage": 3, **gathered}):
        check_saves_whole(accelerator(DistributedType.DEEPSPEED, zero=zero))
    with pytest.raises(ValueError, match=r"which from_pretrained cannot read: set zero3_save_16bit_model"):
        check_saves_whole(accelerator(DistributedType.DEEPSPEED, zero={"stage": 3}))


def test_models_are_built_whole(monkeypatch):
    divided = SimpleNamespace(is_zero3=lambda: True)
    monkeypatch.setattr(deepspeed, "_hf_deepspeed_config_weak_ref", lambda: divided)
    assert deepspeed.is_deepspeed_zero3_enabled()
    build_whole()
    assert not deepspeed.is_deepspeed_zero3_enabled()
    weight = torch.nn.Parameter(torch.ones(2))
    with whole(weight) as values:
        assert values is weight


@pytest.mark.parametrize("kind", ALL)
def test_deepspeed_that_cannot_run_is_refused_before_anything_is_read(kind, tmp_path, monkeypatch):
    monkeypatch.setenv(DEEPSPEED, "true")
    is_installed = "avt_distill.runs.library_options.is_deepspeed_available"
    monkeypatch.setattr(is_installed, lambda: False)
    with pytest.raises(ValueError, match="Accelerate's file asks for DeepSpeed, but DeepSpeed is not installed: pip"):
        parse(kind, tmp_path)
    monkeypatch.setattr(is_installed, lambda: True)
    monkeypatch.setattr(torch.accelerator, "current_accelerator", lambda check_available: None)
    with pytest.raises(ValueError, match="there is no accelerator: to try it out on the CPU, give --use_cpu true"):
        parse(kind, tmp_path, "--use_cpu=false")


TRAIN = f"""{WITH_THE_PROJECT}
import torch
from transformers import TrainingArguments
from avt_distill.runs.training import ResumableTrainer

try:
    ResumableTrainer(torch.nn.Linear(1, 1), TrainingArguments("run", use_cpu=True, report_to=[]))
except ValueError as error:
    open(f"refused_{{__import__('os').environ['RANK']}}", "w").write(str(error))
"""


def test_fsdp_on_the_cpu_is_refused_by_every_trainer(fork_server, tmp_path):
    """Accelerate 1.15 falls back to plain data parallelism: if this fails, a release may support FSDP on the CPU."""
    fork_server.run_several(TRAIN, tmp_path, ACCELERATE_USE_FSDP="true", FSDP_VERSION="2")
    for rank in range(2):
        message = (tmp_path / f"refused_{rank}").read_text()
        assert message.startswith("FSDP was asked for, but on the CPU Accelerate would train without it (MULTI_CPU)")

"""Sharding models over processes with FSDP or DeepSpeed: as requested, or refused.

Accelerate 1.15 silently replaces FSDP on the CPU, and DeepSpeed if ACCELERATE_USE_CPU is set, with plain data
parallelism: each process then holds the whole model, which sharding is meant to avoid.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from transformers.utils.generic import strtobool

# The environment variables by which `accelerate launch` passes a configuration on, and the expected distributed type.
LAUNCHED = {
    "ACCELERATE_USE_FSDP": "FSDP",
    "ACCELERATE_USE_DEEPSPEED": "DEEPSPEED",
    "ACCELERATE_USE_MEGATRON_LM": "MEGATRON_LM",
}
NAMES = {"FSDP": "FSDP", "DEEPSPEED": "DeepSpeed", "MEGATRON_LM": "Megatron-LM"}


def asked_for(args: Any) -> list[str]:
    """Returns the requested kinds of sharding, from the launcher's environment variables and the options.

    Args:
        args (`TrainingArguments`): All options.
    """
    of_options = [kind for kind, given in (("FSDP", args.fsdp), ("DEEPSPEED", args.deepspeed)) if given]
    launched = [kind for name, kind in LAUNCHED.items() if strtobool(os.environ.get(name) or "false")]
    return list(dict.fromkeys([*launched, *of_options]))


def check_made(args: Any, accelerator: Any):
    """Raises a `ValueError` if Accelerate set up another kind of sharding than requested.

    Args:
        args (`TrainingArguments`): All options.
        accelerator (`Accelerator`): The accelerator of the trainer.
    """
    made = accelerator.distributed_type.value
    for kind in asked_for(args):
        if kind != made:
            one = "one process" if accelerator.num_processes == 1 else f"each of {accelerator.num_processes} processes"
            raise ValueError(
                f"{NAMES[kind]} was asked for, but on {_device(accelerator)} Accelerate would train without it "
                f"({made}), the whole model in {one}: {_otherwise(kind, accelerator)}."
            )


def check_saves_whole(accelerator: Any):
    """Raises a `ValueError` for DeepSpeed's ZeRO-3 if it would save no weights that `from_pretrained` reads."""
    plugin = getattr(accelerator.state, "deepspeed_plugin", None)
    zero = plugin.deepspeed_config.get("zero_optimization", {}) if plugin is not None else {}
    if zero.get("stage") == 3 and not zero.get("stage3_gather_16bit_weights_on_model_save"):
        raise ValueError(
            "DeepSpeed's ZeRO-3 would save the model in a part for each process, which from_pretrained cannot read: "
            "set zero3_save_16bit_model in Accelerate's file, or in DeepSpeed's "
            "stage3_gather_16bit_weights_on_model_save."
        )


def build_whole():
    """Makes transformers build whole models under ZeRO-3; DeepSpeed shards them when training begins.

    Transformers 5.23 would shard each pretrained part during construction, so AVT could no longer initialize its
    weights.
    """
    from transformers.integrations import unset_hf_deepspeed_config

    unset_hf_deepspeed_config()


@contextmanager
def whole(weights: torch.nn.Parameter) -> Iterator[torch.Tensor]:
    """Yields a whole weight, gathered from all processes under ZeRO-3. All processes must call this."""
    if not hasattr(weights, "ds_id"):
        yield weights
        return
    from deepspeed.runtime.zero import GatheredParameters  # pyright: ignore[reportMissingImports]

    with GatheredParameters([weights]):
        yield weights


def _device(accelerator: Any) -> str:
    kind = accelerator.device.type
    return "the CPU" if kind == "cpu" else f"this device, {kind},"


def _otherwise(kind: str, accelerator: Any) -> str:
    if accelerator.device.type != "cpu":
        return "correct Accelerate's file"
    plain = "give a configuration without it, such as configs/accelerate/cpu_processes.yaml"
    if kind == "DEEPSPEED":
        return f"unset ACCELERATE_USE_CPU and keep --use_cpu true, or {plain}"
    return f"train on GPUs, or {plain}"

"""Checks of options for other libraries, which these would refuse with a traceback, or ignore silently.

`check_given` checks mappings, and the files that may replace them, before transformers completes them;
`check_built` builds the optimizer and the learning rate's schedule of one weight, before anything is read or trained.
"""

import copy
import json
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import fields
from pathlib import Path
from typing import Any

import torch
from accelerate.utils import GradientAccumulationPlugin
from torch.optim.lr_scheduler import LambdaLR
from torch.utils.checkpoint import checkpoint
from transformers import SchedulerType, Trainer, TrainingArguments, get_scheduler
from transformers.integrations import get_available_reporting_integrations, is_deepspeed_available
from transformers.integrations.integration_utils import INTEGRATION_TO_CALLBACK
from transformers.trainer_pt_utils import AcceleratorConfig

from .arguments import closest, mapping
from .sharding import asked_for, build_whole
from .texts import read_user_text

OF_FILES = ("accelerator_config", "deepspeed", "fsdp_config")  # whose text is JSON or a file's name
FLAGS = (True, False, None, "true", "false")  # transformers converts the text values to flags
WITHOUT_ARGUMENTS = (SchedulerType.CONSTANT, SchedulerType.CONSTANT_WITH_WARMUP)  # silently ignore their arguments
OF_WHOLE_MODELS = ("galore", "apollo", "lomo", "adalomo")  # prefixes of optimizers that need a model's layers
REPORTERS = ("trackio", "tensorboard", "wandb")  # if not installed, Trainer fails only after all data have been read
# Newer releases of transformers replace the second with the first.
_OF_RECOMPUTING = ("activation_checkpointing_kwargs", "gradient_checkpointing_kwargs")
RECOMPUTING = next(name for name in _OF_RECOMPUTING if name in TrainingArguments.__dataclass_fields__)
STEPS = 4  # steps to try, since schedules evaluate some arguments only then
UNREADABLE = "?"  # invalid value of an optimizer's argument: if it is used, it raises


def check_given(args: TrainingArguments):
    """Raises a `ValueError` for invalid mappings, missing files, and unknown names.

    Args:
        args (`TrainingArguments`): All options, as they were given.
    """
    given = {name: _mapping_of(name, getattr(args, name, None)) for name in args._VALID_DICT_FIELDS}
    if "DEEPSPEED" in asked_for(args):
        _check_deepspeed(args)
    if args.fsdp_config and not args.fsdp:
        raise ValueError(f"fsdp_config is {args.fsdp_config!r}, which is not used without fsdp: give both, or neither.")
    accelerator = given["accelerator_config"]
    _check_names("accelerator_config", accelerator, [field.name for field in fields(AcceleratorConfig)])
    for name, value in accelerator.items():
        if name != "gradient_accumulation_kwargs" and value not in FLAGS:
            raise ValueError(f"accelerator_config.{name} is {value!r}: give true or false.")
    name = "accelerator_config.gradient_accumulation_kwargs"
    accumulation = mapping(name, accelerator.get("gradient_accumulation_kwargs"))
    _check_names(name, accumulation, [field.name for field in fields(GradientAccumulationPlugin)])


def check_built(args: TrainingArguments):
    """Raises a `ValueError` for an optimizer, schedule or recomputation that cannot be built, or that ignores options.

    It also reverts a side effect of transformers under ZeRO-3 (see `sharding.build_whole`), and turns off memory
    pinning on a CPU, where PyTorch would warn at every data loader.

    Args:
        args (`TrainingArguments`): All options, as transformers completed them.
    """
    build_whole()
    if args.use_cpu or torch.accelerator.current_accelerator(check_available=True) is None:
        args.dataloader_pin_memory = False
    _check_reports(args)
    _check_schedule(args)
    _check_optimizer(args)
    recomputing = mapping(RECOMPUTING, getattr(args, RECOMPUTING))
    if recomputing:
        with _named(f"{RECOMPUTING} is {recomputing}"):
            checkpoint(
                torch.nn.Identity(), torch.zeros(1, requires_grad=True), **{"use_reentrant": False, **recomputing}
            )


def _check_deepspeed(args: TrainingArguments):
    given = f"deepspeed is {args.deepspeed!r}" if args.deepspeed else "Accelerate's file asks for DeepSpeed"
    if not is_deepspeed_available():
        raise ValueError(f"{given}, but DeepSpeed is not installed: pip install deepspeed.")
    if not args.use_cpu and torch.accelerator.current_accelerator(check_available=True) is None:
        raise ValueError(f"{given}, but there is no accelerator: to try it out on the CPU, give --use_cpu true.")


def _mapping_of(name: str, value: Any) -> dict[str, Any]:
    """Returns the mapping of an option, given directly, as JSON or in a file; empty for a finished configuration
    object."""
    if not isinstance(value, (dict, str)):
        return {}
    if name not in OF_FILES or isinstance(value, dict) or value.startswith("{"):
        return mapping(name, value)
    if not Path(value).is_file():
        raise ValueError(f"{name} is '{value}', and there is no such file: give a JSON file, or a JSON object.")
    try:
        return mapping(name, json.loads(read_user_text(value)))
    except json.JSONDecodeError as error:
        raise ValueError(f"{name} is '{value}', which is no JSON ({error}): correct the file.") from error


def _check_names(option: str, given: Iterable[str], known: list[str]):
    for name in given:
        if name not in known:
            raise ValueError(f"{option} has '{name}': {closest(name, known, otherwise=f'known are {known}.')}")


def _check_reports(args: TrainingArguments):
    given = [args.report_to] if isinstance(args.report_to, str) else args.report_to or []
    _check_names("report_to", given, list(INTEGRATION_TO_CALLBACK))
    for name in REPORTERS:
        if name in given and name not in get_available_reporting_integrations():
            raise ValueError(f"report_to is '{name}', which is not installed: pip install {name}.")


def _check_schedule(args: TrainingArguments):
    kind, given = SchedulerType(args.lr_scheduler_type), mapping("lr_scheduler_kwargs", args.lr_scheduler_kwargs)
    if given and kind in WITHOUT_ARGUMENTS:
        raise ValueError(
            f"lr_scheduler_kwargs is {given}, but lr_scheduler_type '{kind.value}' takes none: leave it out."
        )
    optimizer = torch.optim.SGD([torch.zeros(1)], lr=args.learning_rate)
    with _named(f"lr_scheduler_type is '{kind.value}' with lr_scheduler_kwargs {given}"):
        schedule = get_scheduler(
            kind, optimizer, num_warmup_steps=0, num_training_steps=STEPS, scheduler_specific_kwargs=given
        )
        for _ in range(STEPS if isinstance(schedule, LambdaLR) else 0):  # others follow a metric
            optimizer.step()
            schedule.step()


def _check_optimizer(args: TrainingArguments):
    names = _names_of_arguments(args.optim_args)
    name = getattr(args.optim, "value", args.optim)
    if name.startswith(OF_WHOLE_MODELS):
        return
    with _named(f"optim is '{name}' with optim_args {args.optim_args!r}"):
        optimizer, arguments = Trainer.get_optimizer_cls_and_kwargs(args)
        if names:
            optimizer([torch.nn.Parameter(torch.zeros(1))], **arguments)
    for argument in names:
        if not _is_read(args, argument):
            raise ValueError(f"optim_args has '{argument}', which optim '{name}' does not read: leave it out.")


def _names_of_arguments(text: str | None) -> list[str]:
    pairs = [pair.split("=") for pair in text.replace(" ", "").split(",")] if text else []
    if any(len(pair) != 2 or not all(pair) for pair in pairs):
        raise ValueError(f"optim_args is '{text}': give name=value, several separated by commas.")
    return [name for name, _ in pairs]


def _is_read(args: TrainingArguments, name: str) -> bool:
    """Returns whether the optimizer uses an argument: then an invalid value raises, or changes the optimizer."""
    alone, without = copy.copy(args), copy.copy(args)
    alone.optim_args, without.optim_args = f"{name}={UNREADABLE}", None
    try:
        return Trainer.get_optimizer_cls_and_kwargs(alone) != Trainer.get_optimizer_cls_and_kwargs(without)
    except (TypeError, ValueError, AttributeError):
        return True


@contextmanager
def _named(options: str) -> Iterator[None]:
    """Converts another library's error about options to a `ValueError` that names the options."""
    try:
        yield
    except (TypeError, ValueError, ArithmeticError, AttributeError, LookupError, ImportError) as error:
        reason = " ".join(str(error).split()).rstrip(".")
        raise ValueError(f"{options}, which cannot be used ({reason}): correct it, or leave it out.") from error

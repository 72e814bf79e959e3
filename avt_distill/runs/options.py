"""Checks of the options of all commands that train: numbers in range, and no options without effect."""

from collections.abc import Collection, Mapping
from typing import Any

from modeling_avt.rules_avt import Number, OrNone, WholeNumber, shown
from modeling_avt.temporal_avt import TIME_RULES

SEED = WholeNumber(least=0, most=2**32 - 1)
RATE = Number(least=0)
POSITIVE = Number(above=0)
SHARE = Number(least=0, below=1)
COUNT = WholeNumber(least=1)
RATE_OR_NONE = OrNone(RATE)
COUNT_OR_NONE = OrNone(COUNT)
COUNT_OR_0 = WholeNumber(least=0)
NUM_FUTURE_ACTIONS = WholeNumber(least=0, most=1024)  # that rows carry
COUNT_OR_ALL = WholeNumber(least=-1)  # -1 for all
# Of `TrainingArguments`.
RULES = {
    "learning_rate": RATE,
    "weight_decay": RATE,
    "max_grad_norm": OrNone(RATE),
    "warmup_steps": Number(least=0),
    "num_train_epochs": RATE,
    "adam_beta1": SHARE,
    "adam_beta2": SHARE,
    "adam_epsilon": Number(above=0),
    "per_device_train_batch_size": COUNT,
    "per_device_eval_batch_size": COUNT,
    "gradient_accumulation_steps": COUNT,
    "dataloader_num_workers": COUNT_OR_0,
    "seed": SEED,
    "data_seed": OrNone(SEED),
}
# Options that none of this project's trainers reads, or that would change metrics, with the only accepted value and the
# reason.
UNUSED = {
    "label_smoothing_factor": (0, "this loss uses the labels themselves"),
    "label_names": (None, "the trainer sets its own labels"),
    "prediction_loss_only": (False, "metrics need predictions"),
    "include_for_metrics": ([], "metrics are computed from scores"),
    "batch_eval_metrics": (False, "metrics are of whole splits"),
    "eval_do_concat_batches": (True, "metrics are of whole splits"),
    "do_train": (False, "what is done is decided by the command"),
    "do_eval": (False, "what is done is decided by the command"),
    "do_predict": (False, "what is done is decided by the command"),
}


def refuse_unused(args: Any, more: Mapping[str, tuple[Any, str]] | None = None, *, used: Collection[str] = ()):
    """Raises a `ValueError` for options that are set but have no effect. Call it before transformers completes them.

    Args:
        args (`TrainingArguments`): All options, as they were given.
        more (`Mapping`, *optional*): Further options, in the form of `UNUSED`.
        used (collection of `str`, *optional*): Options in `UNUSED` that this trainer does read.
    """
    for name, (accepted, reason) in {**UNUSED, **(more or {})}.items():
        value = getattr(args, name)
        if name in used:
            continue
        if value != accepted and value not in (None, [], "", "no"):
            raise ValueError(f"{name} is not used here (given: {shown(value)}): {reason}, so leave it out.")


def check_numbers(args: Any, rules: Mapping[str, Any] | None = None):
    """Raises a `ValueError` for numbers that are out of range or not finite, including those in mappings and lists.

    Args:
        args (`TrainingArguments`): All options.
        rules (`Mapping`, *optional*): Rules for options in addition to those for `TrainingArguments`, by name.
    """
    for name, value in vars(args).items():
        if name in TIME_RULES:  # options of a data set, which are checked there
            OrNone(TIME_RULES[name])(name, value)
        elif not name.startswith("_"):
            _check_finite(name, value)
    for name, rule in {**RULES, **(rules or {})}.items():
        rule(name, getattr(args, name))
    if args.max_steps != -1:
        COUNT("max_steps", args.max_steps)


def refuse_no_training(args: Any, harm: str):
    """Raises a `ValueError` if a run would not train at all.

    Args:
        args (`TrainingArguments`): All options.
        harm (`str`): The consequence, for the message.
    """
    if not args.num_train_epochs and args.max_steps <= 0:
        raise ValueError(f"num_train_epochs is {args.num_train_epochs:g}: {harm}, so give more than 0.")


def _check_finite(name: str, value: Any):
    if isinstance(value, float):
        Number()(name, value)
    elif isinstance(value, Mapping):
        for key, item in value.items():
            _check_finite(f"{name}.{key}", item)
    elif isinstance(value, (list, tuple)):
        for item in value:
            _check_finite(name, item)

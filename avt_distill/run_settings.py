"""What decides which model comes out of a training, kept beside it: a folder is gone on with only by the same run."""

import json
from pathlib import Path

SETTINGS = "settings.json"  # written when training starts
# Of `TrainingArguments`, what changes the weights that come out.
DECISIVE = (
    "seed",
    "data_seed",
    "bf16",
    "fp16",
    "learning_rate",
    "lr_scheduler_type",
    "lr_scheduler_kwargs",
    "warmup_steps",
    "weight_decay",
    "max_grad_norm",
    "num_train_epochs",
    "max_steps",
    "adam_beta1",
    "adam_beta2",
    "adam_epsilon",
    "optim",
    "optim_args",
    "train_sampling_strategy",
    "metric_for_best_model",
    "load_best_model_at_end",
)


def keep_settings(folder: Path, settings: dict, *, should_save: bool, what: str):
    """Writes the settings of a training that begins in a folder, or checks that one there has the same.

    Args:
        folder (`Path`): The training's.
        settings (`dict`): What decides about the weights; anything that JSON holds.
        should_save (`bool`): Whether this process is the one that writes.
        what (`str`): What lies in the folder, for the error: "a teacher".

    Raises:
        ValueError: where settings differ, naming the first and listing all.
    """
    settings, path = json.loads(json.dumps(settings)), folder / SETTINGS
    if not path.exists():
        if should_save:
            folder.mkdir(parents=True, exist_ok=True)
            path.write_text(json.dumps(settings, indent=1) + "\n")
        return
    found = json.loads(path.read_text())
    if different := [name for name in settings if found.get(name) != settings[name]]:
        name = different[0]
        raise ValueError(
            f"{folder} holds {what} with {name} {found.get(name)!r}, not {settings[name]!r} (all that differ: "
            f"{different}): give another output_dir, or delete that one."
        )

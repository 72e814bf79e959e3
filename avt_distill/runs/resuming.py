"""Finding the checkpoint of a `Trainer` from which training resumes to exactly the same weights."""

import json
import logging
import zipfile
from dataclasses import dataclass
from pathlib import Path
from pickle import UnpicklingError

from safetensors import SafetensorError, safe_open

logger = logging.getLogger(__name__)

# Names from transformers, copied because importing it takes seconds, and not every command needs it.
STATE, STATES = "trainer_state.json", {"optimizer.pt": "optimizer*", "scheduler.pt": "scheduler.pt"}
WEIGHTS = ("*model*.safetensors", "pytorch_model*", "adapter_model*")
PICKLED = ("*.pt", "*.pth", "pytorch_model*.bin")
DEEPSPEED = "latest"  # file in DeepSpeed's checkpoints that names the folder with the processes' parts
# Classes that DeepSpeed 0.19 pickles in addition to tensors and numbers.
OF_DEEPSPEED = {
    "deepspeed.runtime.fp16.loss_scaler.DynamicLossScaler",
    "deepspeed.runtime.fp16.loss_scaler.LossScaler",
    "deepspeed.runtime.zero.config.ZeroStageEnum",
    "deepspeed.utils.tensor_fragment.fragment_address",
}


def last_whole_checkpoint(folder: str | Path, num_processes: int = 1) -> str | None:
    """Returns the newest of a `Trainer`'s checkpoints in a folder from which training resumes, or `None`.

    Checkpoints that were interrupted mid-write or hold weights that are not finite are skipped. `Trainer` writes
    `trainer_state.json` after the weights, the optimizer, the scheduler and the random state of its process.

    Args:
        folder (`str` or `Path`): The `output_dir`.
        num_processes (`int`, *optional*, defaults to 1): Processes that train; each has a random state.

    Raises:
        ValueError: If no checkpoint can be resumed and one was written to its end: without the state of optimizer,
            scheduler or random numbers, or by another number of processes, training would end with other weights.
    """
    checkpoints = [path for path in Path(folder).glob("checkpoint-*") if path.name.rpartition("-")[2].isdigit()]
    refused = None
    for checkpoint in sorted(checkpoints, key=lambda path: int(path.name.rpartition("-")[2]), reverse=True):
        problem = problem_of(checkpoint, num_processes)
        if problem is None:
            if refused:
                logger.warning("%s: %s is used.", refused, checkpoint)
            return str(checkpoint)
        if problem.is_passed_over:
            logger.warning("%s %s: an earlier one is used, or training starts again.", checkpoint, problem.reason)
        elif refused is None:
            refused = f"{checkpoint} {problem.reason}"
    if refused:
        raise ValueError(f"{refused}: delete the checkpoints in {folder} to start again, or give another output_dir.")
    return None


def check_resumable(checkpoint: str | Path, num_processes: int = 1):
    """Raises a `ValueError` unless training resumes from a checkpoint to the same weights."""
    if not Path(checkpoint).is_dir():
        raise ValueError(f"resume_from_checkpoint is {checkpoint}, which is no folder: give a checkpoint's folder.")
    if (problem := problem_of(Path(checkpoint), num_processes)) is not None:
        raise ValueError(f"{checkpoint} {problem.reason}: give another checkpoint, or start again.")


@dataclass(frozen=True)
class Problem:
    """Why a checkpoint cannot be resumed; `is_passed_over` if an earlier one, or a restart, gives the same result."""

    reason: str
    is_passed_over: bool


def problem_of(checkpoint: Path, num_processes: int) -> Problem | None:
    """Returns why training does not resume from a checkpoint to the same weights, or `None`."""
    try:
        json.loads((checkpoint / STATE).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return Problem("was interrupted mid-write and cannot be resumed", is_passed_over=True)
    for path in sorted(checkpoint.iterdir()):
        if not _is_whole(path):
            return Problem(f"was cut off in {path.name} and cannot be resumed", is_passed_over=True)
        if any(path.match(pattern) for pattern in PICKLED) and path.is_file() and not _is_plain(path):
            reason = f"holds more than tensors and numbers in {path.name}, which could run code and is not loaded"
            return Problem(reason, is_passed_over=False)
    states = {path.name for path in checkpoint.glob("rng_state*.pth")}
    wanted = {"rng_state.pth"} if num_processes == 1 else {f"rng_state_{rank}.pth" for rank in range(num_processes)}
    if states and states < wanted:
        return Problem(f"lacks the random state of {len(wanted - states)} processes", is_passed_over=True)
    if states and states != wanted:
        return Problem(
            f"was saved by {len(states)} processes, not by {num_processes}, which would end with other weights",
            is_passed_over=False,
        )
    missing = [name for name in ("rng_state.pth",) if not states]
    if (checkpoint / DEEPSPEED).exists():
        if (problem := _problem_of_parts(checkpoint, num_processes)) is not None:
            return problem
    else:
        missing += [name for name, pattern in STATES.items() if not any(checkpoint.glob(pattern))]
        if not any(path for pattern in WEIGHTS for path in checkpoint.glob(pattern)):
            missing.append("model.safetensors")
    if missing:
        reason = f"has no {', '.join(missing)} (save_only_model leaves them out): training would end with other weights"
        return Problem(reason, is_passed_over=False)
    if not _is_finite(checkpoint):
        return Problem("holds weights that are not finite", is_passed_over=True)
    return None


def _problem_of_parts(checkpoint: Path, num_processes: int) -> Problem | None:
    """Returns why DeepSpeed does not load a checkpoint that it saved in parts, one of each process, or `None`."""
    parts = checkpoint / (checkpoint / DEEPSPEED).read_text(encoding="utf-8").strip()
    optimizers = len([*parts.glob("*_optim_states.pt")])
    if optimizers < num_processes or not any(parts.glob("*_model_states.pt")):
        reason = f"lacks parts of weights or optimizer in {parts.name} and cannot be resumed"
        return Problem(reason, is_passed_over=True)
    if optimizers > num_processes:
        reason = f"was saved by {optimizers} processes, not by {num_processes}, which would end with other weights"
        return Problem(reason, is_passed_over=False)
    for path in sorted(parts.glob("*.pt")):
        name = f"{parts.name}/{path.name}"
        if not _is_whole(path):
            return Problem(f"was cut off in {name} and cannot be resumed", is_passed_over=True)
        if others := _names_of_code(path) - OF_DEEPSPEED:
            reason = f"holds {min(others)} in {name}, which could run code and is not loaded"
            return Problem(reason, is_passed_over=False)
    return None


def _names_of_code(path: Path) -> set[str]:
    """Returns the names that unpickling a torch file would import, except those of tensors and numbers, without loading
    it."""
    import torch  # seconds to import

    return set(torch.serialization.get_unsafe_globals_in_checkpoint(path))


def _is_finite(checkpoint: Path) -> bool:
    """Returns whether all weights in safetensors files are finite."""
    import torch  # seconds to import

    for path in checkpoint.glob("*.safetensors"):
        with safe_open(path, framework="pt") as file:
            if not all(torch.isfinite(file.get_tensor(name)).all() for name in file.keys()):  # noqa: SIM118, no mapping
                return False
    return True


def _is_plain(path: Path) -> bool:
    """Returns whether a torch file holds only tensors, numbers and text, without running any code from it."""
    import torch  # seconds to import
    from transformers.trainer_pt_utils import safe_globals

    try:
        with safe_globals():  # also permits the arrays of NumPy's random state
            torch.load(path, map_location="meta", mmap=True, weights_only=True)
    except UnpicklingError:
        return False
    return True


def _is_whole(path: Path) -> bool:
    """Returns whether a file written by torch or safetensors is complete; `True` for other files."""
    if path.suffix in (".pt", ".pth"):
        return path.is_dir() or zipfile.is_zipfile(path)
    if path.suffix == ".safetensors":
        try:
            with safe_open(path, framework="numpy"):
                return True
        except SafetensorError:
            return False
    return True

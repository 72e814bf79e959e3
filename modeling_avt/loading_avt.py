"""Loading with checks: a model is returned only with all weights of its checkpoint and no others.

Transformers initializes missing weights at random and drops unexpected ones, both with only a warning: the answers of
such a model look like those of a trained one.
"""

import json
import zipfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from transformers import PreTrainedModel
from transformers.utils import CONFIG_NAME, cached_file

from .numbers_avt import check_weights

SHOWN = 3  # names of weights in a message
OTHER_SIZES = "give the config.json that was saved with them"
# Training wrappers, by the prefix that each adds to the names of weights.
WRAPPERS = {
    "module.": "it was saved from DistributedDataParallel or DataParallel: save model.module",
    "_orig_mod.": "it was saved from torch.compile: save model._orig_mod",
}


def load_whole(
    load: Callable[..., Any],
    source,
    *args,
    new: Sequence[str] | None = (),
    left_out: Sequence[str] | None = (),
    advice: str = OTHER_SIZES,
    **kwargs,
) -> Any:
    """Returns the model that `load` creates from a checkpoint, with every weight taken from the checkpoint.

    Args:
        load (`Callable`): `from_pretrained` of a model or auto class.
        source (`str` or `Path`): A folder, or a name on the Hub.
        args, kwargs: Passed to `load`.
        new (sequence of `str`, *optional*): Beginnings of names of weights that may be missing or of another size,
            because the caller reinitializes or does not use them. `None`: all outside of the base model, such as the
            head of a language model. Default: none.
        left_out (sequence of `str`, *optional*): Beginnings of names of weights in the checkpoint that the caller does
            not need. `None`: all outside of the base model. Default: none.
        advice (`str`, *optional*): The next step if weights have other sizes than the configuration says.

    Raises:
        ValueError: If weights are missing, left over, of other sizes or not finite.
        OSError: If a file is damaged, with its name; also if `load` does not find the checkpoint.
    """
    model, report = load_with_report(load, source, *args, advice=advice, **kwargs)
    check_loaded(model, report, source, new=new, left_out=left_out)
    return model


def load_with_report(load: Callable[..., Any], source, *args, advice: str = OTHER_SIZES, **kwargs) -> tuple:
    """Returns a model and transformers' loading report, unchecked; see `load_whole`."""
    try:
        return load(source, *args, output_loading_info=True, **kwargs)
    except Exception as error:
        # Not `except SafetensorError`: remote code must not import safetensors. None of these errors names the file.
        file = _damaged_file(source)
        if type(error).__name__ == "SafetensorError" or file is not None:
            why = _first_line(error) if file is None else f"{file.name}: {_first_line(error)}"
            raise OSError(
                f"The weights of {source} cannot be read ({why}): the file is damaged, or was cut off while being "
                "written, copied or downloaded. Fetch it again."
            ) from error
        if not isinstance(error, RuntimeError) or "ignore_mismatched_sizes" not in str(error):
            raise
        raise ValueError(
            f"The weights of {source} do not fit its configuration (sizes in the report above): {advice}."
        ) from error


def check_loaded(
    model: PreTrainedModel,
    report: Mapping[str, Any],
    source,
    *,
    new: Sequence[str] | None = (),
    left_out: Sequence[str] | None = (),
    other_sizes: Sequence[str] = ("",),
):
    """Raises `ValueError` unless a model has all weights of its checkpoint and no others, and they are finite.

    Args:
        model (`PreTrainedModel`): The loaded model.
        report (mapping): The report that `from_pretrained(..., output_loading_info=True)` returns with the model.
        source, new, left_out: See `load_whole`.
        other_sizes (sequence of `str`, *optional*): Beginnings of names of weights that may have been reinitialized
            because their sizes differ, if `ignore_mismatched_sizes` was passed. Default: all.
    """
    missing = [name for name in sorted(report["missing_keys"]) if not _may_be_new(name, model, new)]
    # (name, its size in the checkpoint, its size in the model) each
    missing += sorted(name for name, *_ in report["mismatched_keys"] if not name.startswith(tuple(other_sizes)))
    others = [name for name in sorted(report["unexpected_keys"]) if not _may_be_left_out(name, model, left_out)]
    if not missing and not others:
        check_weights(model, f"'{source}'")
        return
    kind, problems = type(model).__name__, []
    if missing:
        problems.append(f"lacks {_counted(missing)} of {kind}, such as {_some(missing)}, which would be random")
    if others:
        problems.append(f"holds {_counted(others)} that {kind} does not have, such as {_some(others)}")
    raise ValueError(f"'{source}' {', and '.join(problems)}: {_advice(missing, others)}.")


def _may_be_new(name: str, model: PreTrainedModel, new: Sequence[str] | None) -> bool:
    if new is not None:
        return name.startswith(tuple(new))
    return model.base_model is not model and not name.startswith(f"{model.base_model_prefix}.")


def _may_be_left_out(name: str, model: PreTrainedModel, left_out: Sequence[str] | None) -> bool:
    if left_out is not None:
        return name.startswith(tuple(left_out))
    base, prefix = model.base_model, f"{model.base_model_prefix}."
    if base is not model and not name.startswith(prefix):
        return True
    part = name.removeprefix(prefix).partition(".")[0]
    # Parameters used in pretraining only, such as a mask token, often sit in a shared layer: they are neither weight
    # nor bias.
    return part not in dict(base.named_children()) or not name.endswith((".weight", ".bias"))


def _advice(missing: list[str], others: list[str]) -> str:
    """Returns the advice that ends the error message."""
    for prefix, advice in WRAPPERS.items():
        if others and all(prefix in name for name in others):
            return f"{advice} with save_pretrained, or take '{prefix}' off the names"
    if missing and any(name.endswith(".q_bias") for name in others):
        of_old = "transformers 5.6 to 5.17 do not read VideoMAE's attention biases"
        return f"{of_old}, so use another release: pip install --upgrade 'transformers>=5.18'"
    if missing and any(name.endswith(f".{absent}") for name in others for absent in missing):
        return "it was saved from what wraps the model: save the model itself with save_pretrained"
    return "give a whole checkpoint, as save_pretrained wrote it, with its own config.json"


def _counted(names: list[str]) -> str:
    return f"{len(names)} {'weight' if len(names) == 1 else 'weights'}"


def _some(names: list[str]) -> str:
    return ", ".join(f"'{name}'" for name in names[:SHOWN])


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]


def _damaged_file(source) -> Path | None:
    """Returns the first incomplete weights file of a checkpoint, or `None`."""
    try:
        folder = Path(source)
        if not folder.is_dir():
            folder = Path(str(cached_file(str(source), CONFIG_NAME, local_files_only=True))).parent
        files = sorted(folder.glob("*.safetensors")) or sorted(folder.glob("pytorch_model*.bin"))
        return next((path for path in files if not _is_complete(path)), None)
    except (OSError, TypeError, ValueError):  # no local files to inspect: the first error is raised
        return None


def _is_complete(path: Path) -> bool:
    """Whether a weights file is complete; only the header of a safetensors file is read."""
    if path.suffix == ".bin":
        return zipfile.is_zipfile(path)  # its table of contents is at the end
    size = path.stat().st_size
    with open(path, "rb") as file:
        header_size = int.from_bytes(file.read(8), "little")
        if header_size > size - 8:
            return False
        try:
            header = json.loads(file.read(header_size))
            end = max((t["data_offsets"][1] for name, t in header.items() if name != "__metadata__"), default=0)
        except (ValueError, KeyError, AttributeError, TypeError):
            return False
    return size == 8 + header_size + end

"""Digests of everything that determines a result (options, files and tables), which are stored with the result.

A folder is resumed, or its results reused, only if all of these are equal.
"""

import hashlib
import json
import zipfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

# Files of up to this many bytes in all are read whole.
WHOLE_BYTES = 2**30
# For more bytes, each file's size and this many evenly spread blocks are used.
NUM_BLOCKS = 32
BLOCK_BYTES = 2**16
WEIGHTS, OF_WEIGHTS = ("model", "pytorch_model"), (".safetensors", ".bin")  # how names of files of weights begin, end
CONFIGURATION = (".json", ".yaml", ".txt", ".model")  # other files of a checkpoint
# Records of training and metrics, which are not part of the model.
RECORDS = (
    "adaptation.json",
    "calibrated.json",
    "reader_comparison.json",
    "results.json",
    "settings.json",
    "training.json",
)
RECORDS += ("trainer_state.json", "training_args.bin")
# `TrainingArguments` that do not affect weights: output, logging, pushing, communication. All others do, including any
# that later versions of transformers add, and `dataloader_persistent_workers`, which changes how many worker seeds are
# drawn between those of dropout. The distribution of rows over processes and accumulated batches is reduced to one
# number, `batch_size`: see the README on the effect of dropout.
HARMLESS = frozenset(
    {
        "output_dir",
        "per_device_train_batch_size",
        "gradient_accumulation_steps",
        "per_device_eval_batch_size",
        "eval_accumulation_steps",
        "eval_do_concat_batches",
        "eval_use_gather_object",
        "batch_eval_metrics",
        "prediction_loss_only",
        "include_for_metrics",
        "logging_strategy",
        "logging_steps",
        "logging_first_step",
        "logging_dir",
        "logging_nan_inf_filter",
        "log_on_each_node",
        "log_level",
        "log_level_replica",
        "include_num_input_tokens_seen",
        "disable_tqdm",
        "report_to",
        "run_name",
        "project",
        "trackio_space_id",
        "trackio_bucket_id",
        "trackio_static_space_id",
        "save_strategy",
        "save_steps",
        "save_only_model",
        "save_on_each_node",
        "save_total_limit",
        "save_safetensors",
        "enable_jit_checkpoint",
        "restore_callback_states_from_checkpoint",
        "push_to_hub",
        "push_to_hub_token",
        "hub_token",
        "hub_private_repo",
        "hub_model_id",
        "hub_strategy",
        "hub_always_push",
        "hub_revision",
        "resume_from_checkpoint",
        "overwrite_output_dir",
        "do_train",
        "do_eval",
        "do_predict",
        "use_cpu",
        "local_rank",
        "probe",
        "dataloader_num_workers",
        "dataloader_pin_memory",
        "dataloader_prefetch_factor",
        "dataloader_multiprocessing_context",
        "remove_unused_columns",
        "label_names",
        "length_column_name",
        "torch_empty_cache_steps",
        "activation_checkpointing",
        "activation_checkpointing_kwargs",
        "gradient_checkpointing",
        "gradient_checkpointing_kwargs",
        "skip_memory_metrics",
        "debug",
        "ddp_find_unused_parameters",
        "ddp_bucket_cap_mb",
        "ddp_broadcast_buffers",
        "ddp_static_graph",
        "ddp_backend",
        "ddp_timeout",
        "fsdp",
        "fsdp_config",
    }
)
SAVING = ("save_strategy", "save_steps")  # affect the result if the best checkpoint is loaded at the end


def decisive_options(args: Any, *, leave_out: Iterable[str] = (), add: Iterable[str] = ()) -> dict[str, Any]:
    """Returns the options that affect a run's weights: all except those known to be harmless.

    Args:
        args (`TrainingArguments`): All options.
        leave_out (iterable of `str`, *optional*): Further options to exclude, such as paths whose content is compared.
        add (iterable of `str`, *optional*): Harmless options to include nevertheless.
    """
    given = args.to_dict()
    chosen = {*SAVING, *add} if args.load_best_model_at_end else {*add}
    names = [name for name in given if name in chosen or name not in HARMLESS]
    decisive = {name: given[name] for name in names if name not in set(leave_out)}
    return json.loads(json.dumps(decisive, default=str))


def files_digest(paths: Mapping[str, str | Path]) -> dict[str, str]:
    """Returns a short digest of each file's content, by the keys of `paths`.

    Files of up to 1 GiB in all are read completely. For larger ones, the size and 32 blocks of 64 KiB are used: a
    rewritten file differs there, but a change between the blocks goes unnoticed.
    """
    sizes = {name: Path(path).stat().st_size for name, path in paths.items()}
    is_whole = sum(sizes.values()) <= WHOLE_BYTES
    return {name: _file_digest(Path(path), sizes[name], is_whole) for name, path in sorted(paths.items())}


def sampled_digest(path: str | Path) -> str:
    """Returns a short digest of a file's size and of 32 blocks of 64 KiB, or of the whole file if it is not larger.

    Unlike that of `files_digest`, it does not depend on the size of other files.
    """
    return _file_digest(Path(path), Path(path).stat().st_size, is_whole=False)


def _file_digest(path: Path, size: int, is_whole: bool) -> str:
    digest = hashlib.sha256(str(size).encode())
    with open(path, "rb") as file:
        if is_whole or size <= NUM_BLOCKS * BLOCK_BYTES:
            while block := file.read(2**20):
                digest.update(block)
        else:
            for block in range(NUM_BLOCKS):
                file.seek((size - BLOCK_BYTES) * block // (NUM_BLOCKS - 1))
                digest.update(file.read(BLOCK_BYTES))
    return digest.hexdigest()[:16]


def archive_digest(path: str | Path, names: Iterable[str]) -> dict[str, str]:
    """Returns the stored size and checksum of arrays in an `.npz` file; missing arrays are skipped."""
    with zipfile.ZipFile(path) as archive:
        stored = {entry.filename.removesuffix(".npy"): entry for entry in archive.infolist()}
    return {name: f"{stored[name].file_size:x}-{stored[name].CRC:08x}" for name in sorted(names) if name in stored}


def checkpoint_digest(name_or_path: str | Path | None) -> dict[str, str]:
    """Returns the digests of a checkpoint's files if it is a folder; empty for a name on the Hub."""
    if name_or_path is None or not Path(name_or_path).is_dir():
        return {}
    weights = (".safetensors", ".bin", *CONFIGURATION)
    files = [path for path in Path(name_or_path).iterdir() if path.suffix in weights and path.name not in RECORDS]
    return files_digest({path.name: path for path in files})


def weights_digest(folder: str | Path) -> str:
    """Returns one short digest of a checkpoint's weights, independent of its configuration; "" if it has none."""
    files = [path for path in Path(folder).iterdir() if path.name.startswith(WEIGHTS) and path.suffix in OF_WEIGHTS]
    of_files = files_digest({path.name: path for path in files})
    return hashlib.sha256(json.dumps(of_files).encode()).hexdigest()[:16] if of_files else ""


def columns_digest(columns: Mapping[str, Any]) -> dict[str, str]:
    """Returns a short digest of each column of a table, by name; the order of rows counts.

    Args:
        columns (`Mapping`): Each a sequence of numbers, texts or sequences of these, one a row.
    """
    return {name: _column_digest(values) for name, values in columns.items()}


def _column_digest(values: Any) -> str:
    digest = hashlib.sha256()
    for value in values:
        plain = value.tolist() if isinstance(value, (np.ndarray, np.generic)) else value
        digest.update(json.dumps(plain).encode() + b"\n")
    return digest.hexdigest()[:16]


def logits_digest(uids: Iterable[str], logits: np.ndarray) -> str:
    """Returns a short digest of vectors with their uids."""
    digest = hashlib.sha256(json.dumps(list(uids)).encode())
    digest.update(np.ascontiguousarray(logits).tobytes())
    return digest.hexdigest()[:16]

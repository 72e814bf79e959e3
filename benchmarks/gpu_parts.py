"""The cases of each part of `benchmarks.gpu`, and the function that measures them in turn."""

import argparse
import gc
import itertools
import json
import os
import subprocess
import sys
import time
import traceback
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import numpy as np
import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from tokenizers.processors import TemplateProcessing
from transformers import BertConfig, PreTrainedConfig, PreTrainedTokenizerFast, ViTConfig, VJEPA2Config
from transformers.utils.logging import disable_progress_bar

from avt_distill.features.extraction import PretrainedEncoder
from avt_distill.teacher.modeling_teacher import TextTeacher, TextTeacherConfig
from avt_distill.teacher.prediction import TeacherScorer, encode_histories
from benchmarks import step, streaming
from benchmarks.measure import take_turns
from benchmarks.step import count_tflop, forget_peak_memory, peak_memory_mb
from modeling_avt.encoders_avt import backbone_class

ROOT = Path(__file__).resolve().parent.parent
DTYPES = ("float32", "bfloat16")


@dataclass(frozen=True)
class Setting:
    """The device and the size of the measurements.

    Args:
        device (`str`): Name of the device, such as `"cuda:0"`.
        smallest (`bool`): Whether to use tiny models.
        peaks (`dict[str, float]`, *optional*): The device's peak in TFLOP/s by data type.
        folder (`Path`): Folder for files of the part, deleted afterwards.
    """

    device: str
    smallest: bool
    peaks: dict[str, float] | None
    folder: Path

    @property
    def repeats(self) -> int:
        return 2 if self.smallest else 10


@dataclass(frozen=True)
class Case:
    """One measurement.

    Args:
        measure (`Callable`): Function that returns the measured figures by name.
        labels (`dict`, *optional*): Labels that distinguish the case from others of its part.
        unavailable (`str`, *optional*): The reason why this machine cannot run the case.
    """

    measure: Callable[[], dict]
    labels: dict[str, str | int] = field(default_factory=dict)
    unavailable: str | None = None


def run(part: str, setting: Setting, deadline: float, cases_file: Path):
    """Measures the cases of a part of `PARTS` in this process."""
    disable_progress_bar()
    if setting.smallest:
        torch.set_num_threads(1)  # more threads only slow down such small models
    torch.backends.cudnn.allow_tf32 = False  # no TF32 in convolutions, as in matrix products
    run_cases(PARTS[part](setting), deadline, cases_file)


def run_cases(cases: list[Case], deadline: float, cases_file: Path):
    """Measures cases until a deadline of `time.monotonic`, and keeps a file with the status of each up to date.

    A case's `status` is `"measured"`, `"skipped"` if this machine cannot run it, `"failed"`, `"running"` or
    `"not run"`. Cases that were skipped, failed or reached after the deadline have a `reason`.
    """
    records: list[dict] = [{"labels": case.labels, "status": "not run"} for case in cases]
    _write(records, cases_file)
    for case, record in zip(cases, records, strict=True):
        if case.unavailable is not None:
            record |= {"status": "skipped", "reason": case.unavailable}
        elif time.monotonic() >= deadline:
            record |= {"status": "not run", "reason": "out of time"}
        else:
            record["status"] = "running"
            _write(records, cases_file)
            record |= _measure(case)
            print(json.dumps(record), flush=True)
        _write(records, cases_file)


def _measure(case: Case) -> dict:
    started = time.monotonic()
    try:
        figures = {"status": "measured", **case.measure()}
    except Exception as error:  # any error: the other cases are still measured
        traceback.print_exc()
        first_line = next(iter(str(error).splitlines()), "")
        figures = {"status": "failed", "reason": f"{type(error).__name__}: {first_line}"}
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    return {**figures, "took_s": round(time.monotonic() - started, 1)}


def _write(records: list[dict], cases_file: Path):
    """Replaces the file atomically, since the process may be killed at any time."""
    beside = cases_file.with_suffix(".new")
    beside.write_text(json.dumps(records), encoding="utf-8")
    os.replace(beside, cases_file)


def _figures(times: dict, way: str, peak_mb: float) -> dict[str, float]:
    names = {"ms": "median_ms", "fastest_ms": "fastest_ms", "slowest_ms": "slowest_ms"}
    return {**{name: times[way][key] for name, key in names.items()}, "peak_mb": peak_mb}


# Tests.


def test_cases(setting: Setting) -> list[Case]:
    return [Case(partial(run_tests, setting.folder / "tests.xml"))]


def run_tests(report: Path) -> dict[str, int]:
    """Runs the tests marked `gpu` and returns how many passed and how many were skipped.

    Raises:
        RuntimeError: If a test failed or none ran.
    """
    command = [sys.executable, "-m", "pytest", "-m", "gpu", "-q", f"--junitxml={report}"]
    # One GPU, because a run of one process refuses several; one thread, as for all tiny models.
    environment = {"CUDA_VISIBLE_DEVICES": "0", "OMP_NUM_THREADS": "1", **os.environ}
    status = subprocess.run(command, cwd=ROOT, env=environment).returncode
    if not report.exists():
        raise RuntimeError(f"pytest ended with exit code {status} before it ran a test: see its output.")
    results = list(ElementTree.parse(report).iter("testcase"))
    outcomes = [{child.tag for child in result} for result in results]
    failed = [result.get("name") for result, tags in zip(results, outcomes, strict=True) if tags & {"failure", "error"}]
    if status != 0:
        raise RuntimeError(f"{len(failed)} of {len(results)} tests failed {failed}: see pytest's output.")
    skipped = sum("skipped" in tags for tags in outcomes)
    return {"passed": len(results) - skipped, "skipped": skipped}


# Training steps.

WAY_NAMES = {
    "ours": "float32, sdpa",
    "ours_compiled": "float32, sdpa, compiled",
    "ours_bf16": "bfloat16, sdpa",
    "ours_bf16_compiled": "bfloat16, sdpa, compiled",
    "ours_bf16_flash": "bfloat16, flash",
    "ours_bf16_flash_compiled": "bfloat16, flash, compiled",
}
EAGER_WAYS = ("ours", "ours_bf16", "ours_bf16_flash")
COMPILED_WAYS = ("ours_bf16_compiled", "ours_compiled", "ours_bf16_flash_compiled")


def training_cases(setting: Setting, model: str, tiny_model: str, batch_size: int, large_batch_size: int) -> list[Case]:
    """Returns the training steps of a published configuration, at its batch size per GPU and at a larger one.

    Compiled variants come last, because each takes most of a minute to compile.
    """
    runs = [(way, batch_size) for way in EAGER_WAYS] + [("ours_bf16", large_batch_size)]
    runs += [(way, batch_size) for way in COMPILED_WAYS] + [("ours_bf16_compiled", large_batch_size)]
    if setting.smallest:
        model, runs = tiny_model, [(way, 2) for way in (*EAGER_WAYS, COMPILED_WAYS[0])]
    losses: dict[int, float] = {}
    return [
        Case(
            partial(measure_training, setting, model, way, size, losses),
            {"model": model, "way": WAY_NAMES[way], "batch": size},
            step.unavailable(model, way, setting.device),
        )
        for way, size in runs
    ]


def measure_training(setting: Setting, model: str, way: str, batch_size: int, losses: dict[int, float]) -> dict:
    """Measures a training step, and compares its loss with that of the first variant at the same batch size.

    Args:
        losses (`dict[int, float]`): The loss of the first variant by batch size, updated in place.
    """
    peak = (setting.peaks or {}).get("bfloat16" if step.WAYS[way].is_bf16 else "float32")
    options = ["--models", model, "--ways", way, "--steps", "training", "--batch_size", batch_size]
    options += ["--device", setting.device, "--repeats", setting.repeats]
    options += [] if peak is None else ["--peak_tflops", peak]
    # Compiling CPU kernels takes a minute: the smallest setting only traces and differentiates the model.
    options += ["--compile_backend", "aot_eager"] if setting.smallest else []
    torch.compiler.reset()
    measured = step.run(step.parse_arguments([str(option) for option in options]))
    step.check_loss(way, measured["loss"], losses.setdefault(batch_size, measured["loss"]))
    names = ("loss", "clips_per_s", "frames_per_s", "tflops", "share_of_peak")
    figures = {name: measured[name] for name in names if name in measured}
    return {**_figures(measured["times"], "training", measured["peak_mb"]["training"]), **figures}


# Streaming.


def streaming_cases(setting: Setting) -> list[Case]:
    windows = [(1, 3)] if setting.smallest else [(6, 10), (6, 32)]
    return [
        Case(
            partial(measure_stream, setting, num_layers, num_frames, dtype),
            {"head layers": num_layers, "window frames": num_frames, "dtype": dtype},
        )
        for (num_layers, num_frames), dtype in itertools.product(windows, DTYPES)
    ]


def measure_stream(setting: Setting, num_layers: int, num_frames: int, dtype: str) -> dict:
    args = argparse.Namespace(
        **{"num_actions": 2513, "height": 256, "width": 456, "tiny": setting.smallest},
        **{"device": setting.device, "dtype": dtype, "repeats": setting.repeats},
    )
    device = torch.device(setting.device)
    forget_peak_memory(device)
    times = streaming.measure(args, num_layers, num_frames)["times"]
    figures = _figures(times, "stream", peak_memory_mb(device))
    return {**figures, "whole_model_ms": times["whole_model"]["median_ms"]}


# Extraction of features.

ENCODERS: dict[str, tuple[PreTrainedConfig, int]] = {  # config and moments per batch
    "ViT-B/16": (ViTConfig(), 256),
    "V-JEPA 2 ViT-L, clips of 16": (VJEPA2Config(frames_per_clip=16), 16),
}
TINY = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
TINY_PREDICTOR = {"pred_hidden_size": 24, "pred_num_hidden_layers": 2, "pred_num_attention_heads": 2}
TINY_ENCODERS: dict[str, tuple[PreTrainedConfig, int]] = {
    "tiny ViT": (ViTConfig(**TINY, intermediate_size=64, image_size=32, patch_size=8), 4),
    "tiny V-JEPA 2, clips of 4": (
        VJEPA2Config(**TINY, **TINY_PREDICTOR, crop_size=32, patch_size=8, frames_per_clip=4),
        2,
    ),
}


def extraction_cases(setting: Setting) -> list[Case]:
    encoders = TINY_ENCODERS if setting.smallest else ENCODERS
    not_compiled = "the smallest setting does not compile kernels, which takes a minute on a CPU"
    ways = [(dtype, False) for dtype in DTYPES] + [("bfloat16", True)]
    return [
        Case(
            partial(measure_extraction, setting, name, *encoders[name], dtype, is_compiled),
            {"encoder": name, "way": f"{dtype}, compiled" if is_compiled else dtype, "batch": encoders[name][1]},
            not_compiled if is_compiled and setting.smallest else None,
        )
        for name, (dtype, is_compiled) in itertools.product(encoders, ways)
    ]


def measure_extraction(
    setting: Setting, name: str, config: PreTrainedConfig, batch_size: int, dtype: str, is_compiled: bool
) -> dict:
    """Measures the encoder of `avt-distill extract_features` on frames in memory, without decoding."""
    path = setting.folder / name.replace("/", "-")
    if not path.exists():
        model_class, arguments = backbone_class(config)
        with torch.device(setting.device):
            model = model_class(config, **arguments)
        model.save_pretrained(path)
        del model
    load = partial(PretrainedEncoder, path, dtype=getattr(torch, dtype), device=setting.device)
    length = getattr(config, "frames_per_clip", 1)
    side = getattr(config, "crop_size", None) or config.image_size
    starts = torch.arange(batch_size) * length  # the clips share no frames
    positions = starts[:, None] + torch.arange(length)
    frames = torch.randn(batch_size * length, 3, side, side, generator=torch.Generator().manual_seed(0))
    encoder = load()
    tflop = count_tflop(lambda: encoder(frames[:length], positions[:1]))
    if is_compiled:
        encoder = load(compile_model=True)
    device = torch.device(setting.device)
    forget_peak_memory(device)
    _, times = take_turns({"encode": lambda: encoder(frames, positions)}, setting.repeats)
    figures = _figures(times, "encode", peak_memory_mb(device))
    moments_per_s = batch_size / (figures["ms"] / 1000)
    figures |= {"moments_per_s": moments_per_s, "frames_per_s": moments_per_s * length}
    figures["tflops"] = tflop * moments_per_s
    if setting.peaks is not None:
        figures["share_of_peak"] = figures["tflops"] / setting.peaks[dtype]
    return figures


# Soft labels.

NUM_VERBS, NUM_NOUNS, NUM_ACTIONS = 125, 352, 2513  # those of EPIC-Kitchens-55
HISTORY_LENGTH = 15


def soft_label_cases(setting: Setting) -> list[Case]:
    num_rows = 32 if setting.smallest else 8192
    return [
        Case(partial(measure_soft_labels, setting, dtype, num_rows), {"dtype": dtype, "rows": num_rows})
        for dtype in DTYPES
    ]


def measure_soft_labels(setting: Setting, dtype: str, num_rows: int) -> dict:
    """Measures the logits of `avt-distill export_soft_labels` on random histories, which are all different."""
    scorer = make_teacher(setting, getattr(torch, dtype))
    histories = np.random.default_rng(0).integers(0, NUM_ACTIONS, (num_rows, HISTORY_LENGTH)).tolist()
    num_tokens = sum(map(len, encode_histories(histories, scorer.model.config, scorer.tokenizer)))
    device = torch.device(setting.device)
    forget_peak_memory(device)
    _, times = take_turns({"logits": lambda: scorer.logits(histories)}, repeats=min(setting.repeats, 3))
    figures = _figures(times, "logits", peak_memory_mb(device))
    seconds = figures["ms"] / 1000
    return {**figures, "rows_per_s": num_rows / seconds, "tokens_per_s": num_tokens / seconds}


def make_teacher(setting: Setting, dtype: torch.dtype) -> TeacherScorer:
    """Returns a teacher of all-MiniLM-L6-v2's size with random weights, whose tokens are whole words."""
    verbs, nouns = ([f"{kind}{number}" for number in range(n)] for kind, n in (("v", NUM_VERBS), ("n", NUM_NOUNS)))
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", ",", *verbs, *nouns]
    tokenizer = Tokenizer(models.WordLevel({word: number for number, word in enumerate(words)}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    ends = {name: words.index(name) for name in ("[CLS]", "[SEP]")}
    tokenizer.post_processor = TemplateProcessing(single="[CLS] $A [SEP]", special_tokens=list(ends.items()))
    actions = [f"{verb} {noun}" for verb, noun in itertools.product(verbs, nouns)][:NUM_ACTIONS]
    sizes = {"hidden_size": 384, "num_hidden_layers": 6, "num_attention_heads": 12, "intermediate_size": 1536}
    if setting.smallest:
        sizes = {**TINY, "intermediate_size": 64}
    torch.manual_seed(0)
    config = TextTeacherConfig(
        backbone_config=BertConfig(vocab_size=30_522, **sizes),
        id2label=dict(enumerate(actions)),
        action_texts=actions,
        history_length=HISTORY_LENGTH,
    )
    model = TextTeacher(config).to(setting.device, dtype)
    special = {"pad_token": "[PAD]", "unk_token": "[UNK]", "cls_token": "[CLS]", "sep_token": "[SEP]"}
    return TeacherScorer(model, PreTrainedTokenizerFast(tokenizer_object=tokenizer, **special))


PARTS: dict[str, Callable[[Setting], list[Case]]] = {
    "tests": test_cases,
    "training, features": partial(
        training_cases, model="egtea_features", tiny_model="tiny", batch_size=64, large_batch_size=1024
    ),
    "training, video": partial(
        training_cases, model="avt_b", tiny_model="tiny_video", batch_size=3, large_batch_size=24
    ),
    "streaming": streaming_cases,
    "extraction": extraction_cases,
    "soft labels": soft_label_cases,
}

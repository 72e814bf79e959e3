"""Runs all GPU measurements in under eight minutes: `gpu` tests, training steps, streaming, extraction and soft labels.

    python -m benchmarks.gpu --output bench_results/gpu.json     # make gpu
    python -m benchmarks.gpu --smallest --device cpu             # trial with tiny models; default without a GPU

Each part of `gpu_parts` runs in a separate process with a time limit. Cases without a measurement are recorded with
the reason: they failed, this machine cannot run them, or the time limit was reached. The JSON file and the Markdown
table next to it are rewritten after each part, so an interrupted run keeps its measurements. The exit status is 1 if
anything failed.

Times are medians. Memory is the peak of what tensors allocate on the device (`torch.cuda.max_memory_allocated`); on a
CPU, it is that of the whole process. The share of peak refers to `PEAK_TFLOPS` in the data type of the matrix
products: bfloat16, or float32 without TF32.
"""

import argparse
import contextlib
import json
import multiprocessing
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

from benchmarks.measure import describe_machine, write_result

# Time limit of each part in seconds, on a GPU. With startup, all parts together take under eight minutes.
PART_SECONDS = {
    "tests": 80,
    "training, features": 50,
    "training, video": 170,
    "streaming": 45,
    "extraction": 75,
    "soft labels": 30,
}
TOTAL_SECONDS = 460
OUT_OF_TIME = "out of time"


class Peak(NamedTuple):
    """A device's peak in TFLOP/s, without sparsity: bfloat16 on tensor cores, and float32 without tensor cores."""

    bfloat16: float
    float32: float


# The keys are the full names that torch reports: a part of a GPU (MIG) has a different name and a lower peak. Sources:
# NVIDIA's data sheets "A100", "H100", "H200", "L4", "L40S", "A10" and "HGX B200", and the white paper "Ada GPU
# Architecture". Data sheets that list bfloat16 with sparsity list twice these values.
PEAK_TFLOPS = {
    "NVIDIA A10": Peak(125, 31.2),
    "NVIDIA A100-PCIE-40GB": Peak(312, 19.5),
    "NVIDIA A100 80GB PCIe": Peak(312, 19.5),
    "NVIDIA A100-SXM4-40GB": Peak(312, 19.5),
    "NVIDIA A100-SXM4-80GB": Peak(312, 19.5),
    "NVIDIA B200": Peak(2250, 75),
    "NVIDIA GeForce RTX 4090": Peak(165.2, 82.6),
    "NVIDIA H100 80GB HBM3": Peak(989.4, 66.9),
    "NVIDIA H100 NVL": Peak(835.5, 60),
    "NVIDIA H100 PCIe": Peak(756, 51),
    "NVIDIA H200": Peak(989.4, 66.9),
    "NVIDIA H200 NVL": Peak(835.5, 60),
    "NVIDIA L4": Peak(121, 30.3),
    "NVIDIA L40S": Peak(362, 91.6),
}


def main(arguments: list[str] | None = None):
    args = parse_arguments(arguments)
    started = time.monotonic()
    result = {"setting": "smallest" if args.smallest else "full", "machine": describe_device(args.device), "parts": {}}
    result["peak_tflops"] = peak_of(result["machine"]["device"])
    for name in args.parts:
        print(f"\n== {name} ==", flush=True)
        deadline = min(time.monotonic() + PART_SECONDS[name], started + TOTAL_SECONDS)
        result["parts"][name] = run_part(name, args, result["peak_tflops"], deadline)
        result["total_s"] = round(time.monotonic() - started, 1)
        write_result(result, args.output)
        args.output.with_suffix(".md").write_text(markdown(result), encoding="utf-8")
    print(f"\n{markdown(result)}\nWritten to {args.output} and {args.output.with_suffix('.md').name}.")
    if any(case["status"] == "failed" for _, case in all_cases(result)):
        sys.exit("Some cases failed: see above.")


def parse_arguments(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--parts", nargs="+", choices=list(PART_SECONDS), default=list(PART_SECONDS), metavar="PART")
    parser.add_argument("--device", help="device to measure on (default: the first GPU, else the CPU)")
    parser.add_argument("--smallest", action="store_true", help="use tiny models, to try the command (always on a CPU)")
    parser.add_argument("--output", type=Path, default=Path("bench_results/gpu.json"), help="JSON file to write")
    args = parser.parse_args(arguments)
    import torch  # imported here: processes that run parts import this module, and not all need torch

    args.device = args.device or ("cuda:0" if torch.cuda.is_available() else "cpu")
    args.smallest = args.smallest or torch.device(args.device).type == "cpu"
    return args


def describe_device(device: str) -> dict:
    """Returns a description of the machine and its device; memory and CUDA version are `None` on a CPU."""
    import torch

    name, cuda, memory_gb = "cpu", None, None
    if torch.device(device).type == "cuda":
        properties = torch.cuda.get_device_properties(device)
        name, cuda, memory_gb = properties.name, torch.version.cuda, round(properties.total_memory / 1e9, 1)
    return describe_machine("torch", "transformers", "flash-attn", device=name, cuda=cuda, memory_gb=memory_gb)


def peak_of(device_name: str) -> dict[str, float] | None:
    """Returns the peak in TFLOP/s by data type, or `None` if the device is not in `PEAK_TFLOPS`."""
    return PEAK_TFLOPS[device_name]._asdict() if device_name in PEAK_TFLOPS else None


def run_part(name: str, args: argparse.Namespace, peaks: dict[str, float] | None, deadline: float) -> dict:
    """Measures a part until a deadline of `time.monotonic`, and returns its cases and the seconds that they took."""
    from benchmarks.gpu_parts import Setting, run

    started = time.monotonic()
    if started >= deadline:
        return {"took_s": 0.0, "cases": [{"status": "not run", "reason": OUT_OF_TIME}]}
    with TemporaryDirectory(prefix="gpu_part_") as folder:
        setting = Setting(args.device, args.smallest, peaks, Path(folder))
        cases = in_process_until(deadline, Path(folder) / "cases.json", run, name, setting, deadline)
    return {"took_s": round(time.monotonic() - started, 1), "cases": cases}


def in_process_until(deadline: float, cases_file: Path, function: Callable, *arguments) -> list[dict]:
    """Runs a function in a new process, kills the process at a deadline, and returns the cases that it recorded.

    Args:
        deadline (`float`): Time of `time.monotonic` at which the process is killed, with all processes that it started.
        cases_file (`Path`): File in which the function records cases, see `gpu_parts.run_cases`. It is passed as the
            last argument.
        function, arguments: The function and its other arguments.
    """
    process = multiprocessing.get_context("spawn").Process(target=_in_own_group, args=(function, arguments, cases_file))
    process.start()
    try:
        process.join(max(deadline - time.monotonic(), 0))
        exit_code = process.exitcode
    finally:
        with contextlib.suppress(ProcessLookupError):  # the group may not exist yet, or not any more
            os.killpg(process.pid, signal.SIGKILL)
        process.kill()
        process.join()
    cases = json.loads(cases_file.read_text(encoding="utf-8")) if cases_file.exists() else []
    return settled_cases(cases, exit_code)


def settled_cases(cases: list[dict], exit_code: int | None) -> list[dict]:
    """Returns the cases that a process recorded, with the reason why unfinished ones were not measured.

    Args:
        cases (`list[dict]`): The recorded cases, see `gpu_parts.run_cases`.
        exit_code (`int`, *optional*): Exit code of the process; `None` if its time limit was reached.
    """
    reason = OUT_OF_TIME if exit_code is None else f"its process ended with exit code {exit_code}"
    interrupted = {"status": "not run" if exit_code is None else "failed", "reason": reason}
    settled = []
    for case in cases:
        if case["status"] == "running":
            case = {**case, **interrupted}
        elif case["status"] == "not run":
            case = {"reason": reason, **case}
        settled.append(case)
    is_said = any(case.get("reason") == reason for case in settled)
    if not cases or (exit_code and not is_said):
        settled.append(interrupted)
    return settled


def _in_own_group(function: Callable, arguments: tuple, cases_file: Path):
    os.setsid()
    function(*arguments, cases_file)


# The Markdown table, which is generated from the JSON file only.


def markdown(result: Mapping) -> str:
    """Returns a result as Markdown: the machine, a table for each part, and the cases that were not measured."""
    lines = [machine_line(result), ""]
    for name, part in result["parts"].items():
        rows = [row(name, case) for case in part["cases"] if case["status"] == "measured"]
        if rows:
            lines += [f"{name[0].upper()}{name[1:]}:", "", *table(rows), ""]
    missing = [f"- {name}{label(case)}: {case['status']}: {case['reason']}" for name, case in without_figures(result)]
    lines += ["Not measured:", "", *missing] if missing else ["Everything was measured."]
    return "\n".join([*lines, ""])


def machine_line(result: Mapping) -> str:
    machine, peaks = result["machine"], result["peak_tflops"]
    versions = f"torch {machine['torch']}, transformers {machine['transformers']}"
    versions += f", flash-attn {machine['flash-attn'] or 'not installed'}"
    text = f"{machine['device']} ({machine['memory_gb']} GB, CUDA {machine['cuda']}), {versions}"
    if machine["device"] == "cpu":
        text = f"No GPU: {machine['processor']}, {machine['cores']} cores, {versions}"
    if result["setting"] == "smallest":
        text += "; tiny models, whose figures show only that the command works"
    if peaks is not None:
        text += f"; peak {peaks['bfloat16']:g} TFLOP/s in bfloat16, {peaks['float32']:g} in float32"
    else:
        text += "; peak unknown"
    return f"{text}; {result['total_s']:.0f} s in total."


def row(part: str, case: Mapping) -> dict[str, str]:
    """Returns the table cells of a measured case by column."""
    if part == "tests":
        return {"passed": str(case["passed"]), "skipped": str(case["skipped"])}
    cells = dict(case["labels"])
    figures = {
        "ms": ("ms", "{:,.2f}"),
        "whole model ms": ("whole_model_ms", "{:,.2f}"),
        "clips/s": ("clips_per_s", "{:,.1f}"),
        "moments/s": ("moments_per_s", "{:,.1f}"),
        "frames/s": ("frames_per_s", "{:,.1f}"),
        "rows/s": ("rows_per_s", "{:,.1f}"),
        "tokens/s": ("tokens_per_s", "{:,.0f}"),
        "TFLOP/s": ("tflops", "{:,.3g}"),
        "of peak": ("share_of_peak", "{:.1%}"),
        "peak memory, MB": ("peak_mb", "{:,.0f}"),
    }
    return cells | {title: form.format(case[key]) for title, (key, form) in figures.items() if key in case}


def table(rows: list[dict[str, str]]) -> list[str]:
    """Returns the lines of a Markdown table; cells that a row lacks are empty."""
    columns = list(dict.fromkeys(column for one in rows for column in one))
    cells = [columns, ["---"] * len(columns), *([str(one.get(column, "")) for column in columns] for one in rows)]
    return [f"| {' | '.join(line)} |" for line in cells]


def label(case: Mapping) -> str:
    return "".join(f", {name} {value}" for name, value in case.get("labels", {}).items())


def all_cases(result: Mapping) -> Iterator[tuple[str, dict]]:
    """Yields each case with the name of its part."""
    for name, part in result["parts"].items():
        for case in part["cases"]:
            yield name, case


def without_figures(result: Mapping) -> Iterator[tuple[str, dict]]:
    return ((name, case) for name, case in all_cases(result) if case["status"] != "measured")


if __name__ == "__main__":
    main()

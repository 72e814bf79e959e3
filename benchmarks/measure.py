"""Shared code of all benchmarks: timing variants in turns, tables of times, and a description of the machine."""

import argparse
import json
import multiprocessing
import os
import platform
import statistics
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ProcessPoolExecutor
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path


def take_turns(ways: Mapping[str, Callable], repeats: int) -> tuple[dict, dict[str, dict]]:
    """Runs each variant once to warm up, then all variants in turn, `repeats` times.

    Returns:
        `tuple[dict, dict[str, dict]]`: The last result of each variant; and the median, fastest and slowest elapsed
        time and the median processor time of each, in ms. With one thread, processor time hardly depends on other
        programs.
    """
    results, elapsed, processor = {}, {name: [] for name in ways}, {name: [] for name in ways}
    for turn in range(repeats + 1):
        for name, way in ways.items():
            start, processor_start = time.perf_counter(), time.process_time()
            results[name] = way()
            if turn:
                processor[name].append(time.process_time() - processor_start)
                elapsed[name].append(time.perf_counter() - start)
    times = {
        name: {
            "median_ms": 1000 * statistics.median(elapsed[name]),
            "fastest_ms": 1000 * min(elapsed[name]),
            "slowest_ms": 1000 * max(elapsed[name]),
            "processor_ms": 1000 * statistics.median(processor[name]),
        }
        for name in ways
    }
    return results, times


def print_times(title: str, times: Mapping[str, Mapping], baseline: str):
    """Prints a line for each variant; the last two columns are its speedups over the baseline."""
    import pandas as pd  # imported here, to keep it out of the memory that benchmarks measure

    table = pd.DataFrame(times).T
    table["times as fast"] = table.at[baseline, "median_ms"] / table["median_ms"]
    table["by processor"] = table.at[baseline, "processor_ms"] / table["processor_ms"]
    print(f"{title}\n{table.to_string(float_format='%.2f')}")


def in_own_process(function: Callable, *arguments):
    """Returns the result of a function that runs in a new process, with memory and threads of its own."""
    with ProcessPoolExecutor(max_workers=1, mp_context=multiprocessing.get_context("spawn")) as executor:
        return executor.submit(function, *arguments).result()


def add_common_arguments(parser: argparse.ArgumentParser, *, repeats: int):
    parser.add_argument("--repeats", type=int, default=repeats, help=f"timed runs of each variant (default: {repeats})")
    parser.add_argument("--output", type=Path, help="JSON file to write")


def write_result(result: dict, output: Path | None):
    if output is not None:
        output.parent.mkdir(parents=True, exist_ok=True)
        output.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


def describe_machine(*packages: str, **more) -> dict:
    """Returns the processor, usable cores, and versions of Python and packages (`None` if not installed)."""
    return {
        "processor": _processor(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "python": platform.python_version(),
        **{package: installed_version(package) for package in packages},
        **more,
    }


def installed_version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
        return next(line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()

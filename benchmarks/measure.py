"""What all benchmarks share: ways that take turns, their times as a table, and the machine that they ran on."""

import argparse
import json
import os
import platform
import statistics
import time
from collections.abc import Callable, Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path


def take_turns(ways: Mapping[str, Callable], repeats: int) -> tuple[dict, dict[str, dict]]:
    """Runs each way once to warm up, then all of them in turn, `repeats` times.

    Returns:
        `tuple[dict, dict[str, dict]]`: What each way returned last, and its times: see `summary`.
    """
    results, elapsed, processor = {}, {name: [] for name in ways}, {name: [] for name in ways}
    for turn in range(repeats + 1):
        for name, way in ways.items():
            start, processor_start = time.perf_counter(), time.process_time()
            results[name] = way()
            if turn:
                processor[name].append(time.process_time() - processor_start)
                elapsed[name].append(time.perf_counter() - start)
    return results, {name: summary(elapsed[name], processor[name]) for name in ways}


def summary(elapsed_s: list[float], processor_s: list[float]) -> dict:
    """Returns median, fastest and slowest elapsed time and the median processor time, in ms.

    With one thread, processor time hardly depends on what else the machine is doing.
    """
    return {
        "median_ms": 1000 * statistics.median(elapsed_s),
        "fastest_ms": 1000 * min(elapsed_s),
        "slowest_ms": 1000 * max(elapsed_s),
        "processor_ms": 1000 * statistics.median(processor_s),
    }


def print_times(title: str, times: Mapping[str, Mapping], baseline: str):
    """Prints a line for each way; the last two columns: how many times as long as it the baseline takes."""
    width = max(len(title), *map(len, times)) + 2
    header = ("median", "fastest", "slowest", "processor", "times as fast", "by processor")
    print(f"{title:<{width}}" + "".join(f"{column:>14}" for column in header))
    for name, row in times.items():
        cells = [f"{row[f'{column}_ms']:.1f} ms" for column in ("median", "fastest", "slowest", "processor")]
        for kind in ("median_ms", "processor_ms"):
            cells.append(f"{times[baseline][kind] / row[kind]:.2f}" if row[kind] else "")
        print(f"{name:<{width}}" + "".join(f"{cell:>14}" for cell in cells))


def add_common_arguments(parser: argparse.ArgumentParser, *, repeats: int):
    parser.add_argument("--repeats", type=int, default=repeats, help=f"turns of each way (default: {repeats})")
    parser.add_argument("--output", type=Path, help="JSON to write")


def write_result(result: dict, output: Path | None):
    if output is not None:
        output.parent.mkdir(parents=True, exist_ok=True)
        output.write_text(json.dumps(result, indent=1) + "\n")


def describe_machine(*packages: str, **more) -> dict:
    """Returns processor, usable cores, Python, and the versions of packages; `None` for one that is not installed."""
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
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()

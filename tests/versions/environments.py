"""Writes a table of which checkpoints of the current code load and run in which clean environments from PyPI.

    python tests/versions/environments.py --output docs/versions.md   # all
    python tests/versions/environments.py --only oldest newest         # some
    python tests/versions/environments.py --pythons ~/.pyenv/versions/*/bin/python

Each environment is a separate virtual environment. Only torch, which is large, is installed once per Python and
release, and shared. The table lists environments that are left out because no Python was found.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

PROJECT = Path(__file__).resolve().parents[2]
if __name__ == "__main__":
    sys.path[:0] = [str(PROJECT), str(PROJECT / "tests")]

from versions.checkpoints import write_checkpoints  # noqa: E402

PROBE = Path(__file__).with_name("probe.py")
TOLERANCE = 1e-5
BEGIN, END = "<!-- table -->", "<!-- /table -->"
SHOWN = ("Python", "torch", "transformers", "numpy", "av", "huggingface-hub")
OLDEST = {"torch": "2.6.0", "transformers": "4.57.1", "numpy": "1.26.4", "av": "15.0.0", "datasets": "4.0.0"}
NEWEST = {"torch": "2.13.0", "transformers": "5.23.0", "numpy": "2.4.6", "av": "18.1.0"}
TRANSFORMERS = ("4.57.6", *(f"5.{minor}.0" for minor in range(23)))  # 5.23 is the newest environment's


@dataclass(frozen=True)
class Environment:
    """An environment.

    Args:
        name (`str`): A short name.
        python (`str`): Its Python, such as `"3.11"`.
        packages (`dict[str, str]`): Pinned releases; pip chooses their other requirements.
    """

    name: str
    python: str = "3.11"
    packages: Mapping[str, str] = field(default_factory=dict)


# Oldest and newest releases together, every release of transformers, and every Python.
ENVIRONMENTS = (
    Environment("oldest", "3.10", OLDEST),
    Environment("newest", "3.11", {**NEWEST, "datasets": "5.2.0"}),
    *(Environment(f"transformers {release}", "3.11", {**NEWEST, "transformers": release}) for release in TRANSFORMERS),
    Environment("PyAV 16", "3.11", {**NEWEST, "av": "16.0.1"}),
    Environment("PyAV 17", "3.11", {**NEWEST, "av": "17.0.0"}),
    Environment("NumPy 2.0", "3.11", {**NEWEST, "numpy": "2.0.0"}),
    *(Environment(f"Python {version}", version, NEWEST) for version in ("3.12", "3.13", "3.14")),
)


def main(arguments: list[str] | None = None):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", metavar="NAME", help="environments; default: all")
    parser.add_argument("--pythons", nargs="+", metavar="PATH", default=[], help="programs, beside those on the PATH")
    parser.add_argument("--folder", type=Path, help="where environments are kept; default: temporary ones")
    parser.add_argument("--output", type=Path, help="a Markdown file, whose table is replaced")
    args = parser.parse_args(arguments)
    if unknown := set(args.only or ()) - {environment.name for environment in ENVIRONMENTS}:
        names = ", ".join(environment.name for environment in ENVIRONMENTS)
        parser.error(f"--only {sorted(unknown)[0]}: give some of {names}")
    chosen = [environment for environment in ENVIRONMENTS if args.only is None or environment.name in args.only]
    with tempfile.TemporaryDirectory() as temporary:
        table = table_of(measure(chosen, pythons(args.pythons), args.folder or Path(temporary)))
    print(table)
    if args.output is not None:
        before, _, rest = args.output.read_text(encoding="utf-8").partition(BEGIN)
        after = rest.partition(END)[2]
        args.output.write_text(f"{before}{BEGIN}\n\n{table}\n{END}{after}", encoding="utf-8", newline="\n")


def pythons(programs: list[str]) -> dict[str, str]:
    """Returns a program for each release of Python, such as `{"3.11": "/usr/bin/python3.11"}`."""
    on_path = [shutil.which(f"python3.{minor}") for minor in range(10, 15)]
    found = {}
    for program in [sys.executable, *programs, *filter(None, on_path)]:
        code = "import sys; print('%d.%d' % sys.version_info[:2])"
        asked = subprocess.run([program, "-c", code], capture_output=True, text=True, encoding="utf-8")
        if asked.returncode == 0:
            found.setdefault(asked.stdout.strip(), program)
    return found


def measure(environments, programs: Mapping[str, str], folder: Path) -> list[tuple[Environment, dict | str]]:
    """Returns the results of `probe.py` in each environment, compared with this one, or why there are none."""
    video = write_checkpoints(folder)
    expected = probe(sys.executable, folder, video)["students"]
    results = []
    for environment in environments:
        program = programs.get(environment.python)
        if program is None:
            results.append((environment, f"no Python {environment.python} here"))
            continue
        try:
            found = probe(install(environment, program, folder), folder, video)
        except subprocess.CalledProcessError as error:
            results.append((environment, (error.stderr or str(error)).strip().splitlines()[-1]))
            continue
        found["outcomes"] = compared(found["students"], expected)
        results.append((environment, found))
        print(row(environment, found), flush=True)
    return results


def install(environment: Environment, program: str, folder: Path) -> str:
    """Returns the Python of a new virtual environment; raises `CalledProcessError` if pip finds no such packages."""
    place = folder / environment.name.replace(" ", "_")
    packages = dict(environment.packages)
    torch = folder / f"torch_{packages['torch']}_python_{environment.python}"
    run([program, "-m", "venv", "--clear", str(place)])
    python = str(place / ("Scripts" if os.name == "nt" else "bin") / "python")
    if not torch.exists():
        run([python, "-m", "pip", "install", "--quiet", "--target", str(torch), f"torch=={packages['torch']}"])
        for name in ("numpy", "numpy-*"):  # pip's choice would shadow the environment's own release
            for other in torch.glob(name):
                shutil.rmtree(other)
    del packages["torch"]
    run([python, "-m", "pip", "install", "--quiet", *(f"{name}=={release}" for name, release in packages.items())])
    site = run([python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"]).strip()
    Path(site, "zz_torch.pth").write_text(f"{torch}\n", encoding="utf-8")
    return python


def probe(python: str, folder: Path, video: Path) -> dict:
    output = folder / "found.json"
    output.unlink(missing_ok=True)
    clean = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "PYTHONHOME")}
    with tempfile.TemporaryDirectory() as home:
        run(
            [python, str(PROBE), str(folder / "checkpoints"), str(video), str(output)],
            env={**clean, "HF_HOME": home, "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"},
            cwd=folder,
        )
    return json.loads(output.read_text(encoding="utf-8"))


def run(command: list[str], **options) -> str:
    return subprocess.run(command, capture_output=True, text=True, encoding="utf-8", check=True, **options).stdout


def compared(found: dict, expected: dict) -> dict[str, list[str]]:
    """Returns for each way how students behave differently from this environment, as `"student: what"`."""
    outcomes: dict[str, list[str]] = {}
    for student, ways in expected.items():
        for way, scores in ways.items():
            problem = different(found[student][way], scores)
            outcomes.setdefault(way, []).extend([f"{student}: {problem}"] if problem else [])
    return outcomes


def different(found: list[float] | str, expected: list[float] | str) -> str | None:
    if isinstance(found, str) or isinstance(expected, str):
        return None if found == expected else str(found)
    if len(found) != len(expected):
        return f"{len(found)} scores in place of {len(expected)}"
    furthest = max((abs(a - b) for a, b in zip(found, expected, strict=True)), default=0.0)
    return None if furthest <= TOLERANCE else f"scores differ by {furthest:.1e}"


def row(environment: Environment, found: dict | str) -> str:
    if isinstance(found, str):
        return f"| {environment.name} | {environment.python} | {found} |"
    versions = " | ".join(found["versions"][name].split("+")[0] for name in SHOWN)
    number = len(found["students"])
    cells = (f"{number - len(problems)}/{number}" for problems in found["outcomes"].values())
    return f"| {environment.name} | {versions} | {' | '.join(cells)} |"


def table_of(results: list[tuple[Environment, dict | str]]) -> str:
    """Returns the table, followed by a list of what did not work."""
    measured = [(environment, found) for environment, found in results if not isinstance(found, str)]
    if not measured:
        return "".join(f"{environment.name}: {found}\n" for environment, found in results)
    ways = list(measured[0][1]["outcomes"])
    lines = [f"| environment | {' | '.join(SHOWN)} | {' | '.join(ways)} |"]
    lines += ["|---" * (1 + len(SHOWN) + len(ways)) + "|", *(row(*result) for result in measured), ""]
    lines += [f"- {environment.name}: {found}" for environment, found in results if isinstance(found, str)]
    problems: dict[str, list[str]] = {}
    for environment, found in measured:
        for way, of_way in found["outcomes"].items():
            for problem in of_way:
                what = problem.partition(": ")[2].replace(found["versions"]["transformers"], "<installed>")
                names = problems.setdefault(f"{way}: {what}", [])
                names += [environment.name] if environment.name not in names else []
    lines += [f"- {problem} ({', '.join(names)})" for problem, names in problems.items()]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()

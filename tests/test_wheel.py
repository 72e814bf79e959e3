"""The wheel is complete, and sufficient in an empty environment outside of a clone."""

import os
import shutil
import subprocess
import sys
import venv
from pathlib import Path

import pytest
from helpers.places import PROJECT
from helpers.toml import tomllib

from avt_distill.__main__ import COMMANDS
from avt_distill.sharing.shipped import shipped_folder

SETUPTOOLS = tomllib.loads((PROJECT / "pyproject.toml").read_text())["tool"]["setuptools"]
STUDENT = "--max_steps=1 --use_cpu=true --evaluation_split=validation"


def test_every_folder_with_code_is_in_the_wheel():
    """Packages are listed by hand, because top-level folders are packaged under other names."""
    folders = {
        path.parent for ring in ("modeling_avt", "avt_distill") for path in (PROJECT / ring).rglob("__init__.py")
    }
    names = {".".join(folder.relative_to(PROJECT).parts) for folder in folders}
    moved = {name for name in SETUPTOOLS["packages"] if name.startswith("avt_distill.shipped.")}
    assert set(SETUPTOOLS["packages"]) - moved == names
    assert moved == set(SETUPTOOLS["package-dir"])
    for name, place in SETUPTOOLS["package-dir"].items():
        assert name == f"avt_distill.shipped.{place.replace('/', '.')}"
        assert shipped_folder(place) == PROJECT / place


@pytest.fixture(scope="module")
def installed(tmp_path_factory) -> Path:
    """The folder of executables of an environment with only the wheel and its requirements."""
    root = tmp_path_factory.mktemp("wheel")
    ignored = shutil.ignore_patterns(".git", ".venv", "build", "*.egg-info", "demo_run", "bench_results", "__pycache__")
    shutil.copytree(PROJECT, root / "source", ignore=ignored)  # a build writes files into the source folder
    pip = [sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "-w", root / "dist", root / "source"]
    subprocess.run(pip, check=True)
    (wheel,) = (root / "dist").glob("*.whl")
    shutil.rmtree(root / "source")
    venv.create(root / "environment", with_pip=True)
    programs = root / "environment" / "bin"
    install = [programs / "python", "-m", "pip", "install", "-q", "-c", PROJECT / "constraints.txt", wheel]
    subprocess.run(install, check=True)
    return programs


@pytest.mark.slow
def test_a_wheel_is_enough(installed, tmp_path):
    """Covers rows, soft labels, a student with a card, its metrics, and the help of each command."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    environment |= {"HF_HOME": str(tmp_path / "hf_home"), "HF_HUB_OFFLINE": "1"}

    def run(program: str, *arguments) -> str:
        command = [installed / program, *map(str, arguments)]
        result = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
        assert result.returncode == 0, result.stderr[-3000:]
        return result.stdout

    packages = "import importlib.util as i; print(i.find_spec('configuration_avt'), i.find_spec('run_distill'))"
    assert run("python", "-c", packages) == "None None\n"
    shipped = "from avt_distill.sharing.shipped import shipped_folder as s; print(s('configs/demo'), s('space'))"
    configs, space = map(Path, run("python", "-c", shipped).split())
    assert (space / "app.py").exists()
    data = ["--data_dir", tmp_path / "kitchen"]
    assert "train" in run("avt-distill", "prepare_dataset", "demo", *data)
    run("avt-distill", "export_soft_labels", "demo", *data, "--ngram=2", "--soft_labels=soft", "--use_cpu=true")
    options = [*data, "--soft_labels=soft/train.parquet", "--output_dir=run", *STUDENT.split()]
    assert "baseline and distilled" in run("avt-distill", "distill", configs / "student.yaml", *options)
    card = (tmp_path / "run" / "distilled_seed42" / "README.md").read_text()
    assert "The teacher: 2-gram." in card
    assert "| Top-1 accuracy |" in card
    measured = run("avt-distill", "evaluate", "run/distilled_seed42/scores_validation.parquet")
    assert "rows, 0 dropped" in measured
    shutil.copy(PROJECT / "run_distill.py", tmp_path)  # as in a job, see tests/test_jobs.py
    assert "usage: avt-distill distill" in run("python", "run_distill.py", "--help")
    for command in (command for commands in COMMANDS.values() for command in commands):
        assert f"usage: avt-distill {command}" in run("avt-distill", command, "--help")

"""`run_distill.py` as a Hugging Face job: its declared requirements, and the command in its docstring."""

import ast
import re
import shlex
import shutil
import sys
from types import SimpleNamespace

import pytest
from helpers.places import PROJECT
from helpers.toml import tomllib
from huggingface_hub import HfApi, Volume
from huggingface_hub.cli import hf

TEXT = (PROJECT / "run_distill.py").read_text()
# The reference implementation of PEP 723.
BLOCK = re.compile(r"(?m)^# /// (?P<type>[a-zA-Z0-9-]+)$\s(?P<content>(^#(| .*)$\s)+)^# ///$")
REQUIREMENTS = tomllib.loads((PROJECT / "pyproject.toml").read_text())["project"]
WHEEL = "avt_distill-{version}-py3-none-any.whl".format(**REQUIREMENTS)


def test_the_script_requires_what_the_package_requires():
    (block,) = BLOCK.finditer(TEXT)
    assert block["type"] == "script"
    content = tomllib.loads("".join(line[2:] for line in block["content"].splitlines(keepends=True)))
    assert content == {name: REQUIREMENTS[name] for name in ("requires-python", "dependencies")}


def command_of_the_docstring() -> list[str]:
    lines = ast.get_docstring(ast.parse(TEXT)).replace("\\\n", "").splitlines()
    (line,) = (line for line in lines if line.startswith("hf jobs uv run "))
    return shlex.split(line)


@pytest.fixture
def clone(tmp_path, monkeypatch):
    """The top-level files of a clone after `pip wheel`, and a user's data next to it."""
    for name in ("run_distill.py", "configs/own/features.yaml"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(PROJECT / name, tmp_path / name)
    for name in (f"dist/{WHEEL}", "my_data/segments.csv"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HF_TOKEN", "hf_none")


@pytest.fixture
def job(monkeypatch):
    """Records the arguments with which a job is started and the `uploaded` files, without a server."""
    started = SimpleNamespace(uploaded={})

    def sync(self, source, mount_path, *, read_only=True, namespace=None, **kwargs):
        return Volume(type="bucket", source="user/jobs", mount_path=mount_path, path=source, read_only=read_only)

    def upload(self, *, remote_to_local_file_names, **kwargs):
        started.uploaded = remote_to_local_file_names
        return [Volume(type="bucket", source="user/jobs", mount_path="/data", path="1", read_only=False)]

    def run_job(self, **kwargs):
        vars(started).update(kwargs)
        status = SimpleNamespace(expose_urls=None, ssh_url=None)
        owner = SimpleNamespace(name="user")
        return SimpleNamespace(id="1", labels={}, url="", status=status, owner=owner, network=None)

    monkeypatch.setattr(HfApi, "whoami", lambda self, **kwargs: {"name": "user"})
    monkeypatch.setattr(HfApi, "sync_job_volume", sync)
    monkeypatch.setattr(HfApi, "_upload_scripts_to_bucket", upload)
    monkeypatch.setattr(HfApi, "run_job", run_job)
    return started


def test_the_command_of_the_docstring_starts_a_job(clone, job, monkeypatch):
    """huggingface-hub 2.4 parses the command and prepares the job, except for the request."""
    words = command_of_the_docstring()
    at = words.index("run") + 1
    for check in ("check_cli_update", "check_skill_update"):
        monkeypatch.setattr(hf, check, lambda *args: None)
    monkeypatch.setattr(sys, "argv", [*words[:at], "--detach", *words[at:]])
    with pytest.raises(SystemExit) as end:
        hf.main()
    assert end.value.code in (0, None)
    wheel = f"/dist/{WHEEL}"
    assert job.command[:5] == ["uv", "run", "--with", wheel, "/data/run_distill.py"]
    assert job.command[5:8] == ["/data/features.yaml", "--dataset", "/my_data"]
    assert job.uploaded == {"run_distill.py": "run_distill.py", "features.yaml": "configs/own/features.yaml"}
    mounts = {volume.mount_path: (volume.path, volume.read_only) for volume in job.volumes}
    assert mounts == {"/dist": ("./dist", True), "/my_data": ("./my_data", True), "/data": ("1", False)}
    assert job.secrets == {"HF_TOKEN": "hf_none"}
    assert job.flavor == "a10g-small"


def test_a_job_without_the_package_ends_with_a_sentence(clean_process):
    path = str(PROJECT / "run_distill.py")
    error = clean_process(f"import runpy; runpy.run_path({path!r}, run_name='__main__')", fails=True)
    assert error == "error: The package avt_distill is not installed: pip install it, or in a job give --with WHEEL.\n"

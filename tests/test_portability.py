"""Windows and macOS: encodings, line endings, modules and calls that exist only on Linux, and open files."""

import io
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from helpers.places import PROJECT
from helpers.portability import portability_findings
from helpers.processes import WITH_THE_PROJECT, inherited
from test_faults import GROUPS, commands_of_rows
from tiny_kitchen import write_kitchen, write_soft_labels

from avt_distill.commands.anticipate import print_json
from avt_distill.commands.demo import from_here
from avt_distill.data.labels import LabelSpace
from avt_distill.runs import lock, names
from avt_distill.runs.folder import growing_json, whole_file
from avt_distill.runs.lock import locked
from avt_distill.runs.terminal import shown_as_text

SHIPPED = ("avt_distill", "modeling_avt", "benchmarks", "space", "metrics", ".ci", "hub_cards", "configs")
FILES = sorted(
    [*PROJECT.glob("*.py"), *(path for place in SHIPPED for path in (PROJECT / place).rglob("*.py"))],
    key=str,
)
# Findings that are allowed in a file, by a part of their text, and why.
ALLOWED = {
    "avt_distill/runs/lock.py": ("os.pread", "os.pwrite"),  # for locks, which are used only if fcntl exists
    "avt_distill/sharing/cards.py": ("repo_id.rpartition",),  # the name of a repository
    "avt_distill/sharing/metadata.py": ("result.dataset_type.rpartition",),  # the name of a data set on the Hub
    "avt_distill/sharing/hub.py": ("(args.hub_model_id or folder.name).rpartition",),  # the same
}
# Benchmarks run on Linux, are not installed, and write no files that other systems read.
OF_BENCHMARKS = ("is not on every system", "writes other line ends")


def allowed(path: Path) -> tuple[str, ...]:
    name = path.relative_to(PROJECT).as_posix()
    return ALLOWED.get(name, ()) + (OF_BENCHMARKS if name.startswith("benchmarks/") else ())


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.relative_to(PROJECT).as_posix())
def test_nothing_differs_between_systems(path):
    found = portability_findings(path.read_text(encoding="utf-8"))
    assert [f for f in found if not any(part in f.what for part in allowed(path))] == []


def test_no_exception_is_out_of_date():
    for name, parts in ALLOWED.items():
        found = " ".join(f.what for f in portability_findings((PROJECT / name).read_text(encoding="utf-8")))
        assert all(part in found for part in parts), name


ENCODING, NEWLINE, ABSENT = "states no encoding", "writes other line ends", "is not on every system"


@pytest.mark.parametrize(
    ("code", "what"),
    [
        ("open(p)", ENCODING),
        ("open(p, 'r')", ENCODING),
        ("open(p, mode='rt')", ENCODING),
        ("open(p, mode)", ENCODING),
        ("open(p, encoding=None)", ENCODING),
        ("open(p, encoding='locale')", ENCODING),
        ("open(p, 'w', encoding='utf-8')", NEWLINE),
        ("open(p, 'r+', encoding='utf-8')", NEWLINE),
        ("import io\nio.open(p)", ENCODING),
        ("from io import open as io_open\nio_open(p)", ENCODING),
        ("import os\nos.fdopen(d, 'w', newline='')", ENCODING),
        ("import gzip\ngzip.open(p, 'rt')", ENCODING),
        ("from gzip import open as opens\nopens(p, 'rt')", ENCODING),
        ("import bz2, lzma\n(bz2.open if x else lzma.open)(p, 'wt', newline='')", ENCODING),
        ("opens = open if x else open\nopens(p)", ENCODING),
        ("map(open, paths)", "is passed on"),
        ("import tempfile\ntempfile.NamedTemporaryFile('w', newline='')", ENCODING),
        ("from tempfile import TemporaryFile\nTemporaryFile(mode='w+', newline='')", ENCODING),
        ("path.open()", ENCODING),
        ("(folder / name).open('a', newline='')", ENCODING),
        ("path.read_text()", ENCODING),
        ("Path(p).read_text(errors='replace')", ENCODING),
        ("path.write_text('x', newline='')", ENCODING),
        ("path.write_text('x', encoding='utf-8')", NEWLINE),
        ("from importlib.resources import files\nfiles('x').joinpath('y').read_text()", ENCODING),
        ("import io\nio.TextIOWrapper(raw)", ENCODING),
        ("import logging\nlogging.FileHandler('log')", ENCODING),
        ("from logging.handlers import RotatingFileHandler\nRotatingFileHandler('log')", ENCODING),
        ("import logging\nlogging.basicConfig(filename='log')", ENCODING),
        ("import numpy as np\nnp.loadtxt(p)", ENCODING),
        ("socket.makefile('r')", ENCODING),
        ("import subprocess\nsubprocess.run(words, text=True)", ENCODING),
        ("from subprocess import check_output as out\nout(words, universal_newlines=True)", ENCODING),
        ("import subprocess\nsubprocess.getoutput('x')", ENCODING),
        ("import os\nos.popen('x')", "locale's encoding"),
        ("import codecs\ncodecs.open(p, 'r', 'utf-8')", "locale's encoding"),
        ("import fcntl", ABSENT),
        ("from resource import getrusage", ABSENT),
        ("def f():\n    import pwd", ABSENT),
        ("try:\n    import fcntl\nexcept OSError:\n    pass", ABSENT),
        ("try:\n    pass\nexcept ImportError:\n    import fcntl", ABSENT),
        ("import msvcrt", ABSENT),
        ("import os\nos.sched_getaffinity(0)", ABSENT),
        ("from os import setsid", ABSENT),
        ("if hasattr(os, 'setsid'):\n    pass\nelse:\n    os.setsid()", ABSENT),
        ("import signal\nsignal.signal(signal.SIGHUP, f)", ABSENT),
        ("import os\nos.rename(a, b)", "use os.replace"),
        ("from os import rename as move\nmove(a, b)", "use os.replace"),
        ("import shutil\nshutil.move(a, b)", "use os.replace"),
        ("path.rename(other)", "use replace"),
        ("import os\nif os.fork() == 0:\n    pass", "start a process"),
        ("import multiprocessing\nmultiprocessing.get_context('fork')", "by spawn"),
        ("name = str(path).split('/')[-1]", "by pathlib"),
        ("name = path.rpartition('\\\\')[2]", "by pathlib"),
    ],
)
def test_planted_differences_are_found(code, what):
    assert what in " ".join(finding.what for finding in portability_findings(code))


@pytest.mark.parametrize(
    "code",
    [
        "open(p, 'rb')",
        "open(p, encoding='utf-8')",
        "open(p, 'r', -1, 'utf-8')",
        "open(p, 'w', encoding='utf-8', newline='')",
        "import gzip\ngzip.open(p)",
        "import gzip\ngzip.open(p, 'w')",
        "import gzip\nopens = gzip.open if x else open\nopens(p, 'rt', encoding='utf-8')",
        "import tempfile\ntempfile.NamedTemporaryFile()",
        "path.open('rb')",
        "path.read_text('utf-8')",
        "path.write_text('x', 'utf-8', newline='\\n')",
        "import av\nav.open(p, 'w')",
        "from .folder import write_text\nwrite_text(p, 'x')",
        "import subprocess\nsubprocess.run(words, capture_output=True)",
        "import subprocess\nsubprocess.run(words, text=True, encoding='utf-8')",
        "import logging\nlogging.FileHandler('log', encoding='utf-8')",
        "try:\n    import fcntl\nexcept ImportError:\n    fcntl = None",
        "if hasattr(os, 'setsid'):\n    os.setsid()",
        "n = len(os.sched_getaffinity(0)) if hasattr(os, 'sched_getaffinity') else os.cpu_count()",
        "os.replace(a, b)",
        "table.rename(columns={})",
        "name.partition('_')",
    ],
)
def test_portable_code_has_no_findings(code):
    assert portability_findings(code) == []


# Encodings


NAMES = ("Gemüse_schälen", "切る_玉ねぎ", "открыть_дверь", "wash_knife")
# Runs each of the commands in the arguments; opening a text file without an encoding is an error.
IN_ASCII = """
import json, sys, warnings
warnings.filterwarnings("error", category=EncodingWarning, module=r"(avt_distill|modeling_avt)")
from avt_distill.__main__ import main
for words in json.loads(sys.argv[1]):
    main(words)
"""


@pytest.mark.parametrize("trains", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_commands_read_and_write_utf_8_where_the_system_has_ascii(tmp_path, monkeypatch, trains):
    monkeypatch.setattr("tiny_kitchen.ACTIONS", NAMES)
    data, out = write_kitchen(tmp_path / "data"), tmp_path / "out"
    write_soft_labels(tmp_path / "soft.parquet", data)
    rows = ["--num_frames", "4", "--tau_o", "4.0", "--cache_dir", str(tmp_path / "cache")]
    student = ["--features", str(data / "features"), "--distill_weight", "0", "--max_steps", "1", "--seeds", "0"]
    commands = [
        ["prepare_dataset", str(data), *rows, "--export", str(out / "rows")],
        ["inspect_teacher", str(tmp_path / "soft.parquet"), str(data), *rows, "--split", "train", "--video", "v0"],
        ["distill", str(data / "run.yaml"), *student, "--output_dir", str(out / "run")],
    ]
    ascii_only = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0", "PYTHONWARNDEFAULTENCODING": "1"}
    environment = {**inherited(), **ascii_only, "HF_HUB_OFFLINE": "1", "PYTHONPATH": str(PROJECT)}
    words = [sys.executable, "-c", IN_ASCII, json.dumps(commands[: 3 if trains else 2])]
    result = subprocess.run(words, env=environment, cwd=tmp_path, capture_output=True, check=False)
    assert result.returncode == 0, result.stderr.decode(errors="replace")[-4000:]
    assert rb"Gem\xfcse_sch\xe4len" in result.stdout  # escaped, since the pipe's encoding lacks it
    space = LabelSpace.load(out / "rows" / "labels.json")
    assert set(space.actions) == set(NAMES)
    if trains:
        (student,) = out.glob("run/*_seed0")
        saved = json.loads((student / "config.json").read_text(encoding="utf-8"))
        assert set(saved["id2label"].values()) == set(NAMES)


def test_lines_end_alike_everywhere(tmp_path, monkeypatch):
    """A growing JSON file is written at byte positions, which other line endings would shift."""

    def write_as_windows(self, text, encoding=None, errors=None, newline=None, *, write=Path.write_text):
        return write(self, text, encoding, errors, "\r\n" if newline is None else newline)

    monkeypatch.setattr(Path, "write_text", write_as_windows)
    with growing_json(tmp_path / "a.json", {"name": "ä"}, "items") as append:
        append({"切": 1})
        append({"切": 2})
    content = (tmp_path / "a.json").read_bytes()
    assert b"\r" not in content
    assert json.loads(content) == {"name": "ä", "items": [{"切": 1}, {"切": 2}]}


def test_what_an_encoding_lacks_is_printed_written_out(monkeypatch):
    pipe = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(pipe, encoding="cp1252", newline="\n", write_through=True))
    with shown_as_text():
        print("schälen, 切る")
        print("schälen")
        print_json({"label": "schälen, 切る"})
    first, second, line = pipe.getvalue().splitlines()
    assert first.decode("cp1252") == r"schälen, \u5207\u308b"
    assert second.decode("cp1252") == "schälen"
    assert json.loads(line.decode("ascii")) == {"label": "schälen, 切る"}


# Windows


@pytest.mark.parametrize("name", ["P01:02", "what?", "a|b", "video.", "video ", "NUL", "con.mp4", "Lpt1"])
def test_names_that_windows_does_not_allow_are_refused_there(name, monkeypatch):
    assert names.file_name(name) == name
    monkeypatch.setattr(names, "ON_WINDOWS", True)
    with pytest.raises(ValueError, match=r"cannot be part of a file's name on Windows: rename it"):
        names.file_name(name)
    assert names.file_name("P01_02.5 NULL") == "P01_02.5 NULL"


def test_a_path_on_another_drive_is_shown_as_it_is(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert from_here(tmp_path / "a" / "b") == Path("a", "b")

    def on_another_drive(path):
        raise ValueError("path is on mount 'C:', start on mount 'D:'")

    monkeypatch.setattr(os.path, "relpath", on_another_drive)
    assert from_here(str(tmp_path / "a")) == tmp_path / "a"


def test_without_locks_a_folder_is_made_and_a_warning_says_so_once(tmp_path, monkeypatch, caplog):
    monkeypatch.setattr(lock, "fcntl", None)
    for _ in range(2):
        with locked(tmp_path / "run"), locked(tmp_path / "run"):
            assert (tmp_path / "run").is_dir()
    assert not (tmp_path / "run").exists()  # nothing was written
    assert [record.getMessage() for record in caplog.records] == [
        f"This system has no file locks to detect other commands: do not start a second command in {tmp_path / 'run'}."
    ]


def test_without_locks_two_writers_of_a_file_do_not_write_into_each_other(tmp_path, monkeypatch):
    monkeypatch.setattr(lock, "fcntl", None)
    with whole_file(tmp_path / "a") as first, whole_file(tmp_path / "a") as second:
        assert first != second
        first.write_bytes(b"1")
        second.write_bytes(b"2")
    assert [path.name for path in tmp_path.iterdir()] == ["a"]
    assert (tmp_path / "a").read_bytes() == b"1"


REFUSED = """
import os
from pathlib import Path
from helpers.windows import refuse_as_windows
Path("out/sub").mkdir(parents=True)
Path("out/sub/a").write_bytes(b"a" * 5000)
refuse_as_windows("out")

def is_refused(call):
    try:
        call()
    except OSError as error:
        return "Windows" in str(error)
    return False

import mmap
import numpy as np
with open("out/sub/a", "rb") as file:
    assert is_refused(lambda: os.replace("out/sub/a", "out/b"))
    assert is_refused(lambda: os.unlink("out/sub/a"))
    assert is_refused(lambda: os.rename("out/sub", "out/other"))
    assert is_refused(lambda: os.fsync(file.fileno()))
mapped = np.memmap("out/sub/a", mode="r")
assert is_refused(Path("out/sub/a").unlink)
del mapped
assert is_refused(lambda: os.open("out/sub", os.O_RDONLY))
assert is_refused(lambda: open("out/12:30", "w"))
assert is_refused(lambda: os.mkdir("out/what?"))
assert is_refused(os.fork)
os.replace("out/sub/a", "out/b")
Path("out/b").unlink()
from avt_distill.runs import folder
folder.write_json("out/c.json", {})
folder.can_lock = lambda: True  # as if the unfinished file were kept open
assert is_refused(lambda: folder.write_json("out/d.json", {}))
"""


def test_the_imitation_of_windows_refuses_what_windows_does(clean_process):
    clean_process(WITH_THE_PROJECT + REFUSED)


@pytest.fixture(scope="module")
def kitchen(tmp_path_factory) -> Path:
    folder = write_kitchen(tmp_path_factory.mktemp("kitchen") / "data")
    write_soft_labels(folder.parent / "soft.parquet", folder)
    return folder


AS_ON_WINDOWS = """
from pathlib import Path
Path("out").mkdir()
from helpers.commands import run_command
from helpers.windows import refuse_as_windows
refuse_as_windows("out")
folder = Path("out")
{makes}
result = run_command(*{words!r})
print(result.stdout, result.stderr)
raise SystemExit(result.returncode)
"""
WITH_WORKERS = {
    "distill": ["--dataloader_num_workers", "1"],
    "extract_features": ["--num_workers", "1"],
    "extract_recipe_actions": ["--num_proc", "2"],
}


@pytest.mark.slow
@pytest.mark.parametrize(("commands", "name"), [(group, name) for group, names in GROUPS.items() for name in names])
def test_commands_do_nothing_that_windows_refuses(kitchen, tmp_path, fork_server, commands, name):
    """Data-loading workers are new processes, as on Windows and macOS, so their arguments must be pickled."""
    command = commands(kitchen, tmp_path)[name]
    words = [*map(str, command.words), *WITH_WORKERS.get(name, ())]
    shutil.rmtree(tmp_path / "out", ignore_errors=True)
    code = WITH_THE_PROJECT + AS_ON_WINDOWS.format(words=words, makes=command.makes)
    process = fork_server.start(code, tmp_path, HF_HUB_OFFLINE="1")
    process.wait(timeout_s=1800)
    assert process.returncode == 0, process.stderr[-4000:]


def test_soft_labels_are_exported_as_on_windows(kitchen, tmp_path, fork_server):
    test_commands_do_nothing_that_windows_refuses(
        kitchen, tmp_path, fork_server, commands_of_rows, "export_soft_labels"
    )

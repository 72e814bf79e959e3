"""`avt-distill COMMAND`: the list of commands, errors, and how quickly each command shows its help."""

import resource
import subprocess
import sys
from dataclasses import fields

import pytest
from helpers.commands import run_command
from helpers.places import PROJECT

from avt_distill.__main__ import COMMANDS, main
from avt_distill.data.arguments import BENCHMARKS, DatasetArguments
from avt_distill.data.loading import BUILDERS
from avt_distill.data.rows import RowOptions

NAMES = [name for names in COMMANDS.values() for name in names]
THAT_TRAIN = ("adapt_language_model", "distill", "fit_reader", "export_soft_labels", "finetune_teacher")


def processor_seconds(*command: str) -> tuple[float, str]:
    """Returns the processor time of a Python process, and its output."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    result = subprocess.run([sys.executable, *command], cwd=PROJECT, capture_output=True, text=True, check=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime, result.stdout


def test_every_command_is_listed_with_a_line(capsys):
    files = {path.stem for path in (PROJECT / "avt_distill" / "commands").glob("*.py")} - {"__init__"}
    assert set(NAMES) == files
    for argv in (["--help"], []):
        main(argv)
        lines = capsys.readouterr().out.splitlines()
        for name in NAMES:
            (line,) = (line for line in lines if line.startswith(f"  {name} "))
            assert len(line) <= 120
            assert line.endswith(".")


@pytest.mark.parametrize("name", NAMES)
def test_help_is_short_and_keeps_the_examples(name):
    result = run_command(name, "--help")
    assert result.returncode == 0
    lines = result.stdout.splitlines()
    assert lines[0].startswith(f"usage: avt-distill {name} ")
    assert len(lines) <= 130
    examples = [line for line in lines if line.startswith(f"    avt-distill {name}")]
    assert examples
    assert all(len(line) <= 120 for line in examples)


@pytest.mark.parametrize("name", NAMES)
def test_an_unknown_option_is_named_with_the_nearest(name):
    known = "output_dir" if name in THAT_TRAIN else "seeds" if name == "demo" else "help"
    result = run_command(name, f"--{known}x", "1")
    assert result.returncode == 1
    assert result.stderr.startswith(f"error: The option --{known}x is not known")
    assert result.stderr.count("\n") == 1
    assert known == "help" or f"did you mean {known}" in result.stderr


def test_an_unknown_command_is_named_with_the_nearest():
    with pytest.raises(SystemExit, match="There is no command 'anticipat': did you mean anticipate"):
        main(["anticipat", "x.mp4"])
    with pytest.raises(SystemExit, match="avt-distill --help lists all"):
        main(["zzz"])


def test_hyphens_are_underscores(capsys):
    with pytest.raises(SystemExit):
        main(["compare-runs", "--help"])
    assert "usage: avt-distill compare_runs" in capsys.readouterr().out


def test_options_of_a_data_set_are_those_of_rows_and_builders():
    names = {option.name for option in fields(DatasetArguments)}
    assert {option.name for option in fields(RowOptions)} <= names
    for builder in BUILDERS.values():
        own = {option.name for option in fields(builder.BUILDER_CONFIG_CLASS)}
        assert own - {"name", "version", "data_files", "description"} <= names, builder.__name__
    assert set(BENCHMARKS) == set(BUILDERS)


def test_commands_that_do_not_train_import_nothing_heavy_before_they_parse():
    names = [name for name in NAMES if name not in THAT_TRAIN]
    code = f"""
import contextlib, io, sys
from avt_distill.__main__ import main
for name in {names}:
    with contextlib.suppress(SystemExit), contextlib.redirect_stdout(io.StringIO()) as printed:
        main([name, "--help"])
    assert printed.getvalue().startswith(f"usage: avt-distill {{name}} ")
print(*sys.modules)
"""
    seconds, printed = processor_seconds("-c", code)
    heavy = {"torch", "transformers", "datasets", "pandas", "pyarrow", "av", "scipy", "accelerate", "huggingface_hub"}
    assert not heavy & set(printed.split())
    assert seconds < 1.5


@pytest.mark.slow
def test_run_distill_is_the_command(capsys):
    with pytest.raises(SystemExit):
        main(["distill", "--help"])
    expected = capsys.readouterr().out
    _, printed = processor_seconds("run_distill.py", "--help")
    assert printed == expected
    _, printed = processor_seconds("-m", "avt_distill", "distill", "--help")
    assert printed == expected

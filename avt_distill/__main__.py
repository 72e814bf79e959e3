"""`avt-distill COMMAND ...`, the same as `python -m avt_distill COMMAND ...`.

`accelerate launch -m avt_distill COMMAND ...` starts a command in several processes.
"""

import ast
import importlib
import os
import signal
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path

from .runs.arguments import closest
from .runs.errors import sentence
from .runs.terminal import shown_as_text

COMMANDS = {
    "watch a video": ("anticipate",),
    "data": ("prepare_dataset", "extract_features", "add_feature_memory"),
    "text teacher": (
        *("extract_recipe_actions", "adapt_language_model", "finetune_teacher", "export_soft_labels"),
        "inspect_teacher",
    ),
    "student": ("distill", "attach_encoder", "fit_reader", "calibrate", "evaluate", "compare_runs"),
    "share": ("convert_checkpoint", "export_model", "push_to_hub"),
    "see all of it": ("demo",),
}
BROKEN_PIPE = 141  # 128 + SIGPIPE, which Windows does not define


def main(argv: Sequence[str] | None = None):
    """Runs a command.

    Args:
        argv (`Sequence[str]`, *optional*): The command's name and its options. Default: `sys.argv[1:]`.

    Raises:
        SystemExit: With "error: " and one sentence, if the user can correct the problem.
    """
    name, *arguments = [*(sys.argv[1:] if argv is None else argv)] or ["--help"]
    with shown_as_text(), errors_in_one_line():
        if name in ("-h", "--help"):
            print(overview())
        elif name == "--version":
            print(version("avt-distill"))
        else:
            importlib.import_module(f".commands.{_checked(name)}", "avt_distill").main(arguments)


@contextmanager
def errors_in_one_line() -> Iterator[None]:
    """Exits with a one-line message for errors that the user can correct: see `runs.errors.sentence`.

    Ctrl-C and a closed output pipe exit silently, with the exit status of a process killed by that signal.
    """
    try:
        yield
        sys.stdout.flush()  # here, so that a closed pipe raises inside the block and not when the interpreter exits
    except KeyboardInterrupt:
        sys.exit(128 + signal.SIGINT)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # the interpreter flushes again at exit
        sys.exit(BROKEN_PIPE)
    except Exception as error:
        message = sentence(error)
        if message is None:
            raise
        sys.exit(f"error: {message}")


def overview() -> str:
    """Returns the list of commands, each with the first line of its docstring."""
    lines = ["usage: avt-distill COMMAND [--help] [--option value ...]", ""]
    for title, names in COMMANDS.items():
        lines += [f"{title}:", *(f"  {name:<24}{_first_line(name)}" for name in names), ""]
    lines.append("Explain a command: avt-distill COMMAND --help")
    lines.append("In several processes: accelerate launch -m avt_distill COMMAND ...")
    return "\n".join(lines)


def _first_line(name: str) -> str:
    source = Path(__file__).parent / "commands" / f"{name}.py"
    return (ast.get_docstring(ast.parse(source.read_text(encoding="utf-8"))) or "").partition("\n")[0]


def _checked(name: str) -> str:
    known = [command for names in COMMANDS.values() for command in names]
    command = name.replace("-", "_")
    if command not in known:
        hint = closest(command, known, otherwise="avt-distill --help lists all.")
        raise ValueError(f"There is no command '{name}': {hint}")
    return command


if __name__ == "__main__":
    main()

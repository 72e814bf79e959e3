"""Measures startup times: importing the model's code and showing a command's help, compared with transformers.

    python -m benchmarks.imports --output imports.json

Each command runs in a new process, and all commands take turns. The baseline imports what any model with a trainer
needs from transformers. A bare `import transformers` loads almost nothing and is listed for comparison.
"""

import argparse
import subprocess
import sys
from functools import partial
from pathlib import Path

from benchmarks.measure import add_common_arguments, describe_machine, take_turns, write_result

ROOT = Path(__file__).resolve().parent.parent
COMMANDS = {
    "transformers: PreTrainedModel, Trainer": ["-c", "from transformers import PreTrainedModel, Trainer"],
    "transformers: PreTrainedModel": ["-c", "from transformers import PreTrainedModel"],
    "import transformers": ["-c", "import transformers"],
    "import modeling_avt": ["-c", "import modeling_avt"],
    "modeling_avt.AVTForAnticipation": ["-c", "from modeling_avt import AVTForAnticipation"],
    "run_distill.py --help": ["run_distill.py", "--help"],
    "avt-distill evaluate --help": ["-m", "avt_distill", "evaluate", "--help"],
}


def main(arguments: list[str] | None = None):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_common_arguments(parser, repeats=7)
    args = parser.parse_args(arguments)
    _, times = take_turns({name: partial(start, command) for name, command in COMMANDS.items()}, args.repeats)
    for measured in times.values():
        del measured["processor_ms"]  # that of this process, which only waits
    baseline = next(iter(COMMANDS))
    for name, measured in times.items():
        measured["times_the_baseline"] = measured["median_ms"] / times[baseline]["median_ms"]
        print(f"{name:<42}{measured['median_ms']:>8.0f} ms{measured['times_the_baseline']:>8.2f} times the baseline")
    write_result({"machine": describe_machine("torch", "transformers"), "times": times}, args.output)


def start(command: list[str]):
    subprocess.run([sys.executable, *command], cwd=ROOT, check=True, stdout=subprocess.DEVNULL)


if __name__ == "__main__":
    main()

"""`avt-distill distill`: trains students on a text teacher's soft labels, alongside identical baselines.

accelerate launch run_distill.py configs/salads50/student.yaml --output_dir runs/salads --seeds 0 1 2
python run_distill.py --help
python run_distill.py                      # the demo: makes its data and its teacher, in minutes on a laptop
"""

import sys
from collections.abc import Sequence

from avt_distill.__main__ import main as avt_distill


def main(argv: Sequence[str] | None = None):
    """Runs the command with these options, by default those of the process."""
    avt_distill(["distill", *(sys.argv[1:] if argv is None else argv)])


if __name__ == "__main__":
    main()

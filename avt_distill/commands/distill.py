r"""Trains students with and without a text teacher's soft labels, and compares them.

    avt-distill distill configs/salads50/student.yaml --data_dir salads50 --features features/ \
        --soft_labels soft_labels/train.parquet --output_dir runs/salads --seeds 0 1 2
    accelerate launch -m avt_distill distill configs/egtea/student.yaml ...    # several GPUs or machines
    avt-distill distill                # without options: the demo, which generates its own data and teacher

`output_dir` then holds a folder for each student, `distilled_seed<n>` and `baseline_seed<n>`, a checkpoint each with
its `scores_<split>.parquet` and `results.json`; and `comparison.json`, their paired differences. If interrupted, rerun
the command: finished students are kept, and training resumes.

To show that a teacher is better than label smoothing, train with smoothed labels in another folder and compare:

    avt-distill distill configs/salads50/student.yaml --data_dir salads50 --features features/ --distill_weight 0 \
        --label_smoothing_factor 0.1 --output_dir runs/smoothed --seeds 0 1 2
    avt-distill compare_runs --baseline runs/smoothed/baseline_seed*/scores_test.parquet \
        --candidate runs/salads/distilled_seed*/scores_test.parquet
"""

from collections.abc import Sequence

from ..runs.arguments import parse_run
from ..student.arguments import RunArguments
from . import demo


def main(argv: Sequence[str]):
    if not argv:
        demo.main(argv)
        return
    args = parse_run(RunArguments, argv, description=__doc__, command="distill")

    from accelerate import PartialState

    from ..student.run import distill, push

    text = distill(args)
    PartialState().wait_for_everyone()  # all processes must have finished writing before the folder is pushed
    if args.should_save:
        print(f"\n{text}")
        if args.push_to_hub:
            print(f"Pushed to {push(args)}")
    PartialState().wait_for_everyone()  # a process that exits while another is still working may abort

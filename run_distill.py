# /// script
# requires-python = ">=3.10"
# dependencies = [
#     "accelerate>=1.10",
#     "av>=15.0",
#     "datasets>=4.0",
#     "evaluate>=0.4.6",
#     "huggingface-hub>=1.33",
#     "jinja2>=3.1",
#     "numpy>=2.0",
#     "pandas>=2.2.2",
#     "pyyaml>=6.0",
#     "safetensors>=0.8",
#     "scipy>=1.15",
#     "torch>=2.7",
#     "transformers>=5.19,<6",
# ]
# ///
r"""`avt-distill distill`: trains students on a text teacher's soft labels, alongside identical baselines.

accelerate launch run_distill.py configs/salads50/student.yaml --output_dir runs/salads --seeds 0 1 2
python run_distill.py --help
python run_distill.py                      # the demo: generates its data and teacher, in minutes on a laptop

To run on a GPU with Hugging Face Jobs, after `hf auth login`: the job gets this file, the YAML file of the run, the
package as a wheel and the data, and uploads the student. Its other files are deleted at the end.

pip wheel --no-deps -w dist .
hf jobs uv run --flavor a10g-small --timeout 6h --secrets HF_TOKEN -v ./dist:/dist -v ./my_data:/my_data \
--with /dist/avt_distill-0.1.0-py3-none-any.whl run_distill.py configs/own/features.yaml --dataset /my_data \
--features /my_data/features --output_dir run --push_to_hub true --hub_model_id user/name
"""

import sys
from collections.abc import Sequence


def main(argv: Sequence[str] | None = None):
    """Runs `avt-distill distill`.

    Args:
        argv (`Sequence[str]`, *optional*): The command's options. Default: those of the process.
    """
    try:
        from avt_distill.__main__ import main as avt_distill
    except ModuleNotFoundError as error:
        if error.name != "avt_distill":
            raise
        sys.exit("error: The package avt_distill is not installed: pip install it, or in a job give --with WHEEL.")
    avt_distill(["distill", *(sys.argv[1:] if argv is None else argv)])


if __name__ == "__main__":
    main()

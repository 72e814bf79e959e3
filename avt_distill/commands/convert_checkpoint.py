r"""Converts an original AVT checkpoint for `from_pretrained` and `pipeline`.

    avt-distill convert_checkpoint checkpoint.pth converted/ --experiment_config expts/12_egtea_avt.txt

Without the experiment's file, pass what cannot be read from the weights:

    avt-distill convert_checkpoint checkpoint.pth converted/ \
        --config_overrides '{"head_num_heads": 4, "backbone_num_attention_heads": 12, "tau_a": 0.5}'
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

from ..runs.arguments import CommandParser, mapping
from ..runs.fingerprints import files_digest
from ..runs.folder import whole_files, write_json
from ..runs.lock import locked
from ..runs.outputs import OVERWRITE, check_output, is_json_with
from ..runs.texts import read_user_json, read_user_text

CONVERSION = "conversion.json"  # records the source of a converted folder
WRITES = ("config.json", "model.safetensors", "model.safetensors.index.json", "video_preprocessor_config.json")


def main(argv: Sequence[str]):
    args = parse(argv)

    from ..conversion import convert_avt_checkpoint, largest_difference, reference_processor

    overrides, experiment = read_overrides(args), args.experiment_config
    source = source_of(args)
    model = convert_avt_checkpoint(args.checkpoint, config_overrides=overrides, experiment_config=experiment)
    config = model.config
    with locked(args.output), whole_files(args.output, last="config.json", replaces=WRITES) as unfinished:
        # Written first, so that an interrupted conversion can be rerun.
        write_json(args.output / CONVERSION, source)
        model.save_pretrained(unfinished)
        if config.backbone_config is not None:
            reference_processor(config).save_pretrained(unfinished)
    backbone = "no backbone (accepts features)" if config.backbone_config is None else config.backbone_config.model_type
    print(f"{model.num_parameters() / 1e6:.1f} M parameters, {backbone}, {config.num_labels} actions")
    difference = largest_difference(model, args.output)
    print(f"written to {args.output}; after reloading, its scores differ by at most {difference:.1e}")


def parse(argv: Sequence[str]) -> argparse.Namespace:
    parser = CommandParser("convert_checkpoint", __doc__)
    parser.add_argument("checkpoint", type=Path, help="the original checkpoint.pth")
    parser.add_argument("output", type=Path, help="folder to write")
    parser.add_argument("--experiment_config", type=Path, help="the original experiment's .txt file")
    parser.add_argument("--config_overrides", default="{}", help="AVTConfig fields as JSON, or a JSON file of them")
    for label_type in ("action", "verb", "noun"):
        names = f"text file, one {label_type} a line, in order of id"
        parser.add_argument(f"--{label_type}_names", type=Path, help=names)
    parser.add_argument("--overwrite", action="store_true", help=OVERWRITE)
    args = parser.parse(argv)
    made_here = {
        "made_here": lambda folder: is_json_with(**source_of(args))(folder / CONVERSION),
        "writes": (CONVERSION, *WRITES),
    }
    check_output("output", args.output, files_of(args), overwrite=args.overwrite, **made_here)
    return args


def files_of(args: argparse.Namespace) -> dict[str, Path | None]:
    """Returns the files that a conversion reads, by option."""
    files = {"checkpoint": args.checkpoint, "--experiment_config": args.experiment_config}
    return files | {f"--{kind}_names": getattr(args, f"{kind}_names") for kind in ("action", "verb", "noun")}


def source_of(args: argparse.Namespace) -> dict:
    """Returns the name of the original file, digests of all files, and the options, by which a rerun is recognized."""
    files = {name: path for name, path in files_of(args).items() if path is not None}
    overrides = mapping("config_overrides", args.config_overrides) if _is_json(args.config_overrides) else {}
    if not _is_json(args.config_overrides):
        files["--config_overrides"] = Path(args.config_overrides)
    return {"checkpoint": args.checkpoint.name, "digests": files_digest(files), "config_overrides": overrides}


def _is_json(text: str) -> bool:
    return text.lstrip().startswith("{")


def read_overrides(args: argparse.Namespace) -> dict:
    """Returns the `AVTConfig` fields given on the command line."""
    from modeling_avt.labels_avt import id_to_label

    from ..conversion import LABEL_FIELDS

    text = args.config_overrides
    overrides = mapping("config_overrides", text if _is_json(text) else read_user_json(text))
    for kind, field in LABEL_FIELDS.items():
        path = getattr(args, f"{kind}_names")
        if path is not None:
            names = read_user_text(path).splitlines()
            if not names:
                raise ValueError(f"{path} is empty: write one name per line, in order of id.")
            overrides[field] = id_to_label(str(path), dict(enumerate(names)))
    return overrides

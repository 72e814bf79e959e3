"""Exports a checkpoint as PyTorch or ONNX programs that run without this project.

    avt-distill export_model checkpoint/ exported/
    avt-distill export_model user/name exported/ --onnx

`feature_model` computes scores from the features of a window; `streaming_step` from a prepared frame and the features
of earlier ones, which it returns for the next step. `programs.json` lists their inputs and outputs. ONNX needs the
extra `export`. A checkpoint's reader is not exported as a program: its tables are saved in `reader.safetensors`, and
`programs.json` describes how modeling_avt's `HistoryReader` uses them.
"""

from collections.abc import Sequence
from pathlib import Path

from ..runs.arguments import CommandParser
from ..runs.outputs import OVERWRITE, check_output, is_json_with

PROGRAMS = ("feature_model", "streaming_step")
WRITES = ("programs.json", "reader.safetensors", *(f"{name}{end}" for name in PROGRAMS for end in (".pt2", ".onnx")))


def main(argv: Sequence[str]):
    parser = CommandParser("export_model", __doc__)
    parser.add_argument("model", help="folder of a checkpoint, or its name on the Hub")
    parser.add_argument("output", type=Path, help="folder to write")
    parser.add_argument("--onnx", action="store_true", help="write ONNX files too")
    parser.add_argument("--overwrite", action="store_true", help=OVERWRITE)
    args = parser.parse(argv)
    made_here = {"made_here": lambda folder: is_of(args.model, folder), "writes": WRITES}
    check_output("output", args.output, {"model": args.model}, overwrite=args.overwrite, **made_here)

    from modeling_avt import AVTForAnticipation, AVTVideoProcessor

    from ..features.encoder_record import revision_of
    from ..sharing.export import READER, export_model

    revision = revision_of(args.model)
    model = AVTForAnticipation.from_pretrained(args.model)
    processor = None if model.config.backbone_config is None else AVTVideoProcessor.from_pretrained(args.model)
    differences = export_model(model, args.output, video_processor=processor, onnx=args.onnx, revision=revision)
    for name, difference in differences.items():
        size_mb = (args.output / name).stat().st_size / 1e6
        print(f"{args.output / name}: {size_mb:.1f} MB, scores differ from the model's by at most {difference:.1e}")
    if model.reader is not None:
        print(f"{args.output / READER}: the tables of its reader")


def is_of(model: str, folder: Path) -> bool:
    """Returns whether a folder holds the programs of a model, as it is now."""
    from ..features.encoder_record import revision_of

    return is_json_with("programs", revision=revision_of(model))(folder / "programs.json")

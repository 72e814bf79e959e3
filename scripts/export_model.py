"""Writes a checkpoint as programs that run without this project: of its features, and of one step of a live stream.

    python scripts/export_model.py checkpoint/ exported/
    python scripts/export_model.py user/name exported/ --onnx

`feature_model` takes the features of a window; `streaming_step` a prepared frame and the features of those before it,
and hands them on. `programs.json` says what they take and return. ONNX needs the extra `export`.
"""

import argparse
import sys
from pathlib import Path

from avt_distill.sharing.export import export_model
from modeling_avt import AVTForAnticipation, AVTVideoProcessor


def main(arguments: list[str] | None = None):
    args = parse_arguments(arguments)
    try:
        model = AVTForAnticipation.from_pretrained(args.model)
        processor = None if model.config.backbone_config is None else AVTVideoProcessor.from_pretrained(args.model)
        differences = export_model(model, args.output, video_processor=processor, onnx=args.onnx)
    except (ValueError, OSError, ImportError) as error:
        sys.exit(f"error: {error}")
    for name, difference in differences.items():
        size_mb = (args.output / name).stat().st_size / 1e6
        print(f"{args.output / name}: {size_mb:.1f} MB, scores differ from the model's by {difference:.1e} at most")


def parse_arguments(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", help="folder of a checkpoint, or its name on the Hub")
    parser.add_argument("output", type=Path, help="folder to write")
    parser.add_argument("--onnx", action="store_true", help="write ONNX files too")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    main()

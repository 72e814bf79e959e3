"""Converts an original AVT checkpoint into a folder that `from_pretrained` and `pipeline` load.

    python scripts/convert_avt_checkpoint.py checkpoint.pth converted/ --experiment_config expts/12_egtea_avt.txt

Without the experiment's file, give what the weights do not show:

    python scripts/convert_avt_checkpoint.py checkpoint.pth converted/ \
        --config_overrides '{"head_num_heads": 4, "backbone_num_attention_heads": 12, "tau_a": 0.5}'
"""

import argparse
import json
import sys
from pathlib import Path

import torch

from avt_distill.conversion import convert_avt_checkpoint
from modeling_avt import AVTForAnticipation, AVTVideoProcessor


def main(arguments: list[str] | None = None):
    args = parse_arguments(arguments)
    try:
        model = convert_avt_checkpoint(
            args.checkpoint, config_overrides=read_overrides(args), experiment_config=args.experiment_config
        )
    except (ValueError, OSError) as error:
        sys.exit(f"error: {error}")
    model.save_pretrained(args.output)
    if model.config.backbone_config is not None:
        reference_processor(model.config).save_pretrained(args.output)
    report(model, args.output)


def parse_arguments(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoint", type=Path, help="the original checkpoint.pth")
    parser.add_argument("output", type=Path, help="folder to write")
    parser.add_argument("--experiment_config", type=Path, help="the original experiment's .txt file")
    parser.add_argument("--config_overrides", default="{}", help="AVTConfig fields as JSON, or a JSON file of them")
    for label_type in ("action", "verb", "noun"):
        parser.add_argument(
            f"--{label_type}_names", type=Path, help=f"text file, one {label_type} a line, in order of id"
        )
    return parser.parse_args(arguments)


def read_overrides(args: argparse.Namespace) -> dict:
    """Returns the `AVTConfig` fields given on the command line."""
    text = args.config_overrides
    overrides = json.loads(text if text.lstrip().startswith("{") else Path(text).read_text())
    for field, path in (
        ("id2label", args.action_names),
        ("verb_id2label", args.verb_names),
        ("noun_id2label", args.noun_names),
    ):
        if path is not None:
            overrides[field] = dict(enumerate(path.read_text().splitlines()))
    return overrides


def reference_processor(config) -> AVTVideoProcessor:
    """Returns AVT's own preprocessing: short side 248 for crops of 224, no antialiasing, pixels to -1..1."""
    crop = config.backbone_config.image_size
    size = crop * 248 // 224
    return AVTVideoProcessor(
        size=size,
        crop_size=crop,
        train_size=(size, crop * 280 // 224),
        antialias=False,
        num_frames=config.num_frames,
        frame_rate=config.frame_rate,
        tau_o=config.tau_o,
    )


@torch.inference_mode()
def report(model: AVTForAnticipation, folder: Path):
    """Prints what was converted, and how far the saved model's scores are from the converted one's."""
    config = model.config
    generator = torch.Generator().manual_seed(0)
    features = torch.randn(2, config.num_frames, config.feature_dim, generator=generator)
    saved = AVTForAnticipation.from_pretrained(folder)
    difference = (saved(video_features=features).logits - model(video_features=features).logits).abs().max()
    backbone = "no backbone (takes features)" if config.backbone_config is None else config.backbone_config.model_type
    print(
        f"{sum(p.numel() for p in model.parameters()) / 1e6:.1f} M parameters, {backbone}, {config.num_labels} actions"
    )
    print(f"written to {folder}; loaded again, its scores differ by {difference:.1e} at most")


if __name__ == "__main__":
    main()

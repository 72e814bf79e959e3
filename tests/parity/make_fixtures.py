"""Reduces the recorded outputs of the reference implementation to the small fixtures in this folder.

    python tests/parity/make_fixtures.py ../shared/golden

The fixtures contain, of `model/`, the cases on features, without the causal-mask constants and with the first 16 of the
1,024 positions (10 frames do not use later ones); of `sampling/`, every 60th recorded row; of `metrics/`, EGTEA Gaze+,
without the scores. The tests also compare the full recordings, including those of video models, if `../shared/golden`
exists.
"""

import csv
import gzip
import json
import re
import sys
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file, save_file

HERE = Path(__file__).parent / "fixtures"
NUM_POSITIONS = 16
KEPT = r"in/clips$|in/single$|target|lm_pred|eval/\w+/out/(logits|past|future$)|eval/\w+/aux|train/(grad|loss_raw)/"


def main():
    golden = Path(sys.argv[1])
    for folder in sorted((golden / "model").iterdir()):
        if folder.is_dir() and "_vit_" not in folder.name:
            trim_model_case(folder)
    (HERE / "sampling.json").write_text(json.dumps(sampling_rows(golden / "sampling"), indent=0) + "\n")
    (HERE / "metrics_egtea.json").write_text(json.dumps(egtea_metrics(golden / "metrics")) + "\n")


def trim_model_case(folder: Path):
    state = torch.load(folder / "checkpoint.pth", weights_only=True)["model"]
    tensors = {
        f"checkpoint/{key}": value for key, value in state.items() if not re.search(r"\.attn\.(masked_)?bias$", key)
    }
    for name in ("eval.safetensors", "train.safetensors"):
        if (folder / name).exists():
            recorded = load_file(folder / name)
            tensors.update({key: value for key, value in recorded.items() if re.match(KEPT, key)})
    for key, value in tensors.items():
        tensors[key] = (value[:NUM_POSITIONS] if key.endswith("wpe.weight") else value).contiguous().clone()
    save_file(tensors, HERE / f"{folder.name}.safetensors")
    meta = json.loads((folder / "meta.json").read_text())
    meta = {key: meta[key] for key in ("model_cfg", "vit", "num_classes", "inputs", "eval", "train")}
    meta["train"] = {key: meta["train"].get(key) for key in ("input", "loss_wts", "total_loss", "losses_mean")}
    (HERE / f"{folder.name}.json").write_text(json.dumps(meta) + "\n")


def sampling_rows(folder: Path) -> list[dict]:
    rows = []
    for path in sorted(folder.glob("*.samples.json.gz")):
        name = path.name.removesuffix(".samples.json.gz")
        with gzip.open(folder / f"{name}.rows.csv.gz", "rt") as file:
            windows = {int(row["row"]): row for row in csv.DictReader(file)}
        with gzip.open(path, "rt") as file:
            samples = json.load(file)[::60]
        for sample in samples:
            window = windows[sample["row"]]
            rows.append(
                {
                    "recording": name,
                    "video_id": window["video_id"],
                    "window": [float(window["start"]), float(window["end"])],
                    "frames": sample["frames"],
                    "times_s": sample["frame_sec"],
                }
            )
    return rows


def egtea_metrics(folder: Path) -> dict:
    """Returns the recorded metrics, the rows' labels, and the verb and noun of each action; tests redraw the scores."""
    rows = np.load(folder / "egtea_val1_public.npz")
    columns = (rows[key].tolist() for key in ("y", "verb", "noun"))
    pairs = {action: [verb, noun] for action, verb, noun in zip(*columns, strict=True)}
    return {
        "recorded": json.loads((folder / "egtea_val1_public.json").read_text()),
        "labels": rows["y"].tolist(),
        "action_to_verb_noun": [pairs[action] for action in range(len(pairs))],
    }


if __name__ == "__main__":
    main()

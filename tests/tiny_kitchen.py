"""A made-up kitchen of eight videos, small enough to train on in a test: annotations, features, soft labels."""

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from helpers.videos import numbered_frames, write_video
from transformers import ViTConfig, ViTModel

from avt_distill.data import anticipation_builder
from avt_distill.data.labels import LabelSpace
from avt_distill.evaluation.scores import LABEL_SPACE_HASH
from avt_distill.features.stores import write_features
from avt_distill.teacher.soft_labels import SoftLabelTable

ACTIONS = ("cut_tomato", "open_fridge", "take_egg", "wash_knife")
WIDTH = 12
RUN = """
model_options: {head_hidden_size: 32, head_num_layers: 2, head_num_positions: 16, initializer_range: 0.3}
distill_temperature: 3.0
learning_rate: 1e-2
num_train_epochs: 3
per_device_train_batch_size: 12
per_device_eval_batch_size: 5
logging_steps: 3
save_strategy: "no"
use_cpu: true
disable_tqdm: true
"""


def write_kitchen(folder: Path) -> Path:
    """Writes annotations and features of six training and two validation videos of six actions each, and `run.yaml`."""
    generator = np.random.default_rng(0)
    looks = 2 * generator.normal(size=(len(ACTIONS), WIDTH))
    lines = ["video_id,start_s,end_s,action,split"]
    (folder / "features").mkdir(parents=True)
    for video in range(8):
        features = generator.normal(size=(40, WIDTH))
        for index in range(6):
            split, action = "train" if video < 6 else "validation", (video + index) % 4
            start_s = 3 + 4 * index  # the first window begins before the video
            lines.append(f"v{video},{start_s},{start_s + 3},{ACTIONS[action]},{split}")
            features[start_s : start_s + 3] += looks[action]
        write_features(folder / "features" / f"v{video}.safetensors", features.astype(np.float32), 1.0)
    (folder / "segments.csv").write_text("\n".join(lines) + "\n")
    options = {"dataset": str(folder), "num_frames": 4, "tau_o": 4.0, "cache_dir": str(folder / "cache")}
    lines = [f"{name}: {json.dumps(value)}" for name, value in options.items()]
    (folder / "run.yaml").write_text("\n".join(lines) + RUN)
    return folder


def kitchen_builder(folder: Path, **options):
    given = {"num_frames": 4, "tau_o": 4.0, "cache_dir": str(folder / "cache"), **options}
    return anticipation_builder(str(folder), **given)


def write_soft_labels(
    path: Path, kitchen: Path, *, num_missing: int = 0, label_space: LabelSpace | None = None
) -> Path:
    """Writes random logits for the training rows; `num_missing` of them are left out."""
    builder = kitchen_builder(kitchen)
    space = label_space or builder.annotations.label_space
    uids = builder.rows("train")["uid"].tolist()[num_missing:]
    logits = 3 * np.random.default_rng(1).normal(size=(len(uids), len(space.actions))).astype(np.float32)
    about = {LABEL_SPACE_HASH: space.content_hash, "model": "counts", "history_cutoff": "started", "tau_a": "1.0"}
    SoftLabelTable(uids, logits, about).save(path)


def write_video_kitchen(folder: Path, splits: Sequence[str] = ("train", "validation")) -> Path:
    """Writes a video of two actions for each of the splits to `videos/`."""
    (folder / "videos").mkdir(parents=True)
    lines = ["video_id,start_s,end_s,action,split"]
    for number, split in enumerate(splits):
        write_video(folder / "videos" / f"v{number}.mp4", numbered_frames(90))
        lines += [f"v{number},5,7,cut_tomato,{split}", f"v{number},7,9,take_egg,{split}"]
    (folder / "segments.csv").write_text("\n".join(lines) + "\n")
    return folder


def write_tiny_vit(folder: Path) -> Path:
    """Writes a random image model of 32 px."""
    size = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64}
    torch.manual_seed(0)
    ViTModel(ViTConfig(image_size=32, patch_size=8, **size), add_pooling_layer=False).save_pretrained(folder)
    return folder

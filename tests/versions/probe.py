"""Tests checkpoints in an environment: every way to load them, both pipelines, and a stream. Needs only the
requirements of ring 1, and no files of this project except those in the checkpoints.

    python probe.py CHECKPOINTS VIDEO OUTPUT.json
"""

import json
import platform
import sys
import tempfile
import traceback
from importlib import metadata
from pathlib import Path

PACKAGES = ("torch", "transformers", "numpy", "av", "huggingface-hub", "tokenizers", "safetensors")
NUM_FRAMES, SIDE_PX = 40, 48


def main(checkpoints: str, video: str, output: str):
    found = {"versions": versions(), "students": {}}
    for folder in sorted(Path(checkpoints).iterdir()):
        found["students"][folder.name] = {name: attempt(way, folder, video) for name, way in WAYS.items()}
    Path(output).write_text(json.dumps(found, indent=1), encoding="utf-8")


def versions() -> dict[str, str]:
    installed = {"Python": platform.python_version()}
    for name in PACKAGES:
        try:
            installed[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            installed[name] = "-"
    return installed


def attempt(way, folder: Path, video: str):
    """Returns the scores of one way to use a checkpoint, or the last line of its error."""
    try:
        return way(str(folder), video)
    except Exception as error:
        traceback.print_exc()
        return f"{type(error).__name__}: {(str(error).splitlines() or [''])[0]}"


def takes_features(folder: str) -> bool:
    return json.loads(Path(folder, "config.json").read_text(encoding="utf-8"))["backbone_config"] is None


def features():
    import numpy as np

    return np.random.default_rng(0).normal(size=(NUM_FRAMES, 12)).astype(np.float32)


def config(folder: str, video: str):
    from transformers import AutoConfig

    loaded = AutoConfig.from_pretrained(folder, trust_remote_code=True)
    return [float(loaded.num_frames), float(loaded.tau_a), float(len(loaded.id2label))]


def model(folder: str, video: str, auto_class: str = "AutoModel"):
    import torch
    import transformers
    from transformers import AutoProcessor

    loaded = getattr(transformers, auto_class).from_pretrained(folder, trust_remote_code=True)
    if takes_features(folder):
        inputs = {"video_features": torch.from_numpy(features()[None, :4])}
    else:
        inputs = AutoProcessor.from_pretrained(folder, trust_remote_code=True)(video)
    with torch.no_grad():
        return loaded(**inputs).logits[0].tolist()


def video_model(folder: str, video: str):
    return model(folder, video, "AutoModelForVideoClassification")


def reading(folder: str, video: str):
    """Reads a video with `AutoVideoProcessor` from its module, since its top-level name may require torchvision."""
    if takes_features(folder):
        return []
    from transformers.models.auto.video_processing_auto import AutoVideoProcessor

    pixels = AutoVideoProcessor.from_pretrained(folder, trust_remote_code=True)(video)["pixel_values_videos"]
    return [float(pixels.mean()), float(pixels.std())]


def anticipation(folder: str, video: str, again: str | None = None):
    from transformers import pipeline

    anticipate = pipeline("action-anticipation", model=again or folder, trust_remote_code=True)
    asked = [{"at": 2.0}, {"every": 0.5}]
    if takes_features(folder):
        answers = [anticipate(features(), frames_per_second=10, **moment) for moment in asked]
    else:
        answers = [anticipate(video, **moment) for moment in asked]
    entries = [answers[0], *(moment["anticipated"] for moment in answers[1])]
    return [entry["score"] for of_moment in entries for entry in sorted(of_moment, key=lambda entry: entry["label"])]


def saved_again(folder: str, video: str):
    """Loads a student, saves it with its code, loads it again, and returns its scores."""
    from transformers import AutoModel, AutoProcessor

    with tempfile.TemporaryDirectory() as again:
        AutoModel.from_pretrained(folder, trust_remote_code=True).save_pretrained(again)
        if not takes_features(folder):
            AutoProcessor.from_pretrained(folder, trust_remote_code=True).save_pretrained(again)
        return anticipation(folder, video, again)


def classification(folder: str, video: str):
    from transformers import pipeline

    if takes_features(folder):
        return []
    answers = pipeline("video-classification", model=folder, trust_remote_code=True)(video, top_k=5)
    return [entry["score"] for entry in sorted(answers, key=lambda entry: entry["label"])]


def stream(folder: str, video: str):
    from transformers import AutoModel, AutoProcessor

    loaded = AutoModel.from_pretrained(folder, trust_remote_code=True).eval()
    if takes_features(folder):
        watched, shown = loaded.stream(), features()
    else:
        watched, shown = loaded.stream(AutoProcessor.from_pretrained(folder, trust_remote_code=True)), frames()
    answers = [watched.push(frame, number / 10) for number, frame in enumerate(shown)]
    entries = [sorted(answer, key=lambda entry: entry["label"]) for answer in answers if answer is not None]
    return [entry["score"] for answer in entries for entry in answer]


def frames():
    import numpy as np

    return np.random.default_rng(1).integers(0, 256, size=(NUM_FRAMES, SIDE_PX, SIDE_PX, 3), dtype=np.uint8)


WAYS = {
    "AutoConfig": config,
    "AutoModel": model,
    "AutoModelForVideoClassification": video_model,
    "AutoVideoProcessor": reading,
    "pipeline action-anticipation": anticipation,
    "saved again": saved_again,
    "pipeline video-classification": classification,
    "stream": stream,
}

if __name__ == "__main__":
    main(*sys.argv[1:])

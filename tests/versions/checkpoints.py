"""One tiny checkpoint of each kind of student, and a video, for `probe.py`."""

from pathlib import Path

from helpers.readers import reading_model
from helpers.tiny_models import processor_of, tiny_config, tiny_encoder_config, tiny_model, tiny_vit_config
from helpers.videos import numbered_frames, write_video


def write_checkpoints(folder: Path) -> Path:
    """Writes a folder for each kind of student below `checkpoints`, and `video.mp4`; returns the video's path."""
    students = {
        "features": tiny_model(tiny_config()),
        "image": tiny_model(tiny_vit_config()),
        "image and reader": reading_model(tiny_vit_config, tau_a=0.5),
        "features and reader": reading_model(tau_a=0.5),
        **{kind: tiny_model(tiny_encoder_config(kind)) for kind in ("dinov2", "videomae", "timesformer", "vjepa2")},
        "vjepa2 with predictor": tiny_model(tiny_encoder_config("vjepa2", use_predictor=True)),
        "probe of vjepa2": tiny_model(tiny_encoder_config("vjepa2", head_type="probe", probe_num_heads=2)),
    }
    for name, model in students.items():
        place = folder / "checkpoints" / name.replace(" ", "_")
        model.save_pretrained(place)
        if model.config.backbone_config is not None:
            processor_of(model).save_pretrained(place)
    return Path(write_video(folder / "video.mp4", numbered_frames(120)))

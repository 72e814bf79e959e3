"""Which encoder made the features of a store, and how: kept beside them, and by students that are trained on them."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import MISSING, asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

from transformers.utils import CONFIG_NAME, cached_file
from transformers.utils.hub import extract_commit_hash

from modeling_avt.configuration_avt import AVTConfig
from modeling_avt.video_processing_avt import AVTVideoProcessor

from ..runs.fingerprints import checkpoint_digest
from ..runs.folder import read_record, write_json
from .stores import FeatureStore

EXTRACTION = "extraction.json"  # in a store: its `EncoderRecord`, and the rows per second
VIDEOS = "videos.json"  # in a store: where each video was read, by video id
DIGEST_LENGTH = 16  # of a folder's revision; commits have 40 digits


@dataclass(frozen=True)
class EncoderRecord:
    """What made a feature: the model, its preprocessing, and what it sees of each moment.

    Args:
        model (`str`): Name on the Hub, or folder.
        revision (`str`, *optional*): The commit on the Hub; of a folder, a digest of its weights and configuration.
        dtype (`str`): Precision that the model computed in, such as `"float32"`.
        feature_dim (`int`): D.
        size, crop_size, image_mean, image_std, antialias: See `AVTVideoProcessor`.
        clip_num_frames, clip_frame_rate (*optional*): Of video models, see `AVTConfig`; `None` for image models.
        predict_ahead_s (`float`, *optional*): How far V-JEPA 2's predictor looked ahead, see `PretrainedEncoder`.
    """

    model: str
    revision: str | None
    dtype: str
    feature_dim: int
    size: dict[str, int]
    crop_size: dict[str, int]
    image_mean: list[float]
    image_std: list[float]
    antialias: bool
    clip_num_frames: int | None = None
    clip_frame_rate: float | None = None
    predict_ahead_s: float | None = None

    @classmethod
    def of(cls, model: str | Path, config: AVTConfig, processor: AVTVideoProcessor, dtype: str) -> "EncoderRecord":
        """Returns the record of an encoder.

        Args:
            model (`str` or `Path`): Its name on the Hub, or its folder.
            config (`AVTConfig`): What is seen of each moment, and D: `PretrainedEncoder.avt_config`.
            processor (`AVTVideoProcessor`): How frames are resized, cropped and normalized.
            dtype (`str`): The precision that it computes in.
        """
        assert config.feature_dim is not None  # read off the backbone
        is_video_model = config.clip_num_frames is not None
        return cls(
            model=str(Path(model).resolve()) if Path(model).is_dir() else str(model),
            revision=revision_of(model),
            dtype=dtype,
            feature_dim=config.feature_dim,
            **{name: getattr(processor, name) for name in PREPROCESSING},
            clip_num_frames=config.clip_num_frames,
            clip_frame_rate=config.clip_frame_rate if is_video_model else None,
            predict_ahead_s=config.tau_a if config.use_predictor else None,
        )

    @classmethod
    def from_fields(cls, content: Mapping[str, Any], source: str) -> "EncoderRecord":
        """Returns the record that a mapping holds, which may hold more.

        Args:
            content (`Mapping`): Fields by name, as JSON has them.
            source (`str`): Where they are from, for the message.

        Raises:
            ValueError: If a field is missing.
        """
        if absent := [field.name for field in fields(cls) if field.default is MISSING and field.name not in content]:
            raise ValueError(
                f"{source} lacks {absent[0]}, which every record of an encoder has: extract features anew."
            )
        return cls(**{field.name: content[field.name] for field in fields(cls) if field.name in content})

    @property
    def is_of_folder(self) -> bool:
        """Whether the model was in a folder, and not on the Hub."""
        return self.revision is not None and len(self.revision) == DIGEST_LENGTH

    @property
    def clip(self) -> dict[str, Any]:
        """The clips that the model sees, as fields of `AVTConfig` and of `AVTVideoProcessor`; none of image models."""
        if self.clip_num_frames is None:
            return {}
        return {"clip_num_frames": self.clip_num_frames, "clip_frame_rate": self.clip_frame_rate}

    def to_config(self) -> dict[str, Any]:
        """Returns the field `feature_encoder` of `AVTConfig`, which is shared: a folder without the path to it."""
        return asdict(replace(self, model=Path(self.model).name) if self.is_of_folder else self)

    def processor(self, **times: Any) -> AVTVideoProcessor:
        """Returns what prepares frames as they were prepared for the features; `times`: its fields of time."""
        side = self.size["shortest_edge"]
        of_frames = {name: getattr(self, name) for name in PREPROCESSING}
        return AVTVideoProcessor(**of_frames, train_size=(side, side), **self.clip, **times)


PREPROCESSING = ("size", "crop_size", "image_mean", "image_std", "antialias")
# What makes features others: not where the model lies, nor in which precision it was run.
COMPARED = ("revision", *PREPROCESSING, "clip_num_frames", "clip_frame_rate", "predict_ahead_s", "feature_dim")


def revision_of(model: str | Path) -> str | None:
    """Returns the commit of a model on the Hub; of a folder, a digest of its weights and configuration."""
    if not Path(model).is_dir():
        # Of transformers 5.23 on, configurations no longer carry it: it is in the path of the cached file.
        return extract_commit_hash(cached_file(str(model), CONFIG_NAME), None)
    return hashlib.sha256(json.dumps(checkpoint_digest(model)).encode()).hexdigest()[:DIGEST_LENGTH]


def encoder_of(store: FeatureStore) -> EncoderRecord | None:
    """Returns which encoder made the features of a store.

    `None` if that is not recorded: by other tools, by versions that did not, and if memory was added.
    """
    path = store.path / EXTRACTION
    if not path.is_file():
        return None
    content = read_record(path)
    return EncoderRecord.from_fields(content, str(path)) if "revision" in content else None


def refuse_other_encoder(own: EncoderRecord, other: EncoderRecord, student: str, store: Path):
    """Raises `ValueError` if a store's features are not of the kind that a student was trained on.

    Args:
        own (`EncoderRecord`): Of the student.
        other (`EncoderRecord`): Of the store.
        student (`str`), store (`Path`): Their names, for the message.
    """
    of_each = [(name, getattr(own, name), getattr(other, name)) for name in COMPARED]
    different = [pair for pair in of_each if pair[1] != pair[2] and (pair[0] != "revision" or None not in pair)]
    if different:
        name, value, found = different[0]
        names = ", ".join(pair[0] for pair in different)
        raise ValueError(
            f"{store} holds features of another encoder than {student} was trained on: {name} is {found} (of "
            f"{other.model}), not {value} (of {own.model}); all that differ: {names}. "
            "Give a store that was extracted with the same encoder and settings, or train a new student on this one."
        )


def keep_videos(folder: str | Path, videos: Mapping[str, str | Path]):
    """Records where the videos of a store are read, beside those of earlier calls.

    Args:
        folder (`str` or `Path`): The feature store.
        videos (mapping of `str` to `str` or `Path`): What `read_frames` takes, by video id.
    """
    path = Path(folder) / VIDEOS
    write_json(
        path, {**recorded_videos(folder), **{name: str(Path(video).resolve()) for name, video in videos.items()}}
    )


def recorded_videos(folder: str | Path) -> dict[str, str]:
    """Returns where the videos of a store were read, by video id; nothing if that is not recorded."""
    path = Path(folder) / VIDEOS
    return read_record(path) if path.is_file() else {}

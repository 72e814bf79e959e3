"""Records of the encoder and settings behind features, stored with the features and in students trained on them."""

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

VIDEOS = "videos.json"  # in a store: the path of each video, by video id
DIGEST_LENGTH = 16  # of a folder's revision; commits have 40 digits


@dataclass(frozen=True)
class EncoderRecord:
    """The encoder of features: the model, its preprocessing, and its clips.

    Args:
        model (`str`): Name on the Hub, or folder.
        revision (`str`, *optional*): The commit on the Hub; for a folder, a digest of its weights and configuration.
        dtype (`str`): Precision of the model during extraction, such as `"float32"`.
        feature_dim (`int`): D, the width of the features.
        size, crop_size, image_mean, image_std, antialias: See `AVTVideoProcessor`.
        clip_num_frames, clip_frame_rate (*optional*): The clips of video models, see `AVTConfig`; `None` for image
            models.
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
        """Creates the record of an encoder.

        Args:
            model (`str` or `Path`): Its name on the Hub, or its folder.
            config (`AVTConfig`): The clips and D: `PretrainedEncoder.avt_config`.
            processor (`AVTVideoProcessor`): Resizes, crops and normalizes frames.
            dtype (`str`): The precision of the model.
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
        """Creates a record from a mapping, ignoring other keys.

        Args:
            content (`Mapping`): Fields by name, as JSON has them.
            source (`str`): Where the fields come from, for the message.

        Raises:
            ValueError: If a field is missing.
        """
        if absent := [field.name for field in fields(cls) if field.default is MISSING and field.name not in content]:
            raise ValueError(
                f"{source} lacks {absent[0]}, which every record of an encoder has: extract the features again."
            )
        return cls(**{field.name: content[field.name] for field in fields(cls) if field.name in content})

    @property
    def is_of_folder(self) -> bool:
        """Whether the model was loaded from a folder rather than the Hub."""
        return self.revision is not None and len(self.revision) == DIGEST_LENGTH

    @property
    def clip(self) -> dict[str, Any]:
        """The model's clips as fields of `AVTConfig` and `AVTVideoProcessor`; empty for image models."""
        if self.clip_num_frames is None:
            return {}
        return {"clip_num_frames": self.clip_num_frames, "clip_frame_rate": self.clip_frame_rate}

    def to_config(self) -> dict[str, Any]:
        """Returns the value of `AVTConfig.feature_encoder`. Only the last part of a folder's path is kept, since it is
        shared."""
        return asdict(replace(self, model=Path(self.model).name) if self.is_of_folder else self)

    def processor(self, **times: Any) -> AVTVideoProcessor:
        """Returns a processor that prepares frames as for these features; `times`: its fields of time."""
        side = self.size["shortest_edge"]
        of_frames = {name: getattr(self, name) for name in PREPROCESSING}
        return AVTVideoProcessor(**of_frames, train_size=(side, side), **self.clip, **times)


PREPROCESSING = ("size", "crop_size", "image_mean", "image_std", "antialias")
# Fields that change the features. Neither the model's location nor its precision is compared.
COMPARED = ("revision", *PREPROCESSING, "clip_num_frames", "clip_frame_rate", "predict_ahead_s", "feature_dim")


def revision_of(model: str | Path) -> str | None:
    """Returns the commit of a model on the Hub; of a folder, a digest of its weights and configuration."""
    if not Path(model).is_dir():
        # Since transformers 5.23, configurations no longer store the commit; it is in the path of the cached file.
        return extract_commit_hash(cached_file(str(model), CONFIG_NAME), None)
    return hashlib.sha256(json.dumps(checkpoint_digest(model)).encode()).hexdigest()[:DIGEST_LENGTH]


def encoder_of(store: FeatureStore) -> EncoderRecord | None:
    """Returns the record of the encoder of a store's features.

    `None` if there is no record: for stores of other tools or earlier versions, and for stores with added memory.
    """
    path = store.path / EXTRACTION
    if not path.is_file():
        return None
    content = read_record(path)
    return EncoderRecord.from_fields(content, str(path)) if "revision" in content else None


def refuse_other_encoder(own: EncoderRecord, other: EncoderRecord, student: str, store: Path):
    """Raises `ValueError` if a store's features were not made by the encoder and settings that a student was trained
    on.

    Args:
        own (`EncoderRecord`): The student's record.
        other (`EncoderRecord`): The store's record.
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
    """Records the paths of a store's videos, in addition to those of earlier calls.

    Args:
        folder (`str` or `Path`): The feature store.
        videos (mapping of `str` to `str` or `Path`): The paths, as accepted by `read_frames`, by video id.
    """
    path = Path(folder) / VIDEOS
    write_json(
        path, {**recorded_videos(folder), **{name: str(Path(video).resolve()) for name, video in videos.items()}}
    )


def recorded_videos(folder: str | Path) -> dict[str, str]:
    """Returns the recorded paths of a store's videos, by video id; empty without a record."""
    path = Path(folder) / VIDEOS
    return read_record(path) if path.is_file() else {}

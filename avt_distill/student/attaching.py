"""Adding the encoder of its features to a student as its backbone, so that it accepts videos."""

import logging
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch

from modeling_avt.backbone_configuration_avt import backbone_width
from modeling_avt.configuration_avt import AVTConfig
from modeling_avt.modeling_avt import AVTForAnticipation
from modeling_avt.temporal_avt import CLIP_CONTRACT
from modeling_avt.video_io_avt import picture_folder
from modeling_avt.video_processing_avt import AVTVideoProcessor

from ..features.backbones import load_backbone, load_backbone_processor
from ..features.encoder_record import PREPROCESSING, EncoderRecord, encoder_of, recorded_videos, revision_of
from ..features.stores import FeatureStore, open_feature_store
from ..runs.folder import SETTINGS, read_record, whole_files, write_json
from ..sharing.card_values import CALIBRATED, READER_COMPARISON
from ..sharing.cards import ATTACHED, README, checkpoint_card, is_filled_card, write_card
from ..sharing.metadata import Stated, repository_in
from .building import check_same_encoder
from .training import RESULTS

logger = logging.getLogger(__name__)

CHECKED_ROWS = 8  # rows to compare, spread over the video
# Tolerated distance of recomputed from stored features, relative to their norm, by the precision of their extraction.
# GPUs round inputs of float32 convolutions to 11 bits (TF32), which changes a ViT's features by up to 5e-4.
TOLERANCES = {"float32": 2e-3, "float16": 1e-2, "bfloat16": 5e-2}
OF_PROCESSOR = ("num_frames", "frame_rate", "tau_o")
WRITES = (
    ATTACHED,
    "config.json",
    "model.safetensors",
    "model.safetensors.index.json",
    "video_preprocessor_config.json",
)


@dataclass(frozen=True)
class Check:
    """The result of comparing computed with stored features.

    Args:
        video (`str`): The file.
        num_rows (`int`): Rows that were compared.
        difference (`float`): The largest distance of a computed feature from the stored one, relative to its norm.
    """

    video: str
    num_rows: int
    difference: float


@dataclass(frozen=True)
class Attached:
    """A student of features with its encoder, which accepts videos.

    Args:
        model (`AVTForAnticipation`): The student with its backbone.
        processor (`AVTVideoProcessor`): What prepares its videos.
        encoder (`str`): The name of the encoder, without the path of a folder.
        check (`Check`, *optional*): The result of the comparison; `None` if it was skipped.
    """

    model: AVTForAnticipation
    processor: AVTVideoProcessor
    encoder: str
    check: Check | None


def attach_encoder(
    student: str,
    *,
    encoder: str | None = None,
    features: Path | None = None,
    feature_frame_rate: float | None = None,
    video: str | None = None,
    unchecked: bool = False,
    device: str | torch.device = "cpu",
) -> Attached:
    """Returns a student of features with their encoder as its backbone, checked on a video.

    Args:
        student (`str`): Folder or name on the Hub of a checkpoint that reads features.
        encoder (`str`, *optional*): The encoder. Default: the one that the student or its feature store records.
        features (`Path`, *optional*): The student's feature store. Default: the one that it was trained on.
        feature_frame_rate (`float`, *optional*): Rows per second, if `features` is an `.npz` file or `.npy` files.
        video (`str`, *optional*): A video whose features are stored. Default: the first of the recorded videos that
            exists.
        unchecked (`bool`, *optional*, defaults to `False`): Whether to skip the comparison.
        device (`str` or `torch.device`, *optional*, defaults to `"cpu"`): The device for the comparison.

    Raises:
        ValueError: If the encoder is not known, does not fit the student or computes other features than are stored, or
            if nothing is found to compare.
    """
    model = AVTForAnticipation.from_pretrained(student)
    if model.config.backbone_config is not None:
        raise ValueError(
            f"{student} has a backbone, a '{model.config.backbone_config.model_type}': it already accepts videos."
        )
    store = (
        _recorded_store(student) if features is None else open_feature_store(features, frame_rate=feature_frame_rate)
    )
    record = _record_of(student, model.config, store)
    name = encoder if encoder is not None else _recorded_encoder(student, record, has_store=store is not None)
    attached, processor = _with_encoder(model, name, record, student, is_given=encoder is not None)
    check = None
    if unchecked:
        logger.warning(
            "Nothing was compared: whether '%s' computes the features that %s was trained on is not known.",
            name,
            student,
        )
    else:
        if store is None:
            raise ValueError(
                f"The feature store that {student} was trained on is not found: give --features and --video to compare "
                "what the encoder computes with what is stored, or --unchecked to write the checkpoint without that."
            )
        torch.nn.Module.to(attached.eval(), device)  # transformers' own has no type
        dtype = "float32" if record is None else record.dtype
        check = _compared(attached, processor, store, video, TOLERANCES[dtype], name)
        attached.cpu()
    return Attached(attached, processor, Path(name).name if Path(name).is_dir() else name, check)


def _recorded_store(student: str) -> FeatureStore | None:
    """Returns the feature store that a student's run recorded, or `None` if it no longer exists."""
    settings = Path(student) / SETTINGS
    recorded = read_record(settings) if settings.is_file() else {}
    place = recorded.get("features")
    if place is None or not Path(place).exists():
        return None
    return open_feature_store(place, frame_rate=recorded.get("feature_frame_rate"))


def _record_of(student: str, config: AVTConfig, store: FeatureStore | None) -> EncoderRecord | None:
    """Returns the encoder record of a student's features from its store, or else from the student itself."""
    if store is not None:
        if store.feature_dim != config.feature_dim:
            raise ValueError(
                f"{store.path} holds features of width {store.feature_dim}, but {student} needs {config.feature_dim}: "
                "give the store that it was trained on."
            )
        check_same_encoder(student, config, store)
        if (record := encoder_of(store)) is not None:
            return record
    own = config.feature_encoder
    return None if own is None else EncoderRecord.from_fields(own, f"The feature_encoder of {student}")


def _recorded_encoder(student: str, record: EncoderRecord | None, *, has_store: bool) -> str:
    """Returns the recorded encoder; raises `ValueError` if none is recorded or its folder has changed since."""
    if record is None:
        raise ValueError(
            f"Neither {student} nor its feature store records the encoder of its features: give --encoder, the "
            "model's name or folder. (Where `avt-distill add_feature_memory` made the store, no encoder alone computes "
            "what is in it.)"
        )
    # A model of the same name on the Hub would be another one.
    if record.is_of_folder and not Path(record.model).is_dir():
        or_store = "" if has_store else ", or its feature store, which records its path, as --features"
        raise ValueError(
            f"The encoder of {student} was in the folder {record.model}, which is not here: give it as "
            f"--encoder{or_store}."
        )
    if record.is_of_folder and revision_of(record.model) != record.revision:
        raise ValueError(
            f"The encoder in {record.model} has changed since the features were extracted: give it as it was "
            "then, as --encoder."
        )
    return record.model


def _with_encoder(
    student: AVTForAnticipation, name: str, record: EncoderRecord | None, source: str, *, is_given: bool
) -> tuple[AVTForAnticipation, AVTVideoProcessor]:
    """Returns a student with an encoder, and the processor for its videos.

    Args:
        student (`AVTForAnticipation`): A student that accepts features.
        name (`str`): The encoder's name on the Hub, or folder.
        record (`EncoderRecord`, *optional*): How the features were extracted.
        source (`str`): Where the student comes from, for error messages.
        is_given (`bool`): Whether the encoder is the user's choice; otherwise it is loaded as it was recorded.
    """
    ahead_s, config = None if record is None else record.predict_ahead_s, student.config
    if ahead_s not in (None, config.tau_a):
        raise ValueError(
            f"The features of {source} hold what V-JEPA 2 predicts {ahead_s:g} s ahead, but a checkpoint with its "
            f"predictor predicts tau_a ahead, {config.tau_a:g} s: extract features with --predict_ahead_s "
            f"{config.tau_a:g}, and train on these."
        )
    of_commit = record is not None and not is_given and not record.is_of_folder
    options = {"revision": record.revision} if record is not None and of_commit and record.revision else {}
    use_predictor = ahead_s is not None
    backbone = load_backbone(name, use_predictor=use_predictor, dtype=torch.float32, **options)
    width = backbone_width(backbone.config) * (2 if use_predictor else 1)
    if width != config.feature_dim:
        raise ValueError(
            f"The encoder '{name}' computes features of width {width}, but {source} needs {config.feature_dim}: give "
            "the encoder of its features. (Features to which `avt-distill add_feature_memory` added columns are "
            "computed by no encoder alone.)"
        )
    of_backbone = {key: value for key, value in backbone.config.to_dict().items() if key != "_name_or_path"}  # a path
    changes = {"backbone_config": of_backbone, "use_predictor": use_predictor, "feature_encoder": None}
    changes |= {} if record is None else record.clip
    attached = AVTForAnticipation(AVTConfig.from_dict({**config.to_dict(), **changes}))
    attached.avt.backbone = backbone
    missing, left_over = attached.load_state_dict(student.state_dict(), strict=False)
    assert not left_over
    assert all(weight.startswith("avt.backbone.") for weight in missing)
    times = {time: getattr(config, time) for time in OF_PROCESSOR}
    if record is not None:
        return attached, record.processor(**times)
    of_frames = load_backbone_processor(name, backbone.config)
    prepared = {field: getattr(of_frames, field) for field in (*PREPROCESSING, "train_size")}
    clips = {field: getattr(attached.config, field) for field in CLIP_CONTRACT}
    return attached, AVTVideoProcessor(**prepared, **times, **clips)


def _compared(
    model: AVTForAnticipation,
    processor: AVTVideoProcessor,
    store: FeatureStore,
    video: str | None,
    tolerance: float,
    name: str,
) -> Check:
    """Compares recomputed with stored features; raises `ValueError` if they differ by more than the tolerance.

    Args:
        model (`AVTForAnticipation`), processor (`AVTVideoProcessor`): They compute.
        store (`FeatureStore`): What they are to compute.
        video (`str`, *optional*): See `attach_encoder`.
        tolerance (`float`): The largest difference that is accepted.
        name (`str`): The encoder, for the message.
    """
    video_id, file = _video_of(store, video)
    stored, frame_rate, start_s = store.read_all(video_id)
    rows = np.unique(np.linspace(0, len(stored) - 1, CHECKED_ROWS).round().astype(np.int64))
    times_s = start_s + rows / frame_rate
    frames, distinct = processor.read_moments(file, times_s)
    with torch.inference_mode():
        computed = model.encode_clips(frames, distinct.clips)[distinct.positions].float().cpu().numpy()  # (n, D)
    sizes = np.linalg.norm(stored[rows], axis=1)
    differences = np.linalg.norm(computed - stored[rows], axis=1) / np.maximum(sizes, np.finfo(np.float32).tiny)
    worst = int(differences.argmax())
    if not differences[worst] <= tolerance:
        raise ValueError(
            f"What '{name}' computes of {file} at {times_s[worst]:.3f} s differs from the feature stored in "
            f"{store.path} by {100 * differences[worst]:.2g} % of its norm, but at most {100 * tolerance:.2g} % is "
            "accepted: it is another encoder, revision or preprocessing than made the features, or another video. "
            "Give the right --encoder or --video; with --unchecked, the checkpoint would give other scores than the "
            "student."
        )
    return Check(file, len(rows), float(differences[worst]))


def _video_of(store: FeatureStore, given: str | None) -> tuple[str, str]:
    """Returns the ID and the file of a video whose features are stored: the one given, or the first that exists.

    Raises:
        ValueError: If the store has no features of the video, or no video is found.
    """
    stored = store.video_ids()
    if given is not None:
        folder = picture_folder(given)
        video_id = Path(given).stem if folder is None else Path(folder.path).name
        if video_id not in stored:
            raise ValueError(
                f"{store.path} holds no features of a video '{video_id}': give another, such as '{stored[0]}'."
            )
        return video_id, given
    recorded = recorded_videos(store.path)
    for video_id in stored:
        file = recorded.get(video_id)
        if file is not None and (Path(file).is_file() or picture_folder(file) is not None):
            return video_id, file
    raise ValueError(
        f"None of the videos of {store.path} is found at its recorded path: give --video, the file of one of them "
        f"(such as '{stored[0]}'), to compare what the encoder computes with what is stored, or --unchecked to write "
        "the checkpoint without that."
    )


def save_attached(attached: Attached, student: str, folder: Path):
    """Writes a student that accepts videos atomically, with the records of its training and its card.

    Args:
        attached (`Attached`): The student.
        student (`str`): The checkpoint without the encoder.
        folder (`Path`): Folder to write.
    """
    source, check = Path(student), attached.check
    record = {"student": student, "encoder": attached.encoder, "num_rows": 0, "difference": None}
    if check is not None:
        record |= {"num_rows": check.num_rows, "difference": check.difference}
    with whole_files(folder, last="config.json") as unfinished:
        write_json(folder / ATTACHED, record)  # written first, so that an interrupted command can be rerun
        attached.model.save_pretrained(unfinished)
        attached.processor.save_pretrained(unfinished)
        for name in (name for name in (SETTINGS, READER_COMPARISON, CALIBRATED) if (source / name).is_file()):
            write_json(unfinished / name, read_record(source / name))
        if (source / RESULTS).is_file():
            results = read_record(source / RESULTS, "metrics")
            write_json(unfinished / RESULTS, {**results, "num_parameters": attached.model.num_parameters()})
    if is_filled_card(source / README):
        repo_id = repository_in(folder / README, default=folder.resolve().name)
        stated = Stated.in_card(folder / README) | replace(Stated.in_card(source / README), base_model=None)
        write_card(folder, checkpoint_card(folder, repo_id, stated=stated))

"""Building a student and its input from the options of a run."""

import inspect
import logging
import math
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import datasets
import numpy as np
import torch

from modeling_avt.configuration_avt import FIELD_RULES, AVTConfig
from modeling_avt.encoders_avt import check_crop
from modeling_avt.modeling_avt import AVTForAnticipation
from modeling_avt.rules_avt import shown
from modeling_avt.temporal_avt import CLIP_CONTRACT, TIME_CONTRACT
from modeling_avt.video_processing_avt import AVTVideoProcessor

from ..data.builder import AnticipationBuilder
from ..data.collator import FeatureCollator, VideoCollator
from ..features.backbones import load_backbone, load_backbone_config, load_backbone_processor
from ..features.encoder_record import EncoderRecord, encoder_of, refuse_other_encoder
from ..features.stores import FeatureStore, open_feature_store
from ..runs.arguments import mapping
from ..runs.checkpoints import check_loaded
from .arguments import StudentArguments
from .frozen import FrozenFeatures
from .probe import Probe, last_frame_features

logger = logging.getLogger(__name__)

# `AVTVideoProcessor` itself stores unknown names, as processors of transformers do.
PROCESSOR_FIELDS = set(inspect.signature(AVTVideoProcessor.__init__).parameters) - {"self", "kwargs"}
LAYERS_OF_LABELS = ("classifiers.", "recognizer.", "last_frame_classifier.")

NO_TOKENS = "{what}, which attends to tokens, and stored features have none: give videos, or a student with AVT's head."

Collator = Callable[[Sequence[dict]], dict]


@dataclass
class StudentInput:
    """A student's input: a feature store, or videos with a processor; the other is `None`.

    `frozen`: features that a frozen encoder computed once; `by_number`: see `FeatureCollator`; `head_feature_dim`: see
    `AVTConfig`.
    """

    store: FeatureStore | None
    processor: AVTVideoProcessor | None
    evaluation_views: dict
    by_number: bool = False
    head_feature_dim: int | None = None
    frozen: FrozenFeatures | None = None

    def last_frames(self, rows: datasets.Dataset) -> np.ndarray:
        """Returns the input of a probe, the stored feature of the last observed frame of each row, `(N, D)`."""
        assert self.store is not None
        return last_frame_features(self.store, rows, by_number=self.by_number, width=self.head_feature_dim)

    def collator(self, *, training: bool, frame_labels: Mapping[str, np.ndarray] | None = None) -> Collator:
        """Returns the collator of rows for training or evaluation; `frame_labels`: see `FeatureCollator`."""
        if self.frozen is not None:
            return FeatureCollator(self.frozen, frame_labels=frame_labels)
        if self.store is not None:
            return FeatureCollator(self.store, by_number=self.by_number, frame_labels=frame_labels)
        views = {} if training else self.evaluation_views
        return VideoCollator(self.processor, training=training, frame_labels=frame_labels, **views)


def student_input(args: StudentArguments, builder: AnticipationBuilder) -> StudentInput:
    """Returns the input of the students of a run.

    Raises:
        ValueError: If there are neither features nor videos, if features or processors cannot be read, or if options
            contradict the data set.
    """
    views = {"num_crops": args.evaluation_crops, "flip_views": args.evaluation_flips}
    if args.features is not None:
        store = open_feature_store(args.features, frame_rate=args.feature_frame_rate, missing=args.feature_missing)
        as_reference = builder.config.protocol == "avt" and builder.config.source == "features"
        _check_model_options(args, _of_data(builder), store)
        if args.model_name_or_path is not None:
            check_same_encoder(args.model_name_or_path, AVTConfig.from_pretrained(args.model_name_or_path), store)
        width = mapping("model_options", args.model_options).get("head_feature_dim")
        width = FIELD_RULES["head_feature_dim"]("head_feature_dim", width)
        return StudentInput(store, None, views, by_number=as_reference, head_feature_dim=width)
    if builder.config.videos is None:
        raise ValueError("The student has no input: give --features, or the data set's --videos, a folder.")
    _check_model_options(args, _of_data(builder), None)
    times = {name: getattr(builder.config, name) for name in ("num_frames", "frame_rate", "tau_o")}
    processor, backbone_config, clips = _processor_and_clips(args)
    if clips["clip_num_frames"] is not None and builder.config.protocol != "exact":
        raise ValueError(
            f"protocol is '{builder.config.protocol}', which is defined for image models only: a video model needs "
            "--protocol exact."
        )
    of_processor = mapping("processor_options", args.processor_options)
    _refuse_unknown("processor_options", of_processor, PROCESSOR_FIELDS, AVTVideoProcessor)
    _refuse_contradiction("processor_options", of_processor, times, "the data set")
    _refuse_contradiction("processor_options", of_processor, clips, "the student")
    prepared: Any = AVTVideoProcessor.from_dict({**processor.to_dict(), **of_processor, **times, **clips})
    check_crop(backbone_config, **prepared.crop_size)
    return StudentInput(None, prepared, views)


def _processor_and_clips(args: StudentArguments) -> tuple[AVTVideoProcessor, Any, dict[str, Any]]:
    """Returns how a student of videos prepares frames, its encoder's configuration, and the fields of its clips."""
    processor: Any
    if args.model_name_or_path is not None:
        config = AVTConfig.from_pretrained(args.model_name_or_path)
        processor = AVTVideoProcessor.from_pretrained(args.model_name_or_path)
    else:
        given, processor = mapping("model_options", args.model_options), AVTVideoProcessor()
        fields = {name: given[name] for name in ("backbone_config", "feature_dim", *CLIP_CONTRACT) if name in given}
        if args.backbone is not None:
            fields["backbone_config"] = load_backbone_config(args.backbone)
            processor = load_backbone_processor(args.backbone, fields["backbone_config"])
        config = AVTConfig(**fields)
    return processor, config.backbone_config, {name: getattr(config, name) for name in CLIP_CONTRACT}


def build_student(
    args: StudentArguments, builder: AnticipationBuilder, student_input: StudentInput
) -> AVTForAnticipation:
    """Returns a student of the data set's labels and times; new weights are drawn from torch's generator.

    Raises:
        ValueError: If an option is not a field of `AVTConfig`, or does not fit the data.
    """
    fields = _of_data(builder)
    if args.model_name_or_path is not None:
        own = AVTConfig.from_pretrained(args.model_name_or_path)
        num_steps = _trained_steps(builder, vars(own))
        fields["num_future_actions"] = num_steps if num_steps > 1 else own.num_future_actions
        model = _from_checkpoint(args.model_name_or_path, fields)
    else:
        fields["num_future_actions"] = _trained_steps(builder, mapping("model_options", args.model_options))
        model = _new_student(args, fields, student_input)
    if student_input.store is not None and model.config.head_type == "probe":
        raise ValueError(NO_TOKENS.format(what=f"{args.model_name_or_path} has a probe"))
    if args.freeze_backbone:
        if model.avt.backbone is None:
            raise ValueError("freeze_backbone is set, but a student of features has no frame encoder: leave it out.")
        model.avt.backbone.requires_grad_(False)
    return model


def _new_student(args: StudentArguments, fields: dict, student_input: StudentInput) -> AVTForAnticipation:
    """Returns a student with random weights except for its pretrained backbone."""
    _check_model_options(args, fields, student_input.store)
    options = mapping("model_options", args.model_options)
    if student_input.store is not None:
        fields |= _of_features(student_input.store)
        fields["classify_last_frame"] = args.start_from_probe
    backbone = None
    if args.backbone is not None:
        backbone = load_backbone(args.backbone, use_predictor=bool(options.get("use_predictor")))
        fields["backbone_config"] = backbone.config
        _refuse_contradiction("model_options", options, {"backbone_config": backbone.config}, "the option backbone")
    config = student_config({**fields, **options})
    model = AVTForAnticipation(config)
    if backbone is not None:
        # After construction, which reinitializes the backbone's linear layers.
        model.avt.backbone = backbone
    return model


def student_config(fields: Mapping[str, Any]) -> AVTConfig:
    """Returns a new student's configuration, its head as wide as what it reads unless `head_hidden_size` is given.

    With AVT-b's 2,048, the head would be most of a student with a small encoder. The width is rounded up to a multiple
    of the head's attention heads.

    Args:
        fields (`Mapping`): Fields of `AVTConfig`.

    Raises:
        ValueError: see `AVTConfig`.
    """
    if "head_hidden_size" in fields:
        return AVTConfig(**fields)
    config = AVTConfig(**{**fields, "head_num_heads": 1})  # 1 divides any default width
    config.head_num_heads = fields.get("head_num_heads", AVTConfig().head_num_heads)
    width = config.intermediate_dim or config.head_feature_dim or config.feature_dim or 0
    config.head_hidden_size = config.head_num_heads * math.ceil(width / config.head_num_heads)
    return config


def _of_data(builder: AnticipationBuilder) -> dict[str, Any]:
    """Returns the fields of `AVTConfig` that the data set determines: times and labels."""
    times = {name: getattr(builder.config, name) for name in TIME_CONTRACT}
    return {**times, **builder.annotations.label_space.to_config()}


def _trained_steps(builder: AnticipationBuilder, config_fields: Mapping[str, Any]) -> int:
    """Returns the number of trained roll-out steps: the rows' future actions, or 1 if that loss has weight 0."""
    has_none = config_fields.get("head_type") == "probe" or config_fields.get("future_loss_weight") == 0
    return 1 if has_none else max(1, builder.config.num_future_actions)


def _of_features(store: FeatureStore) -> dict[str, Any]:
    """Returns the fields of `AVTConfig` that a feature store determines."""
    encoder = encoder_of(store)
    record = None if encoder is None else encoder.to_config()
    return {"backbone_config": None, "feature_dim": store.feature_dim, "feature_encoder": record}


def check_same_encoder(student: str, config: AVTConfig, store: FeatureStore):
    """Raises `ValueError` if a store is recorded to hold features of another encoder than a student's.

    Args:
        student (`str`): The student's path, for the message.
        config (`AVTConfig`): The student's configuration.
        store (`FeatureStore`): The store to read.
    """
    encoder = encoder_of(store)
    if encoder is not None and config.feature_encoder is not None:
        own = EncoderRecord.from_fields(config.feature_encoder, f"The feature_encoder of {student}")
        refuse_other_encoder(own, encoder, student, store.path)


def _check_model_options(args: StudentArguments, of_data: Mapping[str, Any], store: FeatureStore | None):
    """Raises `ValueError` for `model_options` that are no fields of `AVTConfig`, or decided by something else."""
    options = mapping("model_options", args.model_options)
    _refuse_unknown("model_options", options, FIELD_RULES, AVTConfig)
    _refuse_contradiction("model_options", options, of_data, "the data set")
    if store is not None:
        if options.get("head_type") == "probe":
            raise ValueError(NO_TOKENS.format(what="model_options sets head_type to 'probe'"))
        _refuse_contradiction("model_options", options, _of_features(store), "the feature store")
    if args.start_from_probe:
        _refuse_contradiction("model_options", options, {"classify_last_frame": True}, "the option start_from_probe")


def _refuse_unknown(option: str, given: Mapping[str, Any], fields: Collection[str], owner: type):
    """Raises `ValueError` if an option sets something else than fields of a class."""
    if unknown := sorted(set(given) - set(fields)):
        raise ValueError(
            f"{option} has '{unknown[0]}', which is not a field of {owner.__name__}: see its documentation."
        )


def _refuse_contradiction(option: str, given: Mapping[str, Any], owned: Mapping[str, Any], owner: str):
    """Raises `ValueError` if an option sets a field to another value than its owner, such as the data set.

    Args:
        option (`str`): Name of the option.
        given (`Mapping`): The fields that it sets.
        owned (`Mapping`): Fields of `AVTConfig` whose values are fixed.
        owner (`str`): What determines them, for the message.
    """
    if "id2label" in owned:
        labels = {name: index for index, name in owned["id2label"].items()}
        owned = {**owned, "label2id": labels, "num_labels": len(labels)}
    for name in (name for name in owned if name in given):
        value, decided = (FIELD_RULES[name](name, fields[name]) for fields in (given, owned))
        if value != decided:
            how = f"leave it out or set --{name}" if name in TIME_CONTRACT else "leave it out"
            raise ValueError(f"{option} sets {name} to {shown(value)}, but {owner} has {shown(decided)}: {how}.")


def check_as_it_is(name_or_path: str, builder: AnticipationBuilder):
    """Raises `ValueError` if a checkpoint that is not trained further has other labels or times than the data."""
    config = AVTConfig.from_pretrained(name_or_path)
    if config.action_names != list(builder.annotations.label_space.actions):
        raise ValueError(
            f"{name_or_path} was trained on other actions than the data set's: give a checkpoint of its label space."
        )
    for name, value in _other_times(config, _of_data(builder)).items():
        own = getattr(config, name)
        raise ValueError(
            f"{name_or_path} was trained with {name}={own}, but the data set has {value}: give --{name} {own}, or "
            "train it further."
        )


def _other_times(config: AVTConfig, fields: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the data set's times that a checkpoint was not trained with."""
    return {name: fields[name] for name in TIME_CONTRACT if fields[name] != getattr(config, name)}


def _from_checkpoint(name_or_path: str, fields: dict) -> AVTForAnticipation:
    """Loads a checkpoint to be trained with the times and labels of the data set.

    If its labels differ from the data set's, its classifiers are reinitialized.

    Raises:
        ValueError: If the checkpoint lacks weights, or holds others than those of a student and its reader.
    """
    config = AVTConfig.from_pretrained(name_or_path)
    same_labels = config.id2label == fields["id2label"]
    if not same_labels:
        logger.warning(
            "%s was trained on other actions than this data set's: its classifiers are reinitialized.", name_or_path
        )
    if changed := _other_times(config, fields):
        own = {name: getattr(config, name) for name in changed}
        logger.warning("%s was trained with %s, and is trained further with %s.", name_or_path, own, changed)
    if config.reader is not None:
        logger.warning(
            "The reader of %s is dropped: fit a new one to the student with avt-distill fit_reader.", name_or_path
        )
        config.reader = None
    if config.calibration is not None:
        logger.warning(
            "The calibration of %s is dropped: fit a new one to the student with avt-distill calibrate.", name_or_path
        )
        config.calibration = None
    for name, value in fields.items():
        setattr(config, name, value)
    options = {"config": config, "ignore_mismatched_sizes": not same_labels}
    model, report = AVTForAnticipation.from_pretrained(name_or_path, output_loading_info=True, **options)
    check_loaded(model, report, name_or_path, left_out=("reader.",), other_sizes=LAYERS_OF_LABELS)
    if not same_labels:
        for layer in (model.classifiers, model.recognizer, model.last_frame_classifier):
            if layer is not None:
                layer.apply(model._init_weights)
    return model


def prepare_for_features(model: AVTForAnticipation, store: FeatureStore, video_ids: Sequence[str], probe: Probe | None):
    """Initializes a new student from its training videos: feature statistics, and optionally a probe.

    Args:
        model (`AVTForAnticipation`): The new student. With `config.standardize_features`, its buffers are set to the
            mean and deviation of all stored rows of the training videos.
        store (`FeatureStore`): The feature store.
        video_ids (sequence of `str`): The training videos.
        probe (`Probe`, *optional*): Becomes the classifier of the last frame, and is not trained further; the head's
            own classifier begins at zero, so that the head learns what the probe leaves.
    """
    mean, deviation = np.zeros(store.feature_dim), np.ones(store.feature_dim)
    if model.config.standardize_features:
        mean, deviation = column_statistics(store, video_ids)
        model.avt.feature_mean.copy_(torch.from_numpy(mean))
        model.avt.feature_deviation.copy_(torch.from_numpy(deviation))
    if probe is not None:
        assert model.last_frame_classifier is not None
        width = model.last_frame_classifier.in_features
        probe.classifier.on_standardized(mean[-width:], deviation[-width:]).load_into(model.last_frame_classifier)
        model.last_frame_classifier.requires_grad_(False)
        for parameter in model.classifiers["action"].parameters():
            torch.nn.init.zeros_(parameter)


def column_statistics(store: FeatureStore, video_ids: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
    """Returns the mean and the deviation of each column over all stored rows of videos, float64 `(D,)` each."""
    sums, squares, num_rows = 0.0, 0.0, 0
    # Subtracted first, so that the sums of squares do not lose digits.
    shift = store.read_all(video_ids[0])[0][0].astype(np.float64)
    for video_id in sorted(set(video_ids)):
        rows = store.read_all(video_id)[0] - shift
        sums, squares, num_rows = sums + rows.sum(0), squares + np.square(rows).sum(0), num_rows + len(rows)
    mean = sums / num_rows
    deviation = np.sqrt(np.maximum(squares / num_rows - mean**2, 0))
    return mean + shift, np.where(deviation < 1e-6, 1.0, deviation)

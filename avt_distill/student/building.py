"""Students: from the options of a run to a model, and what it reads."""

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import datasets
import numpy as np
import torch

from modeling_avt.configuration_avt import AVTConfig
from modeling_avt.modeling_avt import AVTForAnticipation
from modeling_avt.temporal_avt import TIME_CONTRACT
from modeling_avt.video_processing_avt import AVTVideoProcessor

from ..data.builder import AnticipationBuilder
from ..data.collator import FeatureCollator, VideoCollator
from ..features.backbones import load_backbone, load_backbone_processor
from ..features.stores import FeatureStore, open_feature_store
from ..runs.arguments import mapping
from ..runs.checkpoints import check_loaded
from .arguments import StudentArguments
from .probe import Probe, last_frame_features

logger = logging.getLogger(__name__)

LAYERS_OF_LABELS = ("classifiers.", "recognizer.", "last_frame_classifier.")

Collator = Callable[[Sequence[dict]], dict]


@dataclass
class StudentInput:
    """What a student reads: a feature store, or videos through a processor; the other is `None`.

    `by_number`: see `FeatureCollator`; `head_feature_dim`: see `AVTConfig`.
    """

    store: FeatureStore | None
    processor: AVTVideoProcessor | None
    evaluation_views: dict
    by_number: bool = False
    head_feature_dim: int | None = None

    def last_frames(self, rows: datasets.Dataset) -> np.ndarray:
        """Returns what a probe reads of rows, the stored feature of the last observed frame of each, `(N, D)`."""
        assert self.store is not None
        return last_frame_features(self.store, rows, by_number=self.by_number, width=self.head_feature_dim)

    def collator(self, *, training: bool, background: int | None = None) -> Collator:
        """Returns what makes batches of rows; `background`: see `FeatureCollator`."""
        if self.store is not None:
            return FeatureCollator(self.store, by_number=self.by_number, background=background)
        views = {} if training else self.evaluation_views
        return VideoCollator(self.processor, training=training, background=background, **views)


def student_input(args: StudentArguments, builder: AnticipationBuilder) -> StudentInput:
    """Returns what the students of a run read.

    Raises:
        ValueError: without features and without videos, and for features or processors that cannot be read.
    """
    views = {"num_crops": args.evaluation_crops, "flip_views": args.evaluation_flips}
    if args.features is not None:
        store = open_feature_store(args.features, frame_rate=args.feature_frame_rate, missing=args.feature_missing)
        as_reference = builder.config.protocol == "avt" and builder.config.source == "features"
        width = mapping("model_options", args.model_options).get("head_feature_dim")
        return StudentInput(store, None, views, by_number=as_reference, head_feature_dim=width)
    if builder.config.videos is None:
        raise ValueError("A student needs something to see: give --features, or the data set's --videos, a folder.")
    times = {name: getattr(builder.config, name) for name in ("num_frames", "frame_rate", "tau_o")}
    if args.model_name_or_path is not None:
        processor = AVTVideoProcessor.from_pretrained(args.model_name_or_path)
    elif args.backbone is not None:
        processor = load_backbone_processor(args.backbone, load_backbone(args.backbone).config)
    else:
        processor = AVTVideoProcessor()
    options = {**processor.to_dict(), **args.processor_options, **times}
    return StudentInput(None, AVTVideoProcessor.from_dict(options), views)


def build_student(args: StudentArguments, builder: AnticipationBuilder, seen: StudentInput) -> AVTForAnticipation:
    """Returns a student of the data set's labels and times; new weights are drawn from torch's generator.

    Raises:
        ValueError: where options are none of `AVTConfig`, or do not fit the data.
    """
    fields = {name: getattr(builder.config, name) for name in TIME_CONTRACT}
    fields |= builder.annotations.label_space.to_config()
    if args.model_name_or_path is not None:
        model = _from_checkpoint(args.model_name_or_path, fields)
    else:
        model = _new_student(args, fields, seen)
    if args.freeze_backbone:
        if model.avt.backbone is None:
            raise ValueError("freeze_backbone is set, but the student sees features and has no frame encoder.")
        model.avt.backbone.requires_grad_(False)
    return model


def _new_student(args: StudentArguments, fields: dict, seen: StudentInput) -> AVTForAnticipation:
    """Returns a student with new weights but those of its pretrained backbone."""
    if unknown := sorted(set(args.model_options) - set(AVTConfig.__dataclass_fields__)):
        raise ValueError(f"model_options has '{unknown[0]}', which is no field of AVTConfig: see its documentation.")
    if seen.store is not None:
        fields |= {"backbone_config": None, "feature_dim": seen.store.feature_dim}
        fields["classify_last_frame"] = args.start_from_probe
    backbone = None if args.backbone is None else load_backbone(args.backbone)
    if backbone is not None:
        fields["backbone_config"] = backbone.config
    model = AVTForAnticipation(AVTConfig(**{**fields, **args.model_options}))
    if backbone is not None:
        model.avt.backbone = backbone
    return model


def _from_checkpoint(name_or_path: str, fields: dict) -> AVTForAnticipation:
    """Returns a checkpoint's student; of other labels than the data set's, with classifiers drawn anew.

    Raises:
        ValueError: where the checkpoint lacks weights, or holds others than those of a student and its reader.
    """
    config = AVTConfig.from_pretrained(name_or_path)
    same_labels = config.id2label == fields["id2label"]
    if not same_labels:
        logger.warning("%s knows other actions than this data set: its classifiers are drawn anew.", name_or_path)
    if config.reader is not None:
        logger.warning(
            "The reader of %s is left out: fit another to the student with avt-distill fit_reader.", name_or_path
        )
        config.reader = None
    for name, value in fields.items():
        setattr(config, name, value)
    config.label2id = {label: index for index, label in config.id2label.items()}
    options = {"config": config, "ignore_mismatched_sizes": not same_labels}
    model, report = AVTForAnticipation.from_pretrained(name_or_path, output_loading_info=True, **options)
    check_loaded(model, report, name_or_path, left_out=("reader.",), other_sizes=LAYERS_OF_LABELS)
    if not same_labels:
        for layer in (model.classifiers, model.recognizer, model.last_frame_classifier):
            if layer is not None:
                layer.apply(model._init_weights)
    return model


def prepare_for_features(model: AVTForAnticipation, store: FeatureStore, video_ids: Sequence[str], probe: Probe | None):
    """Gives a new student what is measured on its training videos.

    Args:
        model (`AVTForAnticipation`): New weights. Where `config.standardize_features`, it gets the mean and deviation
            of all stored rows of the training videos.
        store (`FeatureStore`): Where features are.
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
    shift = store.read_all(video_ids[0])[0][0].astype(np.float64)  # of about the size of all: sums lose no digits
    for video_id in sorted(set(video_ids)):
        rows = store.read_all(video_id)[0] - shift
        sums, squares, num_rows = sums + rows.sum(0), squares + np.square(rows).sum(0), num_rows + len(rows)
    mean = sums / num_rows
    deviation = np.sqrt(np.maximum(squares / num_rows - mean**2, 0))
    return mean + shift, np.where(deviation < 1e-6, 1.0, deviation)

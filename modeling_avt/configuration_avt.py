"""Configuration of the Anticipative Video Transformer (AVT, Girdhar and Grauman, ICCV 2021)."""

# First: it raises a clear error on releases that are too old for the imports below.
from .versions_avt import MINIMUM_OF_VIDEO_CLASSIFICATION, check_versions

# isort: split
import copy
import hashlib
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import MISSING, dataclass, fields
from typing import Any

from transformers import AutoConfig, PretrainedConfig

from .backbone_configuration_avt import (
    backbone_width,
    checked_backbone,
    clip_length,
    clip_problem,
    has_predictor,
    is_video_model,
)
from .calibration_avt import calibration_or_none
from .labels_avt import NUM_LABELS, id_to_label, label_to_id, settled_labels, verb_noun_pairs, with_given
from .rules_avt import Choice, Flag, Number, OrNone, WholeNumber, shown
from .temporal_avt import CLIP_FRAME_RATE, CLIP_RULES, FRAME_RATE, MAX_FRAMES, TIME_RULES, Clips, ClipWindow

LABEL_TYPES = ("action", "verb", "noun")
HEAD_TYPES = ("avt", "probe")
# Far above any published model, GPT-3's 12,288 columns and 96 layers included, and far below what exhausts memory.
HEAD_SIZE = WholeNumber(least=1, most=65_536)
NUM_LAYERS = WholeNumber(least=1, most=1000)
FEATURE_DIM = OrNone(WholeNumber(least=1, most=1_000_000))
DROPOUT = Number(least=0, below=1)
# 1e-6 is the LayerNorm epsilon of the ViTs that AVT starts from; transformers' own default is 1e-12.
DEFAULT_BACKBONE = {"model_type": "vit", "layer_norm_eps": 1e-6}
WEIGHT = Number(least=0)


WAYS_TO_LOAD = {
    "auto_map": {
        "AutoConfig": "configuration_avt.AVTConfig",
        "AutoModel": "modeling_avt.AVTForAnticipation",
        "AutoModelForVideoClassification": "modeling_avt.AVTForAnticipation",
    },
    "custom_pipelines": {
        "action-anticipation": {
            "impl": "pipeline_avt.ActionAnticipationPipeline",
            "pt": ["AutoModel"],
            "type": "video",
        }
    },
}


@dataclass(frozen=True)
class ReaderSettings:
    """Settings of a `HistoryReader` without its tables: the fields of `AVTConfig.reader`.

    Args:
        frame_rate (`float`): Frames read per second, from the beginning of the video on.
        transitions (`dict`): `kind` and sizes of the transition model; see `transitions_avt`.
        actions (`str`): `actions_digest` of the label names that the reader was fitted on.
        evidence_weight (`float`): Kappa, the weight of a frame's log posterior minus log prior: below 1, as
            neighboring frames are not independent.
        fusion_weights (`list[float]`): Weights of the model's and of the reader's log probabilities in an answer.
        num_phases (`int`, *optional*, defaults to 1): R, phases of an action. The more phases, the less its length
            varies.
        beam (`int`, *optional*, defaults to 200): Hypotheses C kept after each frame.
        followers (`int`, *optional*): Likeliest next actions n of each hypothesis that are followed. Default: all.
        min_start (`float`, *optional*, defaults to 1e-6): Starts of a smaller probability are dropped.
        calibration (`dict`, *optional*): Calibration of the pooled answers of model and reader; see `Calibration`.

    Raises:
        ValueError: If a value is out of range.
    """

    frame_rate: float
    transitions: dict
    actions: str
    evidence_weight: float
    fusion_weights: Sequence[float]
    num_phases: int = 1
    beam: int = 200
    followers: int | None = None
    min_start: float = 1e-6
    calibration: dict | None = None

    def __post_init__(self):
        for name, rule in READER_RULES.items():
            object.__setattr__(self, name, rule(f"The reader's {name}", getattr(self, name)))

    @classmethod
    def from_config(cls, reader: dict) -> "ReaderSettings":
        """Returns the settings in `config.reader`; raises `ValueError` for unknown or missing names."""
        known = [field.name for field in fields(cls)]
        if unknown := sorted(set(reader) - set(known)):
            raise ValueError(f"config.reader has '{unknown[0]}': give some of {known}.")
        if missing := [field.name for field in fields(cls) if field.default is MISSING and field.name not in reader]:
            raise ValueError(f"config.reader lacks '{missing[0]}': write it with avt-distill fit_reader.")
        return cls(**reader)


def _mapping(name: str, value: Any) -> dict:
    if not isinstance(value, Mapping):
        raise ValueError(f"{name} is {shown(value)}: give a dict.")
    return dict(value)


def _mapping_or_none(name: str, value: Any) -> dict | None:
    return None if value is None else _mapping(name, value)


def _text(name: str, value: Any) -> str:
    if not isinstance(value, str):
        raise ValueError(f"{name} is {shown(value)}: give text.")
    return value


def _words(name: str, value: Any) -> list[str]:
    if not isinstance(value, (list, tuple)) or not all(isinstance(word, str) for word in value):
        raise ValueError(f"{name} is {shown(value)}: give a list of words.")
    return list(value)


def _two_weights(name: str, value: Any) -> list[float]:
    """Returns the checked weights of a model and its reader, one of which may be 0."""
    try:
        weights = [WEIGHT(name, weight) for weight in value] if isinstance(value, (list, tuple)) else []
    except ValueError:
        weights = []
    if len(weights) != 2 or not any(weights):
        raise ValueError(f"{name} are {shown(value)}: give two numbers, 0 or more, the model's and the reader's.")
    return weights


READER_RULES: dict[str, Callable[[str, Any], Any]] = {
    "frame_rate": FRAME_RATE,
    "transitions": _mapping,
    "actions": _text,
    "evidence_weight": Number(above=0),
    "fusion_weights": _two_weights,
    "num_phases": WholeNumber(least=1, most=1000),
    "beam": WholeNumber(least=1, most=1_000_000),
    "followers": OrNone(WholeNumber(least=1)),
    "min_start": DROPOUT,
    "calibration": calibration_or_none,
}


def actions_digest(actions: Sequence[str]) -> str:
    """Returns 16 hexadecimal digits of the SHA-256 of the actions' names in order of id, which identify a label
    space."""
    return hashlib.sha256("\0".join(actions).encode()).hexdigest()[:16]


class _SubConfigs:
    """`sub_configs`, empty without a backbone: transformers 4 cannot save or print a sub-configuration that is
    `None`."""

    def __get__(self, config, _) -> dict[str, type]:
        has_none = config is not None and config.backbone_config is None
        return {} if has_none else {"backbone_config": AutoConfig}


class AVTConfig(PretrainedConfig):
    """Configuration of an AVT checkpoint: frame encoder, causal head, label maps and the time contract of its training.

    The defaults are AVT-b on EPIC-Kitchens-100 (ViT-B/16 and a 6-layer, 2048-wide head over 10 frames at 1 frame/s).

    Args:
        backbone_config (`PretrainedConfig` or `dict`, *optional*, defaults to ViT-B/16 at 224 px): Configuration of any
            Hugging Face image model, run on each frame, or video model, run on the clip that ends at each frame.
            `None`: the model has no backbone and accepts `video_features` of width `feature_dim`.
        feature_dim (`int`, *optional*): Width D of one moment's feature. Default: the width that `backbone_config`
            states. Required without a backbone.
        clip_num_frames (`int`, *optional*): Frames L of the clip that a video model encodes at each sampled moment.
            Default: the number of frames in `backbone_config`. `None` for image models.
        clip_frame_rate (`float`, *optional*, defaults to 8.0): Frames per second within a clip.
        use_predictor (`bool`, *optional*, defaults to `False`): Whether to append the output of V-JEPA 2's own
            predictor for `tau_a` seconds after the clip: the second half of each feature, or further tokens for a
            probe.
        feature_encoder (`dict`, *optional*): For a model without a backbone, the encoder of the features that it was
            trained on, as recorded by the feature store. `avt-distill attach_encoder` turns it into the backbone.
        intermediate_dim (`int`, *optional*):
            Width C of a bias-free linear map applied to the frame features first. `None`: no map, C = D.
        head_type (`str`, *optional*, defaults to `"avt"`): The part that anticipates. `"avt"`: AVT's causal head over
            one feature per moment. `"probe"`: an attentive probe over all tokens of the window, with one query per
            label type, as in V-JEPA 2's evaluation (Assran et al., 2025). The fields `head_*`, `intermediate_dim`,
            `classify_last_frame` and `classify_past` do not apply to a probe.
        head_hidden_size (`int`, *optional*, defaults to 2048): Width of the causal head (GPT-2's `n_embd`).
        head_num_layers (`int`, *optional*, defaults to 6): Number of GPT-2 blocks.
        head_num_heads (`int`, *optional*, defaults to 4): Number of attention heads in each block.
        head_num_positions (`int`, *optional*, defaults to 1024): Number of learned positions: the maximum of observed
            frames plus rolled-out steps.
        head_dropout (`float`, *optional*, defaults to 0.1): GPT-2's residual, embedding and attention dropout.
        classifier_dropout (`float`, *optional*, defaults to 0.2): Dropout probability before the classifiers.
        probe_num_layers (`int`, *optional*, defaults to 4): Number of layers in the probe, the last of which is the
            cross-attention of its queries.
        probe_num_heads (`int`, *optional*, defaults to 16): Number of attention heads in each of these layers.
        num_frames (`int`, *optional*, defaults to 10): Frames T in the observed window, at most 65,536.
        frame_rate (`float`, *optional*, defaults to 1.0): Frames sampled per second, at most 1,000.
        tau_a (`float`, *optional*, defaults to 1.0): Seconds between the end of the observed window and the start of
            the action.
        tau_o (`float`, *optional*, defaults to 10.0): Length of the observed window in seconds.
        standardize_features (`bool`, *optional*, defaults to `False`): Whether to first standardize each column of the
            frame features with the checkpoint's buffers `feature_mean` and `feature_deviation`, measured on training
            videos.
        feature_dropout (`float`, *optional*, defaults to 0.0): Dropout probability of whole columns of the head's
            input, shared by all frames of a window. It does not apply to the recognizer or the last frame's classifier.
        classify_last_frame (`bool`, *optional*, defaults to `False`): Whether to add the scores of a linear classifier
            of the last observed frame's feature to the head's action scores: a path around the head, which can be
            initialized with a logistic probe.
        recognizes_frames (`bool`, *optional*, defaults to `False`): Whether to classify what each observed frame itself
            shows: an action or, as class A, the background (`frame_logits`).
        recognizer_feature_dim (`int`, *optional*): Width of the leading columns of the frame features that the
            recognizer reads, if later columns hold memory of earlier frames. Default: all.
        head_feature_dim (`int`, *optional*): Width of the trailing columns of the frame features that all other parts
            read. Default: all.
        classify_past (`bool`, *optional*, defaults to `True`): Whether the classifiers also run on the observed frames
            (`past_logits`).
        label_types (`list[str]`, *optional*, defaults to `["action"]`):
            What to classify: `"action"`, and optionally `"verb"` and `"noun"`.
        verb_id2label, noun_id2label (`dict[int, str]`, *optional*): Names of the verbs and nouns, ids 0..N-1.
        action_to_verb_noun (`list[list[int]]`, *optional*): `[verb id, noun id]` of each action, in order of action id.
        use_class_mappings (`bool`, *optional*, defaults to `False`): Whether verb and noun logits are the sums of the
            logits of their actions (AVT's `use_cls_mappings`) instead of the outputs of separate classifiers.
        num_future_actions (`int`, *optional*, defaults to 1): Z. Above 1, the first Z steps of the roll-out are trained
            to predict the next Z actions in order, whenever each starts (`future_labels`). Not supported by a probe.
        future_loss_weight (`float`, *optional*, defaults to 1.0): Weight in `loss` of the loss of the actions after the
            next one, a mean over the known ones.
        past_loss_weight (`float`, *optional*, defaults to 1.0): Weight of the past-action loss in `loss`.
        feature_loss_weight (`float`, *optional*, defaults to 1.0): Weight of the future-feature loss in `loss`.
        frame_loss_weight (`float`, *optional*, defaults to 1.0): Weight of the frame recognizer's loss in `loss`.
        past_loss_normalizer (`str`, *optional*, defaults to `"labelled"`): `"labelled"`: the past-action loss is the
            mean over labeled frames. `"all"`: its sum is divided by the number of all frames, as the reference does
            (func/train.py:213), so that a video with few labeled frames counts less.
        initializer_range (`float`, *optional*, defaults to 0.01): Standard deviation of the linear layers at
            initialization.
        reader (`dict`, *optional*): Settings of a `HistoryReader`, whose tables are stored in the checkpoint; see
            `ReaderSettings`. Requires `recognizes_frames`. Written by `avt-distill fit_reader`.
        calibration (`dict`, *optional*): Temperature of the model's answers without a reader, and the threshold below
            which an answer is withheld; pipelines and streams apply both. See `Calibration`. Written by `calibrate` and
            `fit_reader` of `avt-distill`.
        id2label (`dict[int, str]`, *optional*): Names of the A actions, ids 0..A-1, which may be text, as in JSON.
            `label2id` is derived from it, or may be given instead; `num_labels=A` alone gives `LABEL_0`, ...
        kwargs: Further fields of `PretrainedConfig`.

    `from_pretrained` with other actions drops the checkpoint's `action_to_verb_noun` and `calibration`, which describe
    the old actions, and logs a warning, unless new ones are passed.

    Raises:
        ValueError: If a field is out of range, also when it is set later, or fields contradict each other. The message
            names the field, the value and what is accepted.
    """

    model_type = "avt"
    sub_configs = _SubConfigs()  # pyright: ignore[reportAssignmentType]  a class property there
    attribute_map = {
        "hidden_size": "head_hidden_size",
        "num_hidden_layers": "head_num_layers",
        "num_attention_heads": "head_num_heads",
    }
    # `Trainer` must not gather these over a whole evaluation set: they are large, or not per example.
    keys_to_ignore_at_inference = [
        "past_logits",
        "frame_logits",
        "future_logits",
        "future_features",
        "past_features",
        "action_loss",
        "verb_loss",
        "noun_loss",
        "past_loss",
        "frame_loss",
        "future_loss",
        "feature_loss",
        "hidden_states",
        "attentions",
    ]

    def __init__(
        self,
        backbone_config: dict | PretrainedConfig | None = DEFAULT_BACKBONE,
        feature_dim: int | None = None,
        clip_num_frames: int | None = None,
        clip_frame_rate: float = CLIP_FRAME_RATE,
        use_predictor: bool = False,
        feature_encoder: dict | None = None,
        intermediate_dim: int | None = None,
        head_type: str = "avt",
        head_hidden_size: int = 2048,
        head_num_layers: int = 6,
        head_num_heads: int = 4,
        head_num_positions: int = 1024,
        head_dropout: float = 0.1,
        classifier_dropout: float = 0.2,
        probe_num_layers: int = 4,
        probe_num_heads: int = 16,
        num_frames: int = 10,
        frame_rate: float = 1.0,
        tau_a: float = 1.0,
        tau_o: float = 10.0,
        standardize_features: bool = False,
        feature_dropout: float = 0.0,
        classify_last_frame: bool = False,
        recognizes_frames: bool = False,
        recognizer_feature_dim: int | None = None,
        head_feature_dim: int | None = None,
        classify_past: bool = True,
        label_types: Sequence[str] = ("action",),
        verb_id2label: dict | None = None,
        noun_id2label: dict | None = None,
        action_to_verb_noun: Sequence | dict | None = None,
        use_class_mappings: bool = False,
        num_future_actions: int = 1,
        future_loss_weight: float = 1.0,
        past_loss_weight: float = 1.0,
        feature_loss_weight: float = 1.0,
        frame_loss_weight: float = 1.0,
        past_loss_normalizer: str = "labelled",
        initializer_range: float = 0.01,
        reader: dict | None = None,
        calibration: dict | None = None,
        id2label: dict | None = None,
        label2id: dict | None = None,
        num_labels: int | None = None,
        **kwargs,
    ):
        # Settled here because transformers only warns if these contradict each other, and lets `num_labels` win.
        id2label = settled_labels(id2label, label2id, num_labels) or {0: "LABEL_0", 1: "LABEL_1"}
        label2id = {label: index for index, label in id2label.items()}
        self.backbone_config = backbone_config
        self.feature_dim = feature_dim
        self.clip_num_frames = clip_num_frames
        self.clip_frame_rate = clip_frame_rate
        self.use_predictor = use_predictor
        self.feature_encoder = feature_encoder
        self.intermediate_dim = intermediate_dim
        self.head_type = head_type
        self.head_hidden_size = head_hidden_size
        self.head_num_layers = head_num_layers
        self.head_num_heads = head_num_heads
        self.head_num_positions = head_num_positions
        self.head_dropout = head_dropout
        self.classifier_dropout = classifier_dropout
        self.probe_num_layers = probe_num_layers
        self.probe_num_heads = probe_num_heads
        self.num_frames = num_frames
        self.frame_rate = frame_rate
        self.tau_a = tau_a
        self.tau_o = tau_o
        self.standardize_features = standardize_features
        self.feature_dropout = feature_dropout
        self.classify_last_frame = classify_last_frame
        self.recognizes_frames = recognizes_frames
        self.recognizer_feature_dim = recognizer_feature_dim
        self.head_feature_dim = head_feature_dim
        self.classify_past = classify_past
        self.label_types = label_types
        self.verb_id2label = verb_id2label
        self.noun_id2label = noun_id2label
        self.action_to_verb_noun = action_to_verb_noun
        self.use_class_mappings = use_class_mappings
        self.num_future_actions = num_future_actions
        self.future_loss_weight = future_loss_weight
        self.past_loss_weight = past_loss_weight
        self.feature_loss_weight = feature_loss_weight
        self.frame_loss_weight = frame_loss_weight
        self.past_loss_normalizer = past_loss_normalizer
        self.initializer_range = initializer_range
        self.reader = reader
        self.calibration = calibration
        if isinstance(self.backbone_config, PretrainedConfig):
            self._follow_backbone(self.backbone_config)
        # Transformers records the auto class of the object being saved and no other, and `Trainer` never records the
        # pipeline: both are declared here so that every checkpoint loads by every documented way.
        super().__init__(id2label=id2label, label2id=label2id, **{**copy.deepcopy(WAYS_TO_LOAD), **kwargs})
        self.check_consistency()

    def __eq__(self, other) -> bool:
        # Transformers 5 makes a dataclass of every configuration, which would compare the parent's fields alone.
        return isinstance(other, AVTConfig) and self.to_dict() == other.to_dict()

    __hash__ = None  # pyright: ignore[reportAssignmentType]  fields change

    def _follow_backbone(self, backbone_config: PretrainedConfig):
        """Fills in the fields that were not given from a backbone's configuration."""
        if self.clip_num_frames is None and is_video_model(backbone_config):
            self.clip_num_frames = clip_length(backbone_config)
        if self.feature_dim is None:
            has_two_parts = self.use_predictor and self.head_type == "avt"
            self.feature_dim = backbone_width(backbone_config) * (2 if has_two_parts else 1)

    def __setattr__(self, name: str, value: Any):
        """Checks a field by `FIELD_RULES` whenever it is set, including by the constructor and from JSON."""
        name = type(self).attribute_map.get(name, name)
        rule = FIELD_RULES.get(name)
        value = value if rule is None else rule(name, value)
        super().__setattr__(name, value)
        if name == "id2label" and value is not None:
            self.label2id = {label: index for index, label in value.items()}

    @classmethod
    def get_config_dict(cls, pretrained_model_name_or_path, **kwargs):
        """Returns the fields of a checkpoint; see `PretrainedConfig.get_config_dict`.

        Raises:
            ImportError: If a built-in pipeline would show the model other frames than it observes.
        """
        if kwargs.get("_from_pipeline") == "video-classification":
            of = "Use pipeline('action-anticipation'): pipeline('video-classification')"
            check_versions(MINIMUM_OF_VIDEO_CLASSIFICATION, of)
        return super().get_config_dict(pretrained_model_name_or_path, **kwargs)

    @classmethod
    def from_dict(cls, config_dict, **kwargs):
        if not isinstance(config_dict, dict):
            raise ValueError(
                f"config.json holds a {type(config_dict).__name__} instead of an object: give the file that "
                "save_pretrained wrote."
            )
        # Transformers only warns about another model type, and would return a model with random weights.
        if config_dict.get("model_type", cls.model_type) != cls.model_type:
            raise ValueError(
                f"The checkpoint is of type '{config_dict['model_type']}', not '{cls.model_type}': give one that "
                "AVTForAnticipation.save_pretrained wrote (an image model can be its backbone_config)."
            )
        # The caller's fields go through the constructor, which checks them together; transformers would set one after
        # the other. Only a backbone's configuration is left to transformers, which merges the two.
        given = {name: kwargs.pop(name) for name in FIELD_RULES if name in kwargs and name != "backbone_config"}
        return super().from_dict(with_given(config_dict, given), **kwargs)

    def save_pretrained(self, *args, **kwargs):
        """Checks the configuration and saves it; see `PretrainedConfig.save_pretrained`."""
        self.check_consistency()
        super().save_pretrained(*args, **kwargs)

    @property
    def num_classes(self) -> dict[str, int]:
        """The number of classes of each label type that is classified, in the order of `label_types`."""
        maps = {"action": self.id2label, "verb": self.verb_id2label, "noun": self.noun_id2label}
        return {label_type: len(maps[label_type]) for label_type in self.label_types}

    def check_consistency(self):
        """Raises `ValueError` if fields contradict each other.

        Called at construction, and again when a model is built or a configuration is saved, since fields and dicts can
        be changed in between.
        """
        for name, rule in FIELD_RULES.items():
            rule(name, getattr(self, name))
        settled_labels(self.id2label, self.label2id, None)
        self._check_labels()
        self._check_backbone()
        self._check_dimensions()
        if self.head_type == "probe":
            self._check_probe()
        if self.reader is not None:
            self._check_reader(ReaderSettings.from_config(self.reader))

    def _check_labels(self):
        unknown = [t for t in self.label_types if t not in LABEL_TYPES]
        if unknown or "action" not in self.label_types or len(set(self.label_types)) < len(self.label_types):
            raise ValueError(
                f"label_types is {self.label_types}: give 'action' and, optionally, 'verb' and 'noun', each once."
            )
        for label_type in ("verb", "noun"):
            if label_type in self.label_types and getattr(self, f"{label_type}_id2label") is None:
                raise ValueError(
                    f"label_types has '{label_type}', but {label_type}_id2label is None: give the names of the "
                    f"{label_type}s."
                )
        if self.action_to_verb_noun is not None:
            self._check_action_map(self.action_to_verb_noun)
        elif self.use_class_mappings:
            raise ValueError(
                "use_class_mappings needs action_to_verb_noun, the [verb id, noun id] of each action: pass it with "
                "the names of verbs and nouns, or use_class_mappings=False for separate classifiers."
            )

    def _check_action_map(self, pairs: Collection[Sequence[int]]):
        if len(pairs) != self.num_labels:
            raise ValueError(
                f"action_to_verb_noun has {len(pairs)} rows but there are {self.num_labels} actions: give one [verb "
                "id, noun id] for each action."
            )
        for position, name in enumerate(("verb_id2label", "noun_id2label")):
            labels = getattr(self, name)
            ids = [pair[position] for pair in pairs]
            highest = max(ids) if labels is None else len(labels) - 1
            if min(ids) < 0 or max(ids) > highest:
                raise ValueError(
                    f"action_to_verb_noun holds ids {min(ids)} to {max(ids)} for {name}: give 0..{highest}."
                )

    def _check_reader(self, reader: ReaderSettings):
        if not self.recognizes_frames:
            raise ValueError(
                "reader is set, but recognizes_frames is not: a reader needs recognized frames, so set both or neither."
            )
        if reader.actions != actions_digest(self.action_names):
            raise ValueError(
                f"The reader was fitted on other actions than the {self.num_labels} of id2label, so its answers would "
                "name wrong actions: pass reader=None to drop it, and fit a new one with avt-distill fit_reader."
            )

    @property
    def action_names(self) -> list[str]:
        """Names of the A actions, in order of id."""
        return [name for _, name in sorted((self.id2label or {}).items())]

    @property
    def predicts_past(self) -> bool:
        """Whether the actions of observed frames are predicted from the frames before them."""
        return self.classify_past and self.head_type == "avt"

    @property
    def num_queries(self) -> int:
        """Q, the queries of a probe: one for each label type that has a classifier of its own."""
        return 1 if self.use_class_mappings else len(self.label_types)

    @property
    def clips(self) -> Clips:
        """The clips that the encoder sees, one at each sampled moment."""
        return Clips(self.clip_num_frames, self.clip_frame_rate)

    @property
    def clip_window(self) -> ClipWindow:
        """The frames that the clips of an observed window consist of."""
        return self.clips.window(self.num_frames, self.frame_rate)

    def _check_backbone(self):
        backbone_config: Any = self.backbone_config  # no longer a dict: see `FIELD_RULES`
        if self.clip_num_frames is not None and not is_video_model(backbone_config):
            kind = "there is no backbone" if backbone_config is None else f"a '{backbone_config.model_type}' is not one"
            raise ValueError(f"clip_num_frames is {self.clip_num_frames}, but only video models see clips, and {kind}.")
        if self.clip_num_frames is not None and (problem := clip_problem(backbone_config, self.clip_num_frames)):
            raise ValueError(f"clip_num_frames is {self.clip_num_frames}: {problem}.")
        if self.use_predictor and not has_predictor(backbone_config):
            raise ValueError(
                "use_predictor is set, but only V-JEPA 2 has a predictor: give a backbone_config of type 'vjepa2'."
            )

    def _check_probe(self):
        if self.feature_dim is not None and self.feature_dim % self.probe_num_heads:
            raise ValueError(
                f"feature_dim={self.feature_dim} is not divisible by probe_num_heads={self.probe_num_heads}: give a "
                "number of heads that divides it."
            )
        unused = ("intermediate_dim", "head_feature_dim", "standardize_features", "feature_dropout")
        for name in (*unused, "classify_last_frame"):
            if getattr(self, name):
                raise ValueError(f"{name} is {getattr(self, name)}, but a probe has no such part: leave it out.")
        if self.num_future_actions > 1:
            raise ValueError(f"num_future_actions is {self.num_future_actions}, but a probe does not roll out: give 1.")

    def _check_dimensions(self):
        if self.head_hidden_size % self.head_num_heads:
            raise ValueError(
                f"head_hidden_size={self.head_hidden_size} is not divisible by head_num_heads={self.head_num_heads}: "
                "give a number of heads that divides it."
            )
        if self.num_frames > self.head_num_positions:
            raise ValueError(
                f"num_frames={self.num_frames} must be between 1 and head_num_positions={self.head_num_positions}: "
                "change either."
            )
        num_positions = self.num_frames + self.num_future_actions - 1
        if num_positions > self.head_num_positions:
            raise ValueError(
                f"num_frames={self.num_frames} and num_future_actions={self.num_future_actions} need {num_positions} "
                f"positions, but head_num_positions is {self.head_num_positions}: raise it, or give fewer."
            )
        if self.backbone_config is None and self.feature_dim is None:
            raise ValueError(
                "backbone_config=None means that the model accepts features: give their width as feature_dim."
            )
        for name in ("recognizer_feature_dim", "head_feature_dim"):
            width, feature_dim = getattr(self, name), self.feature_dim
            if width is not None and width > (feature_dim or width):
                raise ValueError(f"{name} is {width}: give 1 to {feature_dim}, the width of the features.")


FIELD_RULES: dict[str, Callable[[str, Any], Any]] = {
    "backbone_config": checked_backbone,
    "feature_dim": FEATURE_DIM,
    **CLIP_RULES,
    "use_predictor": Flag(),
    "feature_encoder": _mapping_or_none,
    "intermediate_dim": FEATURE_DIM,
    "head_type": Choice(HEAD_TYPES),
    "head_hidden_size": HEAD_SIZE,
    "head_num_layers": NUM_LAYERS,
    "head_num_heads": HEAD_SIZE,
    "head_num_positions": WholeNumber(least=1, most=2 * MAX_FRAMES),  # room for frames and steps after them
    "head_dropout": DROPOUT,
    "classifier_dropout": DROPOUT,
    "probe_num_layers": NUM_LAYERS,
    "probe_num_heads": HEAD_SIZE,
    **TIME_RULES,
    "standardize_features": Flag(),
    "feature_dropout": DROPOUT,
    "classify_last_frame": Flag(),
    "recognizes_frames": Flag(),
    "recognizer_feature_dim": FEATURE_DIM,
    "head_feature_dim": FEATURE_DIM,
    "classify_past": Flag(),
    "label_types": _words,
    "verb_id2label": id_to_label,
    "noun_id2label": id_to_label,
    "action_to_verb_noun": verb_noun_pairs,
    "use_class_mappings": Flag(),
    "num_future_actions": WholeNumber(least=1, most=1000),
    "future_loss_weight": WEIGHT,
    "past_loss_weight": WEIGHT,
    "feature_loss_weight": WEIGHT,
    "frame_loss_weight": WEIGHT,
    "past_loss_normalizer": Choice(("labelled", "all")),
    "initializer_range": WEIGHT,
    "reader": _mapping_or_none,
    "calibration": calibration_or_none,
    "id2label": id_to_label,
    "label2id": label_to_id,
    "num_labels": NUM_LABELS,
}

AVTConfig.register_for_auto_class()

"""Configuration of the Anticipative Video Transformer (AVT, Girdhar and Grauman, ICCV 2021)."""

import hashlib
import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import MISSING, dataclass, field, fields

from huggingface_hub.dataclasses import strict
from transformers import AutoConfig, PreTrainedConfig

LABEL_TYPES = ("action", "verb", "noun")


@dataclass(frozen=True)
class ReaderSettings:
    """What a `HistoryReader` is, but for its tables: the fields of `AVTConfig.reader`.

    Args:
        frame_rate (`float`): Frames read per second, from the beginning of the video on.
        transitions (`dict`): `kind` and sizes of the transition model: see `transitions_avt`.
        actions (`str`): `actions_digest` of the label names that it was fitted on.
        evidence_weight (`float`): Kappa, the weight of a frame's log posterior minus log prior: below 1, as
            neighbouring frames are not independent.
        fusion_weights (`list[float]`): Weights of the model's and of the reader's log probabilities in an answer.
        num_phases (`int`, *optional*, defaults to 1): R, phases of an action: the larger, the less its length varies.
        beam (`int`, *optional*, defaults to 200): Hypotheses C kept after each frame.
        followers (`int`, *optional*): Likeliest next actions n of each hypothesis that are followed. Default: all.
        min_start (`float`, *optional*, defaults to 1e-6): Starts of a smaller probability are dropped.

    Raises:
        ValueError: for values out of range.
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

    def __post_init__(self):
        for name in ("frame_rate", "evidence_weight"):
            if not 0 < getattr(self, name) < math.inf:
                raise ValueError(f"The reader's {name} is {getattr(self, name)}: give a number above 0.")
        for name in ("num_phases", "beam"):
            if getattr(self, name) < 1:
                raise ValueError(f"The reader's {name} is {getattr(self, name)}: give 1 or more.")
        if self.followers is not None and self.followers < 1:
            raise ValueError(f"The reader's followers is {self.followers}: give 1 or more, or None for all actions.")
        if not 0 <= self.min_start < 1:
            raise ValueError(f"The reader's min_start is {self.min_start}: give a probability below 1.")
        weights = list(self.fusion_weights)
        if len(weights) != 2 or min(weights) < 0 or not sum(weights) > 0:
            raise ValueError(f"The reader's fusion_weights are {weights}: give one of the model and one of the reader.")

    @classmethod
    def from_config(cls, reader: dict) -> "ReaderSettings":
        """Returns the settings in `config.reader`; refuses names that are none."""
        known = [field.name for field in fields(cls)]
        if unknown := sorted(set(reader) - set(known)):
            raise ValueError(f"config.reader has '{unknown[0]}': give some of {known}.")
        if missing := [field.name for field in fields(cls) if field.default is MISSING and field.name not in reader]:
            raise ValueError(f"config.reader lacks '{missing[0]}': let avt-distill fit_reader write it.")
        return cls(**reader)


def actions_digest(actions: Sequence[str]) -> str:
    """Returns what tells label spaces apart: a digest of the actions' names in order of their ids."""
    return hashlib.sha256("\0".join(actions).encode()).hexdigest()[:16]


@strict
class AVTConfig(PreTrainedConfig):
    """What an AVT checkpoint is: frame encoder, causal head, label maps and the time contract it was trained under.

    The defaults are AVT-b on EPIC-Kitchens-100 (ViT-B/16 and a 6-layer, 2048-wide head over 10 frames at 1 frame/s).

    Args:
        backbone_config (`PreTrainedConfig` or `dict`, *optional*, defaults to ViT-B/16 at 224 px): Configuration of any
            Hugging Face image model, run on each frame. `None`: the model has no backbone and takes `video_features` of
            width `feature_dim`.
        feature_dim (`int`, *optional*): Width D of one frame's feature. Read off `backbone_config` where that names a
            width; required without a backbone.
        intermediate_dim (`int`, *optional*):
            Width C of a bias-free linear map applied to the frame features first. `None`: no map, C = D.
        head_hidden_size (`int`, *optional*, defaults to 2048): Width of the causal head (GPT-2's `n_embd`).
        head_num_layers (`int`, *optional*, defaults to 6): Number of GPT-2 blocks.
        head_num_heads (`int`, *optional*, defaults to 4): Attention heads of each block.
        head_num_positions (`int`, *optional*, defaults to 1024): Learned positions: the limit of observed frames plus
            rolled-out steps.
        head_dropout (`float`, *optional*, defaults to 0.1): GPT-2's residual, embedding and attention dropout.
        classifier_dropout (`float`, *optional*, defaults to 0.2): Dropout before the classifiers.
        num_frames (`int`, *optional*, defaults to 10): Frames T in the observed window.
        frame_rate (`float`, *optional*, defaults to 1.0): Frames sampled per second.
        tau_a (`float`, *optional*, defaults to 1.0): Seconds between the end of the observed window and the start of
            the action.
        tau_o (`float`, *optional*, defaults to 10.0): Length of the observed window in seconds.
        standardize_features (`bool`, *optional*, defaults to `False`): Shift and scale each column of the frame
            features first, by the checkpoint's own `feature_mean` and `feature_deviation`, measured on training videos.
        feature_dropout (`float`, *optional*, defaults to 0.0): Dropout of whole columns of the head's input, the same
            over a window. Neither the recognizer nor the last frame's classifier has it.
        classify_last_frame (`bool`, *optional*, defaults to `False`): Add a linear classifier of the last observed
            frame's own feature to the head's scores of actions: a path around the head, which can begin as a logistic
            probe.
        recognizes_frames (`bool`, *optional*, defaults to `False`): Classify what each observed frame itself shows, an
            action or, as class A, the background (`frame_logits`).
        recognizer_feature_dim (`int`, *optional*): Width of the leading columns of the frame features that the
            recognizer reads, where later ones are memory of what was before. Default: all.
        head_feature_dim (`int`, *optional*): Width of the trailing columns that all else reads. Default: all.
        classify_past (`bool`, *optional*, defaults to `True`): Whether the classifiers also run on the observed frames
            (`past_logits`).
        label_types (`list[str]`, *optional*, defaults to `["action"]`):
            What is classified: `"action"`, and if wanted `"verb"` and `"noun"`.
        verb_id2label, noun_id2label (`dict[int, str]`, *optional*): Names of the verbs and nouns, ids 0..N-1.
        action_to_verb_noun (`list[list[int]]`, *optional*): `[verb id, noun id]` of each action, in order of action id.
        use_class_mappings (`bool`, *optional*, defaults to `False`): Verb and noun logits are the sums of the logits of
            their actions (AVT's `use_cls_mappings`) instead of classifiers of their own.
        past_loss_weight (`float`, *optional*, defaults to 1.0): Weight of the past-action loss in `loss`.
        feature_loss_weight (`float`, *optional*, defaults to 1.0): Weight of the future-feature loss in `loss`.
        frame_loss_weight (`float`, *optional*, defaults to 1.0): Weight of the frame recognizer's loss in `loss`.
        past_loss_normalizer (`str`, *optional*, defaults to `"labelled"`): `"labelled"`: the past-action loss is the
            mean over labelled frames. `"all"`: its sum is divided by the number of all frames, as the reference does
            (func/train.py:213), so that a video with few labelled frames counts less.
        initializer_range (`float`, *optional*, defaults to 0.01): Standard deviation of the linear layers at
            initialisation.
        reader (`dict`, *optional*): Settings of a `HistoryReader`, whose tables are in the checkpoint; needs
            `recognizes_frames`. See `ReaderSettings`; `avt-distill fit_reader` writes it.
        id2label (`dict[int, str]`, *optional*): Names of the A actions, ids 0..A-1. `num_labels=A` alone gives
            `LABEL_0`, ...

    Raises:
        ValueError: where fields contradict each other, naming the field, the value and what is accepted.
    """

    model_type = "avt"
    sub_configs = {"backbone_config": AutoConfig}  # pyright: ignore[reportAssignmentType]  a class property there
    attribute_map = {
        "hidden_size": "head_hidden_size",
        "num_hidden_layers": "head_num_layers",
        "num_attention_heads": "head_num_heads",
    }
    # What `Trainer` must not gather over a whole evaluation set: large, or not per example.
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
        "feature_loss",
        "hidden_states",
        "attentions",
    ]

    backbone_config: dict | PreTrainedConfig | None = field(
        # 1e-6 is the LayerNorm epsilon of the ViTs that AVT starts from; transformers' own default is 1e-12.
        default_factory=lambda: {"model_type": "vit", "layer_norm_eps": 1e-6}
    )
    feature_dim: int | None = None
    intermediate_dim: int | None = None
    head_hidden_size: int = 2048
    head_num_layers: int = 6
    head_num_heads: int = 4
    head_num_positions: int = 1024
    head_dropout: float | int = 0.1
    classifier_dropout: float | int = 0.2
    num_frames: int = 10
    frame_rate: float | int = 1.0
    tau_a: float | int = 1.0
    tau_o: float | int = 10.0
    standardize_features: bool = False
    feature_dropout: float | int = 0.0
    classify_last_frame: bool = False
    recognizes_frames: bool = False
    recognizer_feature_dim: int | None = None
    head_feature_dim: int | None = None
    classify_past: bool = True
    label_types: list | tuple = field(default_factory=lambda: ["action"])
    verb_id2label: dict | None = None
    noun_id2label: dict | None = None
    action_to_verb_noun: list | tuple | dict | None = None
    use_class_mappings: bool = False
    past_loss_weight: float | int = 1.0
    feature_loss_weight: float | int = 1.0
    frame_loss_weight: float | int = 1.0
    past_loss_normalizer: str = "labelled"
    initializer_range: float = 0.01
    reader: dict | None = None

    def __post_init__(self, **kwargs):
        # Transformers records the auto class of the object being saved and no other, and `Trainer` never records the
        # pipeline: both are declared here so that every checkpoint loads by every documented way.
        kwargs.setdefault(
            "auto_map",
            {
                "AutoConfig": "configuration_avt.AVTConfig",
                "AutoModel": "modeling_avt.AVTForAnticipation",
                "AutoModelForVideoClassification": "modeling_avt.AVTForAnticipation",
            },
        )
        kwargs.setdefault(
            "custom_pipelines",
            {
                "action-anticipation": {
                    "impl": "pipeline_avt.ActionAnticipationPipeline",
                    "pt": ["AutoModel"],
                    "type": "video",
                }
            },
        )
        if isinstance(self.backbone_config, Mapping):
            self.backbone_config = _backbone_config_from_dict(self.backbone_config)
        if self.id2label is not None and kwargs.get("num_labels") not in (None, len(self.id2label)):
            # `from_pretrained(..., num_labels=...)`: transformers warns and replaces the actions; their map is void.
            self.action_to_verb_noun = None
        super().__post_init__(**kwargs)
        self.label_types = list(self.label_types)
        self.verb_id2label = _int_keys(self.verb_id2label)
        self.noun_id2label = _int_keys(self.noun_id2label)
        self.action_to_verb_noun = _verb_noun_pairs(self.action_to_verb_noun)
        self.check_consistency()
        self.label2id = {label: int(index) for index, label in (self.id2label or {}).items()}
        if self.feature_dim is None and self.backbone_config is not None:
            self.feature_dim = _backbone_width(self.backbone_config)

    @classmethod
    def from_dict(cls, config_dict, **kwargs):
        # Transformers only warns, and fills a model of ours with random weights.
        if config_dict.get("model_type", cls.model_type) != cls.model_type:
            raise ValueError(
                f"The checkpoint is of type '{config_dict['model_type']}', not '{cls.model_type}': give one that "
                "AVTForAnticipation.save_pretrained wrote (an image model can be its backbone_config)."
            )
        return super().from_dict(config_dict, **kwargs)

    @property
    def num_classes(self) -> dict[str, int]:
        """The number of classes of each label type that is classified, in the order of `label_types`."""
        maps = {"action": self.id2label, "verb": self.verb_id2label, "noun": self.noun_id2label}
        return {label_type: len(maps[label_type]) for label_type in self.label_types}

    def check_consistency(self):
        """Raises `ValueError` where fields contradict each other.

        Runs at construction, and again when a model is built: `from_pretrained(..., id2label=...)` sets fields
        afterwards.
        """
        self._check_labels()
        self._check_dimensions()
        if self.reader is not None:
            self._check_reader(ReaderSettings.from_config(self.reader))

    def _check_labels(self):
        unknown = [t for t in self.label_types if t not in LABEL_TYPES]
        if unknown or "action" not in self.label_types or len(set(self.label_types)) < len(self.label_types):
            raise ValueError(
                f"label_types is {self.label_types}: give 'action' and, if wanted, 'verb' and 'noun', each once."
            )
        for name in ("id2label", "verb_id2label", "noun_id2label"):
            labels = getattr(self, name)
            if labels is not None and sorted(labels) != list(range(len(labels))):
                raise ValueError(
                    f"{name} has the ids {_shorten(sorted(labels))}: ids must run from 0 to N-1 without gaps."
                )
        for label_type in ("verb", "noun"):
            if label_type in self.label_types and getattr(self, f"{label_type}_id2label") is None:
                raise ValueError(
                    f"label_types asks for '{label_type}' but {label_type}_id2label is None: give the names."
                )
        if self.action_to_verb_noun is not None:
            self._check_action_map(self.action_to_verb_noun)
        elif self.use_class_mappings:
            raise ValueError("use_class_mappings needs action_to_verb_noun, the [verb id, noun id] of each action.")

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
                "reader is set, but recognizes_frames is not: a reader reads what frames are recognized as."
            )
        if reader.actions != actions_digest(self.action_names):
            raise ValueError(
                f"The reader was fitted on other actions than the {self.num_labels} of id2label: its answers would be "
                "of wrong actions. Pass reader=None to leave it out, and fit another with avt-distill fit_reader."
            )

    @property
    def action_names(self) -> list[str]:
        """Names of the A actions, in order of id."""
        return [name for _, name in sorted((self.id2label or {}).items())]

    def _check_dimensions(self):
        if self.head_hidden_size % self.head_num_heads:
            raise ValueError(
                f"head_hidden_size={self.head_hidden_size} is not divisible by head_num_heads={self.head_num_heads}."
            )
        if not 1 <= self.num_frames <= self.head_num_positions:
            raise ValueError(
                f"num_frames={self.num_frames} must lie between 1 and head_num_positions={self.head_num_positions}."
            )
        if self.frame_rate <= 0 or self.tau_o <= 0 or self.tau_a < 0:
            raise ValueError(
                f"frame_rate={self.frame_rate} and tau_o={self.tau_o} must be above 0, tau_a={self.tau_a} not below."
            )
        if self.backbone_config is None and self.feature_dim is None:
            raise ValueError(
                "backbone_config=None means that the model takes features: give their width as feature_dim."
            )
        for name in ("recognizer_feature_dim", "head_feature_dim"):
            width, feature_dim = getattr(self, name), self.feature_dim
            if width is not None and not 1 <= width <= (feature_dim or width):
                raise ValueError(f"{name} is {width}: give 1 to {feature_dim}, the width of the features.")
        if self.past_loss_normalizer not in ("labelled", "all"):
            raise ValueError(f"past_loss_normalizer is '{self.past_loss_normalizer}': give 'labelled' or 'all'.")


def _backbone_config_from_dict(backbone_config) -> PreTrainedConfig:
    fields = dict(backbone_config)
    model_type = fields.pop("model_type", None)
    if model_type is None:
        raise ValueError(
            "backbone_config has no 'model_type': give the name of a Hugging Face image model, such as 'vit'."
        )
    return AutoConfig.for_model(model_type, **fields)


def _backbone_width(backbone_config: PreTrainedConfig) -> int:
    """The width of one image's pooled feature, as Hugging Face image configurations name it."""
    if getattr(backbone_config, "hidden_size", None) is not None:
        return backbone_config.hidden_size
    if getattr(backbone_config, "hidden_sizes", None):
        return backbone_config.hidden_sizes[-1]
    raise ValueError(
        f"The configuration of a '{backbone_config.model_type}' backbone names no width: give it as feature_dim."
    )


def _int_keys(labels: dict | None) -> dict[int, str] | None:
    return None if labels is None else {int(index): label for index, label in labels.items()}  # JSON keys are text


def _verb_noun_pairs(mapping) -> list[list[int]] | None:
    if mapping is None:
        return None
    if isinstance(mapping, Mapping):
        by_action = {int(action): pair for action, pair in mapping.items()}
        mapping = [by_action[action] for action in sorted(by_action)]
    return [[int(verb), int(noun)] for verb, noun in mapping]


def _shorten(ids: list[int]) -> str:
    return str(ids) if len(ids) <= 8 else f"{ids[:4]} ... {ids[-1]}"


AVTConfig.register_for_auto_class()

"""The text teacher: a language model that reads past actions and predicts the next one.

This file does not import the package, so that it can be saved with a teacher and loaded with `trust_remote_code=True`
without this package.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from transformers import AutoConfig, AutoModel, PretrainedConfig, PreTrainedModel
from transformers.utils import ModelOutput

LABEL_TYPES = ("action", "verb", "noun")
POOLINGS = ("first", "last", "mean")
IGNORED_LABEL = -100
AUTO_MAP = {
    "AutoConfig": "modeling_teacher.TextTeacherConfig",
    "AutoModel": "modeling_teacher.TextTeacher",
    "AutoModelForSequenceClassification": "modeling_teacher.TextTeacher",
}
UNREAD = "backbone.pooler."  # unused weights of a pooler in some checkpoints


class TextTeacherConfig(PretrainedConfig):
    """Configuration of a teacher: its language model, its label maps, and the text that it was trained to read.

    Args:
        backbone_config (`PretrainedConfig` or `dict`): Configuration of any Hugging Face encoder or decoder.
        pooling (`str`, *optional*, defaults to `"first"`): The token whose feature is classified: `"first"`, as in the
            reference and natural for encoders; `"last"`, the only token of a decoder that attends to all others; or the
            `"mean"` of all.
        classifier_dropout (`float`, *optional*, defaults to 0.0): Dropout probability before the classifiers; the
            reference uses none.
        label_weights (`dict[str, float]`, *optional*, defaults to `{"action": 1.0}`): Weight of each label type in the
            loss; its keys decide which of `"action"`, `"verb"` and `"noun"` have a classifier. The paper trains all
            three, with 0.8/0.1/0.1 on EGTEA Gaze+ and 0.7/0.15/0.15 on EPIC-Kitchens-55.
        id2label, verb_id2label, noun_id2label (`dict[int, str]`, *optional*): The label maps.
        action_texts (`list[str]`, *optional*): The text of each action, of which histories consist.
        text_form (`str`, *optional*, defaults to `"natural"`): `"natural"` or `"markers"`.
        history_length (`int`, *optional*, defaults to 15): Number of past actions to read. `None`: all.
        newest_first (`bool`, *optional*, defaults to `False`): Whether histories are written from the newest action to
            the oldest. The newest actions are then at the same positions in every text, which is easier to learn from
            few rows.
        max_length (`int`, *optional*, defaults to 512): Maximum number of tokens to read.
        history_cutoff (`str`, *optional*, defaults to `"started"`): The rule for the end of training histories.
        tau_a (`float`, *optional*, defaults to 1.0): Seconds between the end of the history and the action in training.
        label_space_hash (`str`, *optional*): `content_hash` of the `LabelSpace` of the labels.
        trained_on (`str`, *optional*): Fingerprint of the training rows.
        kwargs: Further fields of `PretrainedConfig`.
    """

    model_type = "text_teacher"
    sub_configs = {"backbone_config": AutoConfig}

    max_length: int = 512  # declared in the class, otherwise transformers treats it as a text generation setting

    # A plain `__init__`, since configurations are dataclasses in transformers 5 only.
    def __init__(
        self,
        backbone_config: PretrainedConfig | dict | None = None,
        pooling: str = "first",
        classifier_dropout: float = 0.0,
        label_weights: dict[str, float] | None = None,
        verb_id2label: dict | None = None,
        noun_id2label: dict | None = None,
        action_texts: list[str] | None = None,
        text_form: str = "natural",
        history_length: int | None = 15,
        newest_first: bool = False,
        max_length: int = 512,
        history_cutoff: str = "started",
        tau_a: float = 1.0,
        label_space_hash: str | None = None,
        trained_on: str | None = None,
        initializer_range: float = 0.02,
        **kwargs,
    ):
        if isinstance(backbone_config, Mapping):
            backbone_config = AutoConfig.for_model(**backbone_config)
        self.backbone_config: Any = backbone_config
        self.pooling = pooling
        self.classifier_dropout = classifier_dropout
        self.label_weights = {"action": 1.0} if label_weights is None else label_weights
        self.verb_id2label = _int_keys(verb_id2label)
        self.noun_id2label = _int_keys(noun_id2label)
        self.action_texts = action_texts
        self.text_form = text_form
        self.history_length = history_length
        self.newest_first = newest_first
        self.max_length = max_length
        self.history_cutoff = history_cutoff
        self.tau_a = tau_a
        self.label_space_hash = label_space_hash
        self.trained_on = trained_on
        self.initializer_range = initializer_range
        super().__init__(**{"auto_map": dict(AUTO_MAP), **kwargs})
        self.check_consistency()
        self.label2id = {label: index for index, label in self.id2label.items()}

    def __eq__(self, other) -> bool:
        # Transformers 5 makes a dataclass of every configuration, which would compare the parent's fields alone.
        return isinstance(other, TextTeacherConfig) and self.to_dict() == other.to_dict()

    __hash__ = None  # pyright: ignore[reportAssignmentType]  fields change

    def check_consistency(self):
        """Raises a `ValueError` if options are out of range or contradict each other."""
        if not _is_whole(self.max_length, least=1):
            raise ValueError(f"max_length is {self.max_length!r}: give a number of tokens, 1 or more.")
        if self.history_length is not None and not _is_whole(self.history_length, least=0):
            raise ValueError(f"history_length is {self.history_length!r}: give a number of actions, or None for all.")
        for name in ("classifier_dropout", "tau_a"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value < math.inf:
                raise ValueError(f"{name} is {value!r}: give a number, 0 or more.")
        if self.pooling not in POOLINGS:
            raise ValueError(f"pooling is '{self.pooling}': give one of {POOLINGS}.")
        if "action" not in self.label_weights or not set(self.label_weights) <= set(LABEL_TYPES):
            raise ValueError(
                f"label_weights has {list(self.label_weights)}: give weights of 'action', and if wanted 'verb', 'noun'."
            )
        weights = self.label_weights.values()
        if not all(isinstance(weight, (int, float)) and 0 <= weight < math.inf for weight in weights):
            raise ValueError(f"label_weights is {self.label_weights}: give weights of 0 or more.")
        for kind in ("verb", "noun"):
            if kind in self.label_weights and not getattr(self, f"{kind}_id2label"):
                raise ValueError(f"label_weights has '{kind}', but {kind}_id2label is empty: give the {kind}s' names.")
        if self.action_texts is not None and len(self.action_texts) != len(self.id2label):
            raise ValueError(f"action_texts has {len(self.action_texts)} texts for {len(self.id2label)} actions.")

    @classmethod
    def from_dict(cls, config_dict, **kwargs):
        if not isinstance(config_dict, dict):
            raise ValueError(
                f"config.json holds a {type(config_dict).__name__} instead of an object: give the file that "
                "avt-distill finetune_teacher wrote."
            )
        # Transformers only warns about another model type, and would return a teacher without a language model.
        if config_dict.get("model_type", cls.model_type) != cls.model_type:
            raise ValueError(
                f"The checkpoint is of type '{config_dict['model_type']}', not '{cls.model_type}': give a teacher that "
                "avt-distill finetune_teacher wrote (a language model can be its backbone_config)."
            )
        return super().from_dict(config_dict, **kwargs)

    @property
    def num_classes(self) -> dict[str, int]:
        """The number of classes by label type, for the types with a classifier."""
        maps = {"action": self.id2label, "verb": self.verb_id2label, "noun": self.noun_id2label}
        return {kind: len(maps[kind]) for kind in LABEL_TYPES if kind in self.label_weights}


def _is_whole(value: Any, least: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= least


def _int_keys(names: Mapping | None) -> dict[int, str] | None:
    return None if names is None else {int(index): name for index, name in names.items()}


@dataclass
class TextTeacherOutput(ModelOutput):
    """Output of `TextTeacher`.

    Args:
        loss (`torch.FloatTensor` of shape `(1,)`): The weighted sum of the cross-entropies, each averaged over its
            labeled rows; with `class_weights`, weighted-averaged.
        logits (`torch.FloatTensor` of shape `(B, A)`): Scores of the next action.
        verb_logits, noun_logits (`torch.FloatTensor` of shape `(B, V)`, `(B, N)`): Scores of verbs and nouns, if there
            is a classifier.
        features (`torch.FloatTensor` of shape `(B, D)`): The pooled features, the input of the classifiers.
    """

    loss: torch.FloatTensor | None = None
    logits: torch.FloatTensor | None = None
    verb_logits: torch.FloatTensor | None = None
    noun_logits: torch.FloatTensor | None = None
    features: torch.FloatTensor | None = None


class TextTeacher(PreTrainedModel):
    """A language model with pooling and one linear classifier per label type.

    Reference: the distillation authors' fine-tuning, egtea_finetuning.py: features of the first token, no pooler, no
    dropout.

    Args:
        config (`TextTeacherConfig`): The configuration of the teacher.
    """

    config_class = TextTeacherConfig
    config: TextTeacherConfig
    base_model_prefix = "backbone"
    main_input_name = "input_ids"
    input_modalities = ("text",)
    accepts_loss_kwargs = False  # losses are means, so `Trainer` must divide them by the accumulation steps
    supports_gradient_checkpointing = True
    _supports_sdpa = True
    _supports_flash_attn = True
    _supports_attention_backend = True

    def __init__(self, config: TextTeacherConfig):
        super().__init__(config)
        self.backbone = AutoModel.from_config(config.backbone_config, trust_remote_code=False)
        if getattr(self.backbone, "pooler", None) is not None:
            self.backbone.pooler = None  # models like BERT add a pooler, which is not used
        width = config.backbone_config.hidden_size
        self.dropout = nn.Dropout(config.classifier_dropout)
        self.classifiers = nn.ModuleDict({kind: nn.Linear(width, n) for kind, n in config.num_classes.items()})
        self.register_buffer("class_weights", None, persistent=False)  # (A,), weights of the actions, in training only
        self.post_init()

    @classmethod
    def from_pretrained(cls, pretrained_model_name_or_path, *args, output_loading_info: bool = False, **kwargs) -> Any:
        """Loads a teacher as in transformers, and raises if any weight is missing or left over.

        With `output_loading_info=True` the model is returned unchecked, with transformers' report of missing and
        unexpected weights.

        Raises:
            ValueError: If weights are missing or left over, which would make the answers random.
        """
        loaded: Any = super().from_pretrained(pretrained_model_name_or_path, *args, output_loading_info=True, **kwargs)
        model, report = loaded
        if output_loading_info:
            return model, report
        missing = sorted(report["missing_keys"])
        others = sorted(name for name in report["unexpected_keys"] if not name.startswith(UNREAD))
        if missing or others:
            raise ValueError(
                f"'{pretrained_model_name_or_path}' lacks {len(missing)} weights of {cls.__name__} {missing[:3]} and "
                f"holds {len(others)} others {others[:3]}, so that its answers would be random: give a whole "
                "checkpoint, as save_pretrained wrote it."
            )
        return model

    def forward(
        self,
        input_ids: torch.LongTensor,
        attention_mask: torch.LongTensor | None = None,
        labels: torch.LongTensor | None = None,
        verb_labels: torch.LongTensor | None = None,
        noun_labels: torch.LongTensor | None = None,
        return_dict: bool | None = None,
    ) -> TextTeacherOutput:
        """Returns the logits of the next action and, with `labels`, the loss.

        Args:
            input_ids (`torch.LongTensor` of shape `(B, L)`): Token ids of histories, padded on the right.
            attention_mask (`torch.LongTensor` of shape `(B, L)`, *optional*): 1 for tokens, 0 for padding.
            labels, verb_labels, noun_labels (`torch.LongTensor` of shape `(B,)`, *optional*): Ids of the next action,
                its verb and its noun; -100 is ignored. Label types without a classifier are ignored.
            return_dict (`bool`, *optional*): Whether to return a `TextTeacherOutput` instead of a tuple.
        """
        if attention_mask is None:
            attention_mask = torch.ones_like(input_ids)
        states = self.backbone(input_ids=input_ids, attention_mask=attention_mask).last_hidden_state  # (B, L, D)
        features = pool(states, attention_mask, self.config.pooling)  # (B, D)
        logits = {kind: head(self.dropout(features)) for kind, head in self.classifiers.items()}
        targets = {"action": labels, "verb": verb_labels, "noun": noun_labels}
        output = TextTeacherOutput(
            loss=None if labels is None else self._loss(logits, targets),
            logits=logits["action"],
            verb_logits=logits.get("verb"),
            noun_logits=logits.get("noun"),
            features=features,
        )
        return output.to_tuple() if return_dict is False else output

    def _loss(self, logits: dict[str, torch.Tensor], targets: dict[str, torch.Tensor | None]) -> torch.Tensor:
        loss = 0.0
        for kind, weight in self.config.label_weights.items():
            target = targets[kind]
            if target is None:
                raise ValueError(f"The loss has a weight for '{kind}', but the batch has no {kind} labels: give them.")
            if (target == IGNORED_LABEL).all():
                continue  # a mean over nothing would be NaN
            weights = self.class_weights if kind == "action" else None
            loss = loss + weight * nn.functional.cross_entropy(
                logits[kind].float(), target, weight=weights, ignore_index=IGNORED_LABEL
            )
        return loss if isinstance(loss, torch.Tensor) else logits["action"].sum() * 0.0


def pool(states: torch.Tensor, attention_mask: torch.Tensor, pooling: str) -> torch.Tensor:
    """Returns one feature per row, `(B, D)`, from states `(B, L, D)` and a mask `(B, L)`; padding is ignored."""
    if pooling == "mean":
        weights = attention_mask.to(states.dtype)[..., None]
        return (states * weights).sum(dim=1) / weights.sum(dim=1)
    positions = torch.arange(attention_mask.shape[1], device=states.device)
    if pooling == "first":
        index = torch.where(attention_mask.bool(), positions, attention_mask.shape[1]).argmin(dim=1)
    else:
        index = torch.where(attention_mask.bool(), positions, -1).argmax(dim=1)
    return states[torch.arange(len(states), device=states.device), index]


TextTeacherConfig.register_for_auto_class()
TextTeacher.register_for_auto_class("AutoModelForSequenceClassification")

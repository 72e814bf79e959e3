"""How a teacher is made: the options of fine-tuning a language model."""

from dataclasses import dataclass, field
from typing import ClassVar

from transformers import TrainingArguments


@dataclass
class TeacherArguments(TrainingArguments):
    """`TrainingArguments`, and how a teacher is made; defaults are the reference's where it has one.

    Reference: egtea_finetuning.py and its EPIC-Kitchens twin: AdamW at a constant 1e-5, batches of 16, no warm-up, no
    clipping, 8 epochs. The paper reads 15 past actions on EGTEA Gaze+ and 5 on EPIC-Kitchens, and weighs actions, verbs
    and nouns 0.8/0.1/0.1 and 0.7/0.15/0.15; its best teacher on EPIC-Kitchens-55 is DistilBERT.
    """

    TITLE: ClassVar[str] = "teacher"

    model_name_or_path: str = field(
        default="distilbert/distilbert-base-uncased",
        metadata={
            "help": "The language model: its name on the Hub, or a folder, such as one that adapt_language_model.py "
            "wrote."
        },
    )
    random_weights: bool = field(default=False, metadata={"help": "Train its architecture from random weights."})
    pooling: str | None = field(
        default=None,
        metadata={
            "help": "Token whose feature is classified: first, last or mean. Default: an encoder's first, a decoder's "
            "last."
        },
    )
    classifier_learning_rate: float | None = field(
        default=None,
        metadata={"help": "Learning rate of the classifiers, which start at random. Default: learning_rate."},
    )
    classifier_dropout: float = field(default=0.0, metadata={"help": "Dropout before the classifiers."})
    label_weights: dict | str | None = field(
        default_factory=lambda: {"action": 1.0},
        metadata={"help": 'Loss weights of action, and if wanted of verb and noun: {"action": 0.8, "verb": 0.2}.'},
    )
    class_weights: str = field(
        default="none",
        metadata={"help": "none, or balanced: N / (A n) for an action with n of the N training rows."},
    )
    text_form: str = field(default="natural", metadata={"help": "How actions are written: natural or markers."})
    newest_first: bool = field(
        default=False, metadata={"help": "Write histories from the newest action to the oldest."}
    )
    history_length: int = field(default=15, metadata={"help": "Number of past actions that are read; -1 for all."})
    max_length: int = field(default=512, metadata={"help": "Number of tokens that are read."})
    held_out_fraction: float = field(
        default=0.1,
        metadata={"help": "Part of the training videos that is held out to stop early on; 0 trains on all to the end."},
    )
    patience: int = field(default=2, metadata={"help": "Evaluations without improvement after which training stops."})
    lora_rank: int = field(
        default=0, metadata={"help": "Rank of LoRA updates, merged into the model when saved; 0 trains all of it."}
    )

    learning_rate: float = 1e-5
    lr_scheduler_type: str = "constant"
    weight_decay: float = 1e-7
    max_grad_norm: float = 0.0
    per_device_train_batch_size: int = 16
    per_device_eval_batch_size: int = 64
    num_train_epochs: float = 8.0
    train_sampling_strategy: str = "group_by_length"

    _VALID_DICT_FIELDS = [*TrainingArguments._VALID_DICT_FIELDS, "label_weights"]

    def __post_init__(self):
        if not 0 <= self.held_out_fraction < 1:
            raise ValueError(f"held_out_fraction is {self.held_out_fraction}: give a share of the videos, below 1.")
        if self.class_weights not in ("none", "balanced"):
            raise ValueError(f"class_weights is '{self.class_weights}': give 'none' or 'balanced'.")
        if self.push_to_hub:
            raise ValueError("push_to_hub is not for teachers: push a finished one with scripts/push_to_hub.py.")
        if self.held_out_fraction:
            self.eval_strategy = self.save_strategy = "epoch"
            self.load_best_model_at_end = True
            self.save_total_limit = self.save_total_limit or 1
            self.metric_for_best_model = self.metric_for_best_model or "loss"
        self.remove_unused_columns = False
        super().__post_init__()

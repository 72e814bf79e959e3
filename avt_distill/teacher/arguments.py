"""Options of fine-tuning a language model as a teacher."""

from dataclasses import dataclass
from typing import ClassVar

from transformers import SchedulerType, TrainingArguments

from ..runs.arguments import mapping, option

MAX_LENGTH = 512


@dataclass
class TeacherArguments(TrainingArguments):
    """`TrainingArguments` with the options of a teacher. Defaults follow the reference where it has the option.

    Reference: egtea_finetuning.py and its EPIC-Kitchens counterpart: AdamW at a constant 1e-5, batches of 16, no
    warm-up, no clipping, 8 epochs. The paper reads 15 past actions on EGTEA Gaze+ and 5 on EPIC-Kitchens, and
    weights actions, verbs and nouns 0.8/0.1/0.1 and 0.7/0.15/0.15; its best teacher on EPIC-Kitchens-55 is
    DistilBERT. The help texts describe each option.
    """

    TITLE: ClassVar[str] = "teacher"

    model_name_or_path: str = option(
        "The language model: its name on the Hub, or a folder.", "distilbert/distilbert-base-uncased"
    )
    random_weights: bool = option("Train its architecture from random weights.", False)
    pooling: str | None = option("Token to classify: first, last or mean. Default: a decoder's last, else first.")
    classifier_learning_rate: float | None = option("Of the new classifiers. Default: learning_rate.")
    classifier_dropout: float = option("Dropout before the classifiers.", 0.0)
    label_weights: dict | str | None = option(
        'Loss weights of action and, optionally, verb and noun: {"action": 0.8, "verb": 0.2}.',
        default_factory=lambda: {"action": 1.0},
    )
    class_weights: str = option("none, or balanced: N / (A n) for an action with n of the N training rows.", "none")
    text_form: str = option("How actions are written: natural or markers.", "natural")
    newest_first: bool = option("Write histories from the newest action to the oldest.", False)
    history_length: int = option("Number of past actions to read; -1 for all.", 15)
    max_length: int | None = option(
        f"Number of tokens to read. Default: {MAX_LENGTH}, or fewer if the model reads fewer."
    )
    held_out_fraction: float = option("Part of the training videos that decides when to stop; 0: none.", 0.1)
    patience: int = option("Evaluations without improvement after which training stops.", 2)
    lora_rank: int = option("Rank of LoRA updates, merged when saved; 0 trains all weights.", 0)

    learning_rate: float = 1e-5
    lr_scheduler_type: SchedulerType | str = "constant"
    weight_decay: float = 1e-7
    max_grad_norm: float = 0.0
    per_device_train_batch_size: int = 16
    per_device_eval_batch_size: int = 64
    num_train_epochs: float = 8.0
    train_sampling_strategy: str = "group_by_length"

    _VALID_DICT_FIELDS = [*TrainingArguments._VALID_DICT_FIELDS, "label_weights"]

    def __post_init__(self):
        from ..runs import options  # torch, which --help does without
        from ..runs.library_options import check_built, check_given
        from ..runs.options import COUNT, check_numbers, refuse_no_training, refuse_unused

        refuse_unused(self, {"resume_from_checkpoint": (None, "a teacher resumes by itself")})
        check_given(self)
        if not 0 <= self.held_out_fraction < 1:
            raise ValueError(f"held_out_fraction is {self.held_out_fraction}: give a share of the videos, below 1.")
        if self.class_weights not in ("none", "balanced"):
            raise ValueError(f"class_weights is '{self.class_weights}': give 'none' or 'balanced'.")
        if self.push_to_hub:
            raise ValueError(
                "push_to_hub is not supported for teachers: push a finished one with avt-distill push_to_hub."
            )
        if self.held_out_fraction:
            self.eval_strategy = self.save_strategy = "epoch"
            self.load_best_model_at_end = True
            self.save_total_limit = self.save_total_limit or 1
            self.metric_for_best_model = self.metric_for_best_model or "loss"
        self.remove_unused_columns = False
        super().__post_init__()
        own = {
            "classifier_learning_rate": options.RATE_OR_NONE,
            "classifier_dropout": options.SHARE,
            "max_length": options.COUNT_OR_NONE,
        }
        own |= {"history_length": options.COUNT_OR_ALL, "patience": COUNT, "lora_rank": options.COUNT_OR_0}
        check_numbers(self, own)
        check_built(self)
        for name, weight in mapping("label_weights", self.label_weights).items():
            options.RATE(f"label_weights.{name}", weight)
        refuse_no_training(self, "the teacher's classifiers would be random")

    @property
    def num_past_actions(self) -> int | None:
        """`history_length`, but `None` for all past actions."""
        return None if self.history_length < 0 else self.history_length

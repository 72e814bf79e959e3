"""How a language model is adapted to recipes: the options of adaptation."""

from dataclasses import dataclass, field
from typing import ClassVar

from transformers import TrainingArguments

from ..teacher.action_text import ActionText


@dataclass
class AdaptationArguments(TrainingArguments):
    """`TrainingArguments` and what adaptation adds to them.

    The optimiser is the reference's, which is the Trainer's own default: AdamW at 5e-5, linear decay, no warm-up, no
    weight decay, gradients clipped at 1.0, batches of 12 examples of at most 512 tokens (its recipe_mlm, with the
    Trainer of transformers 4.12). The reference trains for 200,000 steps on a million recipes, one recipe an example;
    here recipes share examples, unless `packing` is off, and `num_train_epochs` counts.
    """

    TITLE: ClassVar[str] = "adaptation"

    model_name_or_path: str = field(
        kw_only=True, metadata={"help": "The language model: its name on the Hub, or a folder."}
    )
    recipes: str = field(
        kw_only=True, metadata={"help": "Recipes as actions: the file that scripts/extract_recipe_actions.py writes."}
    )
    text_form: str = field(default="natural", metadata={"help": "How actions are written: natural or markers."})
    block_length: int = field(default=512, metadata={"help": "Tokens of a training example."})
    packing: bool = field(
        default=True, metadata={"help": "Fill each example with recipes; otherwise one recipe an example, padded."}
    )
    held_out_fraction: float = field(
        default=0.02, metadata={"help": "Part of the recipes that perplexity is measured on, and none is trained on."}
    )
    mlm_probability: float = field(default=0.15, metadata={"help": "Encoders: part of the tokens that are predicted."})
    head_warmup_steps: int = field(
        default=0,
        metadata={
            "help": "Where the checkpoint has no language model head: steps that train the head alone, before "
            "perplexity is measured and everything is trained."
        },
    )
    head_learning_rate: float = field(default=1e-3, metadata={"help": "Learning rate of these steps."})
    per_device_train_batch_size: int = field(default=12, metadata={"help": "Training examples a device and step."})
    logging_steps: float = field(default=50, metadata={"help": "Steps between two logs."})
    save_total_limit: int | None = field(default=2, metadata={"help": "Checkpoints to keep."})

    def __post_init__(self):
        super().__post_init__()
        ActionText(self.text_form)
        for name in ("held_out_fraction", "mlm_probability"):
            if not 0 < getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}: give a number between 0 and 1.")
        if self.head_warmup_steps < 0:
            raise ValueError(f"head_warmup_steps is {self.head_warmup_steps}: give 0 or more.")
        if self.label_smoothing_factor:
            raise ValueError("label_smoothing_factor is not used here: perplexity is that of the plain likelihood.")
        self.include_num_input_tokens_seen = "non_padding"

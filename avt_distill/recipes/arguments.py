"""Options of adapting a language model to recipes."""

from dataclasses import MISSING, dataclass
from typing import ClassVar

from transformers import TrainingArguments

from ..runs.arguments import option
from ..teacher.action_text import ActionText


@dataclass
class AdaptationArguments(TrainingArguments):
    """`TrainingArguments` with the options of adaptation, which their help texts describe.

    The optimizer is the reference's, which is also the Trainer's default: AdamW at 5e-5, linear decay, no warm-up, no
    weight decay, gradients clipped at 1.0, batches of 12 examples of at most 512 tokens (its recipe_mlm, with the
    Trainer of transformers 4.12). The reference trains for 200,000 steps on a million recipes, one recipe per example;
    here recipes share examples, unless `packing` is off, and `num_train_epochs` sets the length.
    """

    TITLE: ClassVar[str] = "adaptation"

    model_name_or_path: str = option("The language model: its name on the Hub, or a folder.", MISSING, kw_only=True)
    recipes: str = option("Recipes as actions: a file of extract_recipe_actions.", MISSING, kw_only=True)
    text_form: str = option("How actions are written: natural or markers.", "natural")
    block_length: int = option("Tokens of a training example.", 512)
    packing: bool = option("Fill each example with recipes; otherwise one recipe per example, padded.", True)
    held_out_fraction: float = option("Part of the recipes that only perplexity is measured on.", 0.02)
    mlm_probability: float = option("Encoders: part of the tokens that are predicted.", 0.15)
    head_warmup_steps: int = option("Steps that first train only a new head, if the checkpoint has none.", 0)
    head_learning_rate: float = option("Learning rate of these steps.", 1e-3)
    per_device_train_batch_size: int = option("Training examples per device and step.", 12)
    logging_steps: float = option("Steps between two logs.", 50)
    save_total_limit: int | None = option("Checkpoints to keep.", 2)

    def __post_init__(self):
        from ..runs.library_options import check_built, check_given
        from ..runs.options import COUNT, RATE, check_numbers, refuse_no_training, refuse_unused

        refuse_unused(self)
        check_given(self)
        super().__post_init__()
        check_numbers(self, {"head_learning_rate": RATE, "block_length": COUNT})
        check_built(self)
        refuse_no_training(self, "the language model would stay as it is")
        ActionText(self.text_form)
        for name in ("held_out_fraction", "mlm_probability"):
            if not 0 < getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}: give a number between 0 and 1.")
        if self.head_warmup_steps < 0:
            raise ValueError(f"head_warmup_steps is {self.head_warmup_steps}: give 0 or more.")
        self.include_num_input_tokens_seen = "non_padding"

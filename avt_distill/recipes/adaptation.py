"""Adapting a language model to sequences of actions in recipes, and measuring its perplexity on held-out recipes."""

import contextlib
import copy
import json
import logging
import platform
import time
from dataclasses import fields
from pathlib import Path

import accelerate
import numpy as np
import torch
import transformers
from transformers import (
    AutoModelForCausalLM,
    AutoModelForMaskedLM,
    EvalPrediction,
    PreTrainedModel,
    PreTrainedTokenizerBase,
    TrainerCallback,
    TrainerState,
    TrainingArguments,
    set_seed,
)
from transformers.trainer_utils import IntervalStrategy, SaveStrategy, SchedulerType

from ..data.labels import UNLABELLED
from ..runs.arguments import use_token
from ..runs.checkpoints import check_loaded, load_with_report
from ..runs.fingerprints import checkpoint_digest, decisive_options, files_digest
from ..runs.folder import read_record, refuse_other_settings, write_json
from ..runs.lock import LOCK, locked
from ..runs.outputs import check_output
from ..runs.resuming import check_resumable, last_whole_checkpoint
from ..runs.training import ResumableTrainer
from ..teacher.action_text import ActionText
from ..teacher.language_models import (
    is_causal,
    load_language_model_config,
    load_tokenizer,
    name_for_all_releases,
    readable_tokens,
)
from .arguments import AdaptationArguments
from .blocks import BlockCollator, RecipeTexts, load_recipe_texts, make_blocks

logger = logging.getLogger(__name__)

RESULT_FILE = "adaptation.json"
BEFORE = ("head_was_new", "new_weights", "before_is_of", "before")  # keys measured before training
OTHER_ADAPTATION = (
    "The run in {place} began with {name}={found}, not {wanted}: continue with that, or give another output_dir."
)
DURATION = ("num_train_epochs", "max_steps")  # a finished run can be continued for longer
INHERITED = {field.name for field in fields(TrainingArguments)}
REPORTED = (
    *(field.name for field in fields(AdaptationArguments) if field.name not in INHERITED),
    "seed",
    "learning_rate",
    "lr_scheduler_type",
    "weight_decay",
    "max_grad_norm",
    "per_device_train_batch_size",
    "gradient_accumulation_steps",
    "world_size",
    "num_train_epochs",
    "max_steps",
    "bf16",
    "fp16",
)


def load_masked_or_causal_model(name_or_path: str | Path) -> tuple[PreTrainedModel, list[str]]:
    """Loads a language model with its head in float32, and returns it with the names of the head's new weights.

    A checkpoint of an encoder only, such as a sentence encoder, has no head: transformers then ties the output matrix
    to the word embeddings and initializes the rest of the head at random.

    Raises:
        ValueError: If weights other than the head's are missing.
    """
    config = load_language_model_config(name_or_path)
    auto_class = AutoModelForCausalLM if is_causal(config) else AutoModelForMaskedLM
    model, report = load_with_report(
        auto_class.from_pretrained, name_or_path, dtype=torch.float32, trust_remote_code=False
    )
    check_loaded(model, report, name_or_path, new=None, left_out=None)
    return model, sorted(report["missing_keys"])


def check_block_length(block_length: int, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase):
    """Raises `ValueError` if blocks have more tokens than the model has positions, or too few to be of use."""
    positions = min(readable_tokens(model) or np.inf, tokenizer.model_max_length)
    if not 8 <= block_length <= positions:
        raise ValueError(f"block_length is {block_length}: give 8 to {positions} tokens, which this model can read.")
    if len(tokenizer) > model.get_input_embeddings().num_embeddings:
        raise ValueError(f"The tokenizer has {len(tokenizer)} tokens, more than the model has embeddings: they differ.")


class AdaptationTrainer(ResumableTrainer):
    """A `Trainer` of masked and causal language models on blocks of recipes.

    The loss is the mean over all predicted tokens of an optimizer step, regardless of how these are spread over devices
    and accumulated batches. `evaluate` returns the mean negative log-likelihood over all predicted tokens as
    `eval_loss`, its exponential as `eval_perplexity`, and their number as `eval_predicted_tokens`.

    A masked language model computes vocabulary logits only at the predicted positions, if its head supports that (see
    `reads_positions_alone`): over the whole block they would cost as much as a small encoder.
    """

    loss_is_scaled_for_ga = True

    def __init__(self, model: PreTrainedModel, args: TrainingArguments, **kwargs):
        if args.n_gpu > 1:
            raise ValueError(
                f"One process would use {args.n_gpu} GPUs: start one process per GPU with `accelerate launch`."
            )
        super().__init__(model, args, compute_metrics=_perplexity, **kwargs)
        self.selects_positions = not is_causal(model.config) and reads_positions_alone(model)

    def get_batch_samples(self, epoch_iterator, num_batches, device):
        """Returns the batches of an optimizer step, and the number of tokens that all processes predict in it."""
        batches, _ = super().get_batch_samples(epoch_iterator, num_batches, device)
        count = torch.tensor(sum(int((batch["labels"] != UNLABELLED).sum()) for batch in batches), device=device)
        return batches, self.accelerator.reduce(count, reduction="sum")

    def compute_loss(self, model, inputs, return_outputs=False, num_items_in_batch=None):
        nll = self.token_nll(model, inputs)
        # Gradients are averaged over processes, so the factor num_processes turns that into their sum.
        loss = nll.sum() * self.accelerator.num_processes / num_items_in_batch.clamp(min=1)
        return (loss, {"loss": loss}) if return_outputs else loss

    def prediction_step(self, model, inputs, prediction_loss_only, ignore_keys=None):
        """Returns each block's negative log-likelihood and number of tokens, instead of logits and labels."""
        inputs = self._prepare_inputs(inputs)
        with torch.no_grad(), self.compute_loss_context_manager():
            nll = self.token_nll(model, inputs)
        return None, nll.sum(1), (inputs["labels"] != UNLABELLED).sum(1)

    def token_nll(self, model: torch.nn.Module, batch: dict[str, torch.Tensor]) -> torch.Tensor:
        """Returns the negative log-likelihood of each label `(B, T)`, 0 where there is none; see `BlockCollator`."""
        labels = batch["labels"]
        inputs = {name: value for name, value in batch.items() if name != "labels"}
        if not self.selects_positions:
            logits = model(**inputs).logits  # (B, T, V)
            nll = torch.nn.functional.cross_entropy(
                logits.flatten(0, 1).float(), labels.flatten(), reduction="none", ignore_index=UNLABELLED
            )
            return nll.view_as(labels)  # (B, T)
        predicted = labels != UNLABELLED
        with head_at(self.model, predicted):
            logits = model(**inputs).logits[0]  # (M, V)
        nll = torch.zeros(labels.shape, device=labels.device)
        nll[predicted] = torch.nn.functional.cross_entropy(logits.float(), labels[predicted], reduction="none")
        return nll  # (B, T)


def _perplexity(outputs: EvalPrediction) -> dict[str, float]:
    count = int(outputs.label_ids.sum())
    loss = float(outputs.predictions.sum(dtype=np.float64) / count)
    return {"loss": loss, "perplexity": float(np.exp(loss)), "predicted_tokens": count}


@contextlib.contextmanager
def head_at(model: PreTrainedModel, positions: torch.Tensor):
    """Context in which a model's head computes the hidden states of some positions only, as a single sequence.

    Args:
        model (`PreTrainedModel`): Within this context its logits are `(1, M, V)`.
        positions (`torch.BoolTensor` of shape `(B, T)`): M of them are chosen, in order.
    """

    def choose(module, inputs, output):
        output.last_hidden_state = output.last_hidden_state[positions][None]  # (1, M, D)
        return output

    hook = model.base_model.register_forward_hook(choose)
    try:
        yield
    finally:
        hook.remove()


@torch.no_grad()
def reads_positions_alone(model: PreTrainedModel) -> bool:
    """Returns whether a model's head gives equal logits when computed at some positions only: tried on a few tokens."""
    training = model.training
    model.eval()
    device = next(model.parameters()).device
    input_ids = torch.arange(16, device=device).view(2, 8) % model.config.vocab_size
    positions = torch.arange(16, device=device).view(2, 8) % 3 == 0
    expected = model(input_ids=input_ids).logits[positions]
    try:
        with head_at(model, positions):
            chosen = model(input_ids=input_ids).logits
    except (RuntimeError, AttributeError, IndexError):
        return False
    finally:
        model.train(training)
    return chosen.shape == expected[None].shape and torch.allclose(chosen[0], expected, atol=1e-3, rtol=1e-3)


def adapt(args: AdaptationArguments, trainer_class: type[AdaptationTrainer] = AdaptationTrainer) -> dict:
    """Adapts a model, saves it with head and tokenizer in the output folder, and returns the results.

    Perplexity is measured on held-out recipes before and after training, with the same masks. With a new head, the
    first measurement uses a random head, unless `head_warmup_steps` train it first; only then does the difference
    reflect the language model. An interrupted run continues from its last checkpoint if `resume_from_checkpoint` is
    `true`, and a finished run of the same settings is kept.

    Args:
        args (`AdaptationArguments`): The options of the run.
        trainer_class (`type`, *optional*): The trainer's class, such as `sharing.hub.PushingAdaptationTrainer`, which
            `push_to_hub` needs.

    Returns:
        `dict`: The results, which are also written to `adaptation.json`; see `AdaptationTrainer` for the perplexities.

    Raises:
        ValueError: If arguments, recipes or model are unsuitable, or the folder is in use.
    """
    use_token(args)
    inputs = {"model_name_or_path": args.model_name_or_path, "recipes": args.recipes}
    check_output("output_dir", str(args.output_dir), inputs, overwrite=True, writes=())  # `_start` refuses other files
    with locked(args.output_dir or "."):
        return _adapt(args, trainer_class)


def _adapt(args: AdaptationArguments, trainer_class: type[AdaptationTrainer]) -> dict:
    if (finished := _finished(args)) is not None:
        logger.warning("%s holds the finished model of a run with these settings, which is kept.", args.output_dir)
        return finished
    checkpoint, earlier = _start(args)
    set_seed(args.seed)
    tokenizer = load_tokenizer(args.model_name_or_path)
    model, new_weights = load_masked_or_causal_model(args.model_name_or_path)
    check_block_length(args.block_length, model, tokenizer)
    texts = load_recipe_texts(args.recipes, ActionText(args.text_form), args.held_out_fraction)
    setup = _data(args, model, tokenizer, texts)
    if earlier is None:
        earlier = {"head_was_new": bool(new_weights), "new_weights": new_weights}
        earlier["before_is_of"] = _prepare_head(model, new_weights, args, setup)
    record = _Record(args, earlier)
    args.eval_on_start = checkpoint is None
    trainer = trainer_class(model, args, callbacks=[record], **setup)
    trainer.train(resume_from_checkpoint=checkpoint)
    training = record.effort(trainer.state)
    after = _held_out(trainer.evaluate())
    trainer.save_model()  # with the tokenizer
    if args.should_save:
        name_for_all_releases(Path(args.output_dir))
    result = {
        **record.found,
        "after": after,
        "recipes": {
            "train": len(texts.train),
            "held_out": len(texts.held_out),
            "without_actions": texts.num_without_actions,
            "repeated": texts.num_repeated,
        },
        "blocks": {"train": len(setup["train_dataset"]), "held_out": len(setup["eval_dataset"])},
        "training": training,
        "arguments": _arguments(args),
        "decisive": _decisive(args),
        "versions": {"python": platform.python_version()}
        | {library.__name__: library.__version__ for library in (torch, transformers, accelerate)},
    }
    _write(args, result)
    return result


def _finished(args: AdaptationArguments) -> dict | None:
    """Returns the results of the run that is to be resumed if it has finished, and is not continued for longer."""
    record = Path(str(args.output_dir)) / RESULT_FILE
    if str(args.resume_from_checkpoint).lower() != "true" or not record.exists():
        return None
    earlier, arguments = _earlier(args), _arguments(args)
    is_equal = all(earlier["arguments"].get(name) == arguments[name] for name in DURATION)
    return earlier if "after" in earlier and is_equal else None


def _earlier(args: AdaptationArguments) -> dict:
    """Returns the record of the run in the output folder, and raises `ValueError` if that run has other settings."""
    folder, arguments = Path(str(args.output_dir)), _arguments(args)
    earlier = read_record(folder / RESULT_FILE, "arguments", *BEFORE)
    settings = {**{name: arguments[name] for name in REPORTED[: REPORTED.index("seed")]}, **_decisive(args)}
    found = {**earlier["arguments"], **earlier.get("decisive", {})}
    refuse_other_settings(found, settings, refusal=OTHER_ADAPTATION, place=folder)
    return earlier


def _start(args: AdaptationArguments) -> tuple[str | None, dict | None]:
    """Returns the checkpoint to continue from and what was found before training; nothing of either for a new run."""
    folder, resume = Path(args.output_dir), str(args.resume_from_checkpoint or "false")
    record = folder / RESULT_FILE
    checkpoint = None
    if resume.lower() == "true":
        checkpoint = last_whole_checkpoint(folder, args.world_size)
    elif resume.lower() != "false":
        check_resumable(checkpoint := resume, args.world_size)
    if checkpoint is None:
        begun = resume.lower() == "true" and record.exists()  # stopped before its first checkpoint: it starts again
        if folder.is_dir() and {path.name for path in folder.iterdir()} - {LOCK} and not begun:
            raise ValueError(
                f"{folder} is not empty: give another output_dir, or --resume_from_checkpoint true to continue a run."
            )
        if begun and "after" in (earlier := _earlier(args)):  # without a checkpoint, it cannot be trained for longer
            duration = {name: _arguments(args)[name] for name in DURATION}
            refuse_other_settings(earlier["arguments"], duration, refusal=OTHER_ADAPTATION, place=folder)
        return None, None
    if not record.exists():
        raise ValueError(f"{folder} has no {RESULT_FILE} of the run that began: start again in another output_dir.")
    earlier = _earlier(args)
    return checkpoint, {name: earlier[name] for name in BEFORE}


def _data(
    args: AdaptationArguments, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, texts: RecipeTexts
) -> dict:
    """Returns the trainer's data: blocks to train on, with recipes in random order, and held-out ones."""
    order = np.random.default_rng(args.seed).permutation(len(texts.train))
    causal, collator = is_causal(model.config), BlockCollator(tokenizer, args.mlm_probability)
    layout = {"block_length": args.block_length, "causal": causal, "packing": args.packing}
    train = make_blocks(tokenizer, [texts.train[position] for position in order], **layout)
    held_out = make_blocks(tokenizer, texts.held_out, **layout)
    return {
        "train_dataset": train,
        "eval_dataset": held_out if causal else collator.mask_once(held_out),
        "data_collator": collator,
        "processing_class": tokenizer,
    }


class _Record(TrainerCallback):
    """Writes the measurement before the first step immediately, so that an interrupted run keeps it, and counts the
    effort.

    The Trainer measures it with `eval_on_start`, after the model is prepared for training. Calling `Trainer.evaluate`
    before `Trainer.train` would mark the model as prepared (Accelerate 1.15), and several processes would train without
    exchanging gradients.
    """

    def __init__(self, args: AdaptationArguments, found: dict):
        self.args, self.found = args, found
        self.started, self.first_step, self.tokens_before = 0.0, 0, 0

    def on_train_begin(self, args, state, control, **kwargs):
        self.started = time.perf_counter()
        self.first_step, self.tokens_before = state.global_step, state.num_input_tokens_seen

    def on_evaluate(self, args, state, control, metrics, **kwargs):
        if state.global_step == 0:
            self.found["before"] = _held_out(metrics)
            _write(self.args, {"arguments": _arguments(self.args), "decisive": _decisive(self.args), **self.found})
            self.started = time.perf_counter()

    def effort(self, state: TrainerState) -> dict:
        """Returns how much was trained; time and speed are those since the last start."""
        seconds = time.perf_counter() - self.started
        return {
            "steps": state.global_step,
            "epochs": state.epoch,
            "tokens": state.num_input_tokens_seen,
            "continued_from_step": self.first_step,
            "seconds": round(seconds, 1),
            "tokens_per_second": round((state.num_input_tokens_seen - self.tokens_before) / seconds, 1),
        }


def _prepare_head(model: PreTrainedModel, new_weights: list[str], args: AdaptationArguments, setup: dict) -> str:
    """Returns what perplexity before training will be of; a new head is trained first if that is asked for."""
    if not new_weights:
        if args.head_warmup_steps:
            logger.warning("head_warmup_steps is ignored: %s has a language model head.", args.model_name_or_path)
        return "the checkpoint"
    logger.warning("%s has no language model head: %s are initialized at random.", args.model_name_or_path, new_weights)
    if not args.head_warmup_steps:
        return "a random head on the checkpoint"
    train_head(model, new_weights, args, setup)
    return f"a head trained for {args.head_warmup_steps} steps on the unchanged checkpoint"


def train_head(model: PreTrainedModel, new_weights: list[str], args: AdaptationArguments, setup: dict):
    """Trains the head's new weights, given by name, alone and in place: `head_warmup_steps` at `head_learning_rate`.

    All else is as `args` say; `setup` is the trainer's data.
    """
    arguments = copy.copy(args)
    arguments.save_strategy, arguments.eval_strategy = SaveStrategy.NO, IntervalStrategy.NO
    arguments.load_best_model_at_end = arguments.push_to_hub = arguments.eval_on_start = False
    arguments.max_steps, arguments.learning_rate = args.head_warmup_steps, args.head_learning_rate
    arguments.lr_scheduler_type, arguments.lr_scheduler_kwargs = SchedulerType.LINEAR, None
    arguments.warmup_steps = 0
    parameters = dict(model.named_parameters(remove_duplicate=False))
    model.requires_grad_(False)
    for name in new_weights:
        parameters[name].requires_grad_(True)
    AdaptationTrainer(model, arguments, **setup).train()
    model.requires_grad_(True)


def _held_out(metrics: dict) -> dict:
    return {name: metrics[f"eval_{name}"] for name in ("perplexity", "loss", "predicted_tokens")}


def _arguments(args: AdaptationArguments) -> dict:
    values = {name: getattr(args, name) for name in REPORTED}
    return json.loads(json.dumps(values, default=str))


def _decisive(args: AdaptationArguments) -> dict:
    """Returns what a run that continues must share with the one that began; only for longer it may train.

    The perplexity before was measured on these recipes, with this model.
    """
    options = decisive_options(args, leave_out=("max_steps", "num_train_epochs", "eval_on_start", "recipes"))
    batch_size = args.per_device_train_batch_size * args.gradient_accumulation_steps * args.world_size
    recipes = files_digest({"recipes": args.recipes})
    model = checkpoint_digest(args.model_name_or_path)
    return {**options, "batch_size": batch_size, "recipes_content": recipes, "model_content": model}


def _write(args: AdaptationArguments, content: dict):
    if args.should_save:
        Path(args.output_dir).mkdir(parents=True, exist_ok=True)
        write_json(Path(args.output_dir) / RESULT_FILE, content)

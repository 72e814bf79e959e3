"""Fine-tuning a language model to predict the next action from the text of past ones."""

import copy
import shutil
from dataclasses import asdict, dataclass, fields
from pathlib import Path

import datasets
import numpy as np
import pandas as pd
import torch
from transformers import (
    DataCollatorWithPadding,
    EarlyStoppingCallback,
    EvalPrediction,
    PreTrainedTokenizerBase,
    Trainer,
    set_seed,
)

from ..data.builder import AnticipationBuilder
from ..data.labels import LabelSpace
from ..data.performances import performance_of
from ..metrics import label_ranks
from ..runs.fingerprints import checkpoint_digest, columns_digest, decisive_options
from ..runs.folder import SETTINGS, is_record, keep_settings, read_record, whole_files, write_json
from ..runs.lock import locked
from ..runs.outputs import check_output, holds
from ..runs.training import ResumableTrainer
from .action_text import ActionText
from .arguments import MAX_LENGTH, TeacherArguments
from .language_models import (
    is_causal,
    load_language_model_config,
    load_text_backbone,
    load_tokenizer,
    name_for_all_releases,
    readable_tokens,
)
from .modeling_teacher import TextTeacher, TextTeacherConfig
from .prediction import TeacherScorer, encode_histories
from .soft_labels import rows_fingerprint

# Columns of the training rows that affect the teacher: its input, the held-out videos, and the order of rows.
ROW_COLUMNS = ("uid", "video_id", "history", "action", "verb", "noun")
RECORD = "training.json"  # written last: marks a finished teacher


@dataclass
class HistoryRule:
    """The rule by which histories are selected, and the benchmark's form of labels.

    Args:
        history_cutoff (`str`): `"started"`, `"ended"` or `"segment_start"`; see `data.history.action_histories`.
        tau_a (`float`): Seconds between the end of the observed window and the action.
        head_noun_first (`bool`): See `ActionText`.
    """

    history_cutoff: str = "started"
    tau_a: float = 1.0
    head_noun_first: bool = False


def history_rule(builder: AnticipationBuilder) -> HistoryRule:
    """Returns the rule for a data set's histories."""
    return HistoryRule(builder.config.history_cutoff, builder.config.tau_a, builder.HEAD_NOUN_FIRST)


def fine_tuned_teacher(
    rows: pd.DataFrame, label_space: LabelSpace, args: TeacherArguments, history: HistoryRule
) -> TeacherScorer:
    """Returns the teacher in `args.output_dir`, training it first unless it is finished; interrupted training resumes.

    Args:
        rows (`pd.DataFrame`): `uid`, `video_id`, `history`, `action`, `verb`, `noun` of each training row. Unlabeled
            rows are ignored.
        label_space (`LabelSpace`): The labels.
        args (`TeacherArguments`): The training arguments.
        history (`HistoryRule`): The rule of the rows' histories.

    Raises:
        ValueError: If no row is labeled, there are too few videos to hold some out, or the folder holds a teacher of
            other rows or arguments.
    """
    rows = rows[rows["action"] >= 0].reset_index(drop=True)
    if rows.empty:
        raise ValueError("No row has a label to learn: give the rows of a training split.")
    folder, settings = Path(args.output_dir), teacher_settings(rows, label_space, args, history)
    inputs = {"model_name_or_path": args.model_name_or_path}
    check_output("output_dir", folder, inputs, made_here=holds(SETTINGS), writes=("config.json", "model.safetensors"))
    with locked(folder):
        keep_settings(folder / SETTINGS, settings, should_save=args.should_save, what="a teacher")
        if not is_record(folder / RECORD, "videos"):
            _train(rows, label_space, args, history)
    return TeacherScorer.from_pretrained(folder)


def _train(rows: pd.DataFrame, label_space: LabelSpace, args: TeacherArguments, history: HistoryRule):
    """Trains a teacher and saves it, `training.json` last."""
    set_seed(args.seed)
    folder = Path(args.output_dir)
    config = _config(label_space, args, history)
    config.trained_on = rows_fingerprint(rows)
    tokenizer = load_tokenizer(args.model_name_or_path)
    train, held_out = hold_out_videos(rows, args.held_out_fraction, args.seed)
    model = _model(config, args, train)
    examples = training_examples(train, config, tokenizer)
    trainer_args = copy.copy(args)
    trainer_args.output_dir = str(folder / "checkpoints")
    trainer_args.label_names = [name for name in examples.column_names if name != "input_ids"]
    trainer = TeacherTrainer(
        model,
        trainer_args,
        data_collator=DataCollatorWithPadding(tokenizer),
        train_dataset=examples,
        eval_dataset=training_examples(held_out, config, tokenizer) if len(held_out) else None,
        processing_class=tokenizer,
        compute_metrics=_top_k,
        # Keeps only the action logits: verb and noun logits and features would be gathered for nothing.
        preprocess_logits_for_metrics=lambda outputs, labels: outputs[0],
        callbacks=[EarlyStoppingCallback(args.patience)] if len(held_out) else None,
    )
    trainer.resume()
    if len(held_out):
        _check_best_is_loaded(trainer)
    if args.lora_rank:
        model.backbone = model.backbone.merge_and_unload()
    model.class_weights = None
    if args.should_save:
        with whole_files(folder) as unfinished:
            model.save_pretrained(unfinished)
            tokenizer.save_pretrained(unfinished)
            name_for_all_releases(unfinished)
        write_json(folder / RECORD, _record(trainer, train, held_out))
        shutil.rmtree(trainer_args.output_dir, ignore_errors=True)
    trainer.accelerator.wait_for_everyone()


class TeacherTrainer(ResumableTrainer):
    """A `Trainer` with an optional separate learning rate for the classifiers."""

    def create_optimizer(self, *args, **kwargs) -> torch.optim.Optimizer:
        optimizer = super().create_optimizer(*args, **kwargs)
        learning_rate = self.args.classifier_learning_rate
        # Two groups, with and without decay: not split yet.
        if learning_rate is not None and len(optimizer.param_groups) <= 2:
            new = set(map(id, self.accelerator.unwrap_model(self.model).classifiers.parameters()))
            for group in list(optimizer.param_groups):
                of_classifiers = [weight for weight in group["params"] if id(weight) in new]
                group["params"] = [weight for weight in group["params"] if id(weight) not in new]
                optimizer.add_param_group({**group, "params": of_classifiers, "lr": learning_rate})
        return optimizer


def teacher_settings(rows: pd.DataFrame, label_space: LabelSpace, args: TeacherArguments, history: HistoryRule) -> dict:
    """Returns all settings that determine the teacher, in JSON-serializable form."""
    # Options of commands that locate data or concern later measuring and labeling do not affect the teacher.
    elsewhere = {option.name for option in fields(args)} - {option.name for option in fields(TeacherArguments)}
    if not args.held_out_fraction:  # evaluation decides when to stop
        elsewhere |= {"bf16_full_eval", "fp16_full_eval"}
    steps = ("per_device_train_batch_size", "gradient_accumulation_steps")
    columns = {name: rows[name] for name in ROW_COLUMNS if name in rows}
    return decisive_options(args, leave_out=elsewhere, add=steps) | {
        "max_length": args.max_length or MAX_LENGTH,
        "model_content": checkpoint_digest(args.model_name_or_path),
        "label_space_hash": label_space.content_hash,
        **asdict(history),
        "trained_on": rows_fingerprint(rows),
        "training_rows": columns_digest(columns),
    }


def _record(trainer: Trainer, train: pd.DataFrame, held_out: pd.DataFrame) -> dict:
    """Returns the record of a finished training for `training.json`."""
    state = trainer.state
    return {
        "num_rows": len(train),
        "num_held_out_rows": len(held_out),
        "videos": sorted(set(train["video_id"])),
        "held_out_videos": sorted(set(held_out["video_id"])),
        "epochs": state.epoch,
        "best_step": state.best_global_step,
        "best_metric": state.best_metric,
        "log": state.log_history,
    }


def videos_of_teacher(folder: str | Path) -> list[str] | None:
    """Returns the videos that a saved teacher learned from or was stopped by; `None` if there is no record of them."""
    if not (Path(folder) / RECORD).is_file():
        return None
    record = read_record(Path(folder) / RECORD)
    return sorted({*record.get("videos", []), *record.get("held_out_videos", [])})


def hold_out_videos(rows: pd.DataFrame, fraction: float, seed: int) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Splits rows into training and held-out ones by whole videos, holding out about `fraction` and at least one.

    Videos of one performance, recorded by several cameras, are held out together: see `data.performances`.

    Raises:
        ValueError: If that leaves no video to train on.
    """
    if not fraction:
        return rows, rows.iloc[:0]
    performances = rows["video_id"].map(performance_of)
    videos = np.random.default_rng(seed).permutation(sorted(set(performances)))
    count = max(1, round(fraction * len(videos)))
    if count >= len(videos):
        raise ValueError(f"held_out_fraction {fraction} of {len(videos)} videos leaves none to train on: give less.")
    is_held_out = performances.isin(videos[:count])
    return rows[~is_held_out].reset_index(drop=True), rows[is_held_out].reset_index(drop=True)


def training_examples(
    rows: pd.DataFrame, config: TextTeacherConfig, tokenizer: PreTrainedTokenizerBase
) -> datasets.Dataset:
    """Returns `input_ids`, `labels` and, if the teacher classifies them, `verb_labels` and `noun_labels`."""
    input_ids = encode_histories(list(rows["history"]), config, tokenizer)
    columns = {"input_ids": input_ids, "labels": rows["action"].to_numpy()}
    for kind in ("verb", "noun"):
        if kind in config.label_weights:
            columns[f"{kind}_labels"] = rows[kind].to_numpy()
    return datasets.Dataset.from_dict(columns)


def _config(label_space: LabelSpace, args: TeacherArguments, history: HistoryRule) -> TextTeacherConfig:
    backbone_config = load_language_model_config(args.model_name_or_path)
    labels = label_space.to_config()
    return TextTeacherConfig(
        backbone_config=backbone_config,
        pooling=args.pooling or ("last" if is_causal(backbone_config) else "first"),
        classifier_dropout=args.classifier_dropout,
        label_weights=args.label_weights,
        id2label=labels["id2label"],
        verb_id2label=labels["verb_id2label"],
        noun_id2label=labels["noun_id2label"],
        action_texts=ActionText(args.text_form, history.head_noun_first).labels(label_space.actions),
        text_form=args.text_form,
        history_length=args.num_past_actions,
        newest_first=args.newest_first,
        max_length=args.max_length or MAX_LENGTH,
        history_cutoff=history.history_cutoff,
        tau_a=history.tau_a,
        label_space_hash=label_space.content_hash,
    )


def _model(config: TextTeacherConfig, args: TeacherArguments, rows: pd.DataFrame) -> TextTeacher:
    model = TextTeacher(config)
    config.max_length = model.config.max_length = _max_length(args, model.backbone)
    if not args.random_weights:
        model.backbone = load_text_backbone(args.model_name_or_path)
    if args.class_weights == "balanced":
        counts = np.bincount(rows["action"], minlength=len(config.id2label))
        weights = len(rows) / (len(counts) * np.maximum(counts, 1))
        model.class_weights = torch.tensor(weights, dtype=torch.float32)
    if args.lora_rank:
        model.backbone = _with_lora(model.backbone, args.lora_rank)
    return model


def _max_length(args: TeacherArguments, backbone: torch.nn.Module) -> int:
    """Returns the number of tokens to read; raises `ValueError` if the language model cannot read as many."""
    positions = readable_tokens(backbone)
    if args.max_length is None:
        return min(MAX_LENGTH, positions or MAX_LENGTH)
    if positions is not None and args.max_length > positions:
        raise ValueError(
            f"max_length is {args.max_length}: give 1 to {positions} tokens, which {args.model_name_or_path} can read."
        )
    return args.max_length


def _with_lora(backbone: torch.nn.Module, rank: int) -> torch.nn.Module:
    try:
        import peft
    except ImportError as error:
        raise ImportError("lora_rank needs peft: pip install 'avt-distill[lora]', or set lora_rank to 0.") from error
    return peft.get_peft_model(
        backbone, peft.LoraConfig(r=rank, lora_alpha=2 * rank, target_modules="all-linear", lora_dropout=0.0)
    )


def _top_k(prediction: EvalPrediction) -> dict[str, float]:
    """Returns top-1 and top-5 accuracy in percent."""
    labels = prediction.label_ids[0] if isinstance(prediction.label_ids, tuple) else prediction.label_ids
    ranks = label_ranks(prediction.predictions, labels)
    return {f"top{k}_accuracy": 100 * float((ranks < k).mean()) for k in (1, 5)}


def _check_best_is_loaded(trainer: Trainer):
    """Raises `RuntimeError` unless the loaded best checkpoint reproduces its metric, since `Trainer` ignores missing
    keys."""
    name = f"eval_{trainer.args.metric_for_best_model.removeprefix('eval_')}"
    value, best = trainer.evaluate()[name], trainer.state.best_metric
    if not np.isclose(value, best, rtol=1e-3):
        raise RuntimeError(f"The best checkpoint had {name} {best:.4f}, but loaded it has {value:.4f}.")

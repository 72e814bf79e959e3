"""Labeling rows with teachers: saved, cross-fitted, count-based and zero-shot ones."""

import copy
import json
import logging
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from transformers import AutoModelForCausalLM

from ..data.builder import AnticipationBuilder
from ..runs.checkpoints import load_whole
from .action_text import ActionText
from .arguments import MAX_LENGTH, TeacherArguments
from .count_models import NGramModel
from .cross_fitting import cross_fitted_logits
from .fine_tuning import fine_tuned_teacher, history_rule, videos_of_teacher
from .language_models import load_language_model_config, load_tokenizer
from .log_linear import LogLinearModel
from .prediction import TeacherScorer, different_histories
from .scorer import Scorer
from .soft_labels import VIDEOS, rows_fingerprint
from .worded import WordedLogLinear, name_vectors
from .zero_shot import ZeroShotScorer

logger = logging.getLogger(__name__)

Labels = tuple[np.ndarray, dict]  # logits (N, A) of the rows, and the metadata of their teacher
Fit = Callable[[pd.DataFrame, int], Scorer]  # from training rows, and the number of the fold left out, to a teacher


def label_with_saved(folder: str, builder: AnticipationBuilder, rows: pd.DataFrame, args: TeacherArguments) -> Labels:
    """Labels rows with a saved teacher.

    Raises:
        ValueError: If the folder holds no teacher, or one of other actions or of another history rule.
    """
    scorer = _on_device(TeacherScorer.from_pretrained(folder), args)
    config = scorer.model.config
    scorer.check_label_space(builder.annotations.label_space, folder)
    known, asked = (config.history_cutoff, config.tau_a), (builder.config.history_cutoff, builder.config.tau_a)
    if known != asked:
        raise ValueError(
            f"{folder} was trained on histories of cutoff and tau_a {known}, but is to read ones of {asked}: give "
            f"--history_cutoff {known[0]} --tau_a {known[1]}."
        )
    metadata = {"model": folder, "trained_on": config.trained_on, "history_length": config.history_length}
    if (videos := videos_of_teacher(folder)) is not None:
        metadata[VIDEOS] = json.dumps(videos)
    return scorer.logits(list(rows["history"]), progress=True), metadata | {"text_form": config.text_form}


def label_zero_shot(
    name: str,
    builder: AnticipationBuilder,
    rows: pd.DataFrame,
    args: TeacherArguments,
    *,
    instruction: str = "",
    calibrate: bool = False,
) -> Labels:
    """Labels rows with a pretrained causal language model; see `ZeroShotScorer`."""
    load_language_model_config(name)  # raises with one sentence
    tokenizer = load_tokenizer(name)
    text, length = ActionText(args.text_form, builder.HEAD_NOUN_FIRST), args.num_past_actions
    scorer = ZeroShotScorer(
        load_whole(AutoModelForCausalLM.from_pretrained, name, left_out=None, trust_remote_code=False).to(args.device),
        tokenizer,
        text.labels(builder.annotations.label_space.actions),
        text,
        instruction=instruction,
        history_length=length,
        max_prefix_length=args.max_length or MAX_LENGTH,
        calibrate=calibrate,
    )
    different, positions = different_histories(list(rows["history"]), length)
    metadata = {"model": name, "trained_on": "", "history_length": args.history_length, "text_form": args.text_form}
    return scorer.logits(different)[positions], metadata


def label_with_counts(
    ngram: int | None,
    builder: AnticipationBuilder,
    rows: pd.DataFrame,
    args: TeacherArguments,
    *,
    language_model: str | None = None,
    train_split: str = "train",
    num_folds: int = 0,
) -> Labels:
    """Labels rows with an n-gram model of the given order, or with a log-linear model for `None`.

    With a language model, the log-linear model has similar weights for actions with similar names; see
    `WordedLogLinear`. With folds the labels are cross-fitted; see `cross_fitted_logits`.
    """
    space, length = builder.annotations.label_space, args.num_past_actions
    num_actions, vectors = len(space.actions), None
    if language_model is not None:
        vectors = name_vectors(space, language_model, head_noun_first=builder.HEAD_NOUN_FIRST, parts_apart=False)

    def fit(rows: pd.DataFrame, fold: int) -> Scorer:
        if vectors is not None:
            model = WordedLogLinear(num_actions, vectors, history_length=length)
        else:
            model = NGramModel(ngram, num_actions) if ngram else LogLinearModel(num_actions, length, args.device)
        return model.fit(list(rows["history"]), list(rows["action"]))

    metadata: dict = {"model": f"{ngram}-gram" if ngram else "log-linear"}
    metadata["history_length"] = ngram - 1 if ngram else args.history_length
    if language_model is not None:
        metadata["language_model"] = language_model
    return _label_with_trained(fit, metadata, builder.rows(train_split), rows, args, num_folds)


def label_with_fine_tuned(
    builder: AnticipationBuilder,
    rows: pd.DataFrame,
    args: TeacherArguments,
    *,
    train_split: str = "train",
    num_folds: int,
) -> Labels:
    """Labels rows with cross-fitted fine-tuned teachers, each saved in `args.output_dir/fold<k>`."""

    def fit(rows: pd.DataFrame, fold: int) -> Scorer:
        fold_args = copy.copy(args)
        fold_args.output_dir = str(Path(args.output_dir) / f"fold{fold}")
        logger.info("Fold %d of %d: %d rows to train on.", fold + 1, num_folds, len(rows))
        teacher = fine_tuned_teacher(rows, builder.annotations.label_space, fold_args, history_rule(builder))
        return _on_device(teacher, args)

    metadata = {"model": args.model_name_or_path, "text_form": args.text_form, "history_length": args.history_length}
    return _label_with_trained(fit, metadata, builder.rows(train_split), rows, args, num_folds)


def _label_with_trained(
    fit: Fit, metadata: dict, train: pd.DataFrame, rows: pd.DataFrame, args: TeacherArguments, num_folds: int
) -> Labels:
    train = train[train["action"] >= 0].reset_index(drop=True)
    videos = json.dumps(sorted(set(train["video_id"])))
    metadata = {**metadata, "trained_on": rows_fingerprint(train), VIDEOS: videos, "cross_fit": num_folds}
    if num_folds:
        return cross_fitted_logits(train, rows, fit, num_folds=num_folds, seed=args.seed), metadata
    return fit(train, 0).logits(list(rows["history"])), metadata


def _on_device(scorer: TeacherScorer, args: TeacherArguments) -> TeacherScorer:
    scorer.model.to(args.device, torch.bfloat16 if args.bf16_full_eval else None)
    return scorer

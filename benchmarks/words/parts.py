"""Measurements of text models: next actions after true histories, answers of a reader, and distilled students."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import scipy.special
from torch import nn

from avt_distill.data.builder import AnticipationBuilder
from avt_distill.data.loading import anticipation_builder
from avt_distill.data.performances import performance_of
from avt_distill.evaluation.scores import ScoreTable
from avt_distill.features.files import write_features
from avt_distill.features.memory import evidence_so_far, running_means
from avt_distill.metrics import label_ranks, log_loss
from avt_distill.reader.asking import AskedTransitions, MixedTransitions
from avt_distill.reader.fitting import read_rows
from avt_distill.reader.tables import as_tables, build_reader
from avt_distill.runs.folder import is_record, whole_files
from avt_distill.student.arguments import RunArguments
from avt_distill.student.run import distill
from avt_distill.teacher.count_models import NGramModel
from avt_distill.teacher.log_linear import LogLinearModel
from avt_distill.teacher.scorer import Scorer
from avt_distill.teacher.soft_labels import SoftLabelTable
from modeling_avt.configuration_avt import actions_digest
from modeling_avt.reader_avt import HistoryReader

from .data import FRAME_RATE, Scripts, WordsData
from .texts import HISTORY_LENGTH, NUM_LAST, Mixture

EVIDENCE_WEIGHTS = (0.05, 0.1, 0.2)
CHOSEN_ON = 20  # number of held-out training videos on which the evidence weight is chosen
BEAM, MIN_START, NUM_PHASES = 100, 1e-6, 2
SAMPLES = 3  # sampled histories per true one when a language model is distilled
SWAPPED = 0.15  # share of replaced actions in a sampled history
DISTILLED_PRIOR = 0.1  # prior weight of the log-linear model that a language model is distilled into
MEANS_S, EVIDENCE_S = (2.0, 8.0, 30.0), (3.0, 10.0)
SMOOTHING = 0.2  # of the one-hot soft labels; averaged with the labels themselves, label smoothing of 0.1


def measured(scores: np.ndarray, labels: np.ndarray) -> dict:
    """Returns the saved results of scores `(N, A)`: rank and log loss of each label, and the most likely actions."""
    log_probs = scipy.special.log_softmax(scores.astype(np.float64), axis=1)
    losses = -log_probs[np.arange(len(labels)), labels]
    return {
        "ranks": label_ranks(scores, labels).tolist(),
        "losses": np.round(losses, 4).tolist(),
        "likeliest": scores.argmax(1).tolist(),
    }


def transitions_of(model: Scorer, scripts: Scripts, data: WordsData, *, asked: bool = False) -> nn.Module:
    """Returns a text model as a transition model for a beam.

    Counts become tables, and mixtures become mixtures of tables. Language models are distilled into tables, or queried
    directly if `asked`.
    """
    if isinstance(model, Mixture):
        tables = [transitions_of(one, scripts, data, asked=asked) for one in model.models]
        return MixedTransitions(tables, model.weights)
    if isinstance(model, NGramModel | LogLinearModel):
        return as_tables(model)
    if asked:
        return AskedTransitions(model, data.num_actions, HISTORY_LENGTH)
    return as_tables(distilled(model, scripts, data))


def distilled(teacher: Scorer, scripts: Scripts, data: WordsData) -> LogLinearModel:
    """Returns a log-linear model that is distilled from a teacher, on true and on sampled histories.

    Sampled histories are true ones in which some actions are replaced by others, drawn by their frequencies, because a
    beam also holds such histories.
    """
    generator = np.random.default_rng(0)
    frequent = np.bincount(scripts.actions, minlength=data.num_actions) / len(scripts.actions)
    histories = [history[-HISTORY_LENGTH:] for history in scripts.histories]
    sampled = []
    for history in histories * SAMPLES:
        others = generator.choice(data.num_actions, len(history), p=frequent)
        swapped = np.where(generator.random(len(history)) < SWAPPED, others, history)
        sampled.append(swapped[: generator.integers(len(history) + 1)].tolist() if len(history) else [])
    rows = list(dict.fromkeys(map(tuple, [*histories, *sampled])))
    probabilities = scipy.special.softmax(teacher.logits(rows).astype(np.float64), axis=1)
    options = {"prior_weight": DISTILLED_PRIOR, "num_last": NUM_LAST, "action_parts": data.action_parts}
    return LogLinearModel(data.num_actions, **options).fit(rows, probabilities)


def fitted_reader(
    model: Scorer, scripts: Scripts, data: WordsData, evidence_weight: float, *, asked: bool = False
) -> HistoryReader:
    """Returns a reader that uses a text model, with durations fitted to the videos of the scripts."""
    segments = data.segments["train"]
    names = set(scripts.videos)
    settings = {
        "frame_rate": FRAME_RATE,
        "actions": actions_digest(data.builder.annotations.label_space.actions),
        "evidence_weight": evidence_weight,
        "fusion_weights": [0.5, 0.5],
        "num_phases": NUM_PHASES,
        "beam": BEAM,
        "min_start": MIN_START,
        "followers": 500 if data.num_actions > 500 else None,
    }
    labels = [data.frames[name].labels for name in sorted(names)]
    unigram = NGramModel(1, data.num_actions).fit(scripts.histories, scripts.actions.tolist())
    of_videos = segments[segments["video_id"].isin(names)]
    reader = build_reader(of_videos, labels, lambda _: unigram, data.num_actions, settings)
    reader.transitions = transitions_of(model, scripts, data, asked=asked)
    return reader


def evidence_weight(model_of, scripts: Scripts, data: WordsData) -> dict[float, float]:
    """Returns the log loss of a reader on held-out training videos by evidence weight.

    Args:
        model_of (`Callable`): Function from scripts to the text model of the reader.
        scripts (`Scripts`): Scripts of training videos, which are divided here.
        data (`WordsData`): The data set.
    """
    others, held_out = next(scripts.divisions())
    names = sorted(set(held_out.videos))[:CHOSEN_ON]
    rows = data.training_rows[data.training_rows["video_id"].isin(names)].reset_index(drop=True)
    model, losses = model_of(others), {}
    for weight in EVIDENCE_WEIGHTS:
        reader = fitted_reader(model, others, data, weight)
        answers = read_rows(reader, data.recognized, data.frames, rows, data.builder.config.tau_a)
        losses[weight] = log_loss(answers, rows["action"].to_numpy())
    return losses


def reader_answers(
    model: Scorer, scripts: Scripts, data: WordsData, weight: float, rows: pd.DataFrame, *, asked: bool = False
) -> np.ndarray:
    """Returns the log probabilities of a reader at rows, `(N, A)`; the histories of the rows are not used."""
    reader = fitted_reader(model, scripts, data, weight, asked=asked)
    return read_rows(reader, data.recognized, data.frames, rows, data.builder.config.tau_a)


@dataclass(frozen=True)
class StudentOptions:
    """The training options of students.

    Args:
        seeds (`tuple[int, ...]`): Seeds; one student is trained for each.
        epochs (`float`): Number of training epochs per student.
        num_frames (`int`): Number of frames in the observed window.
        frame_rate (`float`): Frames per second in the observed window.
    """

    seeds: tuple[int, ...] = (0, 1)
    epochs: float = 16
    num_frames: int = 6
    frame_rate: float = 0.2


@dataclass(frozen=True)
class LossOptions:
    """The options of the loss on soft labels, see `distillation_loss`. The defaults are the paper's for EGTEA Gaze+.

    Args:
        temperature (`float`): Temperature of both teacher and student.
        weight (`float`): Weight of the loss.
        top_k (`int`, *optional*): If given, only the teacher's k best actions are compared.
    """

    temperature: float = 10.0
    weight: float = 1.415
    top_k: int | None = None

    @classmethod
    def parse(cls, text: str) -> "LossOptions":
        """Returns the options in a text `temperature:weight` or `temperature:weight:top_k`."""
        temperature, weight, *top_k = text.split(":")
        return cls(float(temperature), float(weight), *map(int, top_k))


def write_own_data(data: WordsData, videos: Sequence[str], held_out: Sequence[str] | None, folder: Path) -> Path:
    """Writes the training videos of a draw and the videos to measure on to a folder, and returns the folder.

    Students are measured on the test videos, or on `held_out` training videos if given. `segments.csv` has the splits
    `train` and `test`. `features/` has one file per video: the recognizer's posteriors of each frame, SIMULATED except
    for 50 Salads (of verbs, nouns and background if verbs and nouns are counted separately), their causal means, and
    evidence of past actions.
    """
    if not is_record(folder / "labels.json", "actions"):
        train = data.segments["train"]
        segments = [train[train["video_id"].isin(set(videos))].assign(split="train")]
        measured_on = data.segments["test"] if held_out is None else train[train["video_id"].isin(set(held_out))]
        segments.append(measured_on.assign(split="test"))
        table = pd.concat(segments, ignore_index=True)
        space = data.builder.annotations.label_space
        names = np.append(np.array(space.actions, dtype=object), "")
        table = table.assign(action=names[np.where(table["action"] >= 0, table["action"], -1)])
        features = folder / "features"
        features.mkdir(parents=True, exist_ok=True)
        for name in sorted(set(table["video_id"])):
            write_features(features / f"{name}.safetensors", student_features(data, name), FRAME_RATE)
        with whole_files(folder, last="labels.json") as unfinished:
            columns = ["uid", "video_id", "start_s", "end_s", "action", "split"]
            table[columns].to_csv(unfinished / "segments.csv", index=False)
            space.save(unfinished / "labels.json")
    return folder


def student_features(data: WordsData, name: str) -> np.ndarray:
    """Returns the input of students for each frame of a video, float32 `(F, D)`, which uses no later frames."""
    probabilities = np.exp(data.recognized[name])
    if data.setting.parts_apart:
        parts = np.zeros((len(probabilities), int(data.verb_noun.max()) + 2))
        for column in data.verb_noun.T:
            np.add.at(parts.T, column, probabilities[:, :-1].T)
        parts[:, -1] = probabilities[:, -1]
        probabilities = np.minimum(parts, 1.0)
    means = running_means(probabilities, FRAME_RATE, [1 / FRAME_RATE, *MEANS_S])
    evidence = [evidence_so_far(probabilities, FRAME_RATE, scale_s) for scale_s in EVIDENCE_S]
    return np.concatenate([means, *evidence], axis=1)


def soft_label_table(data: WordsData, builder, rows: pd.DataFrame, logits: np.ndarray, name: str) -> SoftLabelTable:
    """Returns a soft-label table with the logits of the training rows."""
    columns = {column: rows[column].tolist() for column in ("video_id", "start_s", "action")}
    metadata = {
        "label_space_hash": builder.annotations.label_space.content_hash,
        "model": name,
        "history_cutoff": builder.config.history_cutoff,
        "tau_a": builder.config.tau_a,
        "split": "train",
    }
    return SoftLabelTable(rows["uid"].tolist(), logits, metadata, columns)


def smoothed_one_hot(labels: np.ndarray, num_actions: int) -> np.ndarray:
    """Returns smoothed labels as logits, `(N, A)`."""
    smoothed = np.full((len(labels), num_actions), SMOOTHING / num_actions)
    smoothed[np.arange(len(labels)), labels] += 1 - SMOOTHING
    return np.log(smoothed)


def students(
    data: WordsData, own_data: Path, folder: Path, soft_labels: Path | None, options: StudentOptions, loss: LossOptions
) -> dict[int, ScoreTable]:
    """Returns the scores on the split `test` of students by seed, which are trained as in `run_distill.py`."""
    width = {"intermediate_dim": 64, "head_hidden_size": 64, "head_num_layers": 2, "head_num_heads": 4}
    labels = {"distill_weight": 0.0} if soft_labels is None else {"soft_labels": [str(soft_labels)], "baseline": False}
    if soft_labels is not None:
        labels |= {"distill_weight": loss.weight, "distill_temperature": loss.temperature, "distill_top_k": loss.top_k}
    args = RunArguments(
        output_dir=str(folder),
        dataset=str(own_data),
        tau_a=data.builder.config.tau_a,
        tau_o=options.num_frames / options.frame_rate,
        num_frames=options.num_frames,
        frame_rate=options.frame_rate,
        features=str(own_data / "features"),
        probe=False,
        model_options={
            **width,
            "standardize_features": True,
            "head_num_positions": 16,
            "initializer_range": 0.125,
            "past_loss_weight": 0.1,
            "feature_loss_weight": 0.0,
        },
        seeds=list(options.seeds),
        optim="adamw_torch",
        learning_rate=1e-3,
        weight_decay=0.05,
        lr_scheduler_type="cosine",
        warmup_steps=0.1,
        max_grad_norm=1.0,
        num_train_epochs=options.epochs,
        per_device_train_batch_size=64,
        per_device_eval_batch_size=256,
        save_strategy="no",
        logging_steps=50,
        report_to="none",
        disable_tqdm=True,
        use_cpu=True,
        evaluation_split="test",
        **labels,
    )
    distill(args)
    name = "baseline" if soft_labels is None else "distilled"
    return {seed: ScoreTable.load(folder / f"{name}_seed{seed}" / "scores_test.parquet") for seed in options.seeds}


def groups_of(rows: pd.DataFrame) -> np.ndarray:
    """Returns the performance of each row. Resamples draw whole performances."""
    return rows["video_id"].map(performance_of).to_numpy()


def in_order(table: ScoreTable, uids: Sequence[str]) -> np.ndarray:
    """Returns the scores of rows in a given order, `(N, A)`."""
    row_of: Mapping[str, int] = {uid: row for row, uid in enumerate(table.uids)}
    return table.scores[[row_of[uid] for uid in uids]]


def own_builder(folder: Path, data: WordsData) -> AnticipationBuilder:
    """Returns the builder of a folder that `write_own_data` wrote."""
    return anticipation_builder(str(folder), tau_a=data.builder.config.tau_a)

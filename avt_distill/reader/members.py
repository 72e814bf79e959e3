"""The compared and pooled models (students, probe and readers), with their held-out predictions and answers."""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import pandas as pd
import scipy.special

from ..data.builder import AnticipationBuilder
from ..evaluation.scores import ScoreTable
from ..runs.folder import read_record
from ..student.arguments import RunArguments
from ..student.logistic import out_of_fold_log_probs
from ..student.run import run_arguments, variants
from ..student.training import RESULTS, StudentData, part_of, trained_student
from ..teacher.cross_fitting import assign_folds
from .arguments import ReaderArguments
from .fusion import fit_weights, pooled

NAMES = {"baseline": "student", "distilled": "distilled"}
WEIGHTS_OF_GIVEN = [0.5, 0.5]  # for a checkpoint that is not trained here, so that it has no held-out predictions


@dataclass
class Member:
    """A model, or pool of models, in the comparison.

    Args:
        name (`str`): As in the table.
        held_out (`np.ndarray` of shape `(N, A)` or `None`): Log probabilities of the labeled training rows, by models
            that were fitted to other videos. `None` if there are none, of a student that is given.
        answers (`list[np.ndarray]`): Log probabilities `(M, A)` of the evaluation rows, one for each seed.
    """

    name: str
    held_out: np.ndarray | None
    answers: list[np.ndarray]


@dataclass
class FoldRun:
    """One fold of a run: its arguments, its data, and which training videos are held out together."""

    args: ReaderArguments
    builder: AnticipationBuilder
    data: StudentData

    @cached_property
    def seeds(self) -> list[int]:
        return self.args.seeds or [self.args.seed]

    @property
    def is_given(self) -> bool:
        """Whether the student is a finished checkpoint that is not trained here."""
        return self.args.is_as_it_is

    @cached_property
    def num_actions(self) -> int:
        return len(self.builder.annotations.label_space.actions)

    @cached_property
    def train(self) -> pd.DataFrame:
        """The labeled training rows; the index is their number among all."""
        rows = rows_of(self.data.train)
        return rows.loc[rows["action"] >= 0]

    @cached_property
    def rows(self) -> pd.DataFrame:
        """The evaluation rows."""
        return rows_of(self.data.evaluation)

    @cached_property
    def fold_of(self) -> dict[str, int]:
        """The inner fold of each training video."""
        return assign_folds(self.train["video_id"].tolist(), self.args.inner_folds)

    def arguments(self, variant: str, seed: int) -> RunArguments:
        """Returns the arguments of one student."""
        return run_arguments(self.args, variant, seed, variants(self.args)[variant])

    def inner_arguments(self, variant: str, fold: int) -> RunArguments:
        """Returns the arguments of the student of an inner fold; they are of the first seed."""
        run = self.arguments(variant, self.seeds[0])
        run.output_dir = str(self.args.folder / "inner" / f"fold{fold}" / str(run.run_name))
        run.evaluation_split = self.args.train_split
        return run


def rows_of(rows) -> pd.DataFrame:
    """Returns the columns of rows that readers use, without `history`, which they must not see."""
    return pd.DataFrame({name: rows[name] for name in ("uid", "video_id", "observed_end_s", "action")})


def student_member(run: FoldRun, variant: str) -> Member:
    """Returns the students of a variant, training them first unless they are finished."""
    tables = [trained_student(run.arguments(variant, seed), run.data) for seed in run.seeds]
    answers = [_log_probs(table, run.rows["uid"].to_numpy()) for table in tables]
    if run.is_given:
        return Member(name_of_given(str(run.args.model_name_or_path)), None, answers)
    held_out = np.empty((len(run.train), run.num_actions))
    fold_of_row = rows_of(run.data.train)["video_id"].map(run.fold_of).to_numpy()
    for fold in range(run.args.inner_folds):
        others, own = np.flatnonzero(fold_of_row != fold), np.flatnonzero(fold_of_row == fold)
        part = part_of(run.args, run.data, others, own, f"inner fold {fold} of {run.args.inner_folds}")
        table = trained_student(run.inner_arguments(variant, fold), part)
        labelled = (run.train["video_id"].map(run.fold_of) == fold).to_numpy()
        held_out[labelled] = _log_probs(table, run.train["uid"].to_numpy()[labelled])
    return Member(NAMES[variant], held_out, answers)


def name_of_given(name_or_path: str) -> str:
    """Returns the name of a finished checkpoint in the table: "distilled" if it records a teacher, else "student"."""
    results = Path(name_or_path) / RESULTS
    has_teacher = results.is_file() and read_record(results).get("teacher") is not None
    return NAMES["distilled" if has_teacher else "baseline"]


def probe_member(run: FoldRun) -> Member:
    """Returns the logistic probe of stored features; see `student.probe`."""
    student_input, probe = run.data.student_input, run.data.probe
    assert probe is not None
    of_training = student_input.last_frames(run.data.train.select(run.train.index))
    of_evaluation = student_input.last_frames(run.data.evaluation)
    labels, folds = run.train["action"].to_numpy(), run.train["video_id"].map(run.fold_of).to_numpy()
    held_out = out_of_fold_log_probs(of_training, labels, folds, run.num_actions, probe.l2, run.args.device)
    return Member("probe", held_out, [probe.classifier.log_probs(of_evaluation)] * len(run.seeds))


def fuse(first: Member, second: Member, labels: np.ndarray) -> tuple[Member, list[float]]:
    """Returns the pool of two members, weighed by what both predict for held-out training rows, and the weights.

    Args:
        first, second (`Member`): The two.
        labels (`np.ndarray` of shape `(N,)`): The actions of the training rows.
    """
    weights, held_out = WEIGHTS_OF_GIVEN, None
    if first.held_out is not None and second.held_out is not None:
        weights = fit_weights([first.held_out, second.held_out], labels)
        held_out = pooled([first.held_out, second.held_out], weights)
    answers = [pooled(pair, weights) for pair in zip(first.answers, second.answers, strict=True)]
    return Member(f"{first.name} + {second.name}", held_out, answers), weights


def _log_probs(table: ScoreTable, uids: np.ndarray) -> np.ndarray:
    row_of = {uid: row for row, uid in enumerate(table.uids)}
    return scipy.special.log_softmax(table.scores[[row_of[uid] for uid in uids]].astype(np.float64), axis=1)

"""The cells of the results table, one JSON file each: the results of a model on a draw of training videos."""

import json
import logging
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np
import pandas as pd
import scipy.special

from avt_distill.metrics import label_ranks
from avt_distill.reader.tables import as_tables
from avt_distill.runs.fingerprints import files_digest
from avt_distill.runs.folder import is_record, read_record, refuse_other_settings, write_json
from avt_distill.teacher.count_models import NGramModel
from avt_distill.teacher.cross_fitting import assign_folds
from avt_distill.teacher.log_linear import LogLinearModel
from avt_distill.teacher.scorer import Scorer
from avt_distill.teacher.soft_labels import SoftLabelTable

from . import parts
from .data import Scripts, WordsData
from .texts import ASKED, COUNTS, LOG_LINEAR, Chosen, Mixture, TextModels, mean_of_log_probs, mixture_weights

logger = logging.getLogger(__name__)

COUNTS_MIXED = "counts"
ALL = "all"
BASELINE, SMOOTHED = "no teacher", "label smoothing"
BALANCED = ", balanced"
SOFT_LABEL_FOLDS, TOP5 = 4, 5
LABELS_THEMSELVES = parts.LossOptions(temperature=1.0, weight=1.0)  # label smoothing: soft labels are smoothed labels
OTHER_CELL = "{path} was measured with {name} {found!r}, not {wanted!r}: delete it, or give another --output_dir."


@dataclass(frozen=True)
class Draw:
    """A draw of training videos.

    Args:
        num_videos (`int`, *optional*): Number of videos; `None` means all.
        number (`int`): Number of the draw among those of this size. Each has a different order of scrambled names.
    """

    num_videos: int | None
    number: int

    @property
    def key(self) -> str:
        return f"{self.num_videos or ALL}_{self.number}"


class Curves:
    """The measurements on a data set. Each cell is measured once; an interrupted run resumes with the next one.

    Args:
        data (`WordsData`): The data set.
        texts (`TextModels`): Its text models.
        folder (`Path`): Folder that holds the cells.
        reader_videos (`int`, *optional*): Number of test videos for readers. Default: all.
    """

    def __init__(self, data: WordsData, texts: TextModels, folder: Path, reader_videos: int | None = None):
        self.data, self.texts, self.folder, self.reader_videos = data, texts, folder, reader_videos
        self._chosen: dict[str, Chosen] = {}
        self._fitted: dict[str, Scorer] = {}
        self._of_rows: dict[str, np.ndarray] = {}

    def measure(
        self,
        part: str,
        models: Sequence[str],
        draws: Sequence[Draw],
        options: parts.StudentOptions,
        losses: Sequence[parts.LossOptions] = (parts.LossOptions(),),
    ):
        """Measures the cells of a part that do not exist yet.

        Args:
            part (`str`): `"true"`, `"reader"` or `"student"`.
            models (sequence of `str`): Names of text models.
            draws (sequence of `Draw`): Draws of training videos.
            options (`StudentOptions`): Training options of students.
            losses (sequence of `LossOptions`, *optional*): Loss options for soft labels. If there are several, each
                draw uses the best for `counts` on held-out training videos.
        """
        models = [name for name in models if part == "reader" or not name.endswith(ASKED)]
        models = [COUNTS_MIXED, *(name for name in models if part == "true" or name not in COUNTS)]
        if part == "student":
            models = [BASELINE, SMOOTHED, *models, f"{COUNTS_MIXED}{BALANCED}"]
        measure = {"true": self._true, "reader": self._reader, "student": self._student}[part]
        for draw in draws:
            self._chosen, self._fitted, self._of_rows = {}, {}, {}
            scripts = self.data.scripts.of(set(self.data.draw(draw.num_videos, draw.number)))
            loss = self.best_loss(losses, scripts, draw, options) if part == "student" else parts.LossOptions()
            for name in models:
                path, settings = self.cell(part, name, draw), self._settings(part, name, draw, options, loss)
                if is_record(path, "measured", "settings"):
                    found = read_record(path)["settings"]
                    refuse_other_settings(found, settings, refusal=OTHER_CELL, path=path)
                    continue
                started = time.process_time()
                found = measure(name, scripts, draw, options, loss)
                path.parent.mkdir(parents=True, exist_ok=True)
                cell = {"part": part, "model": name, "num_videos": draw.num_videos, "draw": draw.number}
                cell |= {"actions": len(scripts.actions), "seconds": round(time.process_time() - started, 1)}
                write_json(path, {**cell, "settings": settings, **found})
                logger.warning("%s, %s, %s: %.0f s", part, draw.key, name, time.process_time() - started)

    def _settings(
        self,
        part: str,
        name: str,
        draw: Draw,
        options: parts.StudentOptions | None = None,
        loss: parts.LossOptions | None = None,
    ) -> dict:
        """Returns the settings that determine a cell, in addition to those of the folder."""
        plain, models = name.removesuffix(BALANCED), self.texts.models
        settings: dict = {} if options is None or part != "student" else {"student": asdict(options)}
        if loss is not None and part == "student" and name not in (BASELINE, SMOOTHED):
            settings["loss"] = asdict(loss)
        if part == "reader":
            settings["reader_videos"] = self.reader_videos
        if plain.startswith("fine-tuned"):
            settings["tuning_epochs"] = models.epochs
        if plain.startswith(("fine-tuned", "vectors")):
            settings["language_model"] = self.texts.digest(models.path(plain))
        if plain.startswith("recipes"):
            settings["recipes"] = files_digest({"recipes": str(models.recipes)})
            settings["language_model"] = self.texts.digest(models.path(plain))  # maps recipe actions to labels
        if "scrambled" in plain:
            settings["scrambling"] = draw.number
        return json.loads(json.dumps(settings))

    def cell(self, part: str, name: str, draw: Draw) -> Path:
        """Returns the path of a cell's file."""
        return self.folder / part / draw.key / f"{name.replace(', ', '_').replace(' ', '_')}.json"

    def chosen(self, name: str, scripts: Scripts, draw: Draw) -> Chosen:
        """Returns a model with options chosen on the held-out videos of a draw; the choice is saved in the folder."""
        if name not in self._chosen:
            plain, path = name.removesuffix(ASKED), self.cell("chosen", name.removesuffix(ASKED), draw)
            settings = self._settings("chosen", plain, draw)
            if is_record(path, "options", "held_out", "settings"):
                kept = read_record(path)
                refuse_other_settings(kept["settings"], settings, refusal=OTHER_CELL, path=path)
                fit = self.texts.fit(plain, kept["options"], draw.key, draw.number)
                self._chosen[name] = Chosen(kept["options"], np.array(kept["held_out"]), fit)
            else:
                prior = None if plain in COUNTS else self.chosen(LOG_LINEAR, scripts, draw).options["prior_weight"]
                found = self._chosen[name] = self.texts.chosen(plain, scripts, draw.key, prior, draw.number)
                path.parent.mkdir(parents=True, exist_ok=True)
                record = {"options": found.options, "held_out": np.round(found.held_out, 5).tolist()}
                write_json(path, {"settings": settings, **record})
        return self._chosen[name]

    def mixed(self, name: str, scripts: Scripts, draw: Draw) -> tuple[list[str], np.ndarray]:
        """Returns the members of a model's mixture, and their weights fitted to held-out videos."""
        members = [*COUNTS] if name == COUNTS_MIXED else [*COUNTS, name]
        held_out = np.stack([self.chosen(member, scripts, draw).held_out for member in members])
        return members, mixture_weights(held_out)

    def mixture(self, name: str, scripts: Scripts, draw: Draw) -> Mixture:
        """Returns the mixture of counts and a model with words, fitted to all scripts of a draw."""
        members, weights = self.mixed(name, scripts, draw)
        for member in members:
            if member not in self._fitted:
                self._fitted[member] = self.chosen(member, scripts, draw).fit(scripts)
        return Mixture([self._fitted[member] for member in members], weights)

    def _true(self, name: str, scripts: Scripts, draw: Draw, *_) -> dict:
        """Returns the results of a model on the true histories of the test rows, alone and mixed with counts."""
        histories, labels = self.data.rows["history"].tolist(), self.data.rows["action"].to_numpy()
        found: dict = {"measured": {}}
        if name != COUNTS_MIXED:
            chosen = self.chosen(name, scripts, draw)
            started = time.process_time()
            model = self._fitted[name] = chosen.fit(scripts)
            found |= {"options": chosen.options, "fitting_s": round(time.process_time() - started, 2)}
            if isinstance(model, NGramModel | LogLinearModel):  # other models become tables by distillation
                found["tables_mb"] = round(sum(table.nbytes for table in as_tables(model).buffers()) / 1e6, 3)
            found["measured"]["alone"] = parts.measured(model.logits(histories), labels)
        if name not in COUNTS:
            members, weights = self.mixed(name, scripts, draw)
            found["weights"] = dict(zip(members, np.round(weights, 4).tolist(), strict=True))
            scores = self.mixture(name, scripts, draw).logits(histories)
            found["measured"]["mixed"] = parts.measured(scores, labels)
        return found

    def _reader(self, name: str, scripts: Scripts, draw: Draw, *_) -> dict:
        """Returns the results of a reader that uses the mixture of counts and a model."""
        weight, mixture = self.evidence_weight, self.mixture(name, scripts, draw)
        names = np.random.default_rng(0).permutation(sorted(set(self.data.rows["video_id"])))[: self.reader_videos]
        read = np.flatnonzero(self.data.rows["video_id"].isin(set(names)))
        rows = self.data.rows.iloc[read].reset_index(drop=True)
        answers = parts.reader_answers(mixture, scripts, self.data, weight, rows, asked=name.endswith(ASKED))
        measured = parts.measured(answers, rows["action"].to_numpy())
        return {"evidence_weight": weight, "rows": read.tolist(), "measured": {"mixed": measured}}

    @cached_property
    def evidence_weight(self) -> float:
        """The evidence weight with the lowest log loss of a reader with counts on held-out training videos."""
        path = self.folder / "evidence_weight.json"
        if not is_record(path, "losses"):
            draw = Draw(None, 0)
            others, _ = next(self.data.scripts.divisions())

            def counts(scripts: Scripts) -> Scorer:
                folder = self.folder / "evidence_weight"  # options are chosen again, on these scripts only
                return Curves(self.data, self.texts, folder).mixture(COUNTS_MIXED, scripts, draw)

            losses = parts.evidence_weight(counts, self.data.scripts, self.data)
            write_json(path, {"losses": losses, "videos": len(set(others.videos))})
        losses = read_record(path, "losses")["losses"]
        return float(min(losses, key=losses.__getitem__))

    def best_loss(
        self, losses: Sequence[parts.LossOptions], scripts: Scripts, draw: Draw, options: parts.StudentOptions
    ) -> parts.LossOptions:
        """Returns the loss options with the best top-5 accuracy of students of `counts` on held-out training videos.

        Only the first seed is trained, and the models of `counts` are fitted to the other videos. The accuracy of a
        student without a teacher is recorded, too: if it is the best, distillation does not pay off.
        """
        if len(losses) == 1:
            return losses[0]
        path = self.folder / "chosen" / draw.key / "loss.json"
        settings = json.loads(json.dumps({"losses": list(map(asdict, losses)), "student": asdict(options)}))
        if not is_record(path, "top5", "settings"):
            others, held_out = next(scripts.divisions())
            folder = self.folder / "students" / draw.key / "held_out"
            own_data = parts.write_own_data(self.data, *(sorted(set(of.videos)) for of in (others, held_out)), folder)
            own = Curves(self.data, self.texts, folder)
            own._chosen = {member: self.chosen(member, scripts, draw) for member in COUNTS}
            soft_labels = folder / "counts.parquet"
            own._soft_labels(COUNTS_MIXED, others, draw, own_data).save(soft_labels)
            one_seed, top5 = replace(options, seeds=options.seeds[:1]), {}
            tried = {BASELINE: None, **{str(number): loss for number, loss in enumerate(losses)}}
            for key, loss in tried.items():
                given = (None, losses[0]) if loss is None else (soft_labels, loss)
                of_seed = parts.students(self.data, own_data, folder / key, given[0], one_seed, given[1])
                table = of_seed[one_seed.seeds[0]]
                top5[key] = float(np.mean(label_ranks(table.scores, table.labels) < TOP5))
                logger.warning("%s, held-out top-5: %.4f", loss or BASELINE, top5[key])
            path.parent.mkdir(parents=True, exist_ok=True)
            record = {"top5": [top5[str(number)] for number in range(len(losses))], BASELINE: top5[BASELINE]}
            write_json(path, {"settings": settings, **record})
        kept = read_record(path)
        refuse_other_settings(kept["settings"], settings, refusal=OTHER_CELL, path=path)
        return losses[int(np.argmax(kept["top5"]))]

    def _student(
        self, name: str, scripts: Scripts, draw: Draw, options: parts.StudentOptions, loss: parts.LossOptions
    ) -> dict:
        """Returns the results of students trained on the soft labels of counts and a model."""
        folder = self.folder / "students" / draw.key
        own_data = parts.write_own_data(self.data, sorted(set(scripts.videos)), None, folder / "data")
        soft_labels = None
        if name != BASELINE:
            soft_labels = folder / f"{name.replace(', ', '_').replace(' ', '_')}.parquet"
            self._soft_labels(name, scripts, draw, own_data).save(soft_labels)
        tables = parts.students(
            *(self.data, own_data, soft_labels.with_suffix("") if soft_labels else folder / "no_teacher", soft_labels),
            *(options, LABELS_THEMSELVES if name == SMOOTHED else loss),
        )
        labels = self.data.rows["action"].to_numpy()
        scores = {seed: parts.in_order(table, self.data.rows["uid"].tolist()) for seed, table in tables.items()}
        return {"measured": {f"seed{seed}": parts.measured(of_seed, labels) for seed, of_seed in scores.items()}}

    def _soft_labels(self, name: str, scripts: Scripts, draw: Draw, own_data: Path) -> SoftLabelTable:
        """Returns the soft labels of the training rows, from models fitted to other videos."""
        rows = self.data.training_rows
        rows = rows[rows["video_id"].isin(set(scripts.videos))].reset_index(drop=True)
        labels = rows["action"].to_numpy()
        if name == SMOOTHED:
            logits = parts.smoothed_one_hot(labels, self.data.num_actions)
        else:
            members, weights = self.mixed(name.removesuffix(BALANCED), scripts, draw)
            of_members = [self._cross_fitted(member, scripts, draw, rows) for member in members]
            logits = mean_of_log_probs(of_members, weights)
        builder = parts.own_builder(own_data, self.data)
        table = parts.soft_label_table(self.data, builder, rows, logits, name)
        return table.balanced(labels) if name.endswith(BALANCED) else table

    def _cross_fitted(self, member: str, scripts: Scripts, draw: Draw, rows: pd.DataFrame) -> np.ndarray:
        """Returns a model's log probabilities at training rows, each from a fit to other videos, float32 `(N, A)`."""
        if member not in self._of_rows:
            log_probs, histories = np.empty((len(rows), self.data.num_actions), np.float32), rows["history"].tolist()
            for fold, videos in enumerate(_folds(scripts)):
                key = f"{draw.key}_without_fold{fold}"  # language models with such a key are not saved
                fit = self.texts.fit(member, self.chosen(member, scripts, draw).options, key, draw.number)
                model = fit(scripts.of(set(scripts.videos) - videos))
                own = np.flatnonzero(rows["video_id"].isin(videos))
                log_probs[own] = scipy.special.log_softmax(model.logits([histories[row] for row in own]), axis=1)
                logger.warning("%s: soft labels, fold %d", member, fold)
            self._of_rows[member] = log_probs
        return self._of_rows[member]


def _folds(scripts: Scripts) -> list[set[str]]:
    """Returns the videos of each cross-fitting fold of soft labels."""
    names = sorted(set(scripts.videos))
    count = min(SOFT_LABEL_FOLDS, len(names))
    fold_of = assign_folds(scripts.videos.tolist(), count)
    return [{name for name in names if fold_of[name] == fold} for fold in range(count)]

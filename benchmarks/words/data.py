"""The scripts, rows and frames of a data set on which text models are compared."""

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np
import pandas as pd

from avt_distill.data.builder import AnticipationBuilder
from avt_distill.data.history import action_histories
from avt_distill.data.labels import LabelSpace
from avt_distill.data.loading import anticipation_builder
from avt_distill.data.performances import performance_of
from avt_distill.features.memory import running_means, softmax_scores
from avt_distill.features.stores import NpzFeatureStore
from avt_distill.reader.frames import VideoFrames
from avt_distill.student.logistic import fit_logistic
from avt_distill.teacher.cross_fitting import assign_folds
from benchmarks.simulation import CausalRecognizer, true_frames

FRAME_RATE = 1.0
SHARPNESS, MEANS_S, PENALTY = 6.0, (1.0, 4.0, 15.0, 2.0, 8.0), 300.0  # recognizer of 50 Salads: see its reader.yaml
NUM_FOLDS, FEW_VIDEOS = 4, 40  # held-out folds; with more videos than this, only one fold is used


@dataclass(frozen=True)
class Setting:
    """The settings with which a data set is loaded.

    Args:
        config_name (`str`): Name of the builder's configuration.
        test_split (`str`): Name of the split that is measured.
        accuracy (`float`, *optional*): Share of frames that the simulated recognizer labels correctly; `None` if the
            recognizer is real.
        parts_apart (`bool`): Whether the reader and log-linear models count verbs and nouns separately.
    """

    config_name: str
    test_split: str
    accuracy: float | None
    parts_apart: bool = False


# 63 % of the frames of EGTEA Gaze+ show no action, and 26 % of those of EPIC-Kitchens-55. With 75 and 35 % of all
# frames correct, 61 and 32 % of the frames that show an action are correct.
SETTINGS = {
    "breakfast": Setting("split1", "test", 0.6),
    "egtea": Setting("split1_complete", "validation", 0.75),
    "epic_kitchens_55": Setting("rulstm", "validation", 0.35, parts_apart=True),
    "fifty_salads": Setting("fold1", "test", None),
}


@dataclass
class Scripts:
    """The data to which text models are fitted: all labeled actions of some videos, each with the actions before it.

    Args:
        histories (`list[list[int]]`): Ids of the actions before each action, oldest first.
        actions (`np.ndarray` of shape `(N,)`): Action ids.
        videos (`np.ndarray` of shape `(N,)`): The video of each action.
    """

    histories: list[list[int]]
    actions: np.ndarray
    videos: np.ndarray

    def of(self, videos: set[str]) -> "Scripts":
        """Returns the scripts of some of the videos."""
        kept = np.flatnonzero([video in videos for video in self.videos])
        return Scripts([self.histories[row] for row in kept], self.actions[kept], self.videos[kept])

    def divisions(self) -> Iterator[tuple["Scripts", "Scripts"]]:
        """Yields scripts to fit models to, and held-out ones to choose options on, in up to 4 folds of videos."""
        names = sorted(set(self.videos))
        fold_of = assign_folds(self.videos.tolist(), min(NUM_FOLDS, len(names)))
        for fold in range(min(NUM_FOLDS, len(names)) if len(names) <= FEW_VIDEOS else 1):
            held_out = {name for name in names if fold_of[name] == fold}
            yield self.of(set(names) - held_out), self.of(held_out)


@dataclass
class WordsData:
    """A data set with one video of each performance.

    Args:
        name (`str`): Name of the data set.
        setting (`Setting`): The settings with which it is loaded.
        builder (`AnticipationBuilder`): Builder of its rows.
        texts (`LabelSpace`): Label space with the builder's ids, whose action names are words.
    """

    name: str
    setting: Setting
    builder: AnticipationBuilder
    texts: LabelSpace

    @property
    def num_actions(self) -> int:
        return len(self.texts.actions)

    @cached_property
    def verb_noun(self) -> np.ndarray:
        """The verb and noun of each action, nouns numbered after verbs, `(A, 2)`."""
        pairs = self.texts.verb_noun_ids
        assert pairs is not None
        return pairs + np.array([0, len(self.texts.verbs)])

    @property
    def action_parts(self) -> np.ndarray | None:
        """The action parts that log-linear models count, see `LogLinearModel`."""
        return self.verb_noun if self.setting.parts_apart else None

    @property
    def part_names(self) -> list[str]:
        """The label of each part."""
        if self.setting.parts_apart:
            return [f"{verb}_" for verb in self.texts.verbs] + [f"_{noun}" for noun in self.texts.nouns]
        return list(self.texts.actions)

    @cached_property
    def segments(self) -> dict[str, pd.DataFrame]:
        """The segments of `"train"` and `"test"`, with one video of each performance."""
        splits = self.builder.annotations.splits
        return {"train": _one_camera(splits["train"]), "test": _one_camera(splits[self.setting.test_split])}

    @cached_property
    def scripts(self) -> Scripts:
        """All training scripts. Segments of test rows in the same videos are part of their histories."""
        segments = self.segments["train"]
        labelled = segments.loc[segments["action"] >= 0].sort_values(["video_id", "start_s", "end_s"], kind="stable")
        labelled = labelled.reset_index(drop=True).assign(observed_end_s=lambda table: table["start_s"])
        whole = self.builder.annotations.history.get("train", segments)
        histories = action_histories(labelled, whole, cutoff="segment_start")
        videos = labelled["video_id"].to_numpy().astype(str)
        return Scripts([history.tolist() for history in histories], labelled["action"].to_numpy(), videos)

    @cached_property
    def rows(self) -> pd.DataFrame:
        """The labeled test rows; `history` holds the actions that began before the end of the observed window."""
        return self._rows(self.setting.test_split, self.segments["test"])

    @cached_property
    def training_rows(self) -> pd.DataFrame:
        """The labeled training rows."""
        return self._rows("train", self.segments["train"])

    def _rows(self, split: str, segments: pd.DataFrame) -> pd.DataFrame:
        rows = self.builder.rows(split)
        rows = rows[(rows["action"] >= 0) & rows["uid"].isin(set(segments["uid"]))]
        return rows.reset_index(drop=True)

    @cached_property
    def frames(self) -> dict[str, VideoFrames]:
        """The times and true classes of the frames of all videos, including those of test rows."""
        splits = self.builder.annotations.splits
        shown = pd.concat([splits["train"], splits[self.setting.test_split]], ignore_index=True)
        kept = set(self.segments["train"]["video_id"]) | set(self.segments["test"]["video_id"])
        found = true_frames(shown[shown["video_id"].isin(kept)], self.num_actions, FRAME_RATE)
        return {
            name: VideoFrames(times_s, np.empty((len(times_s), 0)), labels) for name, (times_s, labels) in found.items()
        }

    @cached_property
    def training_videos(self) -> list[str]:
        return sorted(set(self.scripts.videos))

    def draw(self, num_videos: int | None, draw: int) -> list[str]:
        """Returns a draw of training videos; `None` means all videos."""
        if num_videos is None or num_videos >= len(self.training_videos):
            return self.training_videos
        generator = np.random.default_rng([num_videos, draw])
        return sorted(generator.choice(self.training_videos, num_videos, replace=False).tolist())

    @cached_property
    def recognized(self) -> dict[str, np.ndarray]:
        """The log posteriors of each video's frames, `(F, A + 1)`: SIMULATED, or from 50 Salads' real frame scores."""
        if self.setting.accuracy is None:
            return self._recognized_by_classifiers(Path(str(self.builder.config.data_dir)) / "frame_scores.npz")
        training = [self.frames[name].labels for name in self.training_videos]
        recognizer = CausalRecognizer.of_accuracy(self.setting.accuracy, training, self.num_actions, self.verb_noun)
        names = sorted(self.frames)
        return {name: recognizer.log_probs(self.frames[name].labels, seed) for seed, name in enumerate(names)}

    def _recognized_by_classifiers(self, scores: Path) -> dict[str, np.ndarray]:
        """Returns the log posteriors of logistic classifiers on causal means of class scores.

        Those of training videos come from classifiers fitted to the other folds.
        """
        store, features = NpzFeatureStore(scores, FRAME_RATE), {}
        for name, frames in self.frames.items():
            stored, _, _ = store.read_all(name)
            means = running_means(softmax_scores(stored, SHARPNESS), FRAME_RATE, MEANS_S)
            features[name] = means[np.minimum(frames.times_s.astype(int), len(means) - 1)]
        fold_of = assign_folds(self.training_videos, NUM_FOLDS)
        found = {}
        for fold in [*range(NUM_FOLDS), None]:  # last: the test videos, by a classifier of all training videos
            others = [name for name in self.training_videos if fold_of[name] != fold]
            labels = np.concatenate([self.frames[name].labels for name in others])
            inputs = np.concatenate([features[name] for name in others])
            classifier = fit_logistic(inputs, labels, self.num_actions + 1, PENALTY)
            own = [name for name in self.frames if fold_of.get(name) == fold]
            found |= {name: classifier.log_probs(features[name]) for name in own}
        return found


def words_data(
    name: str, data_dir: str | Path, *, accuracy: float | None = None, config_name: str | None = None
) -> WordsData:
    """Returns a data set by its name, or that of a folder with `segments.csv` whose actions have verbs and nouns.

    Args:
        name (`str`): One of `SETTINGS`, or a folder.
        data_dir (`str` or `Path`): Folder with its annotations.
        accuracy, config_name (*optional*): Values to use instead of those of `SETTINGS`.
    """
    setting = SETTINGS.get(name, Setting("default", "test", 0.6))
    setting = replace(setting, config_name=config_name or setting.config_name)
    if setting.accuracy is not None:
        setting = replace(setting, accuracy=accuracy or setting.accuracy)
    options = {"data_dir": data_dir} if name in SETTINGS else {}
    builder = anticipation_builder(name, name=setting.config_name, **options)
    return WordsData(name, setting, builder, readable(builder.annotations.label_space))


def readable(space: LabelSpace) -> LabelSpace:
    """Returns a label space whose action names are words, each with a verb and a noun.

    "pour_dough2pan" becomes "pour_dough to pan", and "put_bunTogether" becomes "put_bun together". If the data set does
    not define the verb and noun of an action, they are the first two words.
    """
    names = [_as_words(name) for name in space.actions]
    if space.action_to_verb_noun is not None:
        return LabelSpace(tuple(names), space.verbs, space.nouns, space.action_to_verb_noun)
    pairs = [(verb, noun.split(" ")[0] or verb) for verb, _, noun in (name.partition("_") for name in names)]
    verbs, nouns = (sorted({pair[position] for pair in pairs}) for position in (0, 1))
    ids = tuple((verbs.index(verb), nouns.index(noun)) for verb, noun in pairs)
    return LabelSpace(tuple(names), tuple(verbs), tuple(nouns), ids)


def _as_words(name: str) -> str:
    name = re.sub(r"(?<=[a-z])2(?=[a-z])", " to ", name)
    name = re.sub(r"(?<=[a-z])n(?=pepper)", " and ", name)
    name = re.sub(r"(?<=[a-z])(?=[A-Z])", " ", name).lower() if "_" in name else name
    return name.replace("stirfry", "stir-fry")


def _one_camera(segments: pd.DataFrame) -> pd.DataFrame:
    """Returns the segments of the first video of each performance."""
    performances = segments["video_id"].map(performance_of)
    first = segments["video_id"].groupby(performances).transform("min")
    return segments[segments["video_id"] == first].reset_index(drop=True)

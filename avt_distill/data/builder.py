"""What all dataset builders share: one row schema, options, splits, and a cache that follows the annotations' content.

A benchmark is a subclass that says where its files are and how they are read (`read_annotations`). Builders yield Arrow
tables (`datasets.ArrowBasedBuilder`) rather than examples: the same interface, tens of times as fast, and -100 is kept,
which `ClassLabel` refuses to encode example by example.
"""

import hashlib
import inspect
import json
import logging
import re
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field, fields
from functools import cached_property
from pathlib import Path

import datasets
import pandas as pd
import pyarrow as pa

from modeling_avt.temporal_avt import sample_frames
from modeling_avt.video_io_avt import probe

from ..runs.names import OTHER_SPELLING, has_other_spelling
from .future import FUTURE_COLUMNS
from .labels import LabelSpace
from .rows import ROW_RULES, RowOptions, anticipation_rows, can_be_anticipated
from .segments import AnnotationError
from .videos import find_videos, videos_with_rate

logger = logging.getLogger(__name__)

# Annotations and videos are cut by different tools; a segment may outlast its video by this much.
VIDEO_END_SLACK_S = 1.0
# A video that lasts more than twice as long as its annotations, and this on top, may be another one.
LONG_AFTER_S = 60.0
PAST_END = ("error", "clip", "skip")  # what to do about segments that end after their video


@dataclass
class Annotations:
    """What a benchmark's files say.

    Args:
        label_space (`LabelSpace`): Its labels.
        splits (`dict[str, pd.DataFrame]`): The segment table of each split.
        video_fps (`dict[str, float]`): Frames per second of each video.
        history (`dict[str, pd.DataFrame]`, *optional*): Where a split's histories are taken from, if not from itself.
        dense (`dict[str, pd.DataFrame]`, *optional*): A split's segments with those of a background class, which
            `splits` then lack: see `AnticipationBuilder.dense_segments`.
        many_shot (`dict[str, list[int]]`, *optional*): The ids that the benchmark calls many-shot, of `"verb"` and of
            `"noun"`: see `metrics.many_shot_actions`.
    """

    label_space: LabelSpace
    splits: dict[str, pd.DataFrame]
    video_fps: dict[str, float]
    history: dict[str, pd.DataFrame] = field(default_factory=dict)
    dense: dict[str, pd.DataFrame] = field(default_factory=dict)
    many_shot: dict[str, list[int]] | None = None


@dataclass
class AnticipationConfig(datasets.BuilderConfig, RowOptions):
    """Options of every builder: those that shape rows, and these.

    Args:
        videos (`str`, *optional*): Folder of the videos, searched in depth for `<video_id>.<suffix>`. Without it,
            `video` is `None` in every row.
        video_fps (`float`, *optional*): Frames per second of folders of numbered pictures, which then are videos too.
        past_end (`str`, *optional*, defaults to `"error"`): What to do about segments that end more than a second after
            their video does: `"error"` refuses them; `"clip"` ends them with the video, and leaves out those that begin
            after it; `"skip"` leaves all of them out. How many they are is logged, and which is in `late`.
    """

    version: datasets.Version = field(default_factory=lambda: datasets.Version("1.0.0"))
    videos: str | None = None
    video_fps: float | None = None
    past_end: str = "error"


class AnticipationBuilder(datasets.ArrowBasedBuilder):
    """Base of all builders: subclasses set `BUILDER_CONFIGS`, `ANNOTATION_FILES` and `read_annotations`."""

    config: AnticipationConfig
    BUILDER_CONFIG_CLASS = AnticipationConfig
    # Patterns below the annotation folder whose content decides whether a cached data set is still right.
    ANNOTATION_FILES: tuple[str, ...] = ("*.csv",)
    # What cards call the data set.
    TITLE = "Videos of one's own"
    # Whether labels name a noun's head first, "jug:measuring": what text of them has to turn round.
    HEAD_NOUN_FIRST = False

    def __init__(self, *args, data_dir: str | Path | None = None, videos: str | Path | None = None, **kwargs):
        if data_dir is None:
            raise AnnotationError(f"{type(self).__name__} needs data_dir, the folder of the annotation files.")
        folder = Path(data_dir).resolve()
        if not folder.is_dir():
            raise AnnotationError(f"data_dir '{data_dir}' is not a folder: give the folder of the annotation files.")
        if videos is not None:
            kwargs["videos"] = str(Path(videos).resolve())
        # `datasets` sets options one by one on a configuration that exists.
        kwargs |= {name: rule(name, kwargs[name]) for name, rule in ROW_RULES.items() if kwargs.get(name) is not None}
        if not kwargs.get("num_future_actions"):  # the same rows as without it, so the same cache
            kwargs.pop("num_future_actions", None)
        if (past_end := kwargs.get("past_end", "error")) not in PAST_END:
            raise AnnotationError(f"past_end is '{past_end}': give one of {PAST_END}.")
        self.late: dict[str, list[str]] = {}
        self._durations: dict[str, float] = {}
        content = self._content_hash(folder, kwargs.get("videos"), pictures=kwargs.get("video_fps") is not None)
        super().__init__(*args, data_dir=str(folder), **{"hash": content, **kwargs})

    def read_annotations(self, folder: Path) -> Annotations:
        """Returns the segments and labels of the files in `folder`, under `self.config`."""
        raise NotImplementedError

    @cached_property
    def annotations(self) -> Annotations:
        """What the files say; if `past_end` is given, without what is after the end of the videos."""
        annotations = self.read_annotations(Path(self.config.data_dir))
        if self.config.past_end != "error" and self.config.videos is not None:
            found = videos_with_rate([self.config.videos], self.config.video_fps)
            for name, segments in annotations.splits.items():
                annotations.splits[name], self.late[name] = self._within_videos(segments, found)
            for tables in (annotations.history, annotations.dense):
                for name, segments in tables.items():
                    tables[name], _ = self._within_videos(segments, found)
            self._report_late()
        return annotations

    @cached_property
    def dropped(self) -> dict[str, list[str]]:
        """The uids of each split's actions that start too early to be anticipated, and make no rows."""
        return {
            split: segments["uid"][~can_be_anticipated(segments, self.config)].tolist()
            for split, segments in self.annotations.splits.items()
        }

    def folds(self) -> dict[str, dict]:
        """Returns the options that choose each fold of a cross-validation, by the fold's name; empty without folds."""
        variant = re.sub(r"^(fold|split)\d+", "", self.config.name)  # such as EGTEA's split1_complete
        names = [config.name for config in self.BUILDER_CONFIGS]
        return {name: {"config_name": name} for name in names if re.fullmatch(rf"(fold|split)\d+{variant}", name)}

    def rows(self, split: str) -> pd.DataFrame:
        """Returns the rows of a split, made anew: see `anticipation_rows`, and `video`, the file or `None`.

        Raises:
            AnnotationError: If a video is missing or shorter than its annotations.
        """
        segments = self.annotations.splits[split]
        videos = self._video_paths(segments)
        rows = anticipation_rows(
            segments,
            self.config,
            video_fps=self.annotations.video_fps,
            history_segments=self.annotations.history.get(split),
        )
        return rows.assign(video=rows["video_id"].map(videos))

    def dense_segments(self, split: str) -> pd.DataFrame:
        """Returns the segments of a split, with those of a background class if the benchmark has one.

        Dense anticipation counts background like any action; rows, their labels, histories and futures leave it out.
        """
        return self.annotations.dense.get(split, self.annotations.splits[split])

    def facts(self) -> dict:
        """Returns what a card says of the data set that was built: its options, its labels, and each split's size."""
        space = self.annotations.label_space
        return {
            "title": self.TITLE,
            **self._row_options(),
            "label_space_hash": space.content_hash,
            **asdict(space),
            "splits": {
                name: {"rows": len(rows), "videos": len(set(rows["video_id"])), "left_out": len(self.dropped[name])}
                for name, rows in self.as_dataset().items()
            },
        }

    def _info(self) -> datasets.DatasetInfo:
        space = self.annotations.label_space
        description = {
            "benchmark": self.config.name,
            "label_space": space.content_hash,
            **self._row_options(),
            "dropped": self.dropped,
        }
        features = row_features(space, has_future=bool(self.config.num_future_actions))
        return datasets.DatasetInfo(description=json.dumps(description), features=features)

    def _row_options(self) -> dict:
        """Returns the options that shape rows; `num_future_actions` only if rows have these columns."""
        options = {option.name: getattr(self.config, option.name) for option in fields(RowOptions)}
        return {name: value for name, value in options.items() if name != "num_future_actions" or value}

    def _split_generators(self, dl_manager) -> list[datasets.SplitGenerator]:
        # Rows are made here and not while tables are written: there, errors come wrapped in one that does not say why.
        schema = self.info.features.arrow_schema
        tables = {split: _to_arrow(self.rows(split), schema) for split in self.annotations.splits}
        return [datasets.SplitGenerator(name=split, gen_kwargs={"tables": [tables[split]]}) for split in tables]

    def _generate_tables(self, tables: list[pa.Table]) -> Iterable[tuple[int, pa.Table]]:
        yield from enumerate(tables)

    def _video_paths(self, segments: pd.DataFrame) -> dict[str, str | None]:
        """Returns the file of each annotated video, having checked that it is there and long enough."""
        if self.config.videos is None:
            return dict.fromkeys(segments["video_id"])
        found = videos_with_rate([self.config.videos], self.config.video_fps)
        missing = sorted(set(segments["video_id"]) - set(found))
        if missing:
            advice = f", but has {OTHER_SPELLING}" if has_other_spelling(missing[0], found) else ""
            raise AnnotationError(
                f"{self.config.videos} lacks {len(missing)} videos of the annotations, '{missing[0]}' first{advice}."
            )
        for video_id, of_video in segments.groupby("video_id"):
            _check_duration(found[video_id], self._duration_s(found[video_id]), of_video)
        return dict(found)

    def _duration_s(self, path: str) -> float:
        if path not in self._durations:
            self._durations[path] = probe(path).duration_s
        return self._durations[path]

    def _within_videos(self, segments: pd.DataFrame, found: dict[str, str]) -> tuple[pd.DataFrame, list[str]]:
        """Returns segments as `past_end` says, and the uids of those that end after their video."""
        present = [video_id for video_id in segments["video_id"].unique() if video_id in found]
        durations = segments["video_id"].map({video_id: self._duration_s(found[video_id]) for video_id in present})
        is_late = segments["end_s"] > durations + VIDEO_END_SLACK_S  # not if a video is missing, which is refused
        left_out = is_late & ((segments["start_s"] >= durations) | (self.config.past_end == "skip"))
        within = segments.assign(end_s=segments["end_s"].mask(is_late, durations))
        return within[~left_out].reset_index(drop=True), segments["uid"][is_late].tolist()

    def _report_late(self):
        for split, uids in self.late.items():
            if uids:
                done = (
                    "left out" if self.config.past_end == "skip" else "ended with it, or left out if they begin later"
                )
                message = "%s: %d segments end after their video, '%s' first, and are %s (past_end: %s)."
                logger.warning(message, split, len(uids), uids[0], done, self.config.past_end)

    @classmethod
    def _content_hash(cls, folder: Path, videos: str | None, pictures: bool) -> str:
        """A digest of annotations, code and what distinguishes videos: what was edited is never served from a cache."""
        digest = hashlib.sha256()
        code = [*sorted(Path(__file__).parent.rglob("*.py")), Path(inspect.getfile(sample_frames))]
        annotations = sorted({path for pattern in cls.ANNOTATION_FILES for path in folder.glob(pattern)})
        for path in [*code, *annotations]:
            digest.update(path.name.encode() + b"\0" + path.read_bytes() + b"\0")
        try:
            found = {} if videos is None else find_videos([videos], pictures=pictures)
        except ValueError:  # nothing is there yet: rows that need a video say so
            found = {}
        for path in found.values():
            status = path.stat()
            digest.update(f"{path}\0{status.st_size}\0{status.st_mtime_ns}\0".encode())
        return digest.hexdigest()[:16]


def _check_duration(path: str, duration_s: float, segments: pd.DataFrame):
    """Refuses a video that ends before its annotations, and warns of one that continues long after them."""
    last_end_s = segments["end_s"].max()
    late = segments[segments["end_s"] > duration_s + VIDEO_END_SLACK_S]
    if len(late):
        raise AnnotationError(
            f"{path} lasts {duration_s:.1f} s, but is annotated until {last_end_s:.1f} s: it is cut short, or another "
            f"video ({len(late)} segments end after it, '{late['uid'].iloc[0]}' first). To do without them, give "
            "past_end: clip or skip."
        )
    if duration_s > 2 * last_end_s + LONG_AFTER_S:
        logger.warning(
            "%s lasts %.1f s, but is annotated until %.1f s only: check that it is the right video, and that times are "
            "seconds.",
            path,
            duration_s,
            last_end_s,
        )


def row_features(space: LabelSpace, *, has_future: bool = False) -> datasets.Features:
    """Returns the schema of a row; -100 marks an unlabeled `action`, `verb`, `noun`, past or future action.

    Args:
        space (`LabelSpace`): Names of the labels.
        has_future (`bool`, *optional*, defaults to `False`): Whether rows carry the columns of
            `future.future_segments`, whose times are null after the annotations end.
    """
    text, number, seconds = datasets.Value("string"), datasets.Value("int64"), datasets.Value("float64")
    names = {"action": space.actions, "verb": space.verbs, "noun": space.nouns}
    labels = {name: datasets.ClassLabel(names=list(values)) if values else number for name, values in names.items()}
    future = dict(zip(FUTURE_COLUMNS, map(datasets.List, (number, seconds, seconds)), strict=True))
    return datasets.Features(
        {
            "uid": text,
            "video_id": text,
            "video": text,
            "start_s": seconds,
            "end_s": seconds,
            "observed_start_s": seconds,
            "observed_end_s": seconds,
            "frame_times": datasets.List(seconds),
            "frame_indices": datasets.List(number),
            "frame_mask": datasets.List(datasets.Value("bool")),
            "past_actions": datasets.List(number),
            **labels,
            "history": datasets.List(number),
            "narration": text,
            **(future if has_future else {}),
        }
    )


def _to_arrow(rows: pd.DataFrame, schema: pa.Schema) -> pa.Table:
    columns = {field.name: pa.array(rows[field.name], field.type) for field in schema}
    return pa.table(columns, schema=schema)

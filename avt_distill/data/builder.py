"""Base of all dataset builders: a common row schema, options, splits, and a cache keyed by the annotations' content.

A benchmark is a subclass that defines its files and how to read them (`read_annotations`). Builders yield Arrow tables
(`datasets.ArrowBasedBuilder`) rather than examples, which is tens of times as fast, and keeps the label -100, which
`ClassLabel` refuses to encode example by example.
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
from typing import Any

import datasets
import pandas as pd
import pyarrow as pa

from modeling_avt.temporal_avt import sample_frames
from modeling_avt.video_io_avt import probe

from ..runs.names import OTHER_SPELLING, has_other_spelling
from .future import FUTURE_COLUMNS
from .labels import LabelSpace
from .rows import ROW_RULES, RowOptions, anticipation_rows, can_be_anticipated
from .segments import AnnotationError, is_before
from .videos import find_videos, videos_with_rate

logger = logging.getLogger(__name__)

# Annotations and videos are cut with different tools: a segment may end this many seconds after its video.
VIDEO_END_SLACK_S = 1.0
# A video longer than twice the annotated time plus this may be the wrong one.
LONG_AFTER_S = 60.0
PAST_END = ("error", "clip", "skip")  # handling of segments that end after their video


@dataclass
class Annotations:
    """The contents of a benchmark's annotation files.

    Args:
        label_space (`LabelSpace`): The benchmark's labels.
        splits (`dict[str, pd.DataFrame]`): The segment table of each split.
        video_fps (`dict[str, float]`): Frames per second of each video.
        history (`dict[str, pd.DataFrame]`, *optional*): The segment table from which a split's histories are taken.
            Default: the split's own.
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
    """Options of every builder, in addition to those of `RowOptions`.

    Args:
        videos (`str`, *optional*): Folder of the videos, searched recursively for `<video_id>.<suffix>`. Without it,
            `video` is `None` in every row.
        video_fps (`float`, *optional*): Frames per second of folders of numbered pictures, which are then treated as
            videos.
        past_end (`str`, *optional*, defaults to `"error"`): How to handle segments that end more than a second after
            their video, or whose window ends after it: `"error"` raises; `"clip"` cuts them at the end of the video,
            and drops those that begin after it; `"skip"` drops all of them. Their number is logged, and their uids are
            in `late`.
    """

    version: datasets.Version = field(default_factory=lambda: datasets.Version("1.0.0"))
    videos: str | None = None
    video_fps: float | None = None
    past_end: str = "error"


class AnticipationBuilder(datasets.ArrowBasedBuilder):
    """Base of all builders. Subclasses define `BUILDER_CONFIGS`, `ANNOTATION_FILES` and `read_annotations`.

    Args:
        args: Positional arguments of `datasets.ArrowBasedBuilder`.
        data_dir (`str` or `Path`): Folder of the annotation files.
        videos (`str` or `Path`, *optional*): Folder of the videos: see `AnticipationConfig`.
        kwargs: `config_name`, `cache_dir`, and the options of `AnticipationConfig`.

    Raises:
        AnnotationError: If `data_dir` is missing or not a folder, or an option is out of range.
    """

    config: AnticipationConfig
    BUILDER_CONFIG_CLASS = AnticipationConfig
    # Patterns below the annotation folder of the files whose content the cache depends on.
    ANNOTATION_FILES: tuple[str, ...] = ("*.csv",)
    # Name of the data set in cards.
    TITLE = "Videos of one's own"
    # Whether labels write a noun's head first, as in "jug:measuring"; `ActionText` reverses them.
    HEAD_NOUN_FIRST = False

    def __init__(self, *args, data_dir: str | Path | None = None, videos: str | Path | None = None, **kwargs):
        if data_dir is None:
            raise AnnotationError(f"data_dir is None: give {type(self).__name__} the folder of the annotation files.")
        # `datasets` puts the path into its cache key verbatim: a relative one would be shared between working folders.
        folder = Path(data_dir).resolve()
        if not folder.is_dir():
            raise AnnotationError(f"data_dir '{data_dir}' is not a folder: give the folder of the annotation files.")
        if videos is not None:
            kwargs["videos"] = str(Path(videos).resolve())
        # Checked here, since `datasets` sets options one by one on an existing configuration.
        kwargs |= {name: rule(name, kwargs[name]) for name, rule in ROW_RULES.items() if kwargs.get(name) is not None}
        # 0 gives the same rows as no option, so the cache key must be the same, too.
        if not kwargs.get("num_future_actions"):
            kwargs.pop("num_future_actions", None)
        if (past_end := kwargs.get("past_end", "error")) not in PAST_END:
            raise AnnotationError(f"past_end is '{past_end}': give one of {PAST_END}.")
        self.late: dict[str, list[str]] = {}
        self._durations: dict[str, float] = {}
        content = self._content_hash(folder, kwargs.get("videos"), pictures=kwargs.get("video_fps") is not None)
        super().__init__(*args, data_dir=str(folder), **{"hash": content, **kwargs})

    def read_annotations(self, folder: Path) -> Annotations:
        """Returns the segments and labels from the files in `folder`, for the options in `self.config`."""
        raise NotImplementedError

    @cached_property
    def annotations(self) -> Annotations:
        """The annotations, read once, without segments after the end of their videos if `past_end` is given."""
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
        """The uids of each split's actions that start too early to be anticipated, and have no row."""
        return {
            split: segments["uid"][~can_be_anticipated(segments, self.config)].tolist()
            for split, segments in self.annotations.splits.items()
        }

    def folds(self) -> dict[str, dict]:
        """Returns the options that select each fold of a cross-validation, by the fold's name; empty without folds."""
        variant = re.sub(r"^(fold|split)\d+", "", self.config.name)  # such as EGTEA's split1_complete
        names = [config.name for config in self.BUILDER_CONFIGS]
        return {name: {"config_name": name} for name in names if re.fullmatch(rf"(fold|split)\d+{variant}", name)}

    def rows(self, split: str) -> pd.DataFrame:
        """Builds the rows of a split: see `anticipation_rows`. A further column, `video`, is the file or `None`.

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
        """Returns the segment table of a split, including the background class if the benchmark has one.

        Dense anticipation counts background like any action; rows, their labels, histories and futures exclude it.
        """
        return self.annotations.dense.get(split, self.annotations.splits[split])

    def facts(self) -> dict:
        """Returns the facts for the data set's card: its options, its labels, and each split's size."""
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
        # Rows are built here rather than while tables are written, where `datasets` wraps errors in a
        # DatasetGenerationError that hides the cause.
        schema = self.info.features.arrow_schema
        tables = {split: _to_arrow(self.rows(split), schema) for split in self.annotations.splits}
        return [datasets.SplitGenerator(name=split, gen_kwargs={"tables": [tables[split]]}) for split in tables]

    def _generate_tables(self, tables: list[pa.Table]) -> Iterable[tuple[int, pa.Table]]:
        yield from enumerate(tables)

    def _video_paths(self, segments: pd.DataFrame) -> dict[str, str | None]:
        """Returns the file of each annotated video after checking that it exists and is long enough."""
        if self.config.videos is None:
            return dict.fromkeys(segments["video_id"])
        found = videos_with_rate([self.config.videos], self.config.video_fps)
        missing = sorted(set(segments["video_id"]) - set(found))
        if missing:
            advice = f", but has {OTHER_SPELLING}" if has_other_spelling(missing[0], found) else ""
            raise AnnotationError(
                f"{self.config.videos} lacks {len(missing)} annotated videos, '{missing[0]}' first{advice}: add them, "
                "or give another folder."
            )
        for video_id, of_video in segments.groupby("video_id"):
            _check_duration(found[video_id], self._duration_s(found[video_id]), of_video, self.config.tau_a)
        return dict(found)

    def _duration_s(self, path: str) -> float:
        if path not in self._durations:
            self._durations[path] = probe(path).duration_s
        return self._durations[path]

    def _within_videos(self, segments: pd.DataFrame, found: dict[str, str]) -> tuple[pd.DataFrame, list[str]]:
        """Returns segments with `past_end` applied, and the uids of those that end after their video."""
        present = [video_id for video_id in segments["video_id"].unique() if video_id in found]
        durations = segments["video_id"].map({video_id: self._duration_s(found[video_id]) for video_id in present})
        # `False` for missing videos, for which `_video_paths` raises.
        is_late = _is_late(segments, durations, self.config.tau_a)
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
        """Returns a digest of annotations, code and videos for the cache key, so that edited data are rebuilt."""
        digest = hashlib.sha256()
        code = [*sorted(Path(__file__).parent.rglob("*.py")), Path(inspect.getfile(sample_frames))]
        annotations = sorted({path for pattern in cls.ANNOTATION_FILES for path in folder.glob(pattern)})
        for path in [*code, *annotations]:
            digest.update(path.name.encode() + b"\0" + path.read_bytes() + b"\0")
        try:
            found = {} if videos is None else find_videos([videos], pictures=pictures)
        except ValueError:  # no videos yet: building rows raises the error
            found = {}
        for path in found.values():
            status = path.stat()
            digest.update(f"{path}\0{status.st_size}\0{status.st_mtime_ns}\0".encode())
        return digest.hexdigest()[:16]


def _is_late(segments: pd.DataFrame, duration_s: Any, tau_a: float) -> pd.Series:
    """Returns which segments end more than a second after their video, or begin so late that their window ends after it
    and could not be read."""
    return (segments["end_s"] > duration_s + VIDEO_END_SLACK_S) | is_before(duration_s, segments["start_s"] - tau_a)


def _check_duration(path: str, duration_s: float, segments: pd.DataFrame, tau_a: float):
    """Raises `AnnotationError` if a video ends before its annotations, and warns if it continues long after them."""
    last_end_s = segments["end_s"].max()
    late = segments[_is_late(segments, duration_s, tau_a)]
    if len(late):
        raise AnnotationError(
            f"{path} lasts {duration_s:.1f} s, but is annotated until {last_end_s:.1f} s: it is truncated, or the "
            f"wrong video ({len(late)} segments end after it, '{late['uid'].iloc[0]}' first). Give the right video, "
            "or past_end: clip or skip to use the rest."
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
    """Returns the `datasets` schema of a row; -100 marks an unlabeled `action`, `verb`, `noun`, past or future action.

    Args:
        space (`LabelSpace`): Names of the labels.
        has_future (`bool`, *optional*, defaults to `False`): Whether rows carry the columns of
            `future.future_segments`, whose times are null after the end of the annotations.
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

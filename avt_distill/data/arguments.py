"""The options by which commands and YAML files select a data set and its rows."""

import argparse
from dataclasses import dataclass
from typing import ClassVar

from ..runs.arguments import option

BENCHMARKS = (
    *("epic_kitchens_55", "epic_kitchens_100", "egtea", "fifty_salads", "breakfast", "epic_tent", "ego4d_lta"),
    *("demo", "csv"),
)


@dataclass
class DatasetArguments:
    """Options of a command's data set and its rows; `None` selects the data set's own value. See `RowOptions`."""

    TITLE: ClassVar[str] = "data set"

    dataset: str | None = option(f"A benchmark ({', '.join(BENCHMARKS)}), or a folder with segments.csv.")
    data_dir: str | None = option("Folder of the benchmark's annotation files.")
    videos: str | None = option("Folder of the videos, searched in depth.")
    past_end: str | None = option("Past a video's end: error, clip, skip.")
    config_name: str | None = option("Such as rulstm, split1_complete or fold1.")
    tau_a: float | None = option("Seconds from the window to the action.")
    tau_o: float | None = option("Length of the observed window in seconds.")
    num_frames: int | None = option("Frames sampled in the window.")
    frame_rate: float | None = option("Frames sampled per second.")
    protocol: str | None = option("Which moments are sampled: exact; or avt, the reference's arithmetic.")
    source: str | None = option("Frame numbers under avt: video or features.")
    history_cutoff: str | None = option("Which past actions a teacher reads: started, ended or segment_start.")
    num_future_actions: int | None = option("Next actions each row carries. Default: 0.")
    background: str | None = option("Breakfast's SIL: exclude, include.")
    fold: str | None = option("Own data: value of column fold to test on.")
    video_fps: float | None = option("Frames per second of your own videos and pictures.")
    cache_dir: str | None = option("Where data sets are cached.")
    # Until version 0.1 the options of rows were given as JSON, which files of runs may still contain.
    dataset_options: dict | str | None = option(argparse.SUPPRESS)

"""Builders under protocol "avt" compared with rows, frames, times and past labels recorded from the reference."""

import gzip
import json
from collections.abc import Iterator

import numpy as np
import pandas as pd
import pytest
from helpers.places import require_shared

from avt_distill.data.benchmarks.egtea import EgteaGazePlus
from avt_distill.data.benchmarks.epic_kitchens import EpicKitchens55, EpicKitchens100

# recording -> builder, annotation folder, split, options. The pickled annotations that some runs read have the times of
# the official files.
RECORDINGS = {
    "egtea_training1_feats30_taua0.5_tauo10": (EgteaGazePlus, "egtea", "train", {"source": "features"}),
    "egtea_validation1_feats30_taua0.5_tauo10": (EgteaGazePlus, "egtea", "validation", {"source": "features"}),
    "egtea_validation1_video24_taua0.5_tauo10": (EgteaGazePlus, "egtea", "validation", {"source": "video"}),
    "ek100_validation_pkl_video_taua1_tauo10": (
        EpicKitchens100,
        "ek100",
        "validation",
        {"source": "video", "config_name": "official"},
    ),
    "ek100_validation_rulstmcsv_feats30_taua1_tauo10": (EpicKitchens100, "ek100", "validation", {"source": "features"}),
    "ek55_validation_feats30_2fps_taua1_tauo5_nosub": (
        EpicKitchens55,
        "ek55",
        "validation",
        {"source": "features", "config_name": "official", "frame_rate": 2.0, "tau_o": 5.0},
    ),
    "ek55_validation_feats30_taua1_tauo20": (
        EpicKitchens55,
        "ek55",
        "validation",
        {"source": "features", "config_name": "official", "tau_o": 20.0},
    ),
    "ek55csv_validation_feats30_taua1_tauo10": (EpicKitchens55, "ek55", "validation", {"source": "features"}),
}
# Numbers of annotated and kept actions in splits without a complete recording.
COUNTS = {
    (EpicKitchens55, "ek55", "train"): (23493, 23430),
    (EpicKitchens100, "ek100", "train"): (67217, 67114),
}


def read_gzip(name: str):
    path = require_shared("golden", "sampling", name)
    if name.endswith(".csv.gz"):
        return pd.read_csv(path, dtype={"uid": str})
    with gzip.open(path, "rt") as file:
        return json.load(file)


@pytest.fixture(params=RECORDINGS)
def recorded(request, tmp_path) -> Iterator[tuple[str, pd.DataFrame, list[str]]]:
    builder_class, folder, split, options = RECORDINGS[request.param]
    annotations = require_shared("data", "annotations", folder)
    builder = builder_class(data_dir=annotations, cache_dir=str(tmp_path), protocol="avt", **options)
    rows, dropped = builder.rows(split), builder.dropped[split]
    return request.param, rows, dropped


def test_rows_equal_the_reference(recorded):
    name, rows, dropped = recorded
    kept = read_gzip(f"{name}.rows.csv.gz")
    counts = json.loads(require_shared("golden", "sampling", f"{name}.json").read_text())
    assert (len(rows), len(rows) + len(dropped)) == (counts["n_kept"], counts["n_annotated"])
    assert dropped == counts["discarded_uids"]
    assert rows["uid"].tolist() == kept["uid"].tolist()
    for ours, theirs in (("observed_start_s", "start"), ("observed_end_s", "end"), ("start_s", "orig_start")):
        np.testing.assert_allclose(rows[ours], kept[theirs], atol=1e-9)
    for column in ("video_id", "action", "verb", "noun"):
        assert rows[column].tolist() == kept[column].tolist()
    for sample in read_gzip(f"{name}.samples.json.gz"):
        row = rows.iloc[sample["row"]]
        assert row["uid"] == str(sample["uid"])
        assert row["frame_indices"].tolist() == sample["frames"]
        np.testing.assert_allclose(row["frame_times"], sample["frame_sec"], atol=1e-3)
        assert row["action"] == sample["target"]
        if "past_labels" in sample:
            assert row["past_actions"].tolist() == [label if label >= 0 else -100 for label in sample["past_labels"]]


@pytest.mark.parametrize(
    "split",
    [pytest.param(split, marks=pytest.mark.slow if "ek100" in split else ()) for split in COUNTS],
    ids=lambda split: "-".join(split[1:]),
)
def test_counts_equal_the_reference(split, tmp_path):
    builder_class, folder, name = split
    annotations = require_shared("data", "annotations", folder)
    builder = builder_class(data_dir=annotations, cache_dir=str(tmp_path), protocol="avt", source="features")
    rows, dropped = builder.rows(name), builder.dropped[name]
    assert (len(rows) + len(dropped), len(rows)) == COUNTS[split]

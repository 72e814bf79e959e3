"""A checkpoint of today's code in the oldest and the newest environment: each kind of student, each way to use it."""

import os
from pathlib import Path

import pytest
from packaging.version import Version
from versions.environments import ENVIRONMENTS, different, measure, pythons, row, table_of

BUILT_IN = "pipeline video-classification"


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """Where environments are made; `AVT_ENVIRONMENTS` keeps them."""
    kept = os.environ.get("AVT_ENVIRONMENTS")
    return Path(kept) if kept else tmp_path_factory.mktemp("environments")


@pytest.mark.slow
@pytest.mark.network
@pytest.mark.parametrize("name", ["oldest", "newest"])
def test_every_student_answers_the_same_in_every_way(name, folder):
    chosen = [environment for environment in ENVIRONMENTS if environment.name == name]
    programs = pythons([])
    if chosen[0].python not in programs:
        pytest.skip(f"no Python {chosen[0].python} here")
    [(_, found)] = measure(chosen, programs, folder)
    assert not isinstance(found, str), found
    outcomes = dict(found["outcomes"])
    if Version(found["versions"]["transformers"]) < Version("5.15"):
        refusals = outcomes.pop(BUILT_IN)
        assert len(refusals) == 8  # of the students that see videos
        assert all("Use pipeline('action-anticipation')" in refusal for refusal in refusals)
    assert outcomes == {way: [] for way in outcomes}


def test_scores_that_differ_are_found():
    assert different([0.1, 0.2], [0.1, 0.2 + 9e-6]) is None
    assert different([0.1, 0.2], [0.1, 0.2002]) == "scores differ by 2.0e-04"
    assert different([0.1], [0.1, 0.2]) == "1 scores in place of 2"
    assert different("OSError: no file", [0.1]) == "OSError: no file"
    assert different("OSError: no file", "OSError: no file") is None


def test_the_table_says_what_does_not_work_and_where():
    versions = dict.fromkeys(("Python", "torch", "transformers", "numpy", "av", "huggingface-hub"), "1.0+cpu")
    worked = {"versions": versions, "students": {"a": {}, "b": {}}, "outcomes": {"stream": [], "pipeline": []}}
    failed = {**worked, "outcomes": {"stream": ["b: OSError: no file"], "pipeline": []}}
    first, second, third = ENVIRONMENTS[:3]
    text = table_of([(first, worked), (second, failed), (third, "no Python 3.9 here")])
    assert row(first, worked) in text.splitlines()
    assert row(first, worked) == f"| {first.name} | 1.0 | 1.0 | 1.0 | 1.0 | 1.0 | 1.0 | 2/2 | 2/2 |"
    assert "| 1/2 | 2/2 |" in row(second, failed)
    assert f"- {third.name}: no Python 3.9 here" in text
    assert f"- stream: OSError: no file ({second.name})" in text

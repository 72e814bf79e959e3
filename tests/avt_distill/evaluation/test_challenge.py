"""Challenge submissions: built in the form that the organizers' program requires; anything else is refused."""

import copy
import json

import numpy as np
import pytest

from avt_distill.data.labels import LabelSpace
from avt_distill.evaluation.challenge import build_submission, check_submission
from avt_distill.metrics import marginal_scores, softmax

UIDS = ["P01_11_0", "P01_11_1", "P01_11_10"]


def benchmark_labels(num_verbs: int, num_nouns: int, num_actions: int = 130) -> LabelSpace:
    """A label space with the benchmark's numbers of verbs and nouns, and fewer actions, each with a different pair."""
    pairs = tuple((action % num_verbs, (7 * action) % num_nouns) for action in range(num_actions))
    names = [tuple(f"{kind} {index}" for index in range(size)) for kind, size in (("v", num_verbs), ("n", num_nouns))]
    return LabelSpace(tuple(f"a {action}" for action in range(num_actions)), *names, pairs)


EK100 = benchmark_labels(97, 300)
SCORES = np.random.default_rng(0).standard_normal((3, 130)).astype(np.float32)


@pytest.fixture
def submission() -> dict:
    return build_submission("ek100", UIDS[:2], SCORES[:2], EK100, sls=(1, 4, 3), dropped_uids=UIDS[2:])


def test_ek100_holds_the_best_actions_by_pair(submission):
    assert {key: submission[key] for key in submission if key != "results"} == {
        "version": "0.2",
        "challenge": "action_anticipation",
        "sls_pt": 1,
        "sls_tl": 4,
        "sls_td": 3,
    }
    assert list(submission["results"]) == UIDS
    entry = submission["results"]["P01_11_1"]
    verbs, nouns = marginal_scores(SCORES, EK100)
    assert entry["verb"] == {str(verb): verbs[1, verb] for verb in range(97)}
    assert entry["noun"] == {str(noun): nouns[1, noun] for noun in range(300)}
    best = np.argsort(-SCORES[1])[:100]
    expected = {"{},{}".format(*EK100.action_to_verb_noun[action]): softmax(SCORES)[1, action] for action in best}
    assert entry["action"] == expected
    assert list(entry["action"]) == list(expected)
    check_submission(json.loads(json.dumps(submission)), "ek100", expected_uids=UIDS)


def test_dropped_segments_are_there_with_zeros(submission):
    entry = submission["results"]["P01_11_10"]
    assert [len(entry[kind]) for kind in ("verb", "noun", "action")] == [97, 300, 100]
    assert {score for kind in entry.values() for score in kind.values()} == {0.0}


def test_ek55_writes_uids_without_leading_zeros_and_needs_no_supervision_levels():
    labels = benchmark_labels(125, 352)
    submission = build_submission("ek55", ["00330", "7"], SCORES[:2], labels)
    assert submission["version"] == "0.1"
    assert set(submission) == {"version", "challenge", "results"}
    assert list(submission["results"]) == ["330", "7"]
    check_submission(submission, "ek55", expected_uids=["330", "00007"])
    assert build_submission("ek55", ["7"], SCORES[:1], labels, sls=(0, 3, 3))["sls_tl"] == 3


def test_own_verb_scores_are_submitted_in_place_of_marginals():
    verbs = np.arange(3 * 97).reshape(3, 97)
    submission = build_submission("ek100", UIDS, SCORES, EK100, sls=(1, 4, 3), verb_scores=verbs)
    assert submission["results"]["P01_11_1"]["verb"]["5"] == 97 + 5
    nouns = submission["results"]["P01_11_1"]["noun"]
    assert nouns["0"] == marginal_scores(SCORES, EK100)[1][1, 0]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"challenge": "egtea"}, "challenge is 'egtea'"),
        ({"challenge": "ek55"}, "needs 125 and 352"),
        ({"sls": None}, "sls_pt is None"),
        ({"sls": (1, 4)}, r"sls is \[1, 4\]: give three levels"),
        ({"sls": (1, 6, 3)}, "sls_tl is 6"),
        ({"uids": UIDS[:2]}, "There are 2 uids"),
        ({"uids": [UIDS[0], *UIDS[:2]]}, "1 of the 3 uids are repeated"),
        ({"dropped_uids": UIDS[:1]}, "1 of the 4 uids are repeated"),
        ({"verb_scores": np.zeros((2, 97))}, "2 verbs'"),
        ({"verb_scores": np.zeros((3, 96))}, "does not score the verbs 0 to 96"),
        ({"noun_scores": np.full((3, 300), np.nan)}, "noun 0 the score nan"),
    ],
)
def test_build_refuses(changes, message):
    fields = {"challenge": "ek100", "uids": UIDS, "scores": SCORES, "label_space": EK100, "sls": (1, 4, 3)}
    with pytest.raises(ValueError, match=message):
        build_submission(**{**fields, **changes})


def test_build_refuses_uids_that_ek55_does_not_have():
    with pytest.raises(ValueError, match="'P01_1' is not a whole number"):
        build_submission("ek55", ["P01_1"], SCORES[:1], benchmark_labels(125, 352))


def test_build_refuses_fewer_actions_than_the_challenge_wants():
    with pytest.raises(ValueError, match="scores 99 actions: give exactly 100"):
        build_submission("ek100", UIDS, SCORES[:, :99], benchmark_labels(97, 300, 99), sls=(1, 4, 3))


@pytest.mark.parametrize(
    ("place", "value", "message"),
    [
        (("version",), "0.1", "version is '0.1'"),
        (("challenge",), "action_recognition", "challenge is 'action_recognition'"),
        (("sls_td",), 2.0, "sls_td is 2.0"),
        (("sls_td",), True, "sls_td is True"),
        (("results",), {}, "has no results"),
        (("results", "P01_11_0", "verb", "97"), 0.5, "does not score the verbs"),
        (("results", "P01_11_0", "noun"), {}, "does not score the nouns"),
        (("results", "P01_11_0", "action"), {"0,0": 1.0}, "scores 1 actions"),
        (("results", "P01_11_0", "verb", "3"), "0.5", "verb 3 the score '0.5'"),
        (("results", "P01_11_0", "verb", "3"), float("nan"), "verb 3 the score nan"),
        (("results", "P02_01_0"), {}, "Segment 'P02_01_0'"),
    ],
)
def test_check_refuses(submission, place, value, message):
    changed = copy.deepcopy(submission)
    parent = changed
    for key in place[:-1]:
        parent = parent[key]
    parent[place[-1]] = value
    with pytest.raises(ValueError, match=message):
        check_submission(changed, "ek100")


@pytest.mark.parametrize("action", ["97,0", "0,300", "1", "1,2,3", "take,pan", "-1,0"])
def test_check_refuses_actions_that_are_no_pair(submission, action):
    actions = submission["results"]["P01_11_0"]["action"]
    del actions[next(iter(actions))]
    actions[action] = 0.1
    with pytest.raises(ValueError, match=f"scores an action '{action}'"):
        check_submission(submission, "ek100")


def test_check_refuses_missing_and_extra_segments(submission):
    with pytest.raises(ValueError, match=r"lacks 1 segments of the split \['P30_1'\] and has 1 others \['P01_11_0'\]"):
        check_submission(submission, "ek100", expected_uids=[*UIDS[1:], "P30_1"])

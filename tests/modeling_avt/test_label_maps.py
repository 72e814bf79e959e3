"""Label maps as written in JSON and by example scripts, and a checkpoint's maps when its labels are replaced."""

import json

import numpy as np
import pytest
import torch
from helpers.tiny_models import VERB_NOUN, tiny_config, tiny_model

from modeling_avt import ActionAnticipationPipeline, AVTConfig, AVTForAnticipation

NAMES = {0: "cut egg", 1: "mix egg", 2: "peel egg"}
IDS = {"cut egg": 0, "mix egg": 1, "peel egg": 2}
# As run_image_classification.py and similar scripts write both maps.
OF_SCRIPTS = {
    "id2label": {"0": "cut egg", "1": "mix egg", "2": "peel egg"},
    "label2id": {"cut egg": "0", "mix egg": "1", "peel egg": "2"},
}


def with_labels(**labels) -> AVTConfig:
    fields = tiny_config().to_dict()
    return AVTConfig(**{**fields, "id2label": None, "label2id": None, **labels})


@pytest.mark.parametrize(
    "labels",
    [
        {"id2label": NAMES},
        {"id2label": dict(reversed(NAMES.items()))},
        {"id2label": {np.int64(index): name for index, name in NAMES.items()}},
        {"label2id": IDS},
        {"label2id": OF_SCRIPTS["label2id"]},
        {"label2id": {name: torch.tensor(index) for name, index in IDS.items()}},
        {"id2label": NAMES, "label2id": {}},
        OF_SCRIPTS,
        {**OF_SCRIPTS, "num_labels": 3},
        {"id2label": NAMES, "num_labels": np.int64(3)},
    ],
    ids=str,
)
def test_every_spelling_is_the_same_labels(labels, tmp_path):
    config = with_labels(**labels)
    assert (config.id2label, config.label2id, config.num_labels) == (NAMES, IDS, 3)
    assert list(config.id2label) == [0, 1, 2]
    config.save_pretrained(tmp_path)
    written = json.loads((tmp_path / "config.json").read_text())
    assert (written["id2label"], written["label2id"]) == (OF_SCRIPTS["id2label"], IDS)
    loaded = AVTConfig.from_pretrained(tmp_path)
    assert (loaded.id2label, loaded.label2id) == (NAMES, IDS)


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        ({"id2label": NAMES, "label2id": {**IDS, "cut egg": 1, "mix egg": 0}}, "label2id contradicts id2label"),
        ({"id2label": NAMES, "label2id": {"cut egg": 0}}, r"contradicts id2label \('mix egg' has the id None in one"),
        ({"id2label": NAMES, "label2id": {**IDS, "fry egg": 3}}, "'fry egg' has the id 3 in one and None in the other"),
        ({"id2label": NAMES, "num_labels": 5}, "num_labels is 5, but there are 3 names"),
        ({"label2id": IDS, "num_labels": 5}, "num_labels is 5, but there are 3 names"),
        ({"id2label": {0: "cut", 1: "cut"}}, "id2label has the name 'cut' several times"),
        ({"label2id": {"cut": 0, "mix": 0}}, "label2id has the ids .0, 0.: ids must run from 0 to N-1"),
        ({"id2label": {0: "cut", "0": "mix"}}, "id2label has the ids .0, 0.: ids must run from 0"),
        ({"id2label": {0: "cut", 2: "mix"}}, "id2label has the ids .0, 2.: ids must run from 0"),
        ({"id2label": {1: "cut", 2: "mix"}}, "id2label has the ids .1, 2.: ids must run from 0"),
        ({"id2label": {-1: "cut"}}, "id2label has the ids .-1."),
        ({"id2label": {"cut": 0}}, "id2label has the id 'cut': give whole numbers"),
        ({"id2label": {True: "cut"}}, "id2label has the id True"),
        ({"id2label": {0.0: "cut"}}, "id2label has the id 0.0"),
        ({"id2label": {0: 5}}, "id2label has the name 5: give text"),
        ({"id2label": ["cut", "mix"]}, r"id2label is \['cut', 'mix'\]: give a dict of names by id"),
        ({"id2label": {}}, "id2label is {}: give a dict"),
        ({"label2id": ["cut"]}, r"label2id is \['cut'\]: give a dict of ids by name"),
        ({"label2id": {"cut": "first"}}, "label2id has the id 'first'"),
        ({"num_labels": 0}, "num_labels is 0: give a whole number from 1 to 1000000"),
        ({"num_labels": 10**9}, "num_labels is 1000000000"),
        ({"num_labels": "3"}, "num_labels is '3'"),
        ({"num_labels": True}, "num_labels is True"),
        ({"verb_id2label": {0: "cut", 2: "mix"}}, "verb_id2label has the ids .0, 2."),
        ({"noun_id2label": ["egg"]}, "noun_id2label is"),
        ({"action_to_verb_noun": [[0, 0, 0]] * 2}, r"action_to_verb_noun holds \[0, 0, 0\]"),
        ({"action_to_verb_noun": {0: [0, 0], 2: [0, 0]}}, "action_to_verb_noun has the action ids .0, 2."),
        ({"action_to_verb_noun": [[0.5, 0], [0, 0]]}, "action_to_verb_noun has the id 0.5"),
        ({"action_to_verb_noun": "00"}, "action_to_verb_noun is '00'"),
    ],
    ids=str,
)
def test_labels_that_contradict_each_other_are_refused(labels, message):
    with pytest.raises(ValueError, match=message):
        with_labels(**labels)


def test_pairs_may_be_an_array():
    pairs = np.array(VERB_NOUN["action_to_verb_noun"])
    for given in (pairs, list(pairs), [[str(part) for part in pair] for pair in pairs.tolist()]):
        config = tiny_config(**{**VERB_NOUN, "action_to_verb_noun": given})
        assert config.action_to_verb_noun == VERB_NOUN["action_to_verb_noun"]


def test_label2id_follows_when_id2label_is_set():
    config = tiny_config(num_labels=3)
    config.id2label = OF_SCRIPTS["id2label"]
    assert (config.id2label, config.label2id) == (NAMES, IDS)
    config.num_labels = 2
    assert config.label2id == {"LABEL_0": 0, "LABEL_1": 1}


def test_maps_that_were_made_to_disagree_are_neither_saved_nor_built(tmp_path):
    config = tiny_config(id2label=NAMES)
    config.label2id = {"cut egg": 1, "mix egg": 0, "peel egg": 2}
    for use in (config.check_consistency, lambda: AVTForAnticipation(config), lambda: config.save_pretrained(tmp_path)):
        with pytest.raises(ValueError, match="label2id contradicts id2label"):
            use()
    assert not (tmp_path / "config.json").exists()


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory) -> str:
    """A model of five actions with classifiers of verbs and nouns, and the map from actions to them."""
    folder = tmp_path_factory.mktemp("checkpoint")
    tiny_model(tiny_config(**VERB_NOUN)).save_pretrained(folder)
    return str(folder)


@pytest.mark.parametrize(
    "labels",
    [
        OF_SCRIPTS,
        dict(reversed(OF_SCRIPTS.items())),
        {**OF_SCRIPTS, "num_labels": 3},
        {"id2label": OF_SCRIPTS["id2label"]},
        {"label2id": OF_SCRIPTS["label2id"]},
        {"num_labels": 3},
        {"num_labels": 8},
        {"id2label": {str(index): f"action {index}" for index in range(8)}},
    ],
    ids=str,
)
def test_other_labels_leave_out_the_map_of_a_checkpoints_actions(checkpoint, labels, tmp_path, caplog):
    model = AVTForAnticipation.from_pretrained(checkpoint, ignore_mismatched_sizes=True, **labels)
    config = model.config
    if len(labels) > 1 or "label2id" in labels:
        assert config.id2label == NAMES
    assert config.label2id == {name: index for index, name in config.id2label.items()}
    assert config.action_to_verb_noun is None
    assert "action_to_verb_noun of the checkpoint is left out" in caplog.text
    assert config.verb_id2label == VERB_NOUN["verb_id2label"]  # names of classifiers that still exist
    model.save_pretrained(tmp_path)
    answer = ActionAnticipationPipeline(AVTForAnticipation.from_pretrained(tmp_path))(np.zeros((4, 12)), top_k=100)
    assert sorted(entry["label"] for entry in answer) == sorted(config.id2label.values())
    assert {(entry["verb"], entry["noun"]) for entry in answer} == {(None, None)}


def test_other_labels_leave_out_the_calibration_of_the_old_ones(tmp_path, caplog):
    fitted = {"temperature": 3.0, "error_rate": 0.1, "threshold": 0.99, "delta": 0.1}
    tiny_model(tiny_config(**VERB_NOUN, calibration=fitted)).save_pretrained(tmp_path)
    model = AVTForAnticipation.from_pretrained(tmp_path, **OF_SCRIPTS, ignore_mismatched_sizes=True)
    assert model.config.calibration is None
    assert "action_to_verb_noun and calibration of the checkpoint is left out" in caplog.text
    answer = ActionAnticipationPipeline(model)(np.ones((4, 12)))
    expected = model(video_features=torch.ones(1, 4, 12)).logits[0].softmax(-1).max().item()  # temperature 1
    assert answer[0]["score"] == pytest.approx(expected)
    assert "says" not in answer[0]
    pairs = [[0, 0], [1, 0], [0, 2]]
    assert AVTConfig.from_pretrained(tmp_path, **OF_SCRIPTS, action_to_verb_noun=pairs).calibration is None
    new = AVTConfig.from_pretrained(tmp_path, **OF_SCRIPTS, calibration={"temperature": 2.0})
    assert new.calibration == {"temperature": 2.0}
    for same in ({}, {"num_labels": 5}, {"verb_id2label": {0: "peel", 1: "fry"}}):
        assert AVTConfig.from_pretrained(tmp_path, **same).calibration == fitted


def test_as_many_other_labels_are_other_labels(checkpoint):
    names = {index: f"action {index}" for index in range(5)}
    assert AVTConfig.from_pretrained(checkpoint, id2label=names).action_to_verb_noun is None


def test_the_same_labels_keep_the_map(checkpoint):
    config = AVTConfig.from_pretrained(checkpoint)
    same = {str(index): name for index, name in config.id2label.items()}
    for labels in ({"id2label": same}, {"num_labels": 5}, {"num_labels": 5, "id2label": same}, {"id2label": None}):
        kept = AVTConfig.from_pretrained(checkpoint, **labels)
        assert (kept.id2label, kept.label2id) == (config.id2label, config.label2id)
        assert kept.action_to_verb_noun == VERB_NOUN["action_to_verb_noun"]


def test_a_map_that_is_given_anew_is_the_new_labels(checkpoint):
    pairs = [[0, 0], [1, 0], [0, 2]]
    config = AVTConfig.from_pretrained(checkpoint, **OF_SCRIPTS, action_to_verb_noun=pairs)
    assert (config.action_to_verb_noun, config.verb_id2label) == (pairs, VERB_NOUN["verb_id2label"])
    with pytest.raises(ValueError, match="action_to_verb_noun has 2 rows but there are 3 actions"):
        AVTConfig.from_pretrained(checkpoint, **OF_SCRIPTS, action_to_verb_noun=pairs[:2])


def test_names_without_classifiers_are_dropped_with_the_map(tmp_path):
    tiny_config(**{**VERB_NOUN, "label_types": ["action"]}).save_pretrained(tmp_path)
    config = AVTConfig.from_pretrained(tmp_path, **OF_SCRIPTS)
    assert (config.action_to_verb_noun, config.verb_id2label, config.noun_id2label) == (None, None, None)


def test_other_verbs_leave_out_the_map_of_the_old_ones(checkpoint):
    config = AVTConfig.from_pretrained(checkpoint, verb_id2label={0: "peel", 1: "fry"})
    assert (config.action_to_verb_noun, config.verb_id2label) == (None, {0: "peel", 1: "fry"})


def test_sums_over_actions_need_the_map_of_other_labels(tmp_path):
    tiny_model(tiny_config(**VERB_NOUN, use_class_mappings=True)).save_pretrained(tmp_path)
    with pytest.raises(ValueError, match=r"pass it with the names of verbs and nouns, or use_class_mappings=False"):
        AVTForAnticipation.from_pretrained(tmp_path, **OF_SCRIPTS, ignore_mismatched_sizes=True)
    config = AVTConfig.from_pretrained(tmp_path, **OF_SCRIPTS, use_class_mappings=False)
    assert config.verb_id2label == VERB_NOUN["verb_id2label"]


def test_remote_code_takes_labels_as_scripts_write_them(checkpoint, clean_process):
    code = f"""
    from transformers import AutoModel
    model = AutoModel.from_pretrained(
        {checkpoint!r}, trust_remote_code=True, ignore_mismatched_sizes=True, **{OF_SCRIPTS!r}
    )
    print((model.config.id2label, model.config.label2id, model.config.action_to_verb_noun))
    """
    assert clean_process(code).splitlines()[-1] == str((NAMES, IDS, None))

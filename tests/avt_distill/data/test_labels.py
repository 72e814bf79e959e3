"""LabelSpace: names, maps, and a hash that distinguishes label spaces."""

import json

import pytest

from avt_distill.data.labels import LabelSpace

KITCHEN = LabelSpace(("cut egg", "mix egg", "mix oil"), ("cut", "mix"), ("egg", "oil"), ((0, 0), (1, 0), (1, 1)))


def test_hash_follows_content_and_not_spelling_of_the_file(tmp_path):
    KITCHEN.save(tmp_path / "labels.json")
    assert LabelSpace.load(tmp_path / "labels.json") == KITCHEN
    assert LabelSpace.load(tmp_path / "labels.json").content_hash == KITCHEN.content_hash
    spaced = LabelSpace((" cut egg", "mix egg ", "mix oil"), ["cut", "mix"], ["egg", "oil"], [[0, 0], [1, 0], [1, 1]])
    assert spaced == KITCHEN
    others = [
        LabelSpace(KITCHEN.actions[::-1]),
        LabelSpace(KITCHEN.actions),
        LabelSpace(KITCHEN.actions, ("cut", "mix")),
    ]
    assert len({KITCHEN.content_hash, *(other.content_hash for other in others)}) == 4


def test_config_fields_build_a_model_configuration():
    from helpers.tiny_models import tiny_config

    config = tiny_config(**KITCHEN.to_config(), label_types=["action", "verb", "noun"])
    assert config.num_classes == {"action": 3, "verb": 2, "noun": 2}
    assert config.action_to_verb_noun == KITCHEN.verb_noun_ids.tolist() == [[0, 0], [1, 0], [1, 1]]
    assert LabelSpace(("cut",)).to_config()["verb_id2label"] is None


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"actions": ()}, "actions is empty"),
        ({"actions": "cut"}, "actions is a str: give a list of names"),
        ({"actions": {"cut", "mix"}}, "actions is a set: give a list of names, in the order of their ids"),
        ({"actions": ("cut",), "verbs": {0: "cut"}}, "verbs is a dict: give a list"),
        ({"actions": ("cut", " ")}, "blank or repeated"),
        ({"actions": ("cut", "cut ")}, r"repeated names \(\['cut'\]\)"),
        ({"actions": ("cut",), "action_to_verb_noun": ()}, "has 0 pairs for 1 actions"),
        (
            {"actions": ("cut egg",), "verbs": ("cut",), "action_to_verb_noun": ((0, 0),)},
            "'cut egg' has verb 0 and noun 0",
        ),
    ],
)
def test_refuses(fields, message):
    with pytest.raises(ValueError, match=message):
        LabelSpace(**fields)


@pytest.mark.parametrize(
    "content",
    [
        ["cut egg"],
        {"0": "cut egg"},
        3,
        None,
        {"actions": "abc"},
        {"actions": {"0": "cut egg"}},
        {"actions": [None]},
        {"actions": []},
        {"actions": ["a"], "verbs": ["v"], "nouns": ["n"], "action_to_verb_noun": [[0]]},
        {"actions": ["a"], "verbs": ["v"], "nouns": ["n"], "action_to_verb_noun": [["0", 0]]},
        {"actions": ["a"], "verbs": ["v"], "nouns": ["n"], "action_to_verb_noun": 3},
        {"actions": ["a"], "verbs": ["v"], "nouns": ["n"], "action_to_verb_noun": [[0, 1]]},
    ],
)
def test_labels_json_of_another_form_is_refused_by_name(tmp_path, content):
    (tmp_path / "labels.json").write_text(json.dumps(content))
    with pytest.raises(ValueError, match=r"labels\.json is not a label space \(.*\): write {\"actions\": "):
        LabelSpace.load(tmp_path / "labels.json")


def test_labels_json_without_verbs_and_nouns_is_read(tmp_path):
    (tmp_path / "labels.json").write_text('{"actions": ["cut", "mix"], "verbs": null}')
    assert LabelSpace.load(tmp_path / "labels.json") == LabelSpace(("cut", "mix"))


def test_a_damaged_label_space_of_a_user_is_corrected_and_not_deleted(tmp_path):
    (tmp_path / "segments.csv").write_text("video_id,start_s\n")
    with pytest.raises(ValueError, match=r"segments\.csv is not JSON \(.*\): correct it, or give another file\.$"):
        LabelSpace.load(tmp_path / "segments.csv")


def test_a_label_space_saved_by_an_editor_with_a_byte_order_mark_is_read(tmp_path):
    (tmp_path / "labels.json").write_text('{"actions": ["cut"]}', encoding="utf-8-sig")
    assert LabelSpace.load(tmp_path / "labels.json") == LabelSpace(("cut",))

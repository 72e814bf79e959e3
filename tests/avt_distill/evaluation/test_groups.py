"""Files of classes and of rows, as benchmarks and commands write them."""

import pytest
from helpers.places import require_shared

from avt_distill.data.labels import LabelSpace
from avt_distill.evaluation.groups import read_class_ids, read_dropped, read_rows, read_unseen

SPACE = LabelSpace(("cut egg", "cut oil", "mix egg"), ("cut", "mix"), ("egg", "oil"), ((0, 0), (0, 1), (1, 0)))


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ("0\n2\n", {"action": [0, 2]}),
        ("[0, 2]", {"action": [0, 2]}),
        ('{"verb": [1]}', {"verb": [1]}),
        ("verb\n1\n", {"verb": [1]}),
        ("\ufeffnoun\r\n1\r\n", {"noun": [1]}),
        ("verb_class,verb\n1,mix\n", {"verb": [1]}),
        ('action_class,noun,noun_class,verb,verb_class\n"(0, 1)",oil,1,cut,0\n', {"action": [1]}),
        ("action\n2\n", {"action": [2]}),
    ],
)
def test_class_ids_of_every_form(tmp_path, content, expected):
    path = tmp_path / "ids.csv"
    path.write_text(content)
    assert read_class_ids([path], SPACE, rule="and") == expected


@pytest.mark.parametrize(("rule", "actions"), [("and", [0]), ("or", [0, 1, 2])])
def test_a_file_of_verbs_and_one_of_nouns_mean_actions(tmp_path, rule, actions):
    for name, number in (("verb", 0), ("noun", 0)):
        (tmp_path / f"{name}.csv").write_text(f"{name}\n{number}\n")
    paths = [tmp_path / "verb.csv", tmp_path / "noun.csv"]
    assert read_class_ids(paths, SPACE, rule=rule) == {"verb": [0], "noun": [0], "action": actions}
    assert read_class_ids(paths, None, rule=rule) == {"verb": [0], "noun": [0]}


def test_the_benchmarks_own_files_are_read():
    folder = require_shared("data", "annotations", "ek100")
    tail = read_class_ids([folder / f"EPIC_100_tail_{kind}s.csv" for kind in ("verb", "noun")], None, rule="or")
    assert {kind: len(ids) for kind, ids in tail.items()} == {"verb": 86, "noun": 228}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('{"action": [1,', "begins like JSON but is not valid"),
        ('{"actions": [1]}', r"holds no lists of class ids .*'actions'"),
        ("[1.5]", "holds no lists of class ids"),
        ("P01_11_102\nP01_11_106\n", "begins with 'P01_11_102'.*For names of rows use --unseen"),
        ("1\nx\n", "line 2: 'x' is not a class id"),
        ("verb\n\n1.0\n", "line 2: '1.0' is not a class id"),
        ("", "is empty"),
        ("verb_class,noun_class\n1,1\n", "verb 1 and noun 1, but no action has this pair"),
    ],
)
def test_other_files_are_refused_by_name(tmp_path, content, message):
    path = tmp_path / "ids.csv"
    path.write_text(content)
    with pytest.raises(ValueError, match=rf"ids\.csv.*{message}"):
        read_class_ids([path], SPACE, rule="and")


def test_pairs_of_verbs_and_nouns_need_the_labels(tmp_path):
    (tmp_path / "ids.csv").write_text("verb_class,noun_class\n1,0\n")
    with pytest.raises(ValueError, match="give --label_space, which numbers their actions"):
        read_class_ids([tmp_path / "ids.csv"], None, rule="and")


def test_two_files_of_one_kind_are_refused(tmp_path):
    for name in "ab":
        (tmp_path / name).write_text("verb\n1\n")
    with pytest.raises(ValueError, match="holds verb ids, as an earlier file does"):
        read_class_ids([tmp_path / "a", tmp_path / "b"], SPACE, rule="and")


def test_rows_hold_commas_in_quotes(tmp_path):
    path = tmp_path / "dropped.csv"
    path.write_text('"dinner, day 1_0",2\n"say ""hi""", -100\n\nplain,1\n')
    assert read_dropped(path) == {"dinner, day 1_0": 2, 'say "hi"': -100, "plain": 1}
    assert read_rows(None, 2) == []


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("a,b,1\n", "has a line 'a,b,1': give 2 fields per line"),
        ("a,cut\n", "has 'cut' for 'a': give an action id"),
        ("a,1\na,2\n", "names 'a' twice"),
    ],
)
def test_dropped_rows_of_another_form_are_refused(tmp_path, content, message):
    (tmp_path / "dropped.csv").write_text(content)
    with pytest.raises(ValueError, match=rf"dropped\.csv {message}"):
        read_dropped(tmp_path / "dropped.csv")


UIDS = ["P18_01_0", "P18_02_1", "P32_01_0", "P01_11_0"]


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ("P18_01_0\nP32_01_0\n", [1, 0, 1, 0]),
        ("uid\nP18_01_0\n", [1, 0, 0, 0]),
        ("\ufeffnarration_id\r\nP18_01_0\r\n", [1, 0, 0, 0]),
        ("participant_id\nP18\nP32\n", [1, 1, 1, 0]),
        ("participant_id\nP1\nP18\n", "names 'P1', which matches no row"),
        ("P18\nP32\n", "names 'P18', .* under the heading participant_id"),
        ("participant_id\n", "names nothing"),
        ("", "names nothing"),
    ],
)
def test_unseen_rows_are_those_of_uids_and_of_participants(tmp_path, content, expected):
    path = tmp_path / "unseen.csv"
    path.write_text(content)
    if isinstance(expected, str):
        with pytest.raises(ValueError, match=rf"unseen\.csv {expected}"):
            read_unseen(path, UIDS)
    else:
        assert read_unseen(path, UIDS).tolist() == [bool(value) for value in expected]


def test_uids_without_scores_are_counted(tmp_path, caplog):
    (tmp_path / "unseen.csv").write_text("P18_01_0\nP18_01_7\nP18_01_8\n")
    assert read_unseen(tmp_path / "unseen.csv", UIDS).sum() == 1
    assert "names 2 rows without scores, 'P18_01_7' first" in caplog.text


def test_the_published_participants_are_the_published_rows():
    folder = require_shared("data", "annotations", "ek100")
    uids = [line.split(",")[0] for line in (folder / "validation.csv").read_text().splitlines()]
    names = ("EPIC_100_unseen_participant_ids_validation.csv", "validation_unseen_participants_ids.csv")
    masks = [read_unseen(folder / name, uids) for name in names]
    assert masks[0].sum() == 1065
    assert (masks[0] == masks[1]).all()


def test_dropped_rows_have_action_ids(tmp_path):
    path = tmp_path / "dropped.csv"
    path.write_text("a,3\nb,-100\n")
    assert read_dropped(path) == {"a": 3, "b": -100}
    for label in ("\u00b2", "\u0663", "- 3", "--3", "3.0", "", "9" * 20):  # a superscript and an Arabic digit
        path.write_text(f"a,3\nfoo,{label}\n", encoding="utf-8")
        with pytest.raises(ValueError, match=rf"dropped\.csv has '{label}' for 'foo': give an action id, or -100"):
            read_dropped(path)

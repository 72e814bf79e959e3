"""Score tables: saved and loaded without loss, complete or not at all, and never for other actions."""

import numpy as np
import pyarrow
import pyarrow.parquet
import pytest

from avt_distill.data.labels import LabelSpace
from avt_distill.evaluation.scores import ScoreTable

SPACE = LabelSpace(("cut", "mix", "pour"))
SCORES = np.array([[0.1, 2, -3], [1e-30, -1e30, 0]], dtype=np.float32)


def table(**changes) -> ScoreTable:
    fields = {"uids": ["P01_2", "7"], "scores": SCORES, "labels": np.array([2, -100])}
    return ScoreTable(**{**fields, "metadata": {"label_space_hash": SPACE.content_hash, "model": "avt"}, **changes})


def test_a_saved_table_is_loaded_to_the_bit(tmp_path):
    table().save(tmp_path / "scores.parquet")
    loaded = ScoreTable.load(tmp_path / "scores.parquet", label_space=SPACE)
    assert loaded.uids == ["P01_2", "7"]
    assert loaded.scores.dtype == np.float32
    np.testing.assert_array_equal(loaded.scores, SCORES)
    assert loaded.labels.tolist() == [2, -100]
    assert loaded.metadata == table().metadata


def test_saved_files_have_the_permissions_of_any_other(tmp_path):
    table().save(tmp_path / "scores.parquet")
    (tmp_path / "plain.txt").write_text("")
    assert (tmp_path / "scores.parquet").stat().st_mode == (tmp_path / "plain.txt").stat().st_mode


def test_several_row_groups_keep_their_order(tmp_path):
    rng = np.random.default_rng(0)
    many = ScoreTable([str(number) for number in range(50)], rng.standard_normal((50, 3)), rng.integers(0, 3, 50))
    many.save(tmp_path / "scores.parquet")
    whole = pyarrow.parquet.read_table(tmp_path / "scores.parquet")
    pyarrow.parquet.write_table(whole, tmp_path / "groups.parquet", row_group_size=7)
    np.testing.assert_array_equal(ScoreTable.load(tmp_path / "groups.parquet").scores, many.scores)


def test_labels_are_unknown_unless_given():
    assert table(labels=None).labels.tolist() == [-100, -100]


def test_tables_are_aligned_by_uid():
    swapped = table(uids=["7", "P01_2"], scores=SCORES[::-1] * 2, labels=np.array([-100, 2]))
    aligned = swapped.aligned_to(table())
    assert aligned.uids == ["P01_2", "7"]
    np.testing.assert_array_equal(aligned.scores, SCORES * 2)
    assert aligned.labels.tolist() == [2, -100]
    assert aligned.metadata["model"] == "avt"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"uids": ["P01_2", "8"]}, "differ in 2 uids, such as '7'"),
        ({"uids": ["7"], "scores": SCORES[:1], "labels": None}, "differ in 1 uids, such as 'P01_2'"),
        ({"labels": np.array([1, -100])}, "label 'P01_2' differently"),
        ({"metadata": {"label_space_hash": "0123"}}, "give tables of one label space"),
        ({"metadata": {}}, "are of label spaces None with 3 actions and"),
        ({"scores": SCORES[:, :2], "labels": None}, "with 2 actions"),
    ],
)
def test_tables_of_other_rows_are_not_aligned(changes, message):
    with pytest.raises(ValueError, match=message):
        table(**changes).aligned_to(table())


def test_videos_are_saved_and_aligned_and_cameras_count_as_one(tmp_path):
    of_videos = table(video_ids=["P03_cam01_P03_cereals", "P03_webcam02_P03_cereals"])
    of_videos.save(tmp_path / "scores.parquet")
    loaded = ScoreTable.load(tmp_path / "scores.parquet", label_space=SPACE)
    assert loaded.video_ids == ["P03_cam01_P03_cereals", "P03_webcam02_P03_cereals"]
    assert loaded.performances() == ["P03_cereals", "P03_cereals"]
    swapped = table(uids=["7", "P01_2"], labels=np.array([-100, 2]), video_ids=["b", "a"])
    assert swapped.aligned_to(table()).video_ids == ["a", "b"]
    table().save(tmp_path / "without.parquet")
    assert ScoreTable.load(tmp_path / "without.parquet").video_ids is None
    with pytest.raises(ValueError, match="has no column video_id, so rows cannot be grouped by video"):
        table().performances()
    with pytest.raises(ValueError, match="video_ids has 1 entries for 2 uids"):
        table(video_ids=["a"])


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path, monkeypatch):
    path = tmp_path / "scores.parquet"
    table().save(path)
    before = path.read_bytes()

    def fail_halfway(data, where):
        with open(where, "wb") as file:
            file.write(b"PAR1")
        raise OSError("disk full")

    monkeypatch.setattr(pyarrow.parquet, "write_table", fail_halfway)
    with pytest.raises(OSError, match="disk full"):
        table(uids=["a", "b"]).save(path)
    assert path.read_bytes() == before
    assert [entry.name for entry in tmp_path.iterdir()] == ["scores.parquet"]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"uids": ["7", "7"]}, "uids has '7' more than once"),
        ({"uids": ["7", 7]}, "uids has '7' more than once"),
        ({"uids": ["7"]}, r"scores has shape \(2, 3\) for 1 uids"),
        ({"scores": SCORES[0]}, r"scores has shape \(3,\)"),
        ({"uids": [], "scores": SCORES[:0], "labels": np.zeros(0, dtype=int)}, r"scores has shape \(0, 3\)"),
        ({"scores": np.where(SCORES == 0, np.nan, SCORES)}, "scores of '7' are not finite"),
        ({"scores": np.where(SCORES == 0, np.float64(1e39), SCORES)}, "scores of '7' are not finite"),
        ({"labels": np.array([2])}, r"labels has shape \(1,\)"),
        ({"labels": np.array([2.0, 1.0])}, "labels has shape .* type float64"),
        ({"labels": np.array([2, 3])}, "labels has 3: give action ids from 0 to 2"),
        ({"labels": np.array([2, -1])}, "labels has -1"),
    ],
)
def test_refuses(changes, message):
    with pytest.raises(ValueError, match=message):
        table(**changes)


def test_refuses_another_label_space(tmp_path):
    path = tmp_path / "scores.parquet"
    table().save(path)
    for other in (LabelSpace(("cut", "pour", "mix")), LabelSpace(("cut", "mix"))):
        with pytest.raises(ValueError, match="columns would stand for other actions"):
            ScoreTable.load(path, label_space=other)
    table(metadata={}).save(path)
    with pytest.raises(ValueError, match="of label space None"):
        ScoreTable.load(path, label_space=SPACE)
    assert ScoreTable.load(path).metadata == {}


def test_a_table_that_does_not_exist_is_named_with_what_writes_it(tmp_path):
    for path, fault in ((tmp_path / "scores.parquet", "does not exist"), (tmp_path, "is a folder")):
        with pytest.raises(FileNotFoundError, match=f"'{path}' {fault}: give a score table that avt-distill distill"):
            ScoreTable.load(path)


def test_refuses_files_that_are_not_score_tables(tmp_path):
    (tmp_path / "text.parquet").write_text("uid,label,scores\n")
    with pytest.raises(ValueError, match="is not a Parquet file"):
        ScoreTable.load(tmp_path / "text.parquet")
    pyarrow.parquet.write_table(pyarrow.table({"uid": ["7"], "logits": [[1.0]]}), tmp_path / "other.parquet")
    with pytest.raises(ValueError, match=r"has columns \['uid', 'logits'\]"):
        ScoreTable.load(tmp_path / "other.parquet")


@pytest.mark.parametrize(
    ("first", "second", "is_noted"),
    [
        (["v_0", "v_1"], ["v_3.000", "v_7.250"], True),
        (["v_3.000", "v_7.250_1a2b3c4d", "v_9.000_2"], ["v_0", "v_1", "v_2"], True),
        (["v_3.000", "v_7.250"], ["v_3.000", "v_8.250"], False),
        (["P01_11_0", "P01_11_1"], ["P01_11_0", "P01_11_2"], False),
        (["00330", "00331"], ["v_3.000", "v_7.250"], False),
    ],
)
def test_errors_about_uids_of_earlier_versions_explain_them(first, second, is_noted):
    tables = [ScoreTable(uids, np.zeros((len(uids), 2)), np.zeros(len(uids), dtype=int)) for uids in (first, second)]
    with pytest.raises(ValueError, match="give tables of the same rows") as refused:
        tables[0].aligned_to(tables[1])
    noted = "earlier versions numbered the rows of user data, whose uids are now <video>_<start>: write the older"
    assert (noted in str(refused.value)) == is_noted

"""Soft labels: saved completely or not at all, joined by uid, averaged as by hand, and never for other actions."""

import signal
import time

import numpy as np
import pandas as pd
import pyarrow
import pyarrow.parquet
import pytest
from helpers.processes import WITH_THE_PROJECT

from avt_distill.data.labels import LabelSpace
from avt_distill.evaluation.scores import ScoreTable
from avt_distill.teacher.soft_labels import SoftLabelTable, rows_fingerprint

SPACE = LabelSpace(("cut", "mix", "pour"))
LOGITS = np.array([[0.1, 2, -3], [1e-30, -80, 0], [7, 7, 7]], dtype=np.float32)
METADATA = {"label_space_hash": SPACE.content_hash, "model": "bert", "history_cutoff": "started", "tau_a": "1.0"}


def table(metadata: dict | None = None, **changes) -> SoftLabelTable:
    """Returns a table of three rows; `metadata` overrides metadata, where `None` removes a key."""
    merged = {key: value for key, value in {**METADATA, **(metadata or {})}.items() if value is not None}
    return SoftLabelTable(**{"uids": ["P01_2", "7", "x"], "logits": LOGITS, "metadata": merged, **changes})


def test_a_saved_table_is_loaded_to_the_bit(tmp_path):
    saved = table({"split": "train", "trained_on": "", "anything": "else"})
    saved.save(tmp_path / "soft_labels.parquet")
    loaded = SoftLabelTable.load(tmp_path / "soft_labels.parquet", label_space=SPACE)
    assert loaded.uids == ["P01_2", "7", "x"]
    assert loaded.logits.dtype == np.float32
    np.testing.assert_array_equal(loaded.logits, LOGITS)
    assert loaded.metadata == {**METADATA, "split": "train", "trained_on": "", "anything": "else"}


def test_tau_a_is_the_same_however_it_is_written():
    assert {table({"tau_a": value}).metadata["tau_a"] for value in (1, 1.0, "1", "1.00")} == {"1.0"}


def test_balanced_divides_by_the_frequency_of_actions():
    balanced = table().balanced([0, 0, 2, -1], power=2.0)
    probabilities = np.exp(LOGITS.astype(float)) / np.exp(LOGITS.astype(float)).sum(1, keepdims=True)
    wanted = np.log(probabilities / (np.array([3, 1, 2]) / 6) ** 2)
    np.testing.assert_allclose(balanced.logits, wanted, rtol=1e-5)
    assert (balanced.uids, balanced.metadata) == (table().uids, {**METADATA, "balance": "2.0"})
    np.testing.assert_allclose(table().balanced([], power=0).logits, np.log(probabilities), rtol=1e-5)
    with pytest.raises(ValueError, match="labels has the action id 3: the table has 3 actions"):
        table().balanced([0, 3])
    with pytest.raises(ValueError, match="power is -1"):
        table().balanced([0], power=-1)


def test_select_joins_on_uid_in_any_order():
    logits, mask = table().select(["x", "P01_2", "x"])
    np.testing.assert_array_equal(logits, LOGITS[[2, 0, 2]])
    assert logits.dtype == np.float32
    assert mask.tolist() == [True, True, True]
    assert table().select([])[0].shape == (0, 3)


def test_a_missing_row_raises_or_is_masked_and_never_uniform_unseen():
    with pytest.raises(ValueError, match=r"lack 2 of 3 uids, 'y' first: .* KL target would be uniform"):
        table().select(["x", "y", "z"])
    logits, mask = table().select(["y", "7"], missing="mask")
    np.testing.assert_array_equal(logits, np.stack([np.zeros(3), LOGITS[1]]))
    assert mask.tolist() == [False, True]
    assert logits.dtype == np.float32
    with pytest.raises(ValueError, match="missing is 'skip': give 'raise' or 'mask'"):
        table().select(["x"], missing="skip")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"uids": ["7", "x", "7"]}, "uids has '7' more than once"),
        ({"uids": [7, "x", "7"]}, "uids has '7' more than once"),
        ({"uids": ["7"]}, r"logits has shape \(3, 3\) for 1 uids"),
        ({"logits": LOGITS[0]}, r"logits has shape \(3,\)"),
        ({"uids": [], "logits": LOGITS[:0]}, r"logits has shape \(0, 3\)"),
        ({"logits": LOGITS[:, :0]}, r"logits has shape \(3, 0\)"),
        ({"logits": np.where(LOGITS == 0, np.nan, LOGITS)}, "logits of '7' are not finite .* loss would be NaN"),
        ({"logits": np.where(LOGITS == 0, -np.inf, LOGITS)}, "logits of '7' are not finite"),
        ({"logits": np.where(LOGITS == 0, np.float64(1e39), LOGITS)}, "logits of '7' are not finite"),
        ({"metadata": {"model": None}}, r"metadata lacks \['model'\]: give all of .* of other actions"),
        ({"metadata": {"label_space_hash": ""}}, r"metadata lacks \['label_space_hash'\]"),
        ({"metadata": {"history_cutoff": None, "tau_a": None}}, r"metadata lacks \['history_cutoff', 'tau_a'\]"),
        ({"metadata": {"history_cutoff": "begun"}}, r"history_cutoff 'begun': give one of \['started', 'ended'"),
        ({"metadata": {"tau_a": "a second"}}, "tau_a 'a second': give a number of seconds"),
        ({"metadata": {"tau_a": "nan"}}, "tau_a 'nan': give a number of seconds"),
    ],
)
def test_refuses(changes, message):
    with pytest.raises(ValueError, match=message):
        table(**changes)


def test_one_repeated_uid_among_very_many_is_found_at_once():
    uids = [f"P01_{number}" for number in range(100_000)]
    uids[-1] = uids[-2]
    started = time.perf_counter()
    with pytest.raises(ValueError, match="uids has 'P01_99998' more than once"):
        table(uids=uids, logits=np.zeros((len(uids), 1)))
    assert time.perf_counter() - started < 2  # comparing all pairs would take minutes


def test_refuses_another_label_space(tmp_path):
    path = tmp_path / "soft_labels.parquet"
    table().save(path)
    for other in (LabelSpace(("cut", "pour", "mix")), LabelSpace(("cut", "mix"))):
        with pytest.raises(ValueError, match=r"The soft labels are of 3 actions .* would stand for other actions"):
            SoftLabelTable.load(path, label_space=other)
    table(logits=LOGITS[:, :2]).save(path)  # the right hash over too few columns
    with pytest.raises(ValueError, match="The soft labels are of 2 actions"):
        SoftLabelTable.load(path, label_space=SPACE)


def test_soft_labels_that_do_not_exist_are_named_with_what_writes_them(tmp_path):
    path = tmp_path / "soft_labels.parquet"
    with pytest.raises(FileNotFoundError, match=f"'{path}' does not .* avt-distill export_soft_labels wrote"):
        SoftLabelTable.load(path)


def test_refuses_files_that_are_not_soft_label_tables(tmp_path):
    path = tmp_path / "other.parquet"
    path.write_text("uid,logits\n")
    with pytest.raises(ValueError, match=r"is not a Parquet file .*: give a complete soft-label table"):
        SoftLabelTable.load(path)
    ScoreTable(["7"], [[1.0]], metadata=METADATA).save(path)
    with pytest.raises(ValueError, match=r"'label', 'scores'\]: give a soft-label table, with"):
        SoftLabelTable.load(path)
    pyarrow.parquet.write_table(pyarrow.table({"uid": ["7"], "logits": [[1.0]]}), path)
    with pytest.raises(ValueError, match="logits in lists of one fixed size"):
        SoftLabelTable.load(path)
    for uids, logits in ((["7", None], [[1.0], [2.0]]), (["7", "8"], [[1.0], None]), (["7", "8"], [[1.0], [None]])):
        columns = {"uid": uids, "logits": pyarrow.array(logits, pyarrow.list_(pyarrow.float32(), 1))}
        pyarrow.parquet.write_table(pyarrow.table(columns).replace_schema_metadata(METADATA), path)
        with pytest.raises(ValueError, match="give a soft-label table without missing values"):
            SoftLabelTable.load(path)
    with pytest.raises(FileNotFoundError):
        SoftLabelTable.load(tmp_path / "missing.parquet")


@pytest.mark.parametrize("kept", [0.0, 0.01, 0.5, 0.99])
def test_refuses_a_truncated_file(tmp_path, kept):
    path = tmp_path / "soft_labels.parquet"
    table(uids=[str(n) for n in range(500)], logits=np.random.default_rng(0).standard_normal((500, 3))).save(path)
    whole = path.read_bytes()
    path.write_bytes(whole[: int(kept * len(whole))])
    with pytest.raises(ValueError, match="is not a Parquet file"):
        SoftLabelTable.load(path)


def test_refuses_a_file_whose_footer_is_damaged(tmp_path):
    path = tmp_path / "soft_labels.parquet"
    table().save(path)
    whole = path.read_bytes()
    path.write_bytes(whole[:-200] + b"\xff" * 190 + whole[-10:])  # an OSError in pyarrow
    with pytest.raises(ValueError, match="is not a Parquet file"):
        SoftLabelTable.load(path)


SAVE_AND_STOP = """
import os, time
import numpy as np, pyarrow.parquet
from avt_distill.teacher.soft_labels import SoftLabelTable

moment, path, metadata = {!r}, {!r}, {!r}

def stop(*_):
    print("stopped", flush=True)
    time.sleep(600)

def write_half(table, where):
    write_whole(table, where)
    os.truncate(where, os.path.getsize(where) // 2)
    stop()

write_whole = pyarrow.parquet.write_table
if moment == "write":
    pyarrow.parquet.write_table = write_half
else:
    os.replace = stop
uids = [str(number) for number in range(20_000)]
SoftLabelTable(uids, np.random.default_rng(0).standard_normal((20_000, 106)), metadata).save(path)
"""


@pytest.mark.parametrize(("moment", "before"), [("write", "an old file"), ("replace", "no file")])
def test_a_process_killed_while_saving_leaves_the_old_file_or_none(tmp_path, fork_server, moment, before):
    path = tmp_path / "soft_labels.parquet"
    if before == "an old file":
        table().save(path)
    code = WITH_THE_PROJECT + SAVE_AND_STOP.format(moment, str(path), METADATA)
    process = fork_server.start(code, tmp_path)
    try:
        while process.poll() is None and process.stdout != "stopped\n":
            time.sleep(0.01)
        unfinished = [entry for entry in tmp_path.iterdir() if entry.is_file() and entry != path]
        assert unfinished[0].stat().st_size > 1_000_000  # the write was in progress
    finally:
        process.kill()
        process.wait()
    assert process.returncode == -signal.SIGKILL
    assert not list(tmp_path.glob("*.parquet")) or before == "an old file"
    if before == "an old file":
        np.testing.assert_array_equal(SoftLabelTable.load(path).logits, LOGITS)
    table(uids=["a", "b", "c"]).save(path)
    assert SoftLabelTable.load(path).uids == ["a", "b", "c"]


def probabilities(logits) -> np.ndarray:
    exponentials = np.exp(np.asarray(logits, dtype=float))
    return exponentials / exponentials.sum(axis=-1, keepdims=True)


def test_probabilities_are_averaged_as_by_hand():
    # Odds of 1 to 1 and of 3 to 1: probabilities 1/2 and 3/4, on average 5/8.
    one = table(uids=["a"], logits=[[0.0, 0.0]])
    three = table(uids=["a"], logits=[[np.log(3) + 50, 50.0]])
    average = SoftLabelTable.average([one, three])
    np.testing.assert_allclose(np.exp(average.logits), [[5 / 8, 3 / 8]], rtol=1e-6)
    by_logits = SoftLabelTable.average([one, three], of="logits")
    np.testing.assert_allclose(by_logits.logits, [[(np.log(3) + 50) / 2, 25.0]], rtol=1e-6)
    assert average.metadata["average"] == "probabilities"
    assert by_logits.metadata["average"] == "logits"


def test_averages_join_on_uid_whatever_the_order_and_the_size():
    rng = np.random.default_rng(0)
    uids = [str(number) for number in range(3000)]  # more than are averaged at once
    first, second = rng.standard_normal((2, 3000, 3)) * 5
    order = rng.permutation(3000)
    shuffled = table(uids=[uids[row] for row in order], logits=second[order])
    average = SoftLabelTable.average([table(uids=uids, logits=first), shuffled])
    assert average.uids == uids
    expected = (probabilities(first) + probabilities(second)) / 2
    np.testing.assert_allclose(probabilities(average.logits), expected, atol=1e-6)
    other_way = SoftLabelTable.average([shuffled, table(uids=uids, logits=first)])
    np.testing.assert_allclose(other_way.select(uids)[0], average.logits, atol=1e-5)


def test_averages_of_sure_teachers_stay_finite():
    sure, unsure = table(logits=[[1e30, 0, -1e30]] * 3), table(logits=[[0, 1000, -1000]] * 3)
    average = SoftLabelTable.average([sure, unsure])
    np.testing.assert_allclose(probabilities(average.logits[0]), [0.5, 0.5, 0], atol=1e-7)
    assert average.logits[0, 2] == pytest.approx(-2000 - np.log(2), rel=1e-6)  # its probability underflows to 0


def test_an_ensemble_names_its_members():
    first = table({"history_length": "5", "trained_on": "aa", "split": "train"})
    second = table(
        {"history_length": "15", "trained_on": "aa", "split": "train", "model": "smollm", "text_form": "natural"}
    )
    joined = SoftLabelTable.average([first, second, second]).metadata
    assert joined == {
        **METADATA,
        "model": "bert, smollm, smollm",
        "history_length": "5, 15",
        "trained_on": "aa",
        "split": "train",
        "text_form": "unknown, natural",
        "average": "probabilities",
    }


def test_an_ensemble_learned_from_the_videos_of_all_its_teachers():
    first, second = table(metadata={"videos": '["b", "a"]'}), table(metadata={"videos": '["c", "b"]'})
    assert first.videos_of_teacher == {"a", "b"}
    assert table().videos_of_teacher == set()
    assert SoftLabelTable.average([first, table(), second]).videos_of_teacher == {"a", "b", "c"}
    assert SoftLabelTable.average([table(), second]).videos_of_teacher == {"b", "c"}
    assert first.balanced([0]).videos_of_teacher == {"a", "b"}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"uids": ["P01_2", "7", "y"]}, "differ in 2 uids, such as 'x'"),
        ({"uids": ["x"], "logits": LOGITS[:1]}, "differ in 2 uids, such as '7'"),
        ({"metadata": {"label_space_hash": "0123"}}, "of 'bert' and 'bert' differ in label_space_hash, .* and 0123"),
        ({"metadata": {"history_cutoff": "ended"}}, "differ in history_cutoff, started and ended"),
        ({"metadata": {"tau_a": "0.5"}}, r"differ in tau_a, 1.0 and 0.5"),
        ({"metadata": {"labelled": "0123"}}, "differ in labelled, None and 0123"),
        ({"logits": LOGITS[:, :2]}, "are of 3 and of 2 actions"),
    ],
)
def test_tables_that_do_not_belong_together_are_not_averaged(changes, message):
    with pytest.raises(ValueError, match=message):
        SoftLabelTable.average([table(), table(**changes)])


def test_errors_about_uids_of_earlier_versions_explain_them():
    old, new = table(uids=["v_0", "v_1", "v_2"]), table(uids=["v_3.000", "v_7.000", "v_9.500"])
    explained = "user data, whose uids are now <video>_<start>: write the older file again"
    for refused in (
        lambda: SoftLabelTable.average([old, new]),
        lambda: old.select(new.uids),
        lambda: old.check_shares_rows(new.uids),
    ):
        with pytest.raises(ValueError, match=explained):
            refused()
    with pytest.raises(ValueError, match=r"lack 1 of 1 uids, 'v_4\.000' first: .* would be uniform\.$"):
        new.select(["v_4.000"])


def test_averages_of_nothing_and_of_anything_else_are_refused():
    with pytest.raises(ValueError, match="tables is empty"):
        SoftLabelTable.average([])
    with pytest.raises(ValueError, match=r"of is 'ranks': give one of \['probabilities', 'logits'\]"):
        SoftLabelTable.average([table()], of="ranks")


ROWS = {"uid": ["a", "b", "c"], "action": [1, 2, -100], "history": [[], [1], [1, 2]]}


def test_the_fingerprint_follows_content_and_not_order():
    rows = pd.DataFrame(ROWS)
    assert len(rows_fingerprint(rows)) == 16
    assert rows_fingerprint(rows.iloc[[2, 0, 1]]) == rows_fingerprint(rows)
    as_arrays = rows.assign(history=[np.array(h, dtype=np.int64) for h in ROWS["history"]], start_s=1.0)
    assert rows_fingerprint(as_arrays) == rows_fingerprint(rows)


@pytest.mark.parametrize(
    "changes",
    [
        {"uid": ["a", "b", "d"]},
        {"action": [1, 2, 0]},
        {"action": [2, 1, -100]},
        {"history": [[], [1], [2, 1]]},
        {"history": [[], [1, 1], [2]]},
        {"history": [[1], [], [1, 2]]},
        {"history": [[], [1], [1, 2, 0]]},
    ],
)
def test_the_fingerprint_detects_every_change(changes):
    assert rows_fingerprint(pd.DataFrame({**ROWS, **changes})) != rows_fingerprint(pd.DataFrame(ROWS))


def test_the_fingerprint_detects_a_missing_row_and_refuses_invalid_rows():
    rows = pd.DataFrame(ROWS)
    assert rows_fingerprint(rows[:2]) != rows_fingerprint(rows)
    with pytest.raises(ValueError, match="rows has 0 rows with 0 uids"):
        rows_fingerprint(rows[:0])
    with pytest.raises(ValueError, match="rows has 6 rows with 3 uids"):
        rows_fingerprint(pd.concat([rows, rows]))
    with pytest.raises(ValueError, match=r"lacks \['history'\]"):
        rows_fingerprint(rows.drop(columns="history"))

"""Feature stores: the row shown at each time, in every format, process and copy, and every kind of misuse."""

import os
import pickle
import sys

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.numpy import save_file
from torch.utils.data import DataLoader, Dataset

from avt_distill.features.stores import (
    NpzFeatureStore,
    RulstmFeatureStore,
    SafetensorsFeatureStore,
    is_complete,
    open_feature_store,
    write_features,
)
from modeling_avt.temporal_avt import frame_indices, sample_frame_times


def numbered_rows(count: int, first: int = 0, width: int = 3) -> np.ndarray:
    """Returns rows that contain their own number: row i is `(first + i, first + i, ...)`."""
    return np.repeat(np.arange(first, first + count, dtype=np.float32)[:, None], width, axis=1)


def write_lmdb(path, frames: dict[str, np.ndarray]):
    """Writes float32 features under frame names, as RULSTM does."""
    lmdb = pytest.importorskip("lmdb")
    with lmdb.open(str(path), map_size=2**22) as environment, environment.begin(write=True) as transaction:
        for name, feature in frames.items():
            transaction.put(name.encode(), feature.astype("<f4").tobytes())
    return path


def frame_names(video_id: str, rows: np.ndarray) -> dict[str, np.ndarray]:
    return {f"{video_id}_frame_{number:010d}.jpg": row for number, row in enumerate(rows, start=1)}


@pytest.fixture
def folder(tmp_path):
    """Video `a`: rows 0..19, 2 per second from 5 s on. Video `b`: rows 100..109, 30 per second from 0 s on."""
    write_features(tmp_path / "a.safetensors", numbered_rows(20), frame_rate=2, start_s=5)
    write_features(tmp_path / "b.safetensors", numbered_rows(10, first=100), frame_rate=30)
    return tmp_path


@pytest.fixture(params=["safetensors", "npz", "lmdb"])
def store(request, tmp_path):
    """The same two videos, 30 rows per second, in each format: `a` with rows 0..59, `b` with rows 100..129."""
    videos = {"a": numbered_rows(60), "b": numbered_rows(30, first=100)}
    if request.param == "safetensors":
        for video_id, rows in videos.items():
            write_features(tmp_path / f"{video_id}.safetensors", rows, frame_rate=30)
        return open_feature_store(tmp_path)
    if request.param == "npz":
        np.savez(tmp_path / "features.npz", **videos)
        return open_feature_store(tmp_path / "features.npz", frame_rate=30)
    names = {name: row for video_id, rows in videos.items() for name, row in frame_names(video_id, rows).items()}
    return open_feature_store(write_lmdb(tmp_path / "lmdb", names))


class Windows(Dataset):
    """A data set of which each item is three rows of video `a` and the process that read them."""

    def __init__(self, store):
        self.store = store

    def __len__(self):
        return 16

    def __getitem__(self, index):
        times = (index + np.arange(3)) / 30
        return torch.from_numpy(self.store.read("a", times)), os.getpid()


def test_the_feature_of_a_time_is_the_one_shown_then(folder):
    store = SafetensorsFeatureStore(folder)
    # Rows of `a` begin at 5.0, 5.5, 6.0 ... s and the last ends at 15.0 s.
    features = store.read("a", [5.0, 5.49, 5.5, 9.999, 10.0, 14.9, 15.0, 5.0])
    assert features.dtype == np.float32
    np.testing.assert_array_equal(features, numbered_rows(20)[[0, 0, 1, 9, 10, 19, 19, 0]])
    np.testing.assert_array_equal(store.read("b", [0, 9 / 30]), numbered_rows(10, first=100)[[0, 9]])
    assert store.feature_dim == 3


def test_every_format_reads_the_same_rows(store):
    times = np.arange(60) / 30  # i / fps in floating point must not fall into row i - 1
    np.testing.assert_array_equal(store.read("a", times), numbered_rows(60))
    np.testing.assert_array_equal(store.read("b", [0.5, 0.0, 1.0]), numbered_rows(30, first=100)[[15, 0, 29]])


def test_every_format_lists_its_videos_and_reads_them_whole(store):
    assert store.video_ids() == ["a", "b"]
    features, frame_rate, start_s = store.read_all("b")
    np.testing.assert_array_equal(features, numbered_rows(30, first=100))
    assert (frame_rate, start_s) == (30.0, 0.0)


def test_rows_agree_with_the_sampled_frame_numbers(store):
    for end_s in (1.0, 1.2345, 29 / 30, 1.9, 1.99):
        window = (end_s - 1.0, end_s, 30.0, 7.0, 6)
        (times, mask), (numbers, _) = sample_frame_times(*window), frame_indices(*window)
        assert mask.sum() >= 5
        np.testing.assert_array_equal(store.read("a", times[mask])[:, 0], numbers[mask])


def test_frame_numbers_of_the_reference_name_the_same_features(tmp_path):
    store = RulstmFeatureStore(write_lmdb(tmp_path, frame_names("a", numbered_rows(200, first=1))))
    for end_s in (1.0, 3.3, 4.01, 6.6):
        numbers, _ = frame_indices(end_s - 3, end_s, 30.0, 1.0, 4, protocol="avt", source="features")
        np.testing.assert_array_equal(store.read("a", (numbers - 1) / 30)[:, 0], numbers)


def test_half_precision_is_kept_on_disk_and_read_as_float32(tmp_path):
    write_features(tmp_path / "a.safetensors", numbered_rows(4).astype(np.float16), frame_rate=1)
    write_features(tmp_path / "b.safetensors", numbered_rows(4), frame_rate=1)
    assert (tmp_path / "a.safetensors").stat().st_size < (tmp_path / "b.safetensors").stat().st_size
    features = SafetensorsFeatureStore(tmp_path).read("a", [3.0])
    assert features.dtype == np.float32
    assert features[0, 0] == 3


def test_features_may_be_in_the_folder_of_annotations(tmp_path):
    (tmp_path / "features").mkdir()
    write_features(tmp_path / "features" / "a.safetensors", numbered_rows(4), frame_rate=1)
    for path in (tmp_path, tmp_path / "features"):
        assert open_feature_store(path).read("a", [2.5])[0, 0] == 2


def test_pickled_stores_read_without_what_was_open(store):
    expected = store.read("a", [0.5])
    copy = pickle.loads(pickle.dumps(store))
    np.testing.assert_array_equal(copy.read("a", [0.5]), expected)


def test_forked_workers_read_beside_a_parent_that_has_read(store):
    store.read("a", [0.0])
    loader = DataLoader(Windows(store), batch_size=2, num_workers=2, multiprocessing_context="fork")
    batches = list(loader)
    rows = torch.cat([features for features, _ in batches])
    expected = torch.arange(16)[:, None] + torch.arange(3)
    assert torch.equal(rows[:, :, 0], expected.float())
    processes = {int(process) for _, ids in batches for process in ids}
    assert len(processes) == 2
    assert os.getpid() not in processes
    assert store.read("b", [0.0])[0, 0] == 100  # the parent's handles survive its workers


def test_open_files_are_bounded(tmp_path):
    for number in range(20):
        write_features(tmp_path / f"{number}.safetensors", numbered_rows(4, first=10 * number), frame_rate=1)
    store = SafetensorsFeatureStore(tmp_path, max_open=3)
    before = open_maps(tmp_path)
    for number in [*range(20), *range(20)]:
        assert store.read(str(number), [1.0])[0, 0] == 10 * number + 1
        assert open_maps(tmp_path) - before <= 3
    assert open_maps(tmp_path) - before == 3


def open_maps(folder) -> int:
    if not os.path.exists("/proc/self/maps"):
        pytest.skip("needs /proc")
    with open("/proc/self/maps") as lines:
        return sum(str(folder) in line for line in lines)


def test_npz_arrays_are_read_once(tmp_path, monkeypatch):
    np.savez(tmp_path / "features.npz", a=numbered_rows(4))
    store = NpzFeatureStore(tmp_path / "features.npz", frame_rate=2.0, start_s=1.0)
    assert store.read("a", [1.5])[0, 0] == 1
    monkeypatch.delattr(np, "load")
    assert store.read("a", [2.0])[0, 0] == 2


def test_two_stores_may_read_one_lmdb(tmp_path):
    write_lmdb(tmp_path, frame_names("a", numbered_rows(4)))
    for store in (RulstmFeatureStore(tmp_path), RulstmFeatureStore(tmp_path)):
        assert store.read("a", [1 / 30])[0, 0] == 1


def test_names_that_begin_alike_are_different_videos(tmp_path):
    names = frame_names("P01_1", numbered_rows(3)) | frame_names("P01_11", numbered_rows(5, first=50))
    store = RulstmFeatureStore(write_lmdb(tmp_path, names))
    assert store.read("P01_1", [2 / 30])[0, 0] == 2
    assert store.read("P01_11", [4 / 30])[0, 0] == 54
    assert store.video_ids() == ["P01_1", "P01_11"]
    with pytest.raises(ValueError, match=r"no features of video 'P01', requested at 0\.500 s"):
        store.read("P01", [0.5])


def test_search_back_takes_the_nearest_of_nine_rows_before_then_zeros(tmp_path):
    names = frame_names("a", numbered_rows(40, first=1))
    kept = {name: row for name, row in names.items() if not 11 <= row[0] <= 25}  # frames 11..25 are not stored
    path = write_lmdb(tmp_path, kept)
    store = RulstmFeatureStore(path, missing="search_back")
    numbers = np.array([10, 11, 19, 20, 25, 26])
    features = store.read("a", (numbers - 1) / 30)[:, 0]
    np.testing.assert_array_equal(features, [10, 10, 10, 0, 0, 26])
    assert (store.num_searched_back, store.num_zeros) == (2, 2)
    with pytest.raises(ValueError, match=r"no feature of video 'a' at 0\.333 s .* ends at 1\.333 s"):
        RulstmFeatureStore(path).read("a", [0.0, 10 / 30])


def test_search_back_beyond_the_ends_of_a_file(folder):
    store = SafetensorsFeatureStore(folder, missing="search_back")
    features = store.read("a", [4.9, 15.4, 19.4, 19.5])  # rows -1, 20, 28 and 29 of 0..19
    np.testing.assert_array_equal(features[:, 0], [0, 19, 19, 0])
    assert (store.num_searched_back, store.num_zeros) == (2, 2)
    with pytest.raises(ValueError, match="no features of video 'c'"):
        store.read("c", [0.0])


@pytest.mark.parametrize("time_s", [-0.01, 2.001])
def test_times_outside_a_video_are_refused_by_name(store, time_s):
    with pytest.raises(ValueError, match=rf"video 'a' at {time_s:.3f} s \(it begins at 0\.000 s and ends at 2\.000 s"):
        store.read("a", [0.0, time_s])


def test_unknown_videos_are_refused_by_name(store):
    with pytest.raises(ValueError, match=r"no features of video 'c', requested at 1\.500 s"):
        store.read("c", [1.5])


CAFE = ("caf\u00e9", "cafe\u0301")  # NFC, and NFD as macOS writes it


@pytest.mark.parametrize("kind", ["safetensors", "npz", "npy", "lmdb"])
@pytest.mark.parametrize(("asked", "stored"), [CAFE, CAFE[::-1]], ids=["nfc", "nfd"])
def test_a_video_stored_in_another_spelling_is_distinguished_from_a_missing_one(kind, asked, stored, tmp_path):
    rows, place, options = numbered_rows(4), tmp_path / "store", {"frame_rate": 1}
    place.mkdir()
    if kind == "safetensors":
        write_features(place / f"{stored}.safetensors", rows, frame_rate=1)
        options = {}
    elif kind == "npz":
        place = tmp_path / "store.npz"
        np.savez(place, **{stored: rows})
    elif kind == "npy":
        np.save(place / f"{stored}.npy", rows.T)
    else:
        write_lmdb(place, frame_names(stored, rows))
        options = {}
    store = open_feature_store(place, **options)
    np.testing.assert_array_equal(store.read(stored, [0.0]), rows[:1])
    with pytest.raises(ValueError, match=rf"no features of video '{asked}', .*, but those of one .* \(NFC and NFD, .*"):
        store.read(asked, [0.0])
    with pytest.raises(ValueError, match=r"no features of video 'cafe', requested at 0\.000 s: extract them"):
        store.read("cafe", [0.0])


@pytest.mark.parametrize("times", [[], [float("nan")], [[0.0]], 1.0])
def test_times_must_be_a_list_of_seconds(folder, times):
    with pytest.raises(ValueError, match="for video 'a': give a list of seconds"):
        SafetensorsFeatureStore(folder).read("a", times)


def test_features_that_are_not_finite_are_refused_where_they_are_read(tmp_path):
    rows = numbered_rows(10)
    rows[4, 1] = np.nan
    np.savez(tmp_path / "features.npz", a=rows)
    store = NpzFeatureStore(tmp_path / "features.npz", frame_rate=1.0)
    assert store.read("a", [3.0, 5.0]).shape == (2, 3)
    with pytest.raises(ValueError, match=r"video 'a' at 4\.500 s .* is not finite"):
        store.read("a", [3.0, 4.5])
    with pytest.raises(ValueError, match="finite numbers"):
        write_features(tmp_path / "a.safetensors", rows, frame_rate=1)
    assert not (tmp_path / "a.safetensors").exists()


def test_features_of_another_width_are_refused(folder):
    write_features(folder / "c.safetensors", numbered_rows(4, width=5), frame_rate=1)
    with pytest.raises(ValueError, match=r"video 'c' at 1\.000 s has the shape \(5,\).* of width 3"):
        SafetensorsFeatureStore(folder).read("c", [1.0])


def test_files_that_are_not_ours_are_refused(tmp_path):
    def refused(video_id: str, message: str):
        with pytest.raises(ValueError, match=message):
            SafetensorsFeatureStore(tmp_path).read(video_id, [0.0])
        assert not is_complete(tmp_path / f"{video_id}.safetensors")

    write_features(tmp_path / "whole.safetensors", numbered_rows(100), frame_rate=1)
    assert is_complete(tmp_path / "whole.safetensors")
    content = (tmp_path / "whole.safetensors").read_bytes()
    (tmp_path / "cut.safetensors").write_bytes(content[:-4])
    refused("cut", "not a complete file")
    (tmp_path / "empty.safetensors").write_bytes(b"")
    refused("empty", "not a complete file")
    save_file({"other": numbered_rows(4)}, tmp_path / "other.safetensors")
    refused("other", "tensor 'features'")
    save_file({"features": numbered_rows(4)}, tmp_path / "bare.safetensors")
    refused("bare", "frame_rate and start_s must be numbers")
    still = {"frame_rate": "0", "start_s": "0"}
    save_file({"features": numbered_rows(4)}, tmp_path / "still.safetensors", metadata=still)
    refused("still", "frame_rate and start_s must be numbers")
    save_file({"features": np.arange(4)}, tmp_path / "flat.safetensors", metadata={**still, "frame_rate": "1"})
    refused("flat", r"is I64 of shape \(4,\)")


def test_archives_that_are_not_ours_are_refused(tmp_path):
    def refused(path, message: str):
        with pytest.raises(ValueError, match=message):
            NpzFeatureStore(path, frame_rate=1.0).read("a", [0.0])

    (tmp_path / "text.npz").write_text("no archive")
    refused(tmp_path / "text.npz", "Cannot read .*text.npz")
    np.savez(tmp_path / "objects.npz", a=np.array([{}], dtype=object))
    refused(tmp_path / "objects.npz", "Cannot read .*objects.npz")
    np.savez(tmp_path / "flat.npz", a=np.arange(4.0))
    refused(tmp_path / "flat.npz", r"float64 of shape \(4,\)")
    np.savez(tmp_path / "none.npz")
    refused(tmp_path / "none.npz", "no features of video 'a'")


def test_lmdb_values_that_are_no_features_are_refused(tmp_path):
    path = write_lmdb(tmp_path, {"a_frame_0000000001.jpg": np.arange(3.0)})
    lmdb = pytest.importorskip("lmdb")
    with lmdb.open(str(path)) as environment, environment.begin(write=True) as transaction:
        transaction.put(b"a_frame_0000000002.jpg", b"12345")
    with pytest.raises(ValueError, match="a value of 5 bytes"):
        RulstmFeatureStore(path).read("a", [1 / 30])


def test_lmdb_is_asked_for_where_it_is_needed(tmp_path, monkeypatch):
    (tmp_path / "data.mdb").write_bytes(b"")
    monkeypatch.setitem(sys.modules, "lmdb", None)
    with pytest.raises(ImportError, match=r"pip install 'avt-distill\[rulstm\]'"):
        open_feature_store(tmp_path)


def test_damaged_lmdb_folders_are_refused(tmp_path):
    pytest.importorskip("lmdb")
    (tmp_path / "data.mdb").write_bytes(b"x" * 5000)
    with pytest.raises(ValueError, match="as an LMDB folder"):
        open_feature_store(tmp_path).read("a", [0.0])


def test_paths_that_hold_no_store_are_refused(folder, tmp_path):
    with pytest.raises(ValueError, match="is not a feature store"):
        open_feature_store(tmp_path / "missing")
    (tmp_path / "file.txt").write_text("")
    with pytest.raises(ValueError, match="is not a feature store"):
        open_feature_store(tmp_path / "file.txt")
    with pytest.raises(ValueError, match="does not exist"):
        SafetensorsFeatureStore(tmp_path / "missing")
    with pytest.raises(ValueError, match=r"holds no \.safetensors files"):
        _ = SafetensorsFeatureStore((tmp_path / "empty_folder").mkdir() or tmp_path / "empty_folder").feature_dim


def test_options_that_do_not_fit_are_refused(folder):
    for options, message in (
        ({"missing": "zeros"}, "missing is 'zeros'"),
        ({"max_open": 0}, "max_open is 0"),
        ({"frame_rate": 30.0}, "frame_rate is 30.0, but only .npz"),
        ({"start_s": 1.0}, "start_s is 1.0, but only .npz"),
    ):
        with pytest.raises(ValueError, match=message):
            open_feature_store(folder, **options)
    np.savez(folder / "features.npz", a=numbered_rows(4))
    with pytest.raises(ValueError, match="frame_rate is None"):
        open_feature_store(folder / "features.npz")
    with pytest.raises(ValueError, match="frame_rate is -1"):
        open_feature_store(folder / "features.npz", frame_rate=-1)


def test_a_write_that_fails_leaves_the_earlier_file_and_nothing_else(folder, monkeypatch):
    def fail_halfway(path, content):
        path.open("wb").write(content[: len(content) // 2])
        raise OSError("no space left on device")

    before = sorted(folder.iterdir())
    monkeypatch.setattr("pathlib.Path.write_bytes", fail_halfway)
    with pytest.raises(OSError, match="no space left"):
        write_features(folder / "a.safetensors", numbered_rows(4), frame_rate=1)
    assert sorted(folder.iterdir()) == before
    assert SafetensorsFeatureStore(folder).read("a", [14.5])[0, 0] == 19


def test_the_same_features_are_the_same_file(tmp_path):
    """Runs identify their features by file content, and safetensors writes metadata in random order."""
    for number in range(12):
        write_features(tmp_path / f"{number}.safetensors", numbered_rows(3), frame_rate=2, start_s=1.5)
    first, *others = [path.read_bytes() for path in tmp_path.iterdir()]
    assert all(content == first for content in others)
    assert safe_open(tmp_path / "0.safetensors", "numpy").metadata() == {"frame_rate": "2.0", "start_s": "1.5"}


def test_files_are_as_readable_as_any_other(folder):
    (folder / "plain").touch()
    assert (folder / "a.safetensors").stat().st_mode == (folder / "plain").stat().st_mode


def test_only_feature_files_are_written(tmp_path):
    for rows, message in ((np.zeros((0, 3)), "give finite numbers"), (np.zeros(3), "give finite numbers")):
        with pytest.raises(ValueError, match=message):
            write_features(tmp_path / "a.safetensors", rows, frame_rate=1)
    with pytest.raises(ValueError, match=r"give <video_id>\.safetensors"):
        write_features(tmp_path / "a.npz", numbered_rows(3), frame_rate=1)
    with pytest.raises(ValueError, match="frame_rate is 0"):
        write_features(tmp_path / "a.safetensors", numbered_rows(3), frame_rate=0)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("where", ["", "features"])
def test_folders_of_ms_tcn_are_read_by_columns(tmp_path, where):
    folder = tmp_path / where
    folder.mkdir(exist_ok=True)
    arrays = {name: np.random.default_rng(n).standard_normal((3, n), np.float32) for name, n in (("a", 5), ("b", 7))}
    for name, array in arrays.items():
        np.save(folder / f"{name}.npy", array)
    with pytest.raises(ValueError, match="frame_rate is None"):
        open_feature_store(tmp_path)
    store = open_feature_store(tmp_path, frame_rate=15.0)
    assert (store.video_ids(), store.feature_dim) == (["a", "b"], 3)
    np.testing.assert_array_equal(store.read("b", [0.0, 0.2, 7 / 15]), arrays["b"].T[[0, 3, 6]])
    np.testing.assert_array_equal(store.read_all("a")[0], arrays["a"].T)
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(store)).read("a", [0.1]), arrays["a"].T[[1]])
    with pytest.raises(ValueError, match=r"holds no feature of video 'a' at 1\.000 s"):
        store.read("a", [1.0])
    with pytest.raises(ValueError, match="holds no features of video 'c'"):
        store.read("c", [0.0])


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ([np.ones((5, 3)), np.ones((7, 3))], "features in rows: *transpose them"),
        ([np.ones(3)], r"a\.npy is float64 of shape \(3,\)"),
        ([np.ones((2, 3), int)], r"a\.npy is int64"),
        ([np.array([{}], object)], r"Cannot read .*a\.npy as an \.npy file of a plain array"),
    ],
)
def test_npy_files_of_another_form_are_refused(tmp_path, arrays, message):
    for name, array in zip("ab", arrays, strict=False):
        np.save(tmp_path / f"{name}.npy", array, allow_pickle=True)
    with pytest.raises(ValueError, match=message):
        open_feature_store(tmp_path, frame_rate=15.0)


def test_an_npy_file_that_was_cut_off_is_named(tmp_path):
    np.save(tmp_path / "a.npy", np.ones((3, 500)))
    (tmp_path / "a.npy").write_bytes((tmp_path / "a.npy").read_bytes()[:600])
    with pytest.raises(ValueError, match=r"Cannot read .*a\.npy"):
        open_feature_store(tmp_path, frame_rate=15.0)


@pytest.mark.parametrize("share", [0.02, 0.3, 0.6, 0.99])
def test_half_a_download_of_lmdb_is_refused_and_kills_nothing(share, tmp_path):
    names = frame_names("a", np.random.default_rng(0).normal(size=(400, 64)).astype(np.float32))
    path = write_lmdb(tmp_path / "lmdb", names)
    content = (path / "data.mdb").read_bytes()
    (path / "data.mdb").write_bytes(content[: int(share * len(content))])
    with pytest.raises(ValueError, match=r"Fetch it again\."):
        RulstmFeatureStore(path).video_ids()


@pytest.mark.parametrize("key", ["P01_01", "_frame_0000000001.jpg", "a_frame_x.jpg", "a_0000000001.jpg", "__len__"])
def test_keys_of_another_form_end_with_an_error(key, tmp_path):
    frames = {key: np.ones(4), "zz_frame_0000000001.jpg": np.ones(4)}
    store = RulstmFeatureStore(write_lmdb(tmp_path, frames))
    with pytest.raises(ValueError, match=r"RULSTM's are <video>_frame_<number>\.jpg"):
        store.video_ids()


@pytest.mark.parametrize("kind", ["random", "from float32", "halves"])
def test_float64_is_not_read_as_float32(kind, tmp_path):
    lmdb = pytest.importorskip("lmdb")
    rows = np.random.default_rng(0).normal(size=(20, 32))
    rows = {"random": rows, "from float32": rows.astype(np.float32), "halves": np.round(2 * rows) / 2 + 0.5}[kind]
    with lmdb.open(str(tmp_path), map_size=2**22) as environment, environment.begin(write=True) as transaction:
        for number, row in enumerate(rows, start=1):
            transaction.put(f"a_frame_{number:010d}.jpg".encode(), row.astype(np.float64).tobytes())
    for use in (lambda store: store.feature_dim, lambda store: store.read("a", [0.0])):
        with pytest.raises(ValueError, match="holds float64 values"):
            use(RulstmFeatureStore(tmp_path))


@pytest.mark.parametrize("rows", [np.eye(64)[:, ::-1], np.zeros((64, 8)), np.arange(64.0).reshape(16, 4)])
def test_sparse_and_small_float32_is_not_taken_for_float64(rows, tmp_path):
    store = RulstmFeatureStore(write_lmdb(tmp_path, frame_names("a", rows.astype(np.float32))))
    np.testing.assert_array_equal(store.read("a", [0.0])[0], rows[0])

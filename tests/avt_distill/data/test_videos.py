"""Finding videos in folders, lists and by name."""

import pytest

from avt_distill.data.videos import find_videos


def test_videos_are_found_in_folders_lists_and_by_name(tmp_path):
    for name in ("P01/a.mp4", "P02/b.MKV", "P02/notes.md", "c.webm"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    assert list(find_videos([tmp_path])) == ["a", "b", "c"]
    (tmp_path / "list.txt").write_text("P02/b.MKV\n\nP01/a.mp4\n")
    assert find_videos([tmp_path / "list.txt"]) == {"a": tmp_path / "P01/a.mp4", "b": tmp_path / "P02/b.MKV"}
    assert find_videos([tmp_path / "c.webm", tmp_path / "c.webm"]) == {"c": tmp_path / "c.webm"}


def test_cameras_and_disks_of_all_kinds_are_searched(tmp_path):
    for suffix in ("ts", "m2ts", "mts", "3gp", "wmv", "flv", "gif", "vob", "MPG", "asf"):
        (tmp_path / f"{suffix}.{suffix}").touch()
        (tmp_path / f"._{suffix}.{suffix}").touch()  # where macOS stores attributes
    assert len(find_videos([tmp_path])) == 10


def test_sources_that_give_no_clear_list_of_videos_are_refused(tmp_path):
    for name in ("one/a.mp4", "two/a.mp4"):
        (tmp_path / name).parent.mkdir()
        (tmp_path / name).touch()
    with pytest.raises(ValueError, match="have the same video id"):
        find_videos([tmp_path])
    with pytest.raises(ValueError, match=r"video .*missing\.mp4 does not exist"):
        find_videos([tmp_path / "missing.mp4"])
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match="no video in"):
        find_videos([tmp_path / "empty"])

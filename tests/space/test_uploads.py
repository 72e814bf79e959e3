"""Uploads of visitors are limited and deleted."""

import importlib.util
from pathlib import Path

import pytest
from helpers.places import PROJECT

from avt_distill.sharing.cards import space_card

spec = importlib.util.spec_from_file_location("uploads", PROJECT / "space" / "uploads.py")
uploads = importlib.util.module_from_spec(spec)
spec.loader.exec_module(uploads)


def uploaded(folder: Path, name: str = "mine.mp4") -> Path:
    """Writes a file where gradio stores it: in a folder named by a hash of its content."""
    path = folder / "0123" / name
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(b"a video")
    return path


def test_long_and_short_videos_are_refused():
    uploads.check_length(600.0, shortest_s=1.0)
    uploads.check_length(1.0, shortest_s=1.0)
    with pytest.raises(ValueError, match=r"lasts 601 s: upload one of 600 s at most"):
        uploads.check_length(601.0, shortest_s=1.0)
    with pytest.raises(ValueError, match=r"lasts 0.5 s: upload one of 1 s at least"):
        uploads.check_length(0.5, shortest_s=1.0)


def test_an_upload_is_deleted_when_its_visitor_replaces_it_or_leaves(tmp_path):
    visitors = uploads.Uploads(tmp_path)
    first, second = uploaded(tmp_path, "first.mp4"), uploaded(tmp_path, "second.mp4")
    visitors.hold("ann", str(first))
    visitors.hold("ann", str(first))
    assert first.exists()
    visitors.hold("ann", str(second))
    assert (first.exists(), second.exists()) == (False, True)
    visitors.hold("ann", None)
    assert not second.exists()
    visitors.hold("ann", None)


def test_an_upload_that_visitors_share_is_deleted_with_the_last_of_them(tmp_path):
    visitors, shared = uploads.Uploads(tmp_path), uploaded(tmp_path)
    for visitor in ("ann", "bob", "eve"):
        visitors.hold(visitor, str(shared))
    visitors.hold("ann", str(uploaded(tmp_path, "other.mp4")))
    visitors.refuse("bob", str(shared))
    assert shared.exists()
    visitors.hold("eve", None)
    assert not shared.exists()


def test_a_refused_upload_is_deleted_and_the_one_that_replaced_it_is_not(tmp_path):
    visitors = uploads.Uploads(tmp_path)
    refused, next_one = uploaded(tmp_path, "refused.mp4"), uploaded(tmp_path, "next.mp4")
    visitors.hold("ann", str(refused))
    visitors.refuse("ann", str(refused))
    assert not refused.exists()
    visitors.hold("ann", str(next_one))  # while the first one was being processed
    visitors.refuse("ann", str(refused))
    assert next_one.exists()
    visitors.hold("ann", None)
    assert not next_one.exists()


def test_what_is_old_is_deleted_with_its_folder(tmp_path):
    visitors, path, interrupted = uploads.Uploads(tmp_path), uploaded(tmp_path), tmp_path / "tmp1234"
    visitors.hold("ann", str(path))
    interrupted.write_bytes(b"half a video")
    visitors.delete_old(older_than_s=3600)
    assert (path.exists(), interrupted.exists()) == (True, True)
    visitors.delete_old(older_than_s=-1)
    assert list(tmp_path.iterdir()) == []
    again = uploaded(tmp_path)
    visitors.hold("bob", str(again))
    visitors.hold("bob", None)
    assert not again.exists()  # no longer held by the visitor whose file was deleted


def test_the_card_says_how_long_videos_are_kept():
    text = " ".join(str(space_card("user/page", "user/model")).split())
    assert "not kept" not in text
    limits = f"up to {uploads.LARGEST_MB} MB and {uploads.LONGEST_S / 60:g} minutes"
    assert limits in text
    assert f"after {uploads.DELETED_AFTER_S // 60} minutes" in text

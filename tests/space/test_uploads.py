"""What visitors upload is limited and deleted."""

import importlib.util

import pytest
from helpers.places import PROJECT

from avt_distill.sharing.cards import space_card

spec = importlib.util.spec_from_file_location("uploads", PROJECT / "space" / "uploads.py")
uploads = importlib.util.module_from_spec(spec)
spec.loader.exec_module(uploads)


def test_long_videos_are_refused():
    uploads.check_length(600.0)
    with pytest.raises(ValueError, match=r"lasts 601 s: upload one of 600 s at most"):
        uploads.check_length(601.0)


def test_uploads_are_deleted_with_their_folder(tmp_path):
    path = tmp_path / "upload" / "mine.mp4"
    path.parent.mkdir()
    path.write_bytes(b"a video")
    uploads.forget(str(path))
    assert not path.parent.exists()
    uploads.forget(str(path))
    uploads.forget(None)


def test_the_card_says_how_long_videos_are_kept():
    text = " ".join(str(space_card("user/page", "user/model")).split())
    assert "not kept" not in text
    limits = f"up to {uploads.LARGEST_MB} MB and {uploads.LONGEST_S / 60:g} minutes"
    assert limits in text
    assert f"after {uploads.DELETED_AFTER_S // 60} minutes" in text

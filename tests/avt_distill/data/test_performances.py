"""Which videos belong to one performance."""

import pytest

from avt_distill.data.performances import check_unseen, performance_of


@pytest.mark.parametrize(
    ("video_id", "performance"),
    [
        ("P03_cam01_P03_cereals", "P03_cereals"),
        ("P03_webcam02_P03_cereals", "P03_cereals"),
        ("P03_stereo01_P03_cereals", "P03_cereals"),
        ("P04_cam01_P04_cereals", "P04_cereals"),
        ("P03_cam01_P03_milk", "P03_milk"),
        ("P03_cam01_P04_milk", "P03_cam01_P04_milk"),
        ("P01_01", "P01_01"),  # EPIC-Kitchens
        ("rgb-01-1", "rgb-01-1"),
    ],
)
def test_cameras_share_the_name_of_their_performance(video_id, performance):
    assert performance_of(video_id) == performance


def test_videos_that_a_model_learned_from_are_not_measured_on():
    check_unseen("teacher", ["a", "b"], ["c", "d"])
    check_unseen("teacher", [], ["c"])
    check_unseen("teacher", ["a", "c"], ["c", "d"], training=["c"])
    with pytest.raises(ValueError, match="teacher learned from 'c' and 1 more of the 3 videos to measure on"):
        check_unseen("teacher", ["a", "d", "c"], ["c", "d", "d", "e"], training=["a"])
    other_camera = "P03_webcam02_P03_cereals"
    with pytest.raises(ValueError, match=f"teacher learned from '{other_camera}' and 0 more of the 1 videos"):
        check_unseen("teacher", [other_camera], ["P03_cam01_P03_cereals"])

"""Which videos belong to one performance."""

import pytest

from avt_distill.data.performances import performance_of


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

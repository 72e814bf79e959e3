"""The style of all pictures: colors that color-blind readers can distinguish, and titles and sizes that fit."""

import itertools
import subprocess
import sys

import numpy as np
import pytest
from helpers.places import PROJECT

from avt_distill.pictures.style import COLORS, HIT, MISS, OTHER, picture, shortened
from space import timeline as page

# Linear RGB as perceived with protanopia and deuteranopia: Machado, Oliveira and Fernandes (2009), severity 1.
PROTANOPIA = [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]]
DEUTERANOPIA = [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]]
# Linear RGB to OKLab: Ottosson (2020).
TO_CONES = [
    [0.41222147, 0.53633254, 0.05144599],
    [0.21190350, 0.68069955, 0.10739696],
    [0.08830246, 0.28171884, 0.62997870],
]
TO_LAB = [
    [0.21045426, 0.79361779, -0.00407205],
    [1.97799850, -2.42859221, 0.45059371],
    [0.02590404, 0.78277177, -0.80867577],
]


def linear(color: str) -> np.ndarray:
    rgb = np.array([int(color[place : place + 2], 16) for place in (1, 3, 5)]) / 255
    return np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)


@pytest.mark.parametrize("vision", [np.eye(3), PROTANOPIA, DEUTERANOPIA], ids=["all", "protanopia", "deuteranopia"])
def test_colors_can_be_told_apart(vision):
    colors = (*COLORS, OTHER)
    lab = [TO_LAB @ np.cbrt(TO_CONES @ np.clip(vision @ linear(color), 0, 1)) for color in colors]
    distances = [np.linalg.norm(one - other) for one, other in itertools.combinations(lab, 2)]
    assert len(distances) == 19 * 18 / 2
    assert min(distances) > 0.058
    hit, miss = (TO_LAB @ np.cbrt(TO_CONES @ np.clip(vision @ linear(color), 0, 1)) for color in (HIT, MISS))
    assert np.linalg.norm(hit - miss) > 0.1


@pytest.mark.parametrize("color", [HIT, MISS])
def test_colors_of_text_are_readable_on_white(color):
    luminance = linear(color) @ [0.2126, 0.7152, 0.0722]
    assert 1.05 / (luminance + 0.05) > 4.5  # as WCAG 2 requires


def test_the_page_has_the_same_colors():
    assert (*page.COLOURS, page.OTHER) == (*COLORS[: len(page.COLOURS)], OTHER)


def test_a_picture_is_cropped_and_its_title_wrapped(tmp_path):
    pytest.importorskip("matplotlib")
    from matplotlib.image import imread

    shapes = []
    for title in ("short", "a $long$ title " * 10):
        with picture(tmp_path / "out.png", 3.0, 3.0, title) as figure:
            figure.subplots()
        shapes.append(imread(tmp_path / "out.png").shape)
    (height, width, _), (height_of_long, width_of_long, _) = shapes
    assert abs(width - width_of_long) < 5
    assert abs(height - height_of_long) < 5
    assert width < 3.3 * 130 + 1


def test_a_picture_that_is_too_high_is_drawn_at_a_lower_resolution(tmp_path):
    pytest.importorskip("matplotlib")
    from matplotlib.image import imread

    with picture(tmp_path / "out.png", 0.5, 1000.0, "") as figure:
        figure.subplots()
    assert 60_000 < imread(tmp_path / "out.png").shape[0] < 65_000


def test_shortened():
    assert shortened("cut onion", 9) == "cut onion"
    assert shortened("cut onions", 9) == "cut onio\N{HORIZONTAL ELLIPSIS}"


@pytest.mark.slow
def test_pictures_can_be_imported_without_matplotlib():
    modules = sorted(path.stem for path in (PROJECT / "avt_distill" / "pictures").glob("[!_]*.py"))
    imports = "".join(f"\nimport avt_distill.pictures.{module}" for module in modules)
    code = f"import sys; sys.modules['matplotlib'] = None{imports}"
    subprocess.run([sys.executable, "-c", code], check=True, cwd=PROJECT)

"""The picture of a teacher's predictions; the command that draws it is tested in test_inspect_teacher.py."""

import numpy as np
import pandas as pd
import pytest

from avt_distill.data.labels import LabelSpace
from avt_distill.pictures.style import COLORS, HIT, OTHER
from avt_distill.pictures.teacher_table import colors_of, draw_teacher_table, name_of

NAMES = tuple(f"take the very large cutting board from cupboard {number}" for number in range(20))


def rows_of(actions: list[int], num_best: int = 5) -> pd.DataFrame:
    start_s = 4.0 * np.arange(len(actions))
    rows = pd.DataFrame({"start_s": start_s, "end_s": start_s + 3, "action": actions, "rank": 7})
    rows["best"] = [np.arange(num_best)] * len(rows)
    rows["probabilities"] = [np.linspace(0.9, 0.1, num_best)] * len(rows)
    return rows


@pytest.mark.slow
def test_the_picture_grows_with_the_rows_alone(tmp_path):
    pytest.importorskip("matplotlib")
    from matplotlib.colors import to_rgb
    from matplotlib.image import imread

    heights, tops = [], []
    for num_rows in (1, 101):
        rows = rows_of([0, -100] * 51)[:num_rows]
        draw_teacher_table(rows, rows[:0], LabelSpace(NAMES), ["$1", "teacher"], tmp_path / "out.png")
        picture = imread(tmp_path / "out.png")[:, :, :3]
        heights.append(len(picture))
        tops.append(np.flatnonzero((np.abs(picture - to_rgb(HIT)) < 0.02).all(-1).any(1)).min())
    assert heights[1] - heights[0] == pytest.approx(100 * 0.24 * 130, abs=15)
    assert tops[0] == pytest.approx(tops[1], abs=15)


def test_fewer_actions_than_the_best_are_drawn(tmp_path):
    pytest.importorskip("matplotlib")
    rows = rows_of([0, 1], num_best=2)
    draw_teacher_table(rows, rows, LabelSpace(NAMES[:2]), ["", ""], tmp_path / "out.png")
    assert (tmp_path / "out.png").stat().st_size > 1_000


def test_names_that_begin_alike_are_all_in_the_key():
    colors, key = colors_of([0, 1, 1], LabelSpace(NAMES))
    assert colors == {1: COLORS[0], 0: COLORS[1]}
    assert [color for _, color in key] == list(COLORS[:2])


def test_rare_and_unlabelled_actions_are_others():
    colors, key = colors_of([*range(20), *range(18), -100], LabelSpace(NAMES))
    assert {colors[action] for action in (18, 19, -100)} == {OTHER}
    assert len(set(colors.values())) == 19
    assert key[-1] == ("other", OTHER)


def test_colors_are_of_verbs_where_there_are_verbs():
    actions = ("cut egg", "cut oil", "mix egg")
    space = LabelSpace(actions, ("cut", "mix"), ("egg", "oil"), ((0, 0), (0, 1), (1, 0)))
    assert colors_of([0, 1, 2], space)[1] == [("cut", COLORS[0]), ("mix", COLORS[1])]


def test_name_of():
    assert [name_of(action, LabelSpace(("cut",))) for action in (0, -100)] == ["cut", "?"]

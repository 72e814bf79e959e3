"""The demo: real video files, the same for the same seed, in which the past beyond the window matters."""

import json
from collections import Counter, defaultdict

import numpy as np
import pytest

from avt_distill.data import load_anticipation_dataset
from avt_distill.data.benchmarks.demo import DISHES, NOUN_COLOURS, SENTENCES, VERBS, generate_demo
from avt_distill.data.segments import AnnotationError
from modeling_avt.video_io_avt import probe, read_frames


@pytest.fixture(scope="module")
def demo(tmp_path_factory):
    folder = tmp_path_factory.mktemp("demo")
    generate_demo(folder / "kitchen", num_videos=20)
    splits = load_anticipation_dataset("demo", data_dir=folder / "kitchen", cache_dir=str(folder / "cache"))
    return folder / "kitchen", splits


def test_every_action_has_a_look_and_a_sentence():
    actions = {action for steps in DISHES.values() for action in steps}
    assert len(actions) == 12
    assert actions == set(SENTENCES)
    assert {action.split()[0] for action in actions} == set(VERBS)
    assert {action.split()[1] for action in actions} == set(NOUN_COLOURS)


def test_videos_are_real_and_as_long_as_their_annotations(demo):
    _, splits = demo
    for row in splits["test"].select(range(5)):
        info = probe(row["video"])
        assert (info.fps, info.height, info.width) == (10.0, 72, 96)
        assert info.duration_s >= row["end_s"]


def test_frames_show_the_noun_of_the_running_action(demo):
    _, splits = demo
    nearest = []
    for row in splits["test"].select(range(0, 60, 3)):
        times = [t for t, a in zip(row["frame_times"], row["past_actions"], strict=True) if a >= 0]
        labels = [a for a in row["past_actions"] if a >= 0]
        names = splits["test"].features["action"].names
        for frame, label in zip(read_frames(row["video"], times) if times else [], labels, strict=True):
            colour = np.median(frame[50:60, 30:66].reshape(-1, 3), axis=0)
            distance = {noun: np.abs(colour - rgb).sum() for noun, rgb in NOUN_COLOURS.items()}
            nearest.append(min(distance, key=distance.get) == names[label].split()[1])
    assert 0.5 < np.mean(nearest) < 0.95, np.mean(nearest)  # readable, but ambiguous


def test_recipes_predict_better_from_more_than_the_last_action(demo):
    """Counts over the recipes' actions predict the videos' next actions better with a longer context."""
    folder, splits = demo
    names = splits["test"].features["action"].names
    recipes = [json.loads(line) for line in (folder / "recipes.jsonl").read_text().splitlines()]
    counts = defaultdict(Counter)
    for recipe in recipes:
        steps = [action for dish in recipe["title"].split(", then ") for action in DISHES[dish]]
        for position, action in enumerate(steps):
            for length in range(5):
                counts[tuple(steps[max(position - length, 0) : position])][action] += 1

    def accuracy(order: int) -> float:
        hits = []
        for row in splits["test"]:
            context = tuple(names[action] for action in row["history"][-order:])
            while context not in counts:
                context = context[1:]
            hits.append(counts[context].most_common(1)[0][0] == names[row["action"]])
        return np.mean(hits)

    assert accuracy(4) > accuracy(1) + 0.15


def test_recipes_follow_the_same_dishes(demo):
    folder, _ = demo
    recipes = [json.loads(line) for line in (folder / "recipes.jsonl").read_text().splitlines()]
    assert len(recipes) == 400
    first = recipes[0]
    steps = [action for dish in first["title"].split(", then ") for action in DISHES[dish]]
    assert [s in SENTENCES[a] for s, a in zip(first["instructions"], steps, strict=True)] == [True] * len(steps)


def test_splits_do_not_share_videos(demo):
    _, splits = demo
    videos = [set(rows["video_id"]) for rows in splits.values()]
    assert set(splits) == {"train", "validation", "test"}
    assert sum(map(len, videos)) == len(set.union(*videos)) == 20
    assert {name: len(set(rows["video_id"])) for name, rows in splits.items()} == {
        "train": 4,
        "validation": 6,
        "test": 10,
    }


def test_the_same_seed_gives_the_same_files(tmp_path):
    for name, seed in (("a", 3), ("b", 3), ("c", 4)):
        generate_demo(tmp_path / name, num_videos=1, num_recipes=5, seed=seed)

    def content(name):
        files = sorted(path for path in (tmp_path / name).rglob("*") if path.is_file())
        return [(path.name, path.read_bytes()) for path in files]

    assert content("a") == content("b")
    assert content("a") != content("c")


def test_the_demo_does_not_replace_the_recipes_of_a_folder(tmp_path):
    recipes = tmp_path / "recipes.jsonl"
    recipes.write_text('{"id": "mine", "instructions": ["Cut the onion."]}\n', encoding="utf-8")
    with pytest.raises(AnnotationError, match=r"recipes\.jsonl holds other recipes than the demo's"):
        load_anticipation_dataset("demo", data_dir=tmp_path)
    assert json.loads(recipes.read_text(encoding="utf-8"))["id"] == "mine"
    assert [path.name for path in tmp_path.iterdir()] == ["recipes.jsonl"]


@pytest.mark.parametrize("name", ["groundTruth/a.txt", "train_S1.txt", "videos/mine.mp4", "videos/kitchen_000.avi"])
def test_the_demo_is_not_mixed_with_the_files_of_another_data_set(tmp_path, name):
    (tmp_path / name).parent.mkdir(exist_ok=True)
    (tmp_path / name).touch()
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(AnnotationError, match="does not belong to the demo, whose videos would be mixed with it"):
        load_anticipation_dataset("demo", data_dir=tmp_path)
    assert sorted(tmp_path.rglob("*")) == before


def test_an_interrupted_demo_is_continued(tmp_path):
    for _ in range(2):
        generate_demo(tmp_path, num_videos=1, num_recipes=5)
        assert (tmp_path / "segments.csv").exists()
        (tmp_path / "segments.csv").unlink()

"""Text models are compared equally, controls change only words, and the simulated recognizer is as documented."""

import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import scipy.special

from avt_distill.data.labels import LabelSpace
from avt_distill.reader.tables import as_tables
from avt_distill.teacher.count_models import NGramModel
from avt_distill.teacher.log_linear import LogLinearModel
from avt_distill.teacher.worded import WordedLogLinear
from benchmarks import simulation
from benchmarks.simulation import CausalRecognizer, error_statistics
from benchmarks.words import __main__ as words
from benchmarks.words import data, parts, report, texts
from benchmarks.words.curves import BASELINE, SMOOTHED
from modeling_avt.transitions_avt import text_state

NOUNS = ("bowl", "egg", "knife", "pan", "tomato")


@pytest.fixture(scope="module")
def videos() -> list[np.ndarray]:
    segments = simulation.make_scripts([150] * 5, 30, simulation.action_parts(5, 10, 30), mean_s=8.0)
    return [labels for _, labels in simulation.true_frames(segments, 30, 1.0).values()]


@pytest.fixture(scope="module", params=[0.4, 0.6])
def recognized(request, videos) -> tuple[float, list[np.ndarray]]:
    recognizer = CausalRecognizer.of_accuracy(request.param, videos, 30, simulation.action_parts(5, 10, 30))
    return request.param, [recognizer.log_probs(labels, seed) for seed, labels in enumerate(videos)]


def test_a_simulated_recognizer_is_as_often_right_and_as_sure_as_stated(recognized, videos):
    accuracy, log_probs = recognized[0], np.concatenate(recognized[1])
    labels = np.concatenate(videos)
    np.testing.assert_allclose(np.exp(log_probs).sum(1), 1)
    sure, right = np.exp(log_probs.max(1)), log_probs.argmax(1) == labels
    assert right.mean() == pytest.approx(accuracy, abs=0.05)
    for low in (0.2, 0.4, 0.6):
        bin_ = (sure >= low) & (sure < low + 0.2)
        assert right[bin_].mean() == pytest.approx(sure[bin_].mean(), abs=0.08)
    losses = {}
    for temperature in (0.6, 1.0, 1.6):
        scaled = scipy.special.log_softmax(log_probs / temperature, axis=1)
        losses[temperature] = -scaled[np.arange(len(labels)), labels].mean()
    assert min(losses, key=losses.get) == 1.0


def test_a_simulated_recognizer_errs_for_a_while_late_and_by_part(recognized, videos):
    reported, action_parts = [log_probs.argmax(1) for log_probs in recognized[1]], simulation.action_parts(5, 10, 30)
    found = error_statistics(reported, videos, 1.0)
    after, correlation = found["right_after"], found["correlation"]
    assert after[0] < after[1] < after[2] < after[4]
    assert correlation[1] > 0.45
    assert 0.1 < correlation[5] < correlation[1]
    assert correlation[30] < 0.15
    assert found["previous"] > found["next"]
    reported, labels = np.concatenate(reported), np.concatenate(videos)
    wrong = (reported != labels) & (reported < 30) & (labels < 30)
    alike = (action_parts[reported[wrong]] == action_parts[labels[wrong]]).any(1).mean()
    by_chance = (action_parts[np.random.default_rng(0).permutation(labels[wrong])] == action_parts[labels[wrong]]).any(
        1
    )
    assert alike > 0.6 > by_chance.mean() + 0.1


def test_what_comes_later_changes_nothing_that_was_recognized_before(videos):
    recognizer = CausalRecognizer.of_accuracy(0.5, videos, 30, simulation.action_parts(5, 10, 30))
    other = videos[0].copy()
    other[200:] = np.random.default_rng(0).integers(0, 31, len(other) - 200)
    before, after = recognizer.log_probs(videos[0], 3), recognizer.log_probs(other, 3)
    np.testing.assert_array_equal(before[:200], after[:200])
    assert (before[200:] != after[200:]).any()


def test_an_accuracy_beyond_the_delay_is_refused(videos):
    with pytest.raises(ValueError, match="not noticed yet"):
        CausalRecognizer.of_accuracy(0.9, videos, 30)


def test_error_statistics_by_hand():
    shown = [np.array([0, 0, 0, 1, 1, 1, 2, 2])]
    reported = [np.array([0, 0, 1, 0, 1, 1, 1, 2])]
    found = error_statistics(reported, shown, 1.0)
    assert found["right"] == 5 / 8
    assert found["right_after"][0] == 1 / 3  # over the first frames of the three actions
    assert (found["previous"], found["next"]) == (2 / 3, 1 / 3)
    assert found["error_run_s"] == 1.5
    assert found["error_run_of_a_frame_s"] == 5 / 3


# Actions: pour milk, pour water, stir milk, stir water. Stirring water is never seen.
HISTORIES, ACTIONS = [[0], [0], [0], [3], [3]], [2, 2, 2, 1, 1]
VECTORS = np.array([[1.0, 0], [1.0, 0], [0, 1.0], [0, 1.0]])


def test_what_follows_an_action_is_expected_after_one_of_a_similar_name():
    plain = WordedLogLinear(4).fit(HISTORIES, ACTIONS).logits([[1]])[0]
    worded = WordedLogLinear(4, VECTORS, 2.0).fit(HISTORIES, ACTIONS).logits([[1]])[0]
    gain = worded - plain
    assert gain[2] > 0.2
    assert gain[2] > gain[1]
    assert gain[3] > gain[1]


def test_vectors_of_no_weight_change_nothing():
    plain, worded = WordedLogLinear(4, num_last=2), WordedLogLinear(4, VECTORS, 0.0, num_last=2)
    found = [model.fit(HISTORIES, ACTIONS).logits([[0, 1], [], [3]]) for model in (plain, worded)]
    np.testing.assert_allclose(*found, atol=1e-5)


def test_a_row_of_weight_two_is_two_rows():
    weights = np.array([2.0, 1, 1, 1, 1])
    once = WordedLogLinear(4, VECTORS).fit(HISTORIES, ACTIONS, weights).logits([[0], [3]])
    twice = WordedLogLinear(4, VECTORS).fit([[0], *HISTORIES], [2, *ACTIONS]).logits([[0], [3]])
    np.testing.assert_allclose(once, twice, atol=1e-3)


@pytest.mark.parametrize("action_parts", [None, np.array([[0, 2], [0, 3], [1, 2], [1, 3]])])
def test_a_reader_gets_the_words_as_plain_tables(action_parts):
    model = WordedLogLinear(4, VECTORS, 1.5, num_last=2, action_parts=action_parts).fit(HISTORIES, ACTIONS)
    tables, histories = as_tables(model), [[], [0], [1, 3], [2, 0, 1]]
    np.testing.assert_allclose(tables.log_probs(*text_state(tables, histories)), model.logits(histories), atol=1e-5)


def test_mixed_tables_are_the_mixture():
    bigram = NGramModel(2, 4).fit(HISTORIES, ACTIONS)
    unigram = NGramModel(1, 4).fit(HISTORIES, ACTIONS)
    log_linear = LogLinearModel(4, num_last=2).fit(HISTORIES, ACTIONS)
    mixture = texts.Mixture([unigram, bigram, log_linear], np.array([0.2, 0.3, 0.5]))
    tables, histories = parts.transitions_of(mixture, None, None), [[], [0], [1, 3], [2, 0, 1]]
    tables.prepare()
    np.testing.assert_allclose(tables.log_probs(*text_state(tables, histories)), mixture.logits(histories), atol=1e-5)


class Reversed:
    """A teacher that always predicts the action before the last one."""

    def logits(self, histories):
        scores = np.zeros((len(histories), 4), np.float32)
        for row, history in enumerate(histories):
            if len(history) > 1:
                scores[row, history[-2]] = 5.0
        return scores


def test_a_language_model_in_the_beam_gives_exact_probabilities():
    bigram = NGramModel(2, 4).fit(HISTORIES, ACTIONS)
    mixture = texts.Mixture([bigram, Reversed()], np.array([0.4, 0.6]))
    tables = parts.transitions_of(mixture, None, SimpleNamespace(num_actions=4), asked=True)
    histories = [[], [0], [1, 3], [2, 0, 1]]
    tables.prepare()
    np.testing.assert_allclose(tables.log_probs(*text_state(tables, histories)), mixture.logits(histories), atol=1e-5)


def test_a_mixture_is_weighted_by_predictions_of_its_members():
    log_probs = np.log(np.array([[0.9, 0.9, 0.1, 0.9], [0.1, 0.1, 0.9, 0.1], [0.05] * 4]))
    weights = texts.mixture_weights(log_probs)
    assert weights.sum() == pytest.approx(1)
    assert weights[0] > weights[1] > weights[2]
    assert np.log(weights @ np.exp(log_probs)).mean() > log_probs.mean(1).max()


def test_names_are_words():
    space = data.readable(LabelSpace(("SIL", "pour_dough2pan", "put_bunTogether", "add_saltnpepper", "stirfry_egg")))
    assert space.actions == ("SIL", "pour_dough to pan", "put_bun together", "add_salt and pepper", "stir-fry_egg")
    verb, noun = space.action_to_verb_noun[1]
    assert (space.verbs[verb], space.nouns[noun]) == ("pour", "dough")


def test_recipes_become_histories(monkeypatch, tmp_path):
    names = ("crack_egg", "whisk_egg", "pour_milk")
    recipes = [
        [["crack", "egg"], ["whisk", "egg"], ["whisk", "egg"], ["fly", "kite"], ["pour", "milk"]],
        [["fly", "kite"]],
    ]
    path = tmp_path / "recipes.jsonl"
    lines = [json.dumps({"id": str(number), "actions": actions}) for number, actions in enumerate(recipes)]
    path.write_text("\n".join(lines) + "\n")
    known = ["crack egg", "whisk egg", "pour milk", "fly kite"]
    monkeypatch.setattr(texts, "text_vectors", lambda given, *_: np.eye(4)[[known.index(text) for text in given]])
    found = texts.TextModels(_data(names), texts.LanguageModels("encoder", recipes=str(path)), tmp_path)
    histories, actions = found.recipe_rows
    assert sorted(zip(map(tuple, histories), actions.tolist(), strict=True)) == [((0,), 1), ((0, 1), 2)]


def _data(names: tuple[str, ...]) -> data.WordsData:
    class Builder:
        HEAD_NOUN_FIRST = False

    return data.WordsData("kitchen", data.Setting("default", "test", 0.6), Builder(), data.readable(LabelSpace(names)))


def test_scrambled_verbs_are_verbs():
    kitchen = _data(("crack_egg", "whisk_egg", "pour_milk", "stir_milk"))
    kitchen.setting = data.Setting("default", "test", 0.6, parts_apart=True)
    order = texts.TextModels(kitchen, texts.LanguageModels("encoder"), Path()).permutation(6)
    assert sorted(order[:4]) == [0, 1, 2, 3]
    assert sorted(order[4:]) == [4, 5]


def write_kitchen(folder: Path) -> Path:
    """Writes a made-up kitchen of 14 videos: an object is taken, cut or washed, and put back."""
    generator, lines = np.random.default_rng(0), ["video_id,start_s,end_s,action,verb,noun,split"]
    for video in range(14):
        time_s, split = 3.0, "train" if video < 10 else "test"
        for noun in generator.permutation(NOUNS):
            for verb in ("take", "cut" if noun in ("egg", "tomato") else "wash", "put"):
                lines.append(f"v{video:02d},{time_s},{time_s + 4},{verb}_{noun},{verb},{noun},{split}")
                time_s += 5
    folder.mkdir()
    (folder / "segments.csv").write_text("\n".join(lines) + "\n")
    return folder


@pytest.mark.slow
def test_one_command_makes_the_table_and_resumes(tmp_path, tiny_encoder, monkeypatch, capsys):
    monkeypatch.setattr(texts, "LEAST_STEPS", 3)
    kitchen, folder = write_kitchen(tmp_path / "kitchen"), tmp_path / "words"
    models = ["bigram", "verbs and nouns", "verbs and nouns, scrambled", "fine-tuned"]
    options = ["--dataset", str(kitchen), "--output_dir", str(folder), "--encoder", str(tiny_encoder)]
    options += ["--num_videos", "5", "0", "--draws", "1", "--tuning_epochs", "1", "--models", *models]
    words.main([*options, "--parts", "true"])
    first = (folder / "words.md").read_text()
    assert first in capsys.readouterr().out
    assert "after true histories" in first
    assert "SIMULATED" not in first
    found = json.loads((folder / "words.json").read_text())["parts"]["true"]
    assert found["10"]["counts"]["top5"] > found["10"]["bigram, alone"]["top5"] - 5
    to = found["10"]["verbs and nouns"]["to"]
    assert set(to) == {"counts", "verbs and nouns, scrambled"}
    assert to["counts"]["log_loss"]["low"] <= to["counts"]["log_loss"]["difference"] <= to["counts"]["log_loss"]["high"]
    assert (folder / "curves_true.png").stat().st_size > 1000
    cells = {path: path.stat().st_mtime_ns for path in folder.glob("true/*/*.json")}
    assert len(cells) == 2 * (len(models) + 1)
    missing = folder / "true" / "5_0" / "bigram.json"
    content = json.loads(missing.read_text())
    assert content["tables_mb"] > 0
    missing.unlink()
    monkeypatch.setattr(texts.TextModels, "chosen", None)  # chosen settings are reused as well
    words.main([*options, "--parts", "true"])
    assert (folder / "words.md").read_text() == first
    assert json.loads(missing.read_text())["measured"] == content["measured"]
    assert {path for path in cells if path.stat().st_mtime_ns != cells[path]} == {missing}
    with pytest.raises(ValueError, match=r"tuning_epochs 1\.0, not 2\.0"):
        words.main([*options, "--parts", "true", "--tuning_epochs", "2"])
    with pytest.raises(ValueError, match="accuracy"):
        words.main([*options, "--accuracy", "0.5"])


def test_cells_of_changed_annotations_are_not_reused(tmp_path):
    kitchen, folder = write_kitchen(tmp_path / "kitchen"), tmp_path / "words"
    options = ["--dataset", str(kitchen), "--output_dir", str(folder), "--models", "bigram"]
    words.main(options)
    words.main(options)
    annotations, settings = kitchen / "segments.csv", json.loads((folder / "settings.json").read_text())
    before = annotations.read_text()
    lines = before.splitlines()
    annotations.write_text("\n".join([*lines[:1], *lines[2:]]) + "\n")
    with pytest.raises(ValueError, match=r"holds a table with segments\.\w+\.uid"):
        words.main(options)
    annotations.write_text(before)
    earlier = {name: settings[name] for name in settings if name not in ("segments", "rows")}
    (folder / "settings.json").write_text(json.dumps(earlier))
    with pytest.raises(ValueError, match="written by a version that did not record segments, rows: whether they have"):
        words.main(options)


@pytest.mark.slow
def test_readers_and_students_get_input_of_a_simulated_recognizer(tmp_path, tiny_encoder, capsys):
    kitchen, folder = write_kitchen(tmp_path / "kitchen"), tmp_path / "words"
    options = ["--dataset", str(kitchen), "--output_dir", str(folder), "--encoder", str(tiny_encoder)]
    options += ["--seeds", "0", "--student_epochs", "1", "--reader_videos", "3"]
    words.main([*options, "--parts", "reader", "--models", "verbs and nouns"])
    losses = ["--losses", "1:0.5", "2:1.5:3"]
    words.main([*options, "--parts", "student", "--models", "bigram", *losses])
    chosen = json.loads((folder / "chosen" / "all_0" / "loss.json").read_text())
    assert 0 <= chosen["no teacher"] <= 1
    cell = json.loads((folder / "student" / "all_0" / "counts.json").read_text())
    best = {"temperature": 2.0, "weight": 1.5, "top_k": 3} if chosen["top5"][1] > chosen["top5"][0] else None
    assert cell["settings"]["loss"] == (best or {"temperature": 1.0, "weight": 0.5, "top_k": None})
    held_out = pd.read_csv(folder / "students" / "all_0" / "held_out" / "segments.csv")
    of_test = set(pd.read_csv(kitchen / "segments.csv").query("split == 'test'")["video_id"])
    videos = {split: set(of["video_id"]) for split, of in held_out.groupby("split")}
    assert not videos["train"] & videos["test"]
    assert not of_test & (videos["train"] | videos["test"])
    printed = capsys.readouterr().out
    assert printed.count("answers of a reader, SIMULATED recognizer") == 2
    assert printed.count("answers of students, SIMULATED recognizer") == 1
    assert "45 rows of 3 videos" in printed
    assert "60 rows of 4 videos" in printed
    found = json.loads((folder / "words.json").read_text())["parts"]
    assert set(found["reader"]["10"]) == {"counts", "verbs and nouns"}
    wanted = {"no teacher", "label smoothing", "counts", "counts, balanced"}
    assert set(found["student"]["10"]) == wanted
    assert set(found["student"]["10"]["counts"]["to"]) == {"no teacher", "label smoothing"}
    assert found["reader"]["10"]["counts"]["log_loss"] < np.log(15)
    # The recognizer's output for a frame does not depend on later frames.
    kitchen_data = data.words_data(str(kitchen), kitchen)
    features = parts.student_features(kitchen_data, "v00")
    kitchen_data.recognized["v00"][40:] = -2.0
    np.testing.assert_array_equal(parts.student_features(kitchen_data, "v00")[:40], features[:40])


def test_the_real_recognizer_is_compared_with_the_simulated_one(tmp_path, capsys):
    generator, steps = np.random.default_rng(0), {}
    for video in range(6):
        true = np.repeat(generator.integers(0, 12, 20), 600)
        wrong = generator.random(len(true)) < 0.4
        steps[f"video{video}"] = {"pred": np.where(wrong, (true + 1) % 12, true).tolist(), "gt": true.tolist()}
    (tmp_path / "recognised_steps.json").write_text(json.dumps(steps))
    words.main(["--dataset", "epic_tent", "--data_dir", str(tmp_path), "--output_dir", str(tmp_path / "noise")])
    lines = [line.split(" | ") for line in capsys.readouterr().out.splitlines()]
    right = next(line for line in lines if line[0] == "right")
    assert float(right[1]) == pytest.approx(0.6, abs=0.05)
    assert float(right[2]) == pytest.approx(float(right[1]), abs=0.05)


@pytest.mark.parametrize(
    ("name", "part", "others"),
    [
        ("vectors of recipes", "true", ["counts", "vectors, scrambled", "vectors"]),
        ("vectors of recipes, alone", "true", ["log-linear, alone", "vectors, scrambled, alone", "vectors, alone"]),
        ("fine-tuned, asked", "reader", ["counts", "fine-tuned, scrambled, asked"]),
        ("fine-tuned on recipes", "student", [BASELINE, SMOOTHED, "counts", "fine-tuned, scrambled", "fine-tuned"]),
        ("counts, balanced", "student", [BASELINE, SMOOTHED, "counts"]),
        ("bigram, alone", "true", []),
    ],
)
def test_models_are_compared_with_their_controls_and_with_themselves_before_recipes(name, part, others):
    assert report._compared(name, part) == others

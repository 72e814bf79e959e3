"""The benchmarks run, on tiny inputs, and compare like with like."""

import argparse
import itertools
import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
from helpers.readers import ACTIONS, reading_model
from helpers.tiny_models import tiny_processor, tiny_vit_config
from tiny_kitchen import write_kitchen, write_tiny_vit, write_video_kitchen
from torch.utils.flop_counter import FlopCounterMode

from avt_distill.data import anticipation_builder
from avt_distill.evaluation.scores import ScoreTable
from avt_distill.features.stores import open_feature_store
from benchmarks import (
    abstention,
    adaptation,
    data_pipeline,
    decoding,
    dense_stream,
    dinov2,
    horizons,
    imports,
    large_label_space,
    reader,
    scaling,
    simulation,
    step,
    streaming,
    streaming_accuracy,
    tau_curve,
)
from modeling_avt import AVTForAnticipation


@pytest.fixture
def output(tmp_path):
    return tmp_path / "results" / "result.json"


def test_streaming(output, capsys):
    options = ["--tiny", "--num_layers", "1", "--num_frames", "3", "--num_actions", "7", "--repeats", "2"]
    streaming.main([*options, "--height", "240", "--width", "320", "--output", str(output)])
    (window,) = json.loads(output.read_text())["windows"]
    assert window["largest_difference_of_logits"] < 1e-6
    assert window["smallest_change_between_answers"] > 1e-5
    assert set(window["times"]) == {"stream", "whole_model", "whole_model_prepared"}
    assert "1.00" in capsys.readouterr().out


def test_streaming_accuracy(tmp_path, output, capsys):
    data, run = write_video_kitchen(tmp_path / "kitchen", ("train", "test", "test")), tmp_path / "run"
    reading_model(tiny_vit_config, tau_a=0.5).save_pretrained(run / "reader_seed0")
    tiny_processor().save_pretrained(run / "reader_seed0")
    rows = anticipation_builder(str(data), tau_a=0.5).rows("test")
    labels = rows["action"].to_numpy()
    assert labels.tolist() == [0, 1, 0, 1]
    (run / "reader_seed0" / "results.json").write_text(json.dumps({"scores": {"model": "distilled + reader, bigram"}}))
    (run / "reader").mkdir()
    right, wrong = np.eye(len(ACTIONS))[labels], np.eye(len(ACTIONS))[1 - labels]
    for name, scores in (("distilled", wrong), ("distilled_+_reader_bigram", right)):
        ScoreTable(list(rows["uid"]), scores, labels).save(run / "reader" / f"scores_test_{name}_seed0.parquet")
    streaming_accuracy.main([str(data), str(run), "--dataset", str(data), "--output", str(output)])
    printed, result = capsys.readouterr().out, json.loads(output.read_text())
    assert "streaming top-1" in printed
    assert list(result["models"]) == ["run, student", "run, with its reader"]
    student, reader = result["models"].values()
    assert (student["offline"]["top-1"], reader["offline"]["top-1"]) == (0, 100)
    for found in (student, reader):
        assert (found["rows"], found["windows"]) == (4, 2 * 9)  # 9 s at 1 frame/s
        assert found["runtime_ms"] > found["encoder_ms"] > 0
    args = argparse.Namespace(dataset=str(data), data_dir=str(data), split="test", seed=0, num_videos=None)
    streamed = streaming_accuracy.Streamed(args, run, "student")
    # Actions start at 5 and 7 s; answers are due at 4.5 and 6.5 s, from the windows that end at 4 and 6 s.
    due = [4, 6, 9 + 4, 9 + 6]
    hits = 100 * (streamed.scores[due].argmax(1) == labels).mean()
    assert streamed.accuracy(0)["top-1"] == hits
    streamed.runtime_s, streamed.encoder_s = 0.6, 0.6  # ready only at 4.6 and 6.6 s: the previous answers count
    hits = 100 * (streamed.scores[np.subtract(due, 1)].argmax(1) == labels).mean()
    assert streamed.accuracy(1)["top-1"] == hits
    assert streamed.accuracy(1, with_encoder=False) == streamed.accuracy(0)
    assert streamed.accuracy(1000) == {"top-1": 0, "top-5": 0}


def test_the_scale_at_which_an_order_flips():
    class Falling:
        def __init__(self, at_once: float, each: float):
            self.at_once, self.each = at_once, each

        def accuracy(self, factor: float) -> dict[str, float]:
            return {"top-1": self.at_once - self.each * factor}

    models = {"slow": Falling(90, 1.0), "fast": Falling(80, 0.0), "worst": Falling(70, 0.0)}
    found = streaming_accuracy.flips(models)
    after = streaming_accuracy.SLOWER[streaming_accuracy.SLOWER > 10].min()
    assert found["slow / fast"] == after < 11
    assert 20 < found["slow / worst"] < 22
    assert found["fast / worst"] is None


def test_dinov2(tmp_path):
    """A video of 9 s, 10 frames per second, has 18 moments, 17 of which end a complete window of two."""
    video = write_video_kitchen(tmp_path / "kitchen", ("train",)) / "videos" / "v0.mp4"
    encoder = write_tiny_vit(tmp_path / "vit")
    (encoder / "preprocessor_config.json").write_text('{"size": 32, "image_mean": [0, 0, 0], "image_std": [1, 1, 1]}')
    args = dinov2.parse_arguments([str(encoder), str(video), "--num_frames", "2", "--repeats", "1"])
    for dtype in (torch.float32, torch.bfloat16):
        extracted = dinov2.extraction(args, dtype)
        assert extracted["frames"] == 18
        assert extracted["per_s"] == pytest.approx(18 / extracted["median_s"])
    assert dinov2.timeline(args)["answers"] == 18
    streamed = dinov2.stream(args)
    assert (streamed["answers"], streamed["other_pushes"]) == (17, 90 - 18)  # and one answer that pads its window
    assert streamed["answer"]["fastest_ms"] > streamed["other_push"]["median_ms"] > 0
    assert dinov2.student(args)[0].config.head_hidden_size == 64
    args.num_frames = 20
    with pytest.raises(ValueError, match=r"v0.mp4 is shorter than a window of 9.5 s"):
        dinov2.stream(args)


def test_decoding(output, monkeypatch):
    monkeypatch.setattr(decoding, "HEIGHT", 64)
    monkeypatch.setattr(decoding, "WIDTH", 96)
    decoding.main(["--seconds", "14", "--repeats", "1", "--output", str(output)])
    result = json.loads(output.read_text())
    assert "av" in result["machine"]
    for times in result["times"].values():
        assert {"ours", "whole_window"} <= set(times)
        assert times["ours"]["fastest_ms"] > 0


def test_a_step_of_the_plain_architecture_is_ours():
    losses = []
    for way in ("plain", "ours", "ours_bf16"):
        args = step.parse_arguments(["--models", "tiny", "--ways", way, "--repeats", "1", "--peak_tflops", "1"])
        measured = step.run(args)
        losses.append(measured["loss"])
        assert measured["share_of_peak"] > 0
        assert measured["peak_mb"]["training"] > 0
    assert losses[1] == pytest.approx(losses[0], abs=1e-5)
    assert losses[2] == pytest.approx(losses[0], abs=0.1)


@pytest.mark.parametrize("name", ["tiny", "tiny_video"])
def test_operations_are_those_of_the_plain_architecture(name):
    config = step.make_config(name)
    model = step.plain_copy(AVTForAnticipation(config))
    with FlopCounterMode(display=False) as counter:
        model(**step.make_batch(config, 1)).loss.backward()
    assert step.training_tflop(config) == pytest.approx(counter.get_total_flops() / 1e12)


def test_throughput_is_of_all_clips_of_a_batch(monkeypatch):
    monkeypatch.setattr(step, "training_tflop", lambda config: 2.0)
    measured = step.throughput(step.make_config("tiny"), batch_size=3, seconds=0.5, peak_tflops=48)
    assert measured == {"clips_per_s": 6.0, "frames_per_s": 60.0, "tflops": 12.0, "share_of_peak": 0.25}
    assert "share_of_peak" not in step.throughput(step.make_config("tiny"), 3, 0.5, None)


def test_flash_attention_is_measured_where_it_is_alone(monkeypatch):
    assert step.unavailable("avt_b", "ours_bf16", "cpu") is None
    assert "256 columns" in step.unavailable("egtea_features", "ours_bf16_flash", "cuda:0")
    monkeypatch.setattr(step, "is_flash_attn_2_available", lambda: True)
    assert step.unavailable("avt_b", "ours_bf16_flash", "cuda:0") is None
    with pytest.raises(ValueError, match="needs an NVIDIA GPU and the package flash-attn"):
        step.run(step.parse_arguments(["--models", "tiny_video", "--ways", "ours_bf16_flash"]))


@pytest.mark.slow
def test_a_compiled_step_has_the_same_loss():
    losses = []
    for way in ("ours_bf16", "ours_bf16_compiled"):
        options = ["--models", "tiny_video", "--ways", way, "--steps", "training", "--repeats", "1"]
        losses.append(step.run(step.parse_arguments([*options, "--compile_backend", "aot_eager"]))["loss"])
    assert losses[1] == pytest.approx(losses[0], abs=1e-3)


def test_data_pipeline(tmp_path, output):
    kitchen = write_kitchen(tmp_path / "kitchen")
    data_pipeline.main(["--dataset", str(kitchen), "--gigabytes", "0.001", "--repeats", "1", "--output", str(output)])
    result = json.loads(output.read_text())
    assert result["rows"] == {"train": 36, "validation": 12}
    assert set(result["rows_per_s"]) == {"0 workers", "2 workers", "table_scan"}


def test_imports(output, monkeypatch):
    monkeypatch.setattr(imports, "COMMANDS", {"nothing": ["-c", ""], "json": ["-c", "import json"]})
    imports.main(["--repeats", "1", "--output", str(output)])
    assert set(json.loads(output.read_text())["times"]) == {"nothing", "json"}


def test_adaptation(tmp_path, output, tiny_encoder):
    recipes = tmp_path / "recipes.jsonl"
    words = itertools.product(("cut", "take", "open", "wash"), ("tomato", "egg", "fridge", "knife"))
    histories = itertools.permutations(list(words)[:8], 3)
    rows = [{"id": str(number), "actions": actions} for number, actions in enumerate(histories)]
    recipes.write_text("".join(json.dumps(row) + "\n" for row in rows))
    named = {
        "model": tiny_encoder,
        "recipes": recipes,
        "num_recipes": 30,
        "block_length": 16,
        "longest": 24,
        "repeats": 1,
    }
    adaptation.main([*(f"--{name}={value}" for name, value in named.items()), "--output", str(output)])
    assert set(json.loads(output.read_text())["tokens_per_s"]) == {"ours", "one_a_row", "padded_to_longest"}


def test_scaling(tmp_path):
    scaling.write_annotations(tmp_path, 3)
    measured = scaling.build(tmp_path)
    assert 3 * 130 < measured["rows"] <= 3 * 136
    assert measured["peak_mb"] >= measured["imports_mb"]


@pytest.mark.slow
def test_reader(output, capsys):
    options = ["--tiny", "--beam", "30", "--num_frames", "60", "--repeats", "2"]
    reader.main([*options, "--memory_frames", "50", "150", "--memory_beam", "20", "--output", str(output)])
    result = json.loads(output.read_text())
    assert [(one["space"], one["num_last"]) for one in result["updates"]] == [
        ("18 actions", 1),
        ("18 actions", 2),
        ("pairs", 1),
    ]
    assert all(one["mean_hypotheses"] == 30 and one["p90_ms"] >= one["median_ms"] > 0 for one in result["updates"])
    assert all(
        set(one["times"]) == {"reader", "no_reader"} and np.isfinite(one["added_ms"]) for one in result["answers"]
    )
    first, last = result["memory"]
    assert (first["frames"], last["frames"]) == (50, 150)
    assert first["state_kb"] == last["state_kb"] > 0
    assert "After 150 frames" in capsys.readouterr().out


def write_pairs(folder: Path, num_videos: int = 10) -> Path:
    """Writes a made-up kitchen: an object is taken, cut or washed, and put back."""
    generator, lines = np.random.default_rng(0), ["video_id,start_s,end_s,action,verb,noun,split"]
    for video in range(num_videos):
        time_s, split = 3.0, "train" if video < num_videos - 3 else "validation"
        for noun in generator.permutation(["bowl", "egg", "knife", "pan", "tomato"]):
            for verb in ("take", generator.choice(["cut", "wash"]), "put"):
                lines.append(f"v{video},{time_s},{time_s + 4},{verb}_{noun},{verb},{noun},{split}")
                time_s += 5
    folder.mkdir()
    (folder / "segments.csv").write_text("\n".join(lines) + "\n")
    return folder


def test_large_label_space(tmp_path, output, capsys):
    kitchen = write_pairs(tmp_path / "kitchen")
    options = ["--accuracy", "0.8", "--num_videos", "2", "--beam", "100", "--followers", "10", "--evidence_weight", "1"]
    options += ["--prior_weights", "0.3", "100"]
    large_label_space.main(["--dataset", str(kitchen), *options, "--output", str(output)])
    result = json.loads(output.read_text())
    assert result["videos"] == 2
    assert result["prior_weight"] == 0.3
    losses = {name: member["log_loss"] for name, member in result["members"].items()}
    assert losses["reader, log-linear"] < losses["reader, unigram"]
    assert losses["true history, log-linear"] < losses["true history, unigram"]
    assert result["members"]["reader, log-linear"]["ms_a_frame"] > 0
    assert "SIMULATED" in capsys.readouterr().out


def write_breakfast(folder: Path) -> Path:
    """Writes eight videos of one script: five actions of 2 to 6 s between SIL; two are of split1's test persons."""
    script = ("take_cup", "pour_coffee", "pour_milk", "spoon_sugar", "stir_coffee")
    lines = ["video_id,start_frame,end_frame,action"]
    for person in (3, 4, 16, 17, 18, 19, 20, 21):
        video, frame = f"P{person:02d}_cam01_P{person:02d}_coffee", 0
        for number, action in enumerate(("SIL", *script, "SIL")):
            length = 30 + 15 * ((number + person) % 5)
            lines.append(f"{video},{frame},{frame + length},{action}")
            frame += length
    folder.mkdir()
    (folder / "segments.csv").write_text("\n".join(lines) + "\n")
    return folder


def test_abstention(tmp_path, output, capsys):
    """Three performances are too few to guarantee any error rate with a confidence of 90 %."""
    folder = write_breakfast(tmp_path / "breakfast")
    options = ["--data_dir", str(folder), "--accuracy", "0.6", "--error_rates", "0.9", "0.01"]
    abstention.main([*options, "--output", str(output)])
    result = json.loads(output.read_text())
    assert "SIMULATED recognizer" in capsys.readouterr().out
    for model in ("reader", "probe"):
        for found in (result["models"][model][f"{rate} % promised"] for rate in ("90", "1")):
            assert (found["coverage"], found["error"]) == (0, None)
    assert result["rows"]["held out"][1] + result["rows"]["test"][1] < 8


def test_horizons(tmp_path, output, capsys):
    options = ["--data_dir", str(write_breakfast(tmp_path / "breakfast")), "--splits", "split1", "--num_actions", "4"]
    horizons.main([*options, "--output", str(output)])
    result = json.loads(output.read_text())
    distances, frames = result["sequences"]["mean"], result["dense"]["mean"]
    # With one script the next action is certain; repeating the last one is right only for the first actions of rows.
    assert distances["trigram"]["likeliest"] == 0
    assert (
        distances["log-linear"]["likeliest"]
        < distances["unigram"]["likeliest"]
        < distances["last action again"]["likeliest"]
    )
    assert all(found["moc_0.2_0.5"] <= 100 for found in frames.values())
    assert frames["log-linear"]["moc_0.2_0.5"] > frames["last action again"]["moc_0.2_0.5"]
    horizons.main([*options, "--held_out", "--parts", "sequences", "--output", str(output)])
    held_out = json.loads(output.read_text())
    assert set(held_out) >= {"sequences", "options"}
    assert "dense" not in held_out
    assert "sequences, mean over 1 splits" in capsys.readouterr().out


class OneScript:
    """A language model that has learned the fixed order of these actions."""

    def __init__(self, folder: Path, history_length: int | None):
        actions = anticipation_builder("breakfast", name="split1", data_dir=folder).annotations.label_space.actions
        names = ("SIL", "take_cup", "pour_coffee", "pour_milk", "spoon_sugar", "stir_coffee", "SIL")
        self.after = {actions.index(a): actions.index(b) for a, b in itertools.pairwise(names) if {a, b} <= {*actions}}
        self.first, self.num_actions = actions.index("take_cup"), len(actions)
        self.model = SimpleNamespace(config=SimpleNamespace(history_length=history_length))

    def logits(self, histories):
        scores = np.zeros((len(histories), self.num_actions), np.float32)
        for row, history in enumerate(histories):
            scores[row, self.after.get(history[-1], self.first) if history else self.first] = 9.0
        return scores


@pytest.mark.parametrize("history_length", [None, 1])
def test_sequences_of_a_teacher(tmp_path, output, monkeypatch, history_length):
    folder = write_breakfast(tmp_path / "breakfast")
    monkeypatch.setattr(horizons.TeacherScorer, "from_pretrained", lambda _: OneScript(folder, history_length))
    options = ["--data_dir", str(folder), "--splits", "split1", "--num_actions", "4", "--teacher", "teacher"]
    horizons.main([*options, "--parts", "sequences", "--output", str(output)])
    assert json.loads(output.read_text())["sequences"]["mean"]["teacher"] == {"samples": 0}


def test_dense_stream(tmp_path):
    """Of 40 s at one frame per second, 10 are observed; answers are for each second from there on."""
    model = reading_model(frame_rate=1.0).eval()
    features = np.random.default_rng(0).normal(size=(40, 12)).astype(np.float32)
    np.savez(tmp_path / "features.npz", v=features)
    store = open_feature_store(tmp_path / "features.npz", frame_rate=1.0)
    script = pd.DataFrame({"action": [0, 2], "start_s": [0.0, 20.0], "end_s": [15.0, 40.0]})
    video = dense_stream.StreamedVideo("v", script, 3, store)
    assert video.labels.tolist() == [0] * 15 + [3] * 5 + [2] * 20
    shown = model.recognize_frames(torch.from_numpy(features[:10]))
    assert set(video.repeated(model, 10)) == {int(shown[-1].argmax())}
    with torch.no_grad():
        answer = int(model(video_features=torch.from_numpy(features[None, 6:10])).logits.argmax())
    by_student = video.by_student(model, 10)
    assert by_student[10:].tolist() == [answer] * 30  # frame 9 is the last one, and tau_a is 1 s
    reader = model.reader.begin_video()
    for number, log_probs in enumerate(shown):
        reader.update(log_probs, float(number))
    expected = reader.timeline(31.0).argmax(1)  # from frame 9 on
    np.testing.assert_array_equal(video.by_reader(model, 10)[9:], expected)


def test_tau_curve():
    rng = np.random.default_rng(0)
    names = ["student", "distilled", "trained at 1 s", "distilled + reader"]
    table = pd.DataFrame((rng.random((200, 4)) < [0.4, 0.4, 0.3, 0.7]).astype(float), columns=names)
    points = tau_curve.compared(table.assign(video_id=np.repeat([f"v{n}" for n in range(20)], 10)))
    for name, point in points.items():
        assert point["top1"] == pytest.approx(100 * table[name].mean())
        assert point["top1_low"] < point["top1"] < point["top1_high"]
        assert point["difference"] == pytest.approx(100 * (table[name] - table["student"]).mean())
    assert points["distilled + reader"]["low"] > 0
    assert points["student"]["low"] == points["student"]["high"] == 0


def test_the_simulated_recognizer_is_as_good_as_stated():
    parts = simulation.action_parts(5, 10, 30)
    segments = simulation.make_scripts([200] * 5, 30, parts, mean_s=3.8)
    videos = simulation.true_frames(segments, 30, 1.0)
    labels = np.concatenate([labels for _, labels in videos.values()])
    recognizer = simulation.SimulatedRecognizer(0.4, simulation.share_of_frames(labels, 30), parts)
    log_probs = recognizer.log_probs(labels, seed=0)
    assert len(labels) > 3000
    np.testing.assert_allclose(np.exp(log_probs).sum(1), 1)
    taken = log_probs.argmax(1)
    assert (taken == labels).mean() == pytest.approx(0.4, abs=0.03)
    mistaken = (taken != labels) & (taken < 30) & (labels < 30)
    assert (parts[taken[mistaken]] == parts[labels[mistaken]]).any(1).mean() > 0.75
    assert np.exp(log_probs.max(1)).mean() == pytest.approx(0.4, abs=0.05)  # its confidence equals its accuracy
    np.testing.assert_array_equal(log_probs, recognizer.log_probs(labels, seed=0))

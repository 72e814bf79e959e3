"""Calibrated answers: probabilities at the fitted temperature, and no answer below the threshold."""

import numpy as np
import pytest
import torch
from helpers.readers import ACTIONS, loglinear_reader, reading_model
from helpers.tiny_models import tiny_config, tiny_model

from modeling_avt import ActionAnticipationPipeline, AVTForAnticipation

NAMES = dict(enumerate(ACTIONS))


def features(num_rows: int = 20) -> torch.Tensor:
    return 2 * torch.randn(num_rows, 12, generator=torch.Generator().manual_seed(0))


def ask(model, **options):
    video = {"video_features": features(), "frames_per_second": 2.0}
    return ActionAnticipationPipeline(model)(video, at=8.0, top_k=3, **options)


def scores(answers) -> list[float]:
    by_label = {answer["label"]: answer["score"] for answer in answers}
    return [by_label[name] for name in ACTIONS]


def test_probabilities_are_of_scores_over_the_temperature():
    model = tiny_model(tiny_config(id2label=NAMES))
    plain = ask(model)
    assert "says" not in plain[0]
    model.config.calibration = {"temperature": 2.5}
    expected = (torch.tensor(scores(plain)).log() / 2.5).softmax(0)
    assert scores(ask(model)) == pytest.approx(expected.tolist(), abs=1e-6)
    assert "says" not in ask(model)[0]
    sequences = ask(model, num_actions=1, num_sequences=3)
    assert sorted(entry["score"] for entry in sequences) == pytest.approx(sorted(expected.tolist()), abs=1e-6)


def test_actions_below_the_threshold_are_not_the_answer():
    model = tiny_model(tiny_config(id2label=NAMES))
    best = max(scores(ask(model)))
    for threshold, says in ((best - 1e-3, True), (best + 1e-3, False), (None, False)):
        model.config.calibration = {"error_rate": 0.1, "threshold": threshold, "delta": 0.1}
        answers = ask(model)
        assert [entry["says"] for entry in answers] == [answers[0]["label"] if says else None] * 3
        (moment,) = (
            m
            for m in ActionAnticipationPipeline(model)(
                {"video_features": features(), "frames_per_second": 2.0}, every=4.0
            )
            if m["at_s"] == 8.0
        )
        assert moment["anticipated"][0]["says"] == answers[0]["says"]


@pytest.mark.parametrize("reader", [True, False])
def test_a_stream_withholds_answers_as_the_pipeline_does(reader):
    model = reading_model()
    model.config.calibration = {"temperature": 0.5, "error_rate": 0.1, "threshold": 0.0}
    model.config.reader = None
    model.attach_reader(loglinear_reader(calibration={"temperature": 3.0, "error_rate": 0.2, "threshold": 0.9}))
    expected = ask(model, reader=reader)
    assert expected[0]["says"] == (None if reader else expected[0]["label"])
    stream = model.stream(top_k=3, reader=reader)
    for number, frame in enumerate(features()[:17]):
        answer = stream.push(frame, number / 2)
    assert scores(answer) == pytest.approx(scores(expected), abs=1e-6)
    assert [entry["says"] for entry in answer] == [entry["says"] for entry in expected]


def test_a_checkpoint_keeps_its_calibration(tmp_path):
    model = reading_model()
    model.config.calibration = {"temperature": 1.5}
    model.attach_reader(loglinear_reader(calibration={"error_rate": 0.1, "threshold": None, "delta": 0.1}))
    model.save_pretrained(tmp_path)
    loaded = AVTForAnticipation.from_pretrained(tmp_path)
    assert loaded.config.calibration == {"temperature": 1.5}
    assert loaded.reader.settings.calibration == {"error_rate": 0.1, "threshold": None, "delta": 0.1}
    np.testing.assert_allclose(scores(ask(loaded)), scores(ask(model)))
    assert ask(loaded)[0]["says"] is None


BAD = [
    ({"temperature": 0}, "The calibration's temperature is 0: give a finite number, above 0"),
    ({"temperature": None}, "The calibration's temperature is None"),
    ({"error_rate": 1}, "The calibration's error_rate is 1"),
    ({"error_rate": 0}, "The calibration's error_rate is 0"),
    ({"threshold": 1.1}, "The calibration's threshold is 1.1"),
    ({"threshold": "0.5"}, "The calibration's threshold is '0.5'"),
    ({"delta": -0.1}, "The calibration's delta is -0.1"),
]


@pytest.mark.parametrize(("calibration", "message"), BAD)
def test_what_is_out_of_range_is_refused(calibration, message):
    with pytest.raises(ValueError, match=message):
        tiny_config(calibration=calibration)
    with pytest.raises(ValueError, match=message):
        loglinear_reader(calibration=calibration)

"""Models that recognize frames and read histories: forward, checkpoints, pipeline and stream."""

import copy
import pickle
import time

import numpy as np
import pytest
import torch
from helpers.readers import ACTIONS, loglinear_reader, ngram_reader, reading_model
from helpers.tiny_models import tiny_config, tiny_encoder_config, tiny_model, tiny_processor, tiny_vit_config
from transformers import pipeline

from modeling_avt import ActionAnticipationPipeline, AVTConfig, AVTForAnticipation, AVTModel
from modeling_avt.reader_avt import pool
from modeling_avt.video_io_avt import read_frames


def features(num_rows: int = 40, seed: int = 0) -> torch.Tensor:
    return 2 * torch.randn(num_rows, 12, generator=torch.Generator().manual_seed(seed))


def pipe(model) -> ActionAnticipationPipeline:
    return ActionAnticipationPipeline(model)


def ask(model, video=None, **options):
    video = features() if video is None else video
    return pipe(model)({"video_features": video, "frames_per_second": 2.0}, top_k=3, **options)


def scores(answers) -> dict:
    return {answer["label"]: answer["score"] for answer in answers}


def test_frame_logits_are_of_each_frame_alone():
    model, windows = reading_model(), features(8).unflatten(0, (2, 4))
    output = model(video_features=windows)
    assert output.frame_logits.shape == (2, 4, len(ACTIONS) + 1)
    expected = model.recognize_frames(windows.flatten(0, 1)).unflatten(0, (2, 4))
    torch.testing.assert_close(output.frame_logits.log_softmax(-1), expected)


@pytest.mark.parametrize("shape", [(2, 4, 12), (8, 15), (12,)])
def test_frames_of_windows_and_features_of_another_width_are_not_recognized(shape):
    """Those of windows `(B, T, D)` would be averaged like tokens, and further columns left out."""
    with pytest.raises(ValueError, match=r"have the shape \(.*\): give \(N, 12\)"):
        reading_model().recognize_frames(torch.zeros(shape))


def test_tokens_of_a_probe_are_averaged_before_frames_are_recognized():
    model = tiny_model(tiny_encoder_config("videomae", head_type="probe", recognizes_frames=True))
    tokens = torch.randn(3, 8, 32, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(model.recognize_frames(tokens), model.recognize_frames(tokens.mean(1)))


def test_frame_loss_is_the_mean_over_known_frames_and_trains_the_recognizer():
    model, windows = reading_model(frame_loss_weight=0.5), features(8).unflatten(0, (2, 4))
    labels = torch.tensor([[3, 0, -100, 1], [2, -100, -100, 3]])
    output = model(video_features=windows, frame_labels=labels)
    known = labels != -100
    expected = torch.nn.functional.cross_entropy(output.frame_logits[known], labels[known])
    torch.testing.assert_close(output.frame_loss, expected)
    torch.testing.assert_close(output.loss, 0.5 * expected + output.feature_loss)
    output.frame_loss.backward()
    assert model.recognizer.weight.grad.abs().sum() > 0
    with pytest.raises(ValueError, match="frame_labels holds 4"):
        model(video_features=windows, frame_labels=labels + (labels == 3))


def test_video_students_recognize_frames_and_average_their_views():
    model = reading_model(tiny_vit_config)
    views = torch.randn(2, 3, 4, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    output = model(pixel_values_videos=views)
    each = torch.stack([model(pixel_values_videos=views[:, view]).frame_logits for view in range(3)])
    torch.testing.assert_close(output.frame_logits, each.mean(0))


def test_a_model_that_does_not_recognize_frames_raises():
    model = tiny_model()
    assert model(video_features=torch.zeros(1, 4, 12)).frame_logits is None
    with pytest.raises(ValueError, match="recognizes_frames is False"):
        model.recognize_frames(torch.zeros(1, 12))
    with pytest.raises(ValueError, match="reader is set, but recognizes_frames is not"):
        model.attach_reader(loglinear_reader())
    assert model.config.reader is None
    assert model.reader is None
    with pytest.raises(ValueError, match="the checkpoint has none"):
        model.stream(reader=True)
    with pytest.raises(ValueError, match="the checkpoint has none"):
        ask(model, reader=True)


def test_last_frame_classifier_is_a_path_around_the_head():
    model, plain = tiny_model(tiny_config(classify_last_frame=True)), tiny_model()
    plain.load_state_dict(model.state_dict(), strict=False)
    windows = features(8).unflatten(0, (2, 4))
    found = model(video_features=windows, num_future_steps=2)
    expected = plain(video_features=windows, num_future_steps=2)
    path = model.last_frame_classifier(windows[:, -1])
    torch.testing.assert_close(found.logits, expected.logits + path)
    torch.testing.assert_close(found.future_logits, expected.future_logits + path[:, None])
    torch.testing.assert_close(found.past_logits, expected.past_logits)


def test_standardized_features_are_those_of_the_checkpoints_own_mean_and_deviation():
    model, plain = tiny_model(tiny_config(standardize_features=True)), tiny_model()
    model.avt.feature_mean.copy_(torch.arange(12.0))
    model.avt.feature_deviation.fill_(2.0)
    plain.load_state_dict(model.state_dict(), strict=False)
    windows = features(8).unflatten(0, (2, 4))
    expected = plain(video_features=(windows - torch.arange(12.0)) / 2).logits
    torch.testing.assert_close(model(video_features=windows).logits, expected)


def in_half_precision(way: str, folder, dtype: torch.dtype) -> AVTForAnticipation:
    """Returns the checkpoint in a folder in half precision, in one of the ways in which that is done."""
    if way == "from_pretrained":
        return AVTForAnticipation.from_pretrained(folder, dtype=dtype)
    if way == "pipeline":
        return pipeline("action-anticipation", model=str(folder), dtype=dtype, trust_remote_code=True).model
    model = AVTForAnticipation.from_pretrained(folder)
    if way == "pipeline of a model":
        return ActionAnticipationPipeline(model, dtype=dtype).model
    if way == "to":
        return model.to(dtype)
    if way == "avt.to":
        model.avt.to(dtype)
        return model.to(dtype)
    return model.half() if dtype == torch.float16 else model.bfloat16()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("way", ["from_pretrained", "pipeline", "pipeline of a model", "to", "avt.to", "half"])
def test_half_precision_does_not_round_the_statistics_of_features(way, dtype, tmp_path):
    mean, deviation = 100 + 30 * torch.rand(12), torch.full((12,), 0.1)  # bfloat16 has steps of 0.5 there
    model = tiny_model(tiny_config(standardize_features=True, recognizes_frames=True))
    model.avt.feature_mean.copy_(mean)
    model.avt.feature_deviation.copy_(deviation)
    model.save_pretrained(tmp_path / "whole")
    half = in_half_precision(way, tmp_path / "whole", dtype).eval()
    assert half.classifiers["action"].weight.dtype == half.avt.encoder.weight.dtype == dtype
    plain = tiny_model(tiny_config(recognizes_frames=True))
    plain.load_state_dict(model.state_dict(), strict=False)
    plain.to(dtype)
    rows = mean + deviation * features(8)
    standardized = (rows - mean) / deviation
    for number in range(2):  # as it is, then saved and loaded
        assert torch.equal(half.state_dict()["avt.feature_mean"], mean)
        assert torch.equal(half.state_dict()["avt.feature_deviation"], deviation)
        found = half(video_features=rows.unflatten(0, (2, 4))).logits
        assert found.dtype == dtype
        assert torch.equal(found, plain(video_features=standardized.unflatten(0, (2, 4))).logits)
        assert torch.equal(half.recognize_frames(rows), plain.recognize_frames(standardized))
        if number == 0:
            half.save_pretrained(tmp_path / "half")
            half = AVTForAnticipation.from_pretrained(tmp_path / "half", dtype="auto").eval()
            assert half.dtype == dtype


def test_a_model_made_in_half_precision_has_statistics_in_float32():
    model = AVTForAnticipation._from_config(tiny_config(standardize_features=True), dtype=torch.bfloat16)
    assert model.dtype == torch.bfloat16
    assert model.avt.feature_mean.dtype == model.avt.feature_deviation.dtype == torch.float32
    assert AVTModel(tiny_config(standardize_features=True)).half().feature_mean.dtype == torch.float32


def test_reader_travels_with_the_checkpoint(tmp_path):
    model = reading_model(standardize_features=True, classify_last_frame=True)
    model.save_pretrained(tmp_path)
    loaded = AVTForAnticipation.from_pretrained(tmp_path)
    assert loaded.config.reader == model.config.reader
    for (name, expected), (_, found) in zip(model.state_dict().items(), loaded.state_dict().items(), strict=True):
        torch.testing.assert_close(found, expected, rtol=0, atol=0, msg=name)
    assert scores(ask(loaded, at=9.0)) == pytest.approx(scores(ask(model, at=9.0)), abs=1e-5)
    half = AVTForAnticipation.from_pretrained(tmp_path, dtype=torch.bfloat16)
    assert half.recognizer.weight.dtype == torch.bfloat16
    assert half.reader.transitions.last_weights.dtype == torch.float32


def test_a_checkpoint_with_a_reader_answers_in_a_process_without_the_package(tmp_path, clean_process):
    model = reading_model()
    model.save_pretrained(tmp_path)
    np.save(tmp_path / "features.npy", features().numpy())
    clean_process(
        f"""
        import numpy as np
        from transformers import pipeline

        anticipate = pipeline("action-anticipation", model={str(tmp_path)!r}, trust_remote_code=True)
        video = {{"video_features": np.load({str(tmp_path / "features.npy")!r}), "frames_per_second": 2.0}}
        answers = anticipate(video, at=9.0, top_k=3)
        found = {{answer["label"]: answer["score"] for answer in answers}}
        expected = {scores(ask(model, at=9.0))!r}
        assert all(abs(found[label] - expected[label]) < 1e-5 for label in expected), found
        assert answers[0]["history"] and answers[0]["history"][0]["label"] in expected
        """
    )


def test_a_reader_of_another_label_space_is_refused(tmp_path):
    model = reading_model()
    model.save_pretrained(tmp_path)
    with pytest.raises(ValueError, match="The reader was fitted on other actions than the 3 of id2label"):
        AVTForAnticipation.from_pretrained(tmp_path, id2label={0: "mix", 1: "cut", 2: "serve"})
    without = AVTForAnticipation.from_pretrained(tmp_path, id2label={0: "mix", 1: "cut", 2: "serve"}, reader=None)
    assert without.reader is None
    other = tiny_model(tiny_config(num_labels=3, recognizes_frames=True))
    with pytest.raises(ValueError, match="The reader was fitted on other actions"):
        other.attach_reader(loglinear_reader())
    assert other.reader is None


@pytest.mark.parametrize(
    ("reader", "message"),
    [({"beams": 3}, "config.reader has 'beams'"), ({"beam": 3}, "config.reader lacks 'frame_rate'")],
)
def test_invalid_reader_settings_are_refused(reader, message):
    with pytest.raises(ValueError, match=message):
        AVTConfig(backbone_config=None, feature_dim=12, num_labels=3, recognizes_frames=True, reader=reader)


def by_hand(model, video: torch.Tensor, at_s: float) -> dict:
    """Returns pooled answers of the parts: the model on its window, the reader on all frames until then."""
    rows = [int(2 * time) for time in at_s - np.arange(3, -1, -1)]
    mask = torch.tensor([[row >= 0 for row in rows]])
    window = video[[max(row, 0) for row in rows]] * mask[0, :, None]
    logits = model(video_features=window[None], frame_mask=mask).logits[0]
    reader, times = model.reader.begin_video(), np.arange(int(2 * at_s) + 1) / 2
    for row, log_probs in zip(video, model.recognize_frames(video)[: len(times)], strict=False):
        assert row.shape == (12,)
        reader.update(log_probs, times[reader.num_frames])
    pooled = pool(logits, reader.next_action(model.config.tau_a, at_s), (0.5, 0.5)).exp()
    return dict(zip(ACTIONS, pooled.tolist(), strict=True))


@pytest.mark.parametrize("at_s", [0.0, 1.0, 9.0, 12.3])
def test_the_pipeline_pools_the_model_with_what_its_reader_has_read(at_s):
    model = reading_model()
    answers = ask(model, at=at_s)
    assert scores(answers) == pytest.approx(by_hand(model, features(), at_s), abs=1e-6)
    alone = scores(ask(model, at=at_s, reader=False))
    assert alone != pytest.approx(scores(answers), abs=1e-3)
    model.attach_reader(None)
    assert scores(ask(model, at=at_s)) == alone


def test_a_timeline_answers_as_each_moment_asked_alone():
    model = reading_model()
    timeline = ask(model, every=2.5)
    assert [moment["at_s"] for moment in timeline] == [2.5 * k for k in range(1, 9)]
    for moment in timeline:
        alone = ask(model, at=moment["at_s"])
        assert scores(moment["anticipated"]) == pytest.approx(scores(alone), abs=1e-6)
        assert moment["history"] == alone[0]["history"]
    assert "history" not in ask(model, every=2.5, reader=False)[0]


def test_nothing_after_the_moment_counts():
    model, other = reading_model(), features()
    other[19:] = features(seed=1)[19:]
    assert ask(model, at=9.0) == ask(model, other, at=9.0)


def test_a_batch_of_videos_is_read_one_by_one():
    model, videos = reading_model(), [features(seed=seed) for seed in range(3)]
    given = [{"video_features": video, "frames_per_second": 2.0} for video in videos]
    together = pipe(model)(given, batch_size=3, at=9.0, top_k=3)
    for video, answers in zip(videos, together, strict=True):
        assert scores(answers) == pytest.approx(scores(ask(model, video, at=9.0)), abs=1e-6)


def test_a_window_alone_has_no_beginning_to_read():
    model = reading_model()
    with pytest.raises(ValueError, match="is the observed window alone, but the checkpoint's reader reads"):
        pipe(model)({"video_features": features(4)})
    assert len(pipe(model)({"video_features": features(4)}, reader=False, top_k=3)) == 3


def test_a_video_whose_beginning_is_missing_is_refused_or_read_from_where_it_begins():
    model, late = reading_model(), {"video_features": features(), "frames_per_second": 2.0, "start_s": 100.0}
    with pytest.raises(ValueError, match=r"begins at 100 s, but the checkpoint's reader reads from 0 s on"):
        pipe(model)(late, at=110.0)
    answers = pipe(model)(late, at=110.0, read_from_s=100.0, top_k=3)
    reader = model.reader.begin_video(midway=True)
    for step, log_probs in enumerate(model.recognize_frames(features())[:21]):
        reader.update(log_probs, 100 + step / 2)
    window = features()[[14, 16, 18, 20]]
    logits = model(video_features=window[None]).logits[0]
    expected = pool(logits, reader.next_action(1.0), (0.5, 0.5)).exp().tolist()
    assert scores(answers) == pytest.approx(dict(zip(ACTIONS, expected, strict=True)), abs=1e-6)
    with pytest.raises(ValueError, match=r"read_from_s is 120.0, after the moment 110 s"):
        pipe(model)(late, at=110.0, read_from_s=120.0)
    with pytest.raises(ValueError, match="read_from_s is -1"):
        pipe(model)(late, at=110.0, read_from_s=-1)


@pytest.mark.parametrize(
    ("frame_rate", "every"), [(2.0, None), (2.0, 0.5), (1.0, None), (1.0, 0.25), (0.5, 0.5), (4.0, 1.0)]
)
def test_a_stream_answers_as_the_pipeline_at_every_moment(frame_rate, every):
    model = reading_model(frame_rate=frame_rate)
    stream, video = model.stream(every=every, top_k=3), features(4 * 12)
    asked = {"video_features": video, "frames_per_second": 4.0}
    num_answers = 0
    for step, row in enumerate(video):
        answers = stream.push(row, 50 + step / 4)
        if answers is None:
            continue
        num_answers += 1
        expected = pipe(model)(asked, at=answers[0]["at_s"] - 50, top_k=3)
        assert scores(answers) == pytest.approx(scores(expected), abs=1e-5)
        for found, offline in zip(answers[0]["history"], expected[0]["history"], strict=True):
            assert found["start_s"] == pytest.approx(offline["start_s"] + 50)
            assert found["label"] == offline["label"]
        assert answers[0]["expected_in_s"] > 0
    assert num_answers == (12 if every is None else round(12 / every))


def test_a_stream_may_leave_its_reader_out():
    model = reading_model()
    without, plain = model.stream(reader=False), reading_model()
    plain.attach_reader(None)
    other = plain.stream()
    for step, row in enumerate(features(20)):
        assert without.push(row, step / 2) == other.push(row, step / 2)


def test_a_gap_in_a_stream_is_read_as_the_frame_that_is_shown():
    """As offline, where the last frame is still shown."""
    model = reading_model()
    gap, filled = model.stream(top_k=3), model.stream(top_k=3)
    video, answers = features(6), None
    for step in range(30):
        shown = video[min(step, 4) if step < 29 else 5]
        answers = filled.push(shown, step / 2) or answers
        if step < 5 or step == 29:
            late = gap.push(shown, step / 2)
    assert scores(late) == pytest.approx(scores(answers), abs=1e-6)
    assert gap.reader.num_frames == filled.reader.num_frames
    torch.testing.assert_close(gap.reader.next_action(), filled.reader.next_action())


def test_a_camera_that_was_frozen_for_years_is_answered_at_once():
    model = reading_model()
    stream = model.stream(top_k=3)
    for step, row in enumerate(features(5)):
        stream.push(row, step / 2)
    started = time.process_time()
    assert stream.push(features(1)[0], 1e8) is None  # set aside, until the next frame or `advance` confirms its time
    answers = stream.advance(1e8)
    assert time.process_time() - started < 20
    assert answers[0]["at_s"] == 1e8
    assert stream.push(features(1)[0], 1e8 + 1)[0]["expected_in_s"] >= 0


def test_a_refused_frame_leaves_the_reader_as_it_was():
    model = reading_model()
    stream = model.stream()
    for step, row in enumerate(features(10)):
        stream.push(row, step / 2)
    before = stream.reader.next_action()
    assert stream.push(features(1)[0], 1.0) is None
    with pytest.raises(ValueError, match="NaN"):
        stream.push(torch.full((12,), torch.nan), 5.0)
    with torch.no_grad():
        model.recognizer.bias.fill_(torch.nan)  # a recognizer that is broken
    with pytest.raises(ValueError, match="frame_log_probs is not finite"):
        stream.push(features(1)[0], 5.0)
    torch.testing.assert_close(stream.reader.next_action(), before, rtol=0, atol=0)
    assert stream.reader.num_frames == 10


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda stream: pickle.loads(pickle.dumps(stream))])
@pytest.mark.parametrize("make_reader", [loglinear_reader, lambda: ngram_reader(3)])
def test_a_copied_stream_keeps_what_its_reader_has_read(copied, make_reader):
    model, video = reading_model(), features()
    model.attach_reader(make_reader())
    stream = model.stream(every=0.5)
    for number in range(11):
        stream.push(video[number], number / 2)
    other = copied(stream)
    assert other.reader.history() == stream.reader.history()
    expected, found = stream.push(video[11], 5.5), other.push(video[11], 5.5)
    assert found == expected
    assert len(expected[0]["history"]) > 1
    assert torch.equal(other.logits, stream.logits)
    assert (stream.reader.num_frames, other.reader.num_frames) == (12, 12)
    stream.push(video[12], 6.0)
    assert other.reader.num_frames == 12  # the two do not share their beam


def test_streams_pushed_together_read_each_their_own():
    model, videos = reading_model(), [features(seed=seed) for seed in (1, 2)]
    together, alone = [model.stream(), model.stream()], [model.stream(), model.stream()]
    for step in range(20):
        pushed = together[0].push_together(together, [video[step] for video in videos], [step / 2] * 2)
        for answers, stream, video in zip(pushed, alone, videos, strict=True):
            own = stream.push(video[step], step / 2)
            assert (answers is None) == (own is None)
            if own:
                assert scores(answers) == pytest.approx(scores(own), abs=1e-6)


def test_video_files_are_read_from_their_beginning(video):
    model = reading_model(tiny_vit_config)
    anticipate = ActionAnticipationPipeline(model, video_processor=tiny_processor())
    answers = anticipate(video, at=3.0, top_k=3)
    stream = model.stream(tiny_processor(), top_k=3)
    for time_s in np.arange(0, 3.01, 0.5):
        last = stream.push(read_frames(video, [time_s])[0], time_s)
    assert scores(answers) == pytest.approx(scores(last), abs=1e-4)


def test_recognizer_and_head_may_read_columns_of_their_own():
    columns = {"recognizer_feature_dim": 5, "head_feature_dim": 8}
    model = reading_model(classify_last_frame=True, standardize_features=True, **columns)
    windows = features(8).unflatten(0, (2, 4))
    output = model(video_features=windows)
    for column, of_head, of_recognizer in ((1, False, True), (4, True, True), (11, True, False)):
        changed = windows.clone()
        changed[..., column] += 1
        other = model(video_features=changed)
        assert other.logits.equal(output.logits) is not of_head
        assert other.frame_logits.equal(output.frame_logits) is not of_recognizer
    assert model.last_frame_classifier.in_features == model.avt.encoder.in_features == 8
    with pytest.raises(ValueError, match="head_feature_dim is 13: give 1 to 12"):
        tiny_config(head_feature_dim=13)

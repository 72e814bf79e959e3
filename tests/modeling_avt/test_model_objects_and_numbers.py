"""Models and numbers that the pipeline, streams and readers accept or refuse immediately."""

import re
import time

import numpy as np
import pytest
import torch
from helpers.readers import reading_model
from helpers.tiny_models import tiny_config, tiny_model, tiny_processor, tiny_vit_config
from transformers import pipeline

from modeling_avt import ActionAnticipationPipeline, AVTForAnticipation, AVTStream
from modeling_avt.temporal_avt import MAX_MOMENTS, timeline_moments

TASK = "action-anticipation"
FEATURES = np.random.default_rng(0).normal(size=(20, 12)).astype(np.float32)  # 10 s at 2 per second
KINDS = {
    "int": lambda number: int(number),
    "float32": np.float32,
    "int64": np.int64,
    "0-d array": np.array,
    "1-element array": lambda number: np.array([number]),
    "0-d tensor": torch.tensor,
    "1-element tensor": lambda number: torch.tensor([number]),
}
NO_SECONDS = ["2", True, [2.0], np.array([2.0, 4.0]), torch.tensor([2.0, 4.0]), float("nan"), float("inf"), 10**400]
NO_COUNTS = [0, -1, 2.0, np.float32(2), torch.tensor(2.0), True, "3", [3], np.array([3, 4]), None, float("inf")]


@pytest.fixture(scope="module")
def anticipate() -> ActionAnticipationPipeline:
    return ActionAnticipationPipeline(tiny_model())


@pytest.mark.parametrize("kind", KINDS)
def test_moments_and_counts_may_be_of_any_kind(anticipate, kind):
    to_kind = KINDS[kind]
    moment = anticipate(FEATURES, at=to_kind(4), frames_per_second=to_kind(2))
    assert moment == anticipate(FEATURES, at=4.0, frames_per_second=2.0)
    assert type(moment[0]["observed_until_s"]) is float
    timeline = anticipate(FEATURES, every=to_kind(5), frames_per_second=2)
    assert timeline == anticipate(FEATURES, every=5.0, frames_per_second=2)
    if "float" not in kind:
        assert anticipate(FEATURES, at=4.0, frames_per_second=2, top_k=to_kind(2)) == moment[:2]
        assert AVTStream(anticipate.model, top_k=to_kind(2)).top_k == 2
    late = {"video_features": FEATURES[8:], "start_s": to_kind(4), "frames_per_second": 2}
    assert anticipate(late, at=9.0) == anticipate(FEATURES, at=9.0, frames_per_second=2)
    assert AVTStream(anticipate.model, every=to_kind(1)).stride == 1


@pytest.mark.parametrize("value", NO_SECONDS, ids=repr)
def test_invalid_numbers_of_seconds_are_refused(anticipate, value):
    for name in ("at", "every", "frames_per_second"):
        with pytest.raises(ValueError, match=rf"^{name} is [^\n]*: give a finite number[^\n]*\.$"):
            anticipate(FEATURES, **{"frames_per_second": 2, name: value})
    with pytest.raises(ValueError, match=r"^start_s is .*: give a finite number of seconds\.$"):
        anticipate({"video_features": FEATURES, "start_s": value, "frames_per_second": 2})
    with pytest.raises(ValueError, match=r"^every is .*: give a finite number of seconds, above 0\.$"):
        AVTStream(anticipate.model, every=value)


@pytest.mark.parametrize("value", NO_COUNTS, ids=repr)
def test_invalid_counts_are_refused(anticipate, value):
    message = r"^top_k is .*: give a whole number, 1 or more\.$"
    with pytest.raises(ValueError, match=message):
        AVTStream(anticipate.model, top_k=value)
    if value is not None:  # None is accepted: the pipeline uses the value given at construction
        with pytest.raises(ValueError, match=message):
            anticipate(FEATURES, top_k=value, frames_per_second=2)
        with pytest.raises(ValueError, match=message):
            ActionAnticipationPipeline(anticipate.model, top_k=value)


@pytest.mark.parametrize("every", [1e-5, 0.00099, 1e-300, np.float32(1e-5)])
def test_moments_closer_than_frames_are_refused_at_once(anticipate, every):
    """Such values once led to millions of moments."""
    started = time.perf_counter()
    message = r"would be [\d,]+ moments per second of video: at most 1,000 are supported, so give 0.001 s or more"
    for ask in (
        lambda: anticipate(FEATURES, every=every, frames_per_second=2),
        lambda: anticipate("a_file_that_is_not_opened.mp4", every=every),
        lambda: AVTStream(anticipate.model, every=every),
        lambda: timeline_moments(10.0, every),
    ):
        with pytest.raises(ValueError, match=message):
            ask()
    assert time.perf_counter() - started < 1


def test_more_moments_than_can_be_answered_are_refused_at_once(anticipate):
    day = {"video_features": FEATURES, "frames_per_second": 20 / 86_400}
    message = "every=0.5 would be 172,800 moments in a video that ends at 86400 s: at most 100,000 are supported"
    with pytest.raises(ValueError, match=message) as error:
        anticipate(day, every=0.5)
    enough_s = float(re.search(r"give ([\d.]+) s or more", str(error.value))[1])
    assert len(timeline_moments(86_400, enough_s)) <= MAX_MOMENTS
    assert len(timeline_moments(86_400, 1)) == 86_400


def test_timeline_moments_end_with_the_video():
    assert timeline_moments(3.0, 1) == [1.0, 2.0, 3.0]
    assert timeline_moments(2.9, 1.0) == [1.0, 2.0]
    assert timeline_moments(0.3, 0.1) == pytest.approx([0.1, 0.2, 0.3])
    with pytest.raises(ValueError, match=r"every=2 is longer than the video, which ends at 1\.500 s"):
        timeline_moments(1.5, 2)


def test_a_stream_that_would_keep_too_many_features_is_refused():
    model = tiny_model(tiny_config(frame_rate=0.01, tau_o=400))
    with pytest.raises(ValueError, match="needs the features of 300,001 moments in memory, but at most 100,000"):
        AVTStream(model, every=0.001)


@pytest.fixture
def reader():
    reader = reading_model().reader.begin_video()
    reader.update(np.zeros(reader.num_actions + 1), 0.0)
    return reader


@pytest.mark.parametrize("kind", KINDS)
def test_a_readers_horizons_may_be_of_any_kind(reader, kind):
    to_kind = KINDS[kind]
    assert reader.next_action(to_kind(2), to_kind(3)).equal(reader.next_action(2.0, 3.0))
    assert reader.expected_in_s(to_kind(1)) == reader.expected_in_s(1.0)
    expected = reader.fork()
    expected.update(np.zeros(reader.num_actions + 1), 4.0)
    reader.update(np.zeros(reader.num_actions + 1), to_kind(4))
    assert reader.next_action().equal(expected.next_action())


@pytest.mark.parametrize("value", NO_SECONDS, ids=repr)
def test_a_reader_refuses_invalid_numbers_of_seconds(reader, value):
    num_frames, frame = reader.num_frames, np.zeros(reader.num_actions + 1)
    for name, ask in {
        "tau_a": lambda: reader.next_action(value),
        "at_s": lambda: reader.next_action(1.0, value),
        "at_s ": lambda: reader.expected_in_s(value),
        "time_s": lambda: reader.update(frame, value),
        "time_s ": lambda: reader.begin_video().update(frame, value),
    }.items():
        with pytest.raises(ValueError, match=rf"^{name.strip()} is .*: give a finite number of seconds"):
            ask()
    assert reader.num_frames == num_frames
    with pytest.raises(ValueError, match=r"^tau_a is -1: give a finite number of seconds, 0 or more\.$"):
        reader.next_action(-1)


def test_a_horizon_of_years_is_answered_at_once(reader):
    started = time.perf_counter()
    far = reader.next_action(tau_a=1e300)
    assert time.perf_counter() - started < 10
    assert far.exp().sum().item() == pytest.approx(1)
    assert far.equal(reader.next_action(tau_a=1e9))


def test_a_model_object_makes_a_pipeline(video):
    model, processor = tiny_model(tiny_vit_config()), tiny_processor()
    expected = ActionAnticipationPipeline(model, video_processor=processor)(video, at=4.0)
    assert pipeline(TASK, model=model, video_processor=processor)(video, at=4.0) == expected
    assert pipeline(TASK, model=model, processor=processor)(video, at=4.0) == expected
    assert isinstance(pipeline(TASK, model=model, processor=processor), ActionAnticipationPipeline)


def test_a_model_object_of_features_needs_no_processor():
    model = tiny_model()
    expected = ActionAnticipationPipeline(model)(FEATURES, at=4.0, frames_per_second=2)
    assert pipeline(TASK, model=model)(FEATURES, at=4.0, frames_per_second=2) == expected


def test_a_loaded_model_object_brings_the_processor_beside_it(tmp_path, video):
    tiny_model(tiny_vit_config()).save_pretrained(tmp_path)
    model = AVTForAnticipation.from_pretrained(tmp_path)
    with pytest.raises(
        ValueError, match=rf"needs a video_processor .* none can be read from {tmp_path} .*: pass video"
    ):
        pipeline(TASK, model=model)
    tiny_processor(size=40, train_size=(40, 40)).save_pretrained(tmp_path)
    anticipate = pipeline(TASK, model=model)
    assert anticipate.video_processor.size == {"shortest_edge": 40}
    assert anticipate(video) == pipeline(TASK, model=str(tmp_path), trust_remote_code=True)(video)
    tiny_processor(num_frames=3).save_pretrained(tmp_path)
    with pytest.raises(ValueError, match="The video processor has num_frames=3, the model 4"):
        pipeline(TASK, model=model)


def test_a_built_model_object_with_a_backbone_asks_for_a_processor():
    with pytest.raises(ValueError, match="this one was not loaded from a folder or the Hub: pass video_processor="):
        pipeline(TASK, model=tiny_model(tiny_vit_config()))


def test_a_model_that_was_just_built_answers_without_dropout():
    model = AVTForAnticipation(tiny_config())
    anticipate = pipeline(TASK, model=model)
    assert anticipate(FEATURES[:4]) == anticipate(FEATURES[:4])
    model.train()
    with pytest.raises(ValueError, match="The model is in training mode, where dropout makes answers random"):
        anticipate(FEATURES[:4])


def test_a_pipeline_of_a_model_object_is_saved_as_any_other(tmp_path):
    anticipate = pipeline(TASK, model=tiny_model())
    anticipate.save_pretrained(tmp_path)
    loaded = pipeline(TASK, model=str(tmp_path), trust_remote_code=True)
    assert loaded(FEATURES[:4])[0]["label"] == anticipate(FEATURES[:4])[0]["label"]
    tiny_model().save_pretrained(tmp_path / "of_the_model")
    assert loaded.model.config.custom_pipelines == tiny_config().custom_pipelines

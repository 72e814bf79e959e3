"""A stream gives the model's offline answers on the same window, whatever the order and timing of its input."""

import copy
import json

import av
import numpy as np
import pytest
import torch
from helpers.places import require_shared
from helpers.tiny_models import VERB_NOUN, tiny_model, tiny_processor, tiny_vit_config
from helpers.videos import numbered_frames, write_video

from modeling_avt import ActionAnticipationPipeline, AVTStream
from modeling_avt.temporal_avt import sample_frame_times

NAMES = {"id2label": {0: "cut egg", 1: "cut oil", 2: "mix egg", 3: "mix oil", 4: "mix flour"}}


@pytest.fixture(scope="module")
def model():
    return tiny_model(tiny_vit_config(**NAMES, **VERB_NOUN, tau_a=0.5))


def new_stream(model, **options) -> AVTStream:
    return AVTStream(model, tiny_processor(), **options)


def decode(path) -> list[tuple[np.ndarray, float]]:
    """Returns every frame of a file and its start time."""
    with av.open(str(path)) as container:
        return [(f.to_ndarray(format="rgb24"), float(f.pts * f.time_base)) for f in container.decode(video=0)]


def push_all(stream: AVTStream, frames) -> list[tuple[float, torch.Tensor]]:
    """Pushes frames, and returns `(at_s, logits)` of every answer."""
    answers = [(stream.push(frame, time_s), stream.logits) for frame, time_s in frames]
    return [(answer[0]["at_s"], logits) for answer, logits in answers if answer is not None]


@torch.no_grad()
def offline(model, path, at_s: float, processor=None) -> torch.Tensor:
    """Returns the model's scores `(A,)` on the window of a file that ends at `at_s`."""
    return model(**(processor or tiny_processor())(path, at_s=at_s)).logits[0]


@torch.no_grad()
def offline_features(model, features, times_s, at_s: float) -> torch.Tensor:
    """Returns the model's scores `(A,)` on the features shown at each sampled moment."""
    config = model.config
    moments, mask = sample_frame_times(at_s - config.tau_o, at_s, 1, config.frame_rate, config.num_frames)
    shown = np.maximum(np.searchsorted(times_s, moments + 1e-6, side="right") - 1, 0)
    return model(video_features=features[shown][None], frame_mask=torch.from_numpy(mask)[None]).logits[0]


def assert_same(answers, expected_at_s, expect):
    assert [at_s for at_s, _ in answers] == pytest.approx(expected_at_s)
    for at_s, logits in answers:
        torch.testing.assert_close(logits, expect(at_s), atol=1e-5, rtol=0)


def count_encoded(model, monkeypatch) -> list[int]:
    """Returns a list to which each call of the backbone appends its number of images."""
    encoded, encode = [], model.encode_frames

    def counting_encode(frames):
        encoded.append(len(frames))
        return encode(frames)

    monkeypatch.setattr(model, "encode_frames", counting_encode)
    return encoded


def test_every_answer_is_the_models_on_the_same_window(model, video):
    answers = push_all(new_stream(model), decode(video))
    assert_same(answers, [0, 1, 2, 3, 4, 5], lambda at_s: offline(model, video, at_s))
    assert not torch.allclose(answers[-1][1], answers[-2][1], atol=1e-3)


def test_answers_have_the_pipelines_form_and_names(model, video):
    pipe = ActionAnticipationPipeline(model=model, video_processor=tiny_processor())
    stream = new_stream(model, top_k=3)
    answers = [answer for frame, time_s in decode(video) if (answer := stream.push(frame, time_s))]
    answers.append(stream.advance(6.0))  # the end of the video
    for at_s, answer in enumerate(answers):
        expected = pipe(str(video), at=float(at_s), top_k=3)
        assert [entry.pop("at_s") for entry in answer] == [at_s] * 3
        shared = ("label", "verb", "noun", "starts_in_s")
        assert [[entry[key] for key in shared] for entry in answer] == [[e[key] for key in shared] for e in expected]
        scores = [entry["score"] for entry in expected]
        assert [entry["score"] for entry in answer] == pytest.approx(scores, abs=1e-5)


@pytest.mark.parametrize(("frame_rate", "tau_o", "every"), [(2.0, 1.0, None), (1.0, 4.0, 0.25)])
def test_real_clip(frame_rate, tau_o, every):
    """Times of the clip are rounded to milliseconds; a window of 1 s excludes the oldest frame in memory."""
    path = require_shared("data", "videos", "flipping_a_pancake.mkv")
    model = tiny_model(tiny_vit_config(frame_rate=frame_rate, tau_o=tau_o))
    processor = tiny_processor(frame_rate=frame_rate, tau_o=tau_o)
    answers = push_all(model.stream(processor, every=every), decode(path))
    moments = np.arange(0, 10.3, every or 1 / frame_rate)
    assert_same(answers, moments, lambda at_s: offline(model, path, at_s, processor))


def test_irregular_times(model, tmp_path):
    times_s = np.cumsum(np.random.default_rng(0).integers(3, 700, size=60)) / 1000
    times_s -= times_s[0]
    path = write_video(tmp_path / "irregular.mkv", numbered_frames(60), times_s=times_s)
    frames = decode(path)
    assert [time_s for _, time_s in frames] == pytest.approx(times_s)
    answers = push_all(new_stream(model), frames)
    assert len(answers) == int(times_s[-1]) + 1  # no gap is as long as a moment's interval
    assert_same(answers, range(len(answers)), lambda at_s: offline(model, path, at_s))


def test_dropped_frames(model, tmp_path, monkeypatch):
    """In gaps of 2.5 and 20 s the previous frame is shown and encoded once; only the newest answer is given."""
    times_s = np.array([*np.arange(0, 3, 0.25), *np.arange(5.25, 8, 0.25), *np.arange(27.75, 30.1, 0.25)])
    path = write_video(tmp_path / "gaps.mkv", numbered_frames(len(times_s)), times_s=times_s)
    frames, stream = decode(path), new_stream(model)
    encoded = count_encoded(model, monkeypatch)
    answers = push_all(stream, frames)
    # The frames of 2.75 and 7.75 s, which are shown in the gaps, are encoded only once.
    assert encoded == [1] * 10
    monkeypatch.undo()
    assert_same(answers, [0, 1, 2, 5, 6, 7, 27, 28, 29, 30], lambda at_s: offline(model, path, at_s))


def test_moment_between_frames_waits_for_the_next_frame_or_for_advance(model):
    first, second, third = numbered_frames(3)
    stream, advanced = new_stream(model), new_stream(model)
    for one in (stream, advanced):
        assert one.push(first, 0.0)[0]["at_s"] == 0
        assert one.push(second, 0.7) is None
    assert advanced.advance(0.9) is None
    expected = advanced.advance(1.0)
    assert expected[0]["at_s"] == 1
    assert stream.push(third, 1.3) == expected
    assert advanced.push(third, 1.0) is None  # too late: the answer at 1 s has been given
    assert advanced.num_left_out == 1
    assert advanced.push(third, 1.3) is None
    assert advanced.advance(2.0) == stream.advance(2.0)


def test_clock_of_the_caller(model, video):
    """Times may begin anywhere: the time of the first frame is the beginning of the video."""
    answers = push_all(new_stream(model), [(frame, 1.7e9 + time_s) for frame, time_s in decode(video)])
    assert_same(answers, 1.7e9 + np.arange(6), lambda at_s: offline(model, video, at_s - 1.7e9))


def test_each_frame_is_encoded_at_most_once_in_one_call_an_answer(model, video, monkeypatch):
    encoded = count_encoded(model, monkeypatch)
    assert len(push_all(new_stream(model), decode(video))) == 6
    assert encoded == [1] * 6


def test_repeated_frames_are_left_out(model, video):
    frames = decode(video)
    repeated = [frame for pair in zip(frames, frames, strict=True) for frame in pair]
    answers, expected = push_all(new_stream(model), repeated), push_all(new_stream(model), frames)
    assert [at_s for at_s, _ in answers] == [at_s for at_s, _ in expected]
    assert all(torch.equal(ours, theirs) for (_, ours), (_, theirs) in zip(answers, expected, strict=True))


def test_frames_after_a_window_change_nothing(model, video):
    frames = decode(video)
    changed = [(frame if time_s <= 3 else 255 - frame, time_s) for frame, time_s in frames]
    answers, expected = push_all(new_stream(model), changed), push_all(new_stream(model), frames)
    assert [torch.equal(a[1], b[1]) for a, b in zip(answers, expected, strict=True)] == [True] * 4 + [False] * 2


def test_camera_may_reuse_its_memory(model):
    """The frame on display is kept until its duration is known, so the stream must copy it."""
    first, second, third = numbered_frames(3)
    buffer, stream, expected = np.empty_like(first), new_stream(model), new_stream(model)
    for frame, time_s in ((first, 0.0), (second, 0.5), (third, 1.5)):
        buffer[:] = frame
        assert stream.push(buffer, time_s) == expected.push(frame.copy(), time_s)


@pytest.mark.parametrize(
    "turn",
    [
        lambda frame: frame[..., ::-1].copy()[..., ::-1],  # as when BGR is converted to RGB
        torch.from_numpy,
        lambda frame: torch.from_numpy(frame).permute(2, 0, 1),
        np.asfortranarray,
    ],
)
def test_kinds_of_frames(model, turn):
    stream, expected = new_stream(model), new_stream(model)
    frame = np.random.default_rng(0).integers(0, 256, (48, 64, 3), dtype=np.uint8)
    stream.push(turn(frame), 0.0)
    expected.push(frame, 0.0)
    torch.testing.assert_close(stream.logits, expected.logits, atol=1e-5, rtol=0)


def test_reset_begins_another_video(model, video):
    frames, stream = decode(video), new_stream(model)
    expected = push_all(stream, frames)
    stream.reset()
    assert stream.logits is None
    with pytest.raises(ValueError, match=r"called at 7\.0 s, but the stream has no frames yet"):
        stream.advance(7.0)
    answers = push_all(stream, frames)
    assert all(torch.equal(ours, theirs) for (_, ours), (_, theirs) in zip(answers, expected, strict=True))


def test_streams_together_answer_as_alone(model, video, monkeypatch):
    """Three streams of one model differ in time and rate; one answers while another does not."""
    frames = [image for image, _ in decode(video)]
    clocks = [np.arange(40) * 0.1, 5 + np.arange(40) * 0.15, np.arange(40) * 0.04]
    alone = [new_stream(model) for _ in clocks]
    together = [new_stream(model) for _ in clocks]
    encoded, heads = count_encoded(model, monkeypatch), []
    for i in range(40):
        images, times_s = [frames[i], frames[i + 10], frames[i + 20]], [clock[i] for clock in clocks]
        expected = [one.push(image, t) for one, image, t in zip(alone, images, times_s, strict=True)]
        encoded.clear()
        handle = model.avt.head.register_forward_hook(lambda *_: heads.append(1))
        answers = AVTStream.push_together(together, images, times_s)
        handle.remove()
        num_answers = sum(answer is not None for answer in answers)
        assert (sum(encoded), len(encoded)) == (num_answers, min(num_answers, 1))
        assert len(heads) == min(num_answers, 1)
        heads.clear()
        assert [answer is None for answer in answers] == [answer is None for answer in expected]
        for one, other in zip(together, alone, strict=True):
            torch.testing.assert_close(one.logits, other.logits, atol=1e-5, rtol=0)


def test_one_bad_frame_leaves_all_streams_as_they_were(model):
    first, second = numbered_frames(2)
    streams = [new_stream(model), new_stream(model)]
    streams[0].push_together(streams, [first, first], [0.0, 0.0])
    with pytest.raises(ValueError, match=r"The frame is torch\.float32"):
        streams[0].push_together(streams, [second, second.astype(np.float32)], [1.0, 1.0])
    answers = streams[0].push_together(streams, [second, second], [1.0, 1.0])
    assert answers[0] == answers[1]
    assert answers[0][0]["at_s"] == 1


def test_streams_that_cannot_be_pushed_together(model):
    stream, (frame,) = new_stream(model), numbered_frames(1)
    other = new_stream(copy.deepcopy(model))
    for streams, frames, message in (
        ([stream], [frame, frame], "There are 1 streams, 2 frames and 2 times"),
        ([stream, stream], [frame, frame], "A stream is given twice"),
        ([stream, other], [frame, frame], "different models"),
    ):
        with pytest.raises(ValueError, match=message):
            AVTStream.push_together(streams, frames, [0.0] * len(frames))
    assert AVTStream.push_together([], [], []) == []


BAD_PUSHES = [
    (None, 2.5, "The frame is a NoneType"),
    ([], 2.5, "The frame is a list"),
    ("frame.png", 2.5, "The frame is a str"),
    (np.zeros((48, 64, 3), dtype=np.float32), 2.5, r"The frame is torch\.float32 of shape \(48, 64, 3\): give uint8"),
    (np.zeros((48, 64), dtype=np.uint8), 2.5, r"of shape \(48, 64\)"),
    (np.zeros((1, 48, 64, 3), dtype=np.uint8), 2.5, r"of shape \(1, 48, 64, 3\)"),
    (np.zeros((0, 64, 3), dtype=np.uint8), 2.5, r"of shape \(0, 64, 3\)"),
    (torch.zeros((0, 64, 3), dtype=torch.uint8), 2.5, "it holds no pixels"),
    (numbered_frames(1)[0], None, "time_s is None: give seconds"),
    (numbered_frames(1)[0], float("nan"), "time_s is nan: give seconds"),
    (numbered_frames(1)[0], float("inf"), "time_s is inf: give seconds"),
    (numbered_frames(1)[0], 10**400, "give seconds"),
]


@pytest.mark.parametrize(("frame", "time_s", "message"), BAD_PUSHES)
def test_bad_input_leaves_the_stream_as_it_was(model, frame, time_s, message):
    frames = list(zip(numbered_frames(6), np.arange(6) * 0.5, strict=True))
    stream, expected = new_stream(model), new_stream(model)
    push_all(stream, frames[:4]), push_all(expected, frames[:4])
    with pytest.raises(ValueError, match=message):
        stream.push(frame, time_s)
    with pytest.raises(ValueError, match=r"time_s is 1\.0, but the stream is at 1\.5 s already"):
        stream.advance(1.0)
    for image, moment in frames[4:]:
        assert stream.push(image, moment) == expected.push(image, moment)
    # The same for the very first frame.
    fresh = new_stream(model)
    with pytest.raises(ValueError, match="The frame is a NoneType"):
        fresh.push(None, 3.0)
    assert fresh.push(frames[0][0], 0.0)[0]["at_s"] == 0


def test_failure_in_the_model_leaves_the_stream_as_it_was(model, monkeypatch):
    first, second = numbered_frames(2)
    stream, expected = new_stream(model), new_stream(model)
    stream.push(first, 0.0), expected.push(first, 0.0)
    with monkeypatch.context() as patch:
        patch.setattr(model.avt.head, "forward", lambda *_, **__: (_ for _ in ()).throw(RuntimeError("out of memory")))
        with pytest.raises(RuntimeError, match="out of memory"):
            stream.push(second, 1.0)
    assert stream.push(second, 1.0) == expected.push(second, 1.0)
    model.train()
    with pytest.raises(ValueError, match=r"call model\.eval\(\)"):
        stream.push(first, 2.0)
    model.eval()
    assert stream.push(first, 2.0) == expected.push(first, 2.0)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"every": 0.3}, r"every is 0\.3: give the model's frame interval, 1 s, or that divided by"),
        ({"every": 2.0}, "every is 2"),
        ({"every": 0}, "every is 0"),
        ({"every": -1.0}, "every is -1"),
        ({"top_k": 0}, "top_k is 0"),
        ({"max_gap_s": 0}, r"max_gap_s is 0: give seconds above 0, or math\.inf to accept every jump"),
        ({"max_gap_s": float("nan")}, "max_gap_s is nan"),
    ],
)
def test_refuses_options(model, options, message):
    with pytest.raises(ValueError, match=message):
        new_stream(model, **options)


def test_refuses_a_processor_that_samples_other_moments_or_none(model):
    with pytest.raises(ValueError, match=r"The video processor has tau_o=8\.0, the model 4\.0"):
        AVTStream(model, tiny_processor(tau_o=8.0))
    with pytest.raises(ValueError, match="video_processor is None: this model needs frames"):
        AVTStream(model)


def test_features_instead_of_frames():
    model = tiny_model()
    times_s = np.arange(100) * 0.13
    features = torch.randn(100, 12, generator=torch.manual_seed(1))
    answers = push_all(AVTStream(model), zip(features, times_s, strict=True))
    assert_same(answers, range(13), lambda at_s: offline_features(model, features, times_s, at_s))
    with_arrays = push_all(model.stream(tiny_processor()), zip(features.numpy(), times_s, strict=True))
    assert all(torch.equal(ours, theirs) for (_, ours), (_, theirs) in zip(with_arrays, answers, strict=True))


@pytest.mark.parametrize(
    ("features", "message"),
    [
        (torch.zeros(4, 4, 3, dtype=torch.uint8), r"no backbone .*: give features of frames, .* attach_encoder CHECK"),
        (torch.zeros(11), r"The features are torch\.float32 of shape \(11,\): this model needs floating point \(12,\)"),
        (torch.zeros(1, 12), r"of shape \(1, 12\)"),
        (torch.zeros(12, dtype=torch.int64), r"torch\.int64"),
        (torch.full((12,), float("nan")), "NaN or infinity"),
    ],
)
def test_bad_features(features, message):
    with pytest.raises(ValueError, match=message):
        AVTStream(tiny_model()).push(features, 0.0)


def test_memory_is_that_of_one_window_after_hours():
    """Pushes 10,000 frames in 17 minutes, then none for a night, then 20 more."""
    every = 0.5
    model = tiny_model()
    stream = AVTStream(model, every=every)
    limit = 3 * round(1 / every) + 1
    features = torch.randn(10_020, 12, generator=torch.manual_seed(2))
    times_s = np.arange(10_020) * 0.1 + np.where(np.arange(10_020) < 10_000, 0, 36_000)
    for feature, time_s in zip(features, times_s, strict=True):
        answer = stream.push(feature, time_s)
        assert len(stream._features) <= limit
        if time_s > 999 and answer is not None:
            expected = offline_features(model, features, times_s, answer[0]["at_s"])
            torch.testing.assert_close(stream.logits, expected, atol=1e-5, rtol=0)
    assert sum(kept.untyped_storage().nbytes() for kept in stream._features) == limit * 12 * 4


def test_model_may_be_cast_between_pushes():
    model = tiny_model(tiny_vit_config())
    stream = model.stream(tiny_processor())
    frames = numbered_frames(4)
    stream.push(frames[0], 0.0)
    model.to(torch.bfloat16)
    assert stream.push(frames[1], 1.0) is not None
    assert stream._features[-1].dtype == torch.bfloat16
    model.float()
    assert stream.push(frames[2], 2.0) is not None
    assert stream.logits.dtype == torch.float32


def test_half_precision_equals_the_model_in_half_precision(video):
    model = tiny_model(tiny_vit_config()).to(torch.bfloat16)
    batch = tiny_processor()(video, at_s=4.0)
    with torch.no_grad():
        expected = model(batch["pixel_values_videos"].to(torch.bfloat16), frame_mask=batch["frame_mask"]).logits[0]
    answers = dict(push_all(model.stream(tiny_processor()), decode(video)))
    torch.testing.assert_close(answers[4.0], expected.float(), atol=0.05, rtol=0)


def test_stream_of_a_checkpoint_in_a_process_without_the_package(tmp_path, clean_process, model, video):
    folder = str(tmp_path / "checkpoint")
    model.save_pretrained(folder)
    tiny_processor().save_pretrained(folder)
    frames = numbered_frames(5)
    np.save(tmp_path / "frames.npy", frames)
    code = f"""
    import json
    import numpy as np
    from transformers import AutoModel, AutoProcessor

    model = AutoModel.from_pretrained({folder!r}, trust_remote_code=True)
    stream = model.stream(AutoProcessor.from_pretrained({folder!r}, trust_remote_code=True), top_k=2)
    frames = np.load({str(tmp_path / "frames.npy")!r})
    print(json.dumps([stream.push(frame, 0.5 * i) for i, frame in enumerate(frames)]))
    """
    answers = json.loads(clean_process(code).splitlines()[-1])
    stream = new_stream(model, top_k=2)
    for i, answer in enumerate(answers):
        expected = stream.push(frames[i], 0.5 * i)
        assert (answer is None) == (expected is None) == (i % 2 == 1)
        for ours, theirs in zip(answer or [], expected or [], strict=True):
            assert ours == {**theirs, "score": pytest.approx(theirs["score"], abs=1e-5)}

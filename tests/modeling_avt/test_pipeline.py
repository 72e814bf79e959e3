"""`pipeline("action-anticipation")`: answers for all inputs and moments, and timelines that equal single moments."""

import io
import json

import numpy as np
import pytest
import torch
from helpers.tiny_models import (
    VERB_NOUN,
    processor_of,
    tiny_config,
    tiny_encoder_config,
    tiny_model,
    tiny_processor,
    tiny_vit_config,
)
from transformers import ViTModel, pipeline
from transformers.pipelines.pt_utils import KeyDataset

from modeling_avt import ActionAnticipationPipeline, AVTForAnticipation
from modeling_avt.video_io_avt import VideoDecodeError, read_frames

NAMES = {"id2label": {0: "cut egg", 1: "cut oil", 2: "mix egg", 3: "mix oil", 4: "mix flour"}}
FEATURES = np.random.default_rng(0).normal(size=(20, 12)).astype(np.float32)  # 10 s at 2 per second


@pytest.fixture(scope="module")
def anticipate() -> ActionAnticipationPipeline:
    config = tiny_vit_config(**NAMES, **VERB_NOUN, tau_a=0.5)
    return ActionAnticipationPipeline(model=tiny_model(config), video_processor=tiny_processor())


@pytest.fixture(scope="module")
def anticipate_features() -> ActionAnticipationPipeline:
    return ActionAnticipationPipeline(model=tiny_model(tiny_config(**NAMES, **VERB_NOUN, tau_a=0.5)))


@pytest.fixture(scope="module")
def frames(video) -> np.ndarray:
    """All frames of the video, 10 per second."""
    return read_frames(video, np.arange(60) / 10)


def by_label(answer: list[dict]) -> dict[str, float]:
    return {entry["label"]: entry["score"] for entry in answer}


def models_scores(model, **inputs) -> dict[str, float]:
    """Returns the scores of a model that is called directly on one window."""
    with torch.no_grad():
        scores = model(**{name: value[None] for name, value in inputs.items()}).logits[0].softmax(-1)
    return dict(zip(NAMES["id2label"].values(), scores.tolist(), strict=True))


def test_answer_is_the_models_on_the_observed_window(anticipate, video):
    batch = anticipate.video_processor(video, at_s=4.0)
    with torch.no_grad():
        expected = anticipate.model(**batch).logits[0].softmax(-1)
    answer = anticipate(str(video), at=4.0)
    assert [entry["score"] for entry in answer] == pytest.approx(
        expected.sort(descending=True).values.tolist(), abs=1e-6
    )
    assert answer[0]["label"] == NAMES["id2label"][expected.argmax().item()]
    assert {entry["starts_in_s"] for entry in answer} == {0.5}
    assert all(entry["label"] == f"{entry['verb']} {entry['noun']}" for entry in answer)


def test_default_moment_is_the_end_of_the_video(anticipate, video):
    assert anticipate(str(video)) == anticipate(str(video), at=6.0)
    assert anticipate(str(video)) != anticipate(str(video), at=3.0)


def test_paths_bytes_and_lists(anticipate, video):
    expected = anticipate(str(video), top_k=2)
    assert len(expected) == 2
    assert anticipate(video, top_k=2) == expected
    assert anticipate(video.read_bytes(), top_k=2) == expected
    for content in (io.BytesIO(video.read_bytes()), bytearray(video.read_bytes()), memoryview(video.read_bytes())):
        assert anticipate(content, top_k=2) == expected
        assert anticipate([content, {"video": content}], top_k=2) == [expected, expected]
    assert anticipate([str(video), video], top_k=2) == [expected, expected]
    assert len(anticipate(str(video), top_k=100)) == 5


def test_timeline_equals_single_moments(anticipate, video):
    timeline = anticipate(str(video), every=1.5)
    assert [entry["at_s"] for entry in timeline] == [1.5, 3.0, 4.5, 6.0]
    assert [entry["starts_at_s"] for entry in timeline] == [2.0, 3.5, 5.0, 6.5]
    for entry in timeline:
        single = anticipate(str(video), at=entry["at_s"])
        assert [x["label"] for x in entry["anticipated"]] == [x["label"] for x in single]
        scores = [x["score"] for x in single]
        assert [x["score"] for x in entry["anticipated"]] == pytest.approx(scores, abs=1e-6)


def test_timeline_encodes_each_frame_once(anticipate, video, monkeypatch):
    encoded, encode = [], anticipate.model.encode_frames

    def counting_encode(frames):
        encoded.append(len(frames))
        return encode(frames)

    monkeypatch.setattr(anticipate.model, "encode_frames", counting_encode)
    anticipate(str(video), every=1.0)  # windows of 4 frames at 1..6 s share the frames at 0, 1, ... 6 s
    assert encoded == [7]


def test_long_timelines_are_worked_through_in_chunks(anticipate, video, monkeypatch):
    whole = anticipate(str(video), every=1.0, top_k=1)
    for module in ("encoders_avt", "video_processing_avt"):
        monkeypatch.setattr(f"modeling_avt.{module}.FRAMES_AT_ONCE", 3)
    chunked = anticipate(str(video), every=1.0, top_k=1)
    assert [x["anticipated"][0]["label"] for x in chunked] == [x["anticipated"][0]["label"] for x in whole]
    scores = [x["anticipated"][0]["score"] for x in whole]
    assert [x["anticipated"][0]["score"] for x in chunked] == pytest.approx(scores, abs=1e-6)


def test_actions_without_verb_and_noun_names(video):
    model = tiny_model(tiny_vit_config())
    answer = ActionAnticipationPipeline(model=model, video_processor=tiny_processor())(str(video), top_k=1)[0]
    assert (answer["verb"], answer["noun"]) == (None, None)
    assert answer["label"].startswith("LABEL_")


def test_answers_say_what_was_observed_and_when_the_action_starts(anticipate, video):
    times = {"observed_from_s": 1.0, "observed_until_s": 5.0, "starts_at_s": 5.5, "starts_in_s": 0.5}
    for entry in anticipate(str(video), at=5.0):
        assert {key: entry[key] for key in times} == times
    early = anticipate(str(video), at=1.5)[0]  # the window of 4 s is cut off by the beginning of the video
    assert (early["observed_from_s"], early["observed_until_s"], early["starts_at_s"]) == (0.0, 1.5, 2.0)
    assert anticipate(str(video), every=1.5)[0]["anticipated"][0].keys() == early.keys()


@pytest.mark.parametrize("at", [0.0, 1.25, 4.0, 6.0])
@pytest.mark.parametrize("kind", ["path", "str", "bytes", "array", "tensor", "channels_first", "list", "view", "dict"])
def test_every_kind_of_input_is_the_model_on_the_same_window(anticipate, video, frames, kind, at):
    batch = anticipate.video_processor(video, at_s=at)
    expected = models_scores(anticipate.model, **{name: value[0] for name, value in batch.items()})
    clocked = {
        "array": frames,
        "tensor": torch.from_numpy(frames),
        "channels_first": torch.from_numpy(frames).permute(0, 3, 1, 2),
        "list": [list(frames)],
        "view": frames[..., ::-1].copy()[..., ::-1],
    }
    if kind in clocked:
        answer = anticipate(clocked[kind], at=at, frames_per_second=10)
        answer = answer[0] if kind == "list" else answer
    else:
        files = {"path": video, "str": str(video), "bytes": video.read_bytes(), "dict": {"video": video}}
        answer = anticipate(files[kind], at=at)
    assert by_label(answer) == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize("convert", [lambda x: x, torch.from_numpy, lambda x: x[..., ::-1].copy()[..., ::-1]])
@pytest.mark.parametrize("kind", [list, tuple])
def test_a_list_of_frames_is_one_video(anticipate, frames, kind, convert):
    one = kind(convert(frame) for frame in frames)
    expected = anticipate(frames, at=5.0, frames_per_second=10)
    assert anticipate(one, at=5.0, frames_per_second=10) == expected
    assert anticipate([list(one), frames], at=5.0, frames_per_second=10) == [expected, expected]
    window = [one[index] for index in (0, 30, 40, 50)]
    assert anticipate(window) == anticipate(frames[[0, 30, 40, 50]])


def test_timeline_of_an_array_is_that_of_its_file(anticipate, video, frames):
    expected = anticipate(video, every=1.0)
    timeline = anticipate({"video": frames, "frames_per_second": 10.0}, every=1.0)
    assert len(timeline) == 6
    for ours, theirs in zip(timeline, expected, strict=True):
        assert ours["at_s"] == theirs["at_s"]
        assert by_label(ours["anticipated"]) == pytest.approx(by_label(theirs["anticipated"]), abs=1e-5)


def test_an_array_without_a_clock_is_the_observed_window(anticipate, frames):
    window = frames[[0, 30, 40, 50]]
    prepared = anticipate.video_processor(window)["pixel_values_videos"][0]
    answer = anticipate(window)
    assert by_label(answer) == pytest.approx(models_scores(anticipate.model, pixel_values_videos=prepared), abs=1e-5)
    assert {(x["observed_from_s"], x["observed_until_s"], x["starts_at_s"]) for x in answer} == {(None, None, None)}
    assert {x["starts_in_s"] for x in answer} == {0.5}
    mask = torch.tensor([False, True, True, True])
    expected = models_scores(anticipate.model, pixel_values_videos=prepared, frame_mask=mask)
    assert by_label(anticipate({"video": window, "frame_mask": mask})) == pytest.approx(expected, abs=1e-5)
    assert by_label(answer) != pytest.approx(expected, abs=2e-5)
    assert anticipate(np.stack([window, window[::-1]])) == [answer, anticipate(window[::-1])]


@pytest.mark.parametrize("convert", [np.asarray, torch.from_numpy, lambda x: x.astype(np.float64)])
def test_features_are_the_model_on_the_same_window(anticipate_features, convert):
    model, features = anticipate_features.model, convert(FEATURES)
    # Windows of 4 frames, 1 per second, that end at 5.25 s: moments 2.25, ... 5.25 s, from rows at every 0.5 s.
    expected = models_scores(model, video_features=torch.from_numpy(FEATURES[[4, 6, 8, 10]]))
    for video in (features, {"video_features": features}):
        answer = anticipate_features(video, at=5.25, frames_per_second=2)
        assert by_label(answer) == pytest.approx(expected, abs=1e-5)
        assert (answer[0]["observed_from_s"], answer[0]["starts_at_s"]) == (1.25, 5.75)
    window = features[[4, 6, 8, 10]]
    assert by_label(anticipate_features(window)) == pytest.approx(expected, abs=1e-5)
    assert anticipate_features(window[None]) == [anticipate_features(window)]
    # The same rows, if they were taken from a video that had been running for a second.
    late = {"video_features": features, "frames_per_second": 2.0, "start_s": 1.0}
    assert by_label(anticipate_features(late, at=6.25)) == pytest.approx(expected, abs=1e-5)
    timeline = anticipate_features(features, every=2.5, frames_per_second=2)
    assert [moment["at_s"] for moment in timeline] == [2.5, 5.0, 7.5, 10.0]


@pytest.mark.parametrize("convert", [torch.Tensor.bfloat16, torch.Tensor.requires_grad_])
def test_features_may_be_a_list_of_tensors_that_numpy_does_not_know(anticipate_features, convert):
    rows = convert(torch.from_numpy(FEATURES[:4].copy()))
    found = anticipate_features({"video_features": list(rows)})
    assert by_label(found) == pytest.approx(by_label(anticipate_features(rows.detach().float())))


def test_a_timeline_of_an_array_that_begins_late_counts_from_there(anticipate, anticipate_features, frames):
    """It once began at 0 s, so it was refused."""
    late = {"video_features": FEATURES, "frames_per_second": 2.0, "start_s": 100.25}
    timeline = anticipate_features(late, every=0.5)
    # The first window of 4 moments, 1 s apart, that the array holds begins 3 s before its end.
    assert [moment["at_s"] for moment in timeline] == [103.25 + 0.5 * count for count in range(15)]
    for moment in timeline:
        alone = anticipate_features(late, at=moment["at_s"])
        assert by_label(moment["anticipated"]) == pytest.approx(by_label(alone), abs=1e-5)
    with pytest.raises(ValueError, match=r"begins at 100\.250 s, after 100\.000 s, which is in the observed window"):
        anticipate_features(late, at=103.0)
    with pytest.raises(ValueError, match=r"every=11 is longer than the video, which begins at 100\.250 s"):
        anticipate_features(late, every=11)
    short = {**late, "video_features": FEATURES[:5]}
    with pytest.raises(ValueError, match=r"begins at 100\.250 s, after 99\.750 s, .*: give rows from 0 s"):
        anticipate_features(short, every=0.5)
    of_frames = anticipate({"video": frames, "frames_per_second": 10.0, "start_s": 2.0}, every=1.5)
    assert [moment["at_s"] for moment in of_frames] == [5.0, 6.5, 8.0]


def test_a_timeline_of_one_frame_windows_begins_one_interval_after_a_late_array():
    anticipate = ActionAnticipationPipeline(model=tiny_model(tiny_config(num_frames=1, tau_o=1.0)))
    timeline = anticipate({"video_features": FEATURES, "frames_per_second": 2.0, "start_s": 7.0}, every=3.0)
    assert [moment["at_s"] for moment in timeline] == [10.0, 13.0, 16.0]


def test_clips_of_a_timeline_do_not_begin_before_a_late_array(frames):
    model = tiny_model(tiny_encoder_config("videomae", num_frames=2))  # clips of 4 frames, 0.5 s apart
    anticipate = ActionAnticipationPipeline(model=model, video_processor=processor_of(model))
    late = {"video": frames, "frames_per_second": 10.0, "start_s": 10.0}
    assert [moment["at_s"] for moment in anticipate(late, every=0.5)] == [12.5 + 0.5 * count for count in range(8)]


def test_a_model_with_a_backbone_takes_features_too(anticipate, video):
    pixels = anticipate.video_processor(video, at_s=5.0)["pixel_values_videos"][0]
    with torch.no_grad():
        features = anticipate.model.encode_frames(pixels)
    assert by_label(anticipate(features)) == pytest.approx(by_label(anticipate(video, at=5.0)), abs=1e-5)
    # Videos and features in one batch.
    mixed = anticipate([video, features, video.read_bytes()], at=None, batch_size=3)
    for answer, alone in zip(mixed, (video, features, video), strict=True):
        assert by_label(answer) == pytest.approx(by_label(anticipate(alone)), abs=1e-5)


@pytest.mark.parametrize("moments", [{"at": 2.5}, {"every": 0.5}, {}])
def test_batches_change_nothing(anticipate, video, frames, moments):
    """The videos of a batch have different lengths."""
    kept = [frames, frames[:28], frames[20:57], frames[5:45]]
    videos = [{"video": array, "frames_per_second": 10} for array in kept] + [str(video)]
    batch_sizes = (1, 3, 7)
    one, three, seven = (anticipate(videos, batch_size=size, **moments) for size in batch_sizes)
    if "every" in moments:  # answers are lists of moments, compared one by one
        assert [len(timeline) for timeline in one] == [12, 5, 7, 8, 12]
        one, three, seven = ([m["anticipated"] for timeline in x for m in timeline] for x in (one, three, seven))
    for others in (three, seven):
        assert len(others) == len(one)
        for ours, theirs in zip(others, one, strict=True):
            assert by_label(ours) == pytest.approx(by_label(theirs), abs=1e-6)
            assert [entry["starts_at_s"] for entry in ours] == [entry["starts_at_s"] for entry in theirs]
    assert by_label(one[0]) != pytest.approx(by_label(one[2]), abs=1e-4)


def test_a_batch_goes_through_the_backbone_at_once(anticipate, frames, monkeypatch):
    encoded, encode = [], anticipate.model.encode_frames
    monkeypatch.setattr(anticipate.model, "encode_frames", lambda pixels: encoded.append(len(pixels)) or encode(pixels))
    anticipate([frames[:4], frames[4:8], frames[8:12]], batch_size=3)
    anticipate([frames[:4], frames[4:8], frames[8:12]], batch_size=2)
    assert encoded == [12, 8, 4]


@pytest.mark.parametrize("batch_size", [1, 2])
def test_data_sets_generators_and_iterators(anticipate, video, batch_size):
    rows = [{"clip": str(video)}, {"clip": video.read_bytes()}, {"clip": {"bytes": None, "path": str(video)}}]
    expected = anticipate(video, at=3.0)
    options = {"at": 3.0, "batch_size": batch_size}
    answers = anticipate(KeyDataset(rows, "clip"), **options)
    assert len(answers) == 3  # `len` gives progress bars their total
    streams = [(row["clip"] for row in rows), iter([row["clip"] for row in rows])]
    for stream in (answers, *(anticipate(stream, **options) for stream in streams)):
        found = list(stream)
        assert len(found) == 3
        assert all(by_label(answer) == pytest.approx(by_label(expected), abs=1e-6) for answer in found)
    assert len(anticipate(tuple(row["clip"] for row in rows), **options)) == 3


def test_generators_are_read_as_answers_are_asked_for(anticipate, frames):
    read = []

    def videos():
        for number in range(6):
            read.append(number)
            yield frames[number : number + 4]

    answers = iter(anticipate(videos()))
    next(answers)
    assert read == [0]
    assert len(list(answers)) == 5


def test_options_of_the_construction_hold_until_a_call_gives_others(video):
    model = tiny_model(tiny_vit_config())
    anticipate = ActionAnticipationPipeline(
        model=model, video_processor=tiny_processor(), every=2.0, top_k=1, batch_size=2
    )
    assert [moment["at_s"] for moment in anticipate(video)] == [2.0, 4.0, 6.0]
    assert [moment["at_s"] for moment in anticipate(video, every=3.0)] == [3.0, 6.0]
    assert [len(timeline) for timeline in anticipate([video, video])] == [3, 3]
    single = anticipate(video, at=3.0, top_k=2)
    assert [entry["observed_until_s"] for entry in single] == [3.0, 3.0]


def test_dtype_and_device(video, tmp_path):
    expected = by_label(
        ActionAnticipationPipeline(tiny_model(tiny_vit_config()), video_processor=tiny_processor())(video)
    )
    tiny_model(tiny_vit_config()).save_pretrained(tmp_path)
    tiny_processor().save_pretrained(tmp_path)
    options = {"model": str(tmp_path), "trust_remote_code": True, "device": "cpu"}
    loaded = pipeline("action-anticipation", dtype=torch.bfloat16, **options)
    ours = [
        ActionAnticipationPipeline(tiny_model(tiny_vit_config()), video_processor=tiny_processor(), dtype=dtype)
        for dtype in (torch.bfloat16, "bfloat16")
    ]
    for pipe in (loaded, *ours):
        assert (pipe.model.dtype, pipe.device.type) == (torch.bfloat16, "cpu")
        answer = by_label(pipe(video))
        assert answer == pytest.approx(expected, abs=0.05)
        assert answer != pytest.approx(expected, abs=1e-6)
    assert pipeline("action-anticipation", **options).model.dtype == torch.float32
    with pytest.raises(AttributeError, match="float17"):
        ActionAnticipationPipeline(tiny_model(tiny_vit_config()), video_processor=tiny_processor(), dtype="float17")


def test_feature_checkpoint_in_a_clean_process(anticipate_features, tmp_path, clean_process):
    folder, again = tmp_path / "checkpoint", tmp_path / "again"
    anticipate_features.save_pretrained(str(folder))
    assert "pipeline_inputs_avt.py" in {path.name for path in folder.iterdir()}
    np.save(tmp_path / "features.npy", FEATURES)
    code = f"""
    import json
    import numpy as np
    from transformers import pipeline
    features = np.load({str(tmp_path / "features.npy")!r})
    answers = []
    for folder in {[str(folder), str(again)]!r}:
        anticipate = pipeline("action-anticipation", model=folder, trust_remote_code=True)
        answers.append(anticipate(features, at=5.25, frames_per_second=2))
        anticipate.save_pretrained({str(again)!r})
    print(json.dumps(answers))
    """
    first, second = json.loads(clean_process(code).splitlines()[-1])
    assert first == second
    expected = by_label(anticipate_features(FEATURES, at=5.25, frames_per_second=2))
    assert by_label(first) == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"at": 1.0, "every": 1.0}, ValueError, "either at, for one moment, or every"),
        ({"every": 0}, ValueError, "every is 0"),
        ({"every": 10.0}, ValueError, "longer than the video, which ends at 6.000 s"),
        ({"every": float("inf")}, ValueError, "every is inf"),
        ({"top_k": 0}, ValueError, "top_k is 0"),
        ({"at": float("nan")}, ValueError, "at is nan"),
        ({"frames_per_second": 10}, ValueError, "frames_per_second is given for a video file"),
        ({"at": -1.0}, ValueError, "before the first frame"),
        ({"at": 7.0}, VideoDecodeError, "the video ends at 6.000 s"),
    ],
)
def test_refuses(anticipate, video, options, error, message):
    with pytest.raises(error, match=message):
        anticipate(str(video), **options)


def test_refuses_an_unreadable_file(anticipate, tmp_path):
    with pytest.raises(VideoDecodeError, match=r"missing\.mp4: it cannot be opened"):
        anticipate(str(tmp_path / "missing.mp4"))


def test_refuses_a_processor_that_samples_other_moments():
    with pytest.raises(ValueError, match=r"The video processor has frame_rate=2\.0, the model 1\.0"):
        ActionAnticipationPipeline(model=tiny_model(tiny_vit_config()), video_processor=tiny_processor(frame_rate=2.0))


@pytest.mark.parametrize(
    ("change", "options", "message"),
    [
        (lambda x: x[:0], {}, r"shape \(0, 48, 64, 3\) holds no frames"),
        (lambda x: x / 255, {}, r"float64 \(60, 48, 64, 3\): give frames, uint8 \(N, H, W, 3\)"),
        (lambda x: x.astype(np.int32), {}, r"int32 \(60, 48, 64, 3\): give frames, uint8"),
        (lambda x: x[0], {}, r"uint8 \(48, 64, 3\): give frames"),
        (lambda x: x[..., :2], {}, r"uint8 \(60, 48, 64, 2\): give frames"),
        (
            lambda x: x,
            {},
            r"uint8 \(60, 48, 64, 3\) is not the 4 frames that the model observes: give frames_per_second",
        ),
        (lambda x: x[:4], {"at": 2.0}, "at needs a clock"),
        (lambda x: x[:4], {"every": 1.0}, "every needs a clock"),
        (lambda x: x, {"at": -0.5, "frames_per_second": 10}, "ends at -0.500 s, before the first frame"),
        (lambda x: x, {"at": 6.1, "frames_per_second": 10}, r"at is 6.100 s: an array uint8 .* ends at 6.000 s"),
        (
            lambda x: x,
            {"every": 9.0, "frames_per_second": 10},
            "every=9.0 is longer than the video, which ends at 6.000",
        ),
        (lambda x: x, {"frames_per_second": 0}, "frames_per_second is 0"),
        (lambda x: {"frames": x}, {}, r"A video has the keys \['frames'\]: give either video or video_features"),
        (lambda x: {"video": x, "video_features": x}, {}, "give either video or video_features"),
        (lambda x: {"video_features": x[:4]}, {}, r"uint8 \(4, 48, 64, 3\): give frames"),
        (lambda x: {"video": x[:4], "frame_mask": [True]}, {}, r"frame_mask has the shape \(1,\): give \(4,\)"),
        (lambda x: {"video": x[:4], "frame_mask": [True, True, True, False]}, {}, "hides a last frame"),
        (lambda x: {"video": x, "frame_mask": [True] * 60}, {"frames_per_second": 10}, "are both given"),
        (
            lambda x: {"video": x, "start_s": 2.0},
            {"frames_per_second": 10, "at": 3.0},
            "begins at 2.000 s, after 0.000",
        ),
        (lambda x: {"video": x[:4], "start_s": 2.0}, {}, "start_s is given without frames_per_second"),
        (lambda x: {"video": "a.mp4", "start_s": 2.0}, {}, "start_s is given for a video file"),
        (lambda x: 7, {}, "A video is a int: give a file"),
        (lambda x: [], {}, "videos is empty"),
        (lambda x: FEATURES, {}, r"an array float32 \(20, 12\): this model needs \(N, 32\)"),
    ],
)
def test_refuses_arrays(anticipate, frames, change, options, message):
    with pytest.raises(ValueError, match=message):
        anticipate(change(frames), **options)


def test_refuses_features_that_are_not_finite(anticipate_features):
    broken = FEATURES.copy()
    broken[3] = np.nan
    anticipate_features(broken, frames_per_second=2, at=9.0)  # row 3 is not observed
    with pytest.raises(ValueError, match="not finite"):
        anticipate_features(broken, frames_per_second=2, at=1.5)


def test_a_model_of_features_refuses_files_before_it_opens_them(anticipate_features):
    advice = r"floating \(N, 12\), instead of the file missing.mp4; or write a checkpoint that accepts videos, .*"
    with pytest.raises(ValueError, match=rf"has no backbone .* {advice}: avt-distill attach_encoder CHECKPOINT\.$"):
        anticipate_features("missing.mp4")


def test_a_model_of_features_names_the_command_that_gives_it_a_backbone(tmp_path, video):
    tiny_model(tiny_config()).save_pretrained(tmp_path)
    anticipate = pipeline("action-anticipation", model=str(tmp_path), trust_remote_code=True)
    with pytest.raises(ValueError, match=rf"avt-distill attach_encoder {tmp_path}\.$"):
        anticipate(str(video))


def test_a_model_with_a_backbone_needs_a_processor(tmp_path):
    tiny_model(tiny_vit_config()).save_pretrained(tmp_path)
    with pytest.raises(ValueError, match="needs a video_processor for a model with a backbone"):
        pipeline("action-anticipation", model=str(tmp_path), trust_remote_code=True)


def test_refuses_a_checkpoint_of_another_model_type(tmp_path):
    vit = ViTModel(tiny_vit_config().backbone_config)
    with pytest.raises(
        ValueError, match="The model is a ViTModel of type 'vit': the action-anticipation pipeline needs"
    ):
        ActionAnticipationPipeline(model=vit, video_processor=tiny_processor())
    vit.save_pretrained(tmp_path)
    with pytest.raises(ValueError, match="The checkpoint is of type 'vit', not 'avt'"):  # or weights would be random
        AVTForAnticipation.from_pretrained(tmp_path)


@pytest.mark.parametrize("kept", [0.0, 0.001, 0.5])
def test_refuses_weights_that_were_cut_off(tmp_path, kept):
    tiny_model(tiny_vit_config()).save_pretrained(tmp_path)
    tiny_processor().save_pretrained(tmp_path)
    weights = tmp_path / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[: int(kept * weights.stat().st_size)])
    message = rf"The weights of {tmp_path} cannot be read \(.*\): the file is damaged, or was cut off"
    with pytest.raises(OSError, match=message):
        AVTForAnticipation.from_pretrained(tmp_path)
    with pytest.raises(ValueError, match=message):  # transformers quotes it
        pipeline("action-anticipation", model=str(tmp_path), trust_remote_code=True)


def test_refuses_a_model_without_backbone(video):
    pipe = ActionAnticipationPipeline(model=tiny_model(tiny_config()), video_processor=tiny_processor())
    with pytest.raises(ValueError, match="has no backbone"):
        pipe(str(video))

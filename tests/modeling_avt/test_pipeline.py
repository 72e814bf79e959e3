"""`pipeline("action-anticipation")`: what it answers, when, and that a timeline equals single moments."""

import pytest
import torch
from conftest import VERB_NOUN, tiny_config, tiny_model, tiny_processor, tiny_vit_config

from modeling_avt import ActionAnticipationPipeline
from modeling_avt.video_io_avt import VideoDecodeError

NAMES = {"id2label": {0: "cut egg", 1: "cut oil", 2: "mix egg", 3: "mix oil", 4: "mix flour"}}


@pytest.fixture(scope="module")
def anticipate() -> ActionAnticipationPipeline:
    config = tiny_vit_config(**NAMES, **VERB_NOUN, tau_a=0.5)
    return ActionAnticipationPipeline(model=tiny_model(config), video_processor=tiny_processor())


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
    for module in ("pipeline_avt", "video_processing_avt"):
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


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"at": 1.0, "every": 1.0}, ValueError, "either at, for one moment, or every"),
        ({"every": 0}, ValueError, "every is 0"),
        ({"every": 10.0}, ValueError, "longer than the video, which ends at 6.000 s"),
        ({"top_k": 0}, ValueError, "top_k is 0"),
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


def test_refuses_a_model_without_backbone(video):
    pipe = ActionAnticipationPipeline(model=tiny_model(tiny_config()), video_processor=tiny_processor())
    with pytest.raises(ValueError, match="has no backbone"):
        pipe(str(video))

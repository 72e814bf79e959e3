"""Students with video models as encoders: each moment is encoded from the clip that ends there."""

import numpy as np
import pytest
import torch
from accelerate import FullyShardedDataParallelPlugin
from helpers.processes import WITH_THE_PROJECT, run_python
from helpers.tiny_models import (
    VERB_NOUN,
    VIDEO_ENCODERS,
    processor_of,
    tiny_encoder,
    tiny_encoder_config,
    tiny_model,
)
from helpers.videos import numbered_frames, write_video
from transformers import AutoModel, VJEPA2ForVideoClassification

from modeling_avt import ActionAnticipationPipeline, AVTForAnticipation, AVTStream
from modeling_avt.probe_avt import PROBE_LAYERS
from modeling_avt.temporal_avt import Clips

HEADS = ("avt", "probe")
STUDENTS = [(kind, head) for kind in ("dinov2", "videomae", "vjepa2") for head in HEADS]


@pytest.fixture(scope="module")
def frames() -> np.ndarray:
    """Noise, 8 s at 4 frames/s, in which all frames differ."""
    return np.random.default_rng(0).integers(0, 256, (32, 48, 64, 3), dtype=np.uint8)


@pytest.fixture(scope="module")
def video(tmp_path_factory):
    return write_video(tmp_path_factory.mktemp("clips") / "noise.mkv", numbered_frames(64, width=64, height=48), fps=8)


def student(kind: str, head: str = "avt", **overrides) -> AVTForAnticipation:
    return tiny_model(tiny_encoder_config(kind, head_type=head, **overrides))


def on_window(model: AVTForAnticipation, frames: np.ndarray, at_s: float) -> torch.Tensor:
    """Returns scores `(A,)` of frames at 4 per second, computed clip by clip."""
    config = model.config
    length = config.clip_num_frames or 1
    moments = [at_s - back for back in range(config.num_frames - 1, -1, -1)]
    prepared = processor_of(model).preprocess(frames)["pixel_values_videos"][0]
    features = []
    for moment in moments:
        times = [max(moment - back / config.clip_frame_rate, 0.0) for back in range(length - 1, -1, -1)]
        clip = prepared[[min(int(4 * time + 1e-6), len(frames) - 1) for time in times]]
        features.append(model.encode_frames(clip[None] if config.clip_num_frames else clip)[0])
    mask = torch.tensor([[moment >= max(at_s - config.tau_o, 0) - 1e-6 for moment in moments]])
    return model(video_features=torch.stack(features)[None], frame_mask=mask).logits[0]


def test_clips_end_at_their_moments_and_repeat_the_first_frame():
    clips = Clips(4, 2.0)
    assert clips.times(np.array([3.0, 0.5])).tolist() == [[1.5, 2.0, 2.5, 3.0], [0.0, 0.0, 0.0, 0.5]]
    assert Clips().times(np.array([3.0])).tolist() == [[3.0]]


def test_a_window_holds_each_frame_of_its_clips_once():
    window = Clips(4, 2.0).window(num_frames=3, frame_rate=1.0)
    assert window.offsets_s.tolist() == [-3.5, -3.0, -2.5, -2.0, -1.5, -1.0, -0.5, 0.0]
    assert window.clips.tolist() == [[0, 1, 2, 3], [2, 3, 4, 5], [4, 5, 6, 7]]
    moments = np.array([-1.0, 0.0, 1.0])
    times, needed = window.times(moments, moments >= 0)
    assert times.tolist() == [0, 0, 0, 0, 0, 0, 0.5, 1.0]
    assert needed.tolist() == [False, False, *[True] * 6]


def test_moments_of_the_reference_protocol_are_refused_for_clips():
    window, mask = Clips(4, 2.0).window(3, 1.0), np.ones(3, dtype=bool)
    with pytest.raises(ValueError, match="protocol 'avt': video models need protocol='exact'"):
        window.times(np.array([0.0, 1.05, 2.1]), mask)
    assert Clips().window(3, 1.0).times(np.array([0.0, 1.05, 2.1]), mask)[0].tolist() == [0.0, 1.05, 2.1]


def test_moments_and_frames_shared_by_clips_are_listed_once():
    moments = np.array([[1.0, 2.0], [2.0, 3.0]])
    distinct = Clips(2, 1.0).distinct(moments, np.array([[False, True], [True, True]]))
    assert distinct.times_s.tolist() == [1.0, 2.0, 3.0]
    assert distinct.clips.tolist() == [[0, 1], [1, 2]]
    assert distinct.positions.tolist() == [[0, 0], [0, 1]]


@pytest.mark.parametrize("kind", VIDEO_ENCODERS)
@torch.no_grad()
def test_the_feature_of_a_moment_is_the_video_models_own_of_its_clip(kind):
    model = student(kind)
    clips = torch.randn(3, 4, 3, 32, 32)
    options = {"skip_predictor": True} if kind == "vjepa2" else {}
    tokens = model.avt.backbone(clips, **options).last_hidden_state
    expected = tokens[:, 0] if kind in ("timesformer", "vivit") else tokens.mean(1)
    torch.testing.assert_close(model.encode_frames(clips), expected)
    probing = student(kind, "probe")
    torch.testing.assert_close(probing.encode_frames(clips), probing.avt.backbone(clips, **options).last_hidden_state)


@pytest.mark.parametrize("at_s", [1.0, 7.5])
@pytest.mark.parametrize(("kind", "head"), [*STUDENTS, ("timesformer", "avt"), ("vivit", "probe")])
@torch.no_grad()
def test_pipeline_and_stream_answer_as_clip_by_clip(kind, head, at_s, frames):
    model = student(kind, head)
    expected = on_window(model, frames, at_s)
    pipeline = ActionAnticipationPipeline(model=model, video_processor=processor_of(model))
    answer = pipeline(frames, at=at_s, frames_per_second=4, top_k=5)
    scores = {entry["label"]: entry["score"] for entry in answer}
    got = torch.tensor([scores[model.config.id2label[action]] for action in range(5)])
    torch.testing.assert_close(got, expected.softmax(-1), atol=1e-5, rtol=0)
    stream = AVTStream(model, processor_of(model), every=0.5)
    for number, frame in enumerate(frames[: int(4 * at_s) + 1]):
        stream.push(frame, 100 + number / 4)
    torch.testing.assert_close(stream.logits, expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize(("kind", "head"), STUDENTS)
@torch.no_grad()
def test_a_file_is_answered_as_its_frames_are(kind, head, video):
    model = student(kind, head)
    processor = processor_of(model)
    pipeline = ActionAnticipationPipeline(model=model, video_processor=processor)
    timeline = pipeline(str(video), every=0.5, top_k=1)
    assert len(timeline) == 16
    for moment in (timeline[0], timeline[2], timeline[-1]):
        logits = model(**processor(str(video), at_s=moment["at_s"])).logits[0]
        assert moment["anticipated"][0]["score"] == pytest.approx(logits.softmax(-1).max().item(), abs=1e-5)
        assert moment["anticipated"][0]["label"] == model.config.id2label[int(logits.argmax())]


@pytest.mark.parametrize(("kind", "head"), STUDENTS)
@torch.no_grad()
def test_frames_after_the_window_change_nothing(kind, head, frames):
    model = student(kind, head)
    pipeline = ActionAnticipationPipeline(model=model, video_processor=processor_of(model))
    later = frames.copy()
    later[21:] = 255 - later[21:]  # from 5.25 s on
    before, after = (pipeline(some, at=5.0, frames_per_second=4) for some in (frames, later))
    assert before == after
    later[20] = 255 - later[20]
    assert pipeline(later, at=5.0, frames_per_second=4) != before


@pytest.mark.parametrize(("kind", "head"), STUDENTS)
def test_gradients_reach_all_weights(kind, head):
    model = student(kind, head, **VERB_NOUN).train()
    num_frames = len(model.config.clip_window.offsets_s)
    labels = {"labels": torch.tensor([1, 2]), "verb_labels": torch.tensor([0, 1]), "noun_labels": torch.tensor([2, 0])}
    model(pixel_values_videos=torch.randn(2, num_frames, 3, 32, 32), **labels).loss.backward()
    without = [name for name, weight in model.named_parameters() if weight.grad is None]
    assert [name for name in without if not name.endswith("mask_token")] == []


def test_a_clean_process_loads_and_runs_them(tmp_path, fork_server):
    for kind in ("videomae", "vjepa2"):
        for head in HEADS:
            model = student(kind, head)
            model.save_pretrained(tmp_path / f"{kind}_{head}")
            processor_of(model).save_pretrained(tmp_path / f"{kind}_{head}")
    code = """
    import numpy as np
    from transformers import pipeline
    frames = np.random.default_rng(0).integers(0, 256, (32, 48, 64, 3), dtype=np.uint8)
    for name in ("videomae_avt", "videomae_probe", "vjepa2_avt", "vjepa2_probe"):
        anticipate = pipeline("action-anticipation", model=name, trust_remote_code=True)
        print(anticipate(frames, at=5.0, frames_per_second=4, top_k=1)[0]["score"])
    """
    printed = [float(line) for line in fork_server.run(code, tmp_path, HF_HUB_OFFLINE="1").splitlines()]
    frames = np.random.default_rng(0).integers(0, 256, (32, 48, 64, 3), dtype=np.uint8)
    for name, score in zip(("videomae_avt", "videomae_probe", "vjepa2_avt", "vjepa2_probe"), printed, strict=True):
        model = student(*name.split("_"))
        pipeline = ActionAnticipationPipeline(model=model, video_processor=processor_of(model))
        expected = pipeline(frames, at=5.0, frames_per_second=4, top_k=1)[0]["score"]
        assert score == pytest.approx(expected, abs=1e-6)


@torch.no_grad()
def test_encoder_and_probe_are_v_jepa_2s_own():
    """Compared with transformers' classifier with the same random weights: one moment, one query."""
    theirs = VJEPA2ForVideoClassification(tiny_encoder("vjepa2", num_pooler_layers=3, num_labels=5)).eval()
    for weight in theirs.parameters():
        torch.nn.init.normal_(weight, std=0.1)
    model = student("vjepa2", "probe", num_frames=1, probe_num_layers=4, probe_num_heads=2)
    model.avt.backbone.encoder.load_state_dict(theirs.vjepa2.encoder.state_dict())
    model.avt.probe.pooler.load_state_dict(theirs.pooler.state_dict())
    model.classifiers["action"].load_state_dict(theirs.classifier.state_dict())
    clips = torch.randn(3, 4, 3, 32, 32)
    torch.testing.assert_close(
        model(pixel_values_videos=clips).logits, theirs(pixel_values_videos=clips).logits, atol=1e-5, rtol=0
    )
    torch.testing.assert_close(
        model.encode_frames(clips), theirs.vjepa2(clips, skip_predictor=True).last_hidden_state, atol=1e-5, rtol=0
    )


@torch.no_grad()
def test_predicted_tokens_are_those_of_v_jepa_2s_predictor():
    """`VJEPA2Model.forward` predicts only positions of its clip, so the predictor is called here with later ones."""
    model = student("vjepa2", use_predictor=True, tau_a=1.0, clip_frame_rate=2.0)
    backbone, clips = model.avt.backbone, torch.randn(2, 4, 3, 32, 32)
    num_seen, per_tubelet = 32, 16  # 2 tubelets of 4 x 4 patches
    # 1 s ahead at 2 frames/s: one tubelet after the one that follows the clip.
    seen = torch.arange(num_seen).expand(2, -1)
    ahead = num_seen + per_tubelet + torch.arange(per_tubelet).expand(2, -1)
    tokens = backbone.encoder(clips).last_hidden_state
    predicted = backbone.predictor(tokens, [seen], [ahead]).last_hidden_state
    features = model.encode_frames(clips)
    torch.testing.assert_close(features, torch.cat([tokens.mean(1), predicted.mean(1)], dim=1))
    assert not torch.equal(features[:, 32:], backbone.predictor(tokens, [seen], [seen]).last_hidden_state.mean(1))
    probing = student("vjepa2", "probe", use_predictor=True)
    assert probing.encode_frames(clips).shape == (2, num_seen + per_tubelet, 32)


@pytest.mark.parametrize(
    ("kind", "head", "layers"),
    [
        ("vjepa2", "avt", {"VJEPA2Layer", "GPT2Block"}),
        ("vjepa2", "probe", {"VJEPA2Layer", *PROBE_LAYERS}),
        ("videomae", "probe", {"VideoMAEEmbeddings", "VideoMAELayer", *PROBE_LAYERS}),
    ],
)
def test_fsdp_wraps_the_layers_that_are_there(kind, head, layers):
    model = student(kind, head)
    assert set(model._no_split_modules) == layers
    FullyShardedDataParallelPlugin(auto_wrap_policy="transformer_based_wrap").set_auto_wrap_policy(model)


def test_a_predictor_that_is_not_used_is_no_part_of_the_model():
    assert not any("predictor" in name for name in student("vjepa2").state_dict())
    assert any("predictor" in name for name in student("vjepa2", use_predictor=True).state_dict())


@torch.no_grad()
def test_a_probe_does_not_attend_to_masked_moments():
    model = student("videomae", "probe", **VERB_NOUN)
    tokens = torch.randn(2, 4, 32, 32)
    mask = torch.tensor([[False, False, True, True]] * 2)
    other = tokens.clone()
    other[:, :2] = torch.nan
    one, two = (model(video_features=some, frame_mask=mask) for some in (tokens, other))
    for name in ("logits", "verb_logits", "noun_logits"):
        torch.testing.assert_close(one[name], two[name])
    assert not torch.allclose(one.logits, model(video_features=tokens).logits)


def test_what_does_not_fit_is_refused():
    clip, probe = student("videomae"), student("vjepa2", "probe")
    with pytest.raises(ValueError, match="has 4 frames: the clips at this model's 4 moments consist of 10"):
        clip(pixel_values_videos=torch.randn(1, 4, 3, 32, 32))
    with pytest.raises(ValueError, match="one feature a moment has none; give frames"):
        probe(video_features=torch.randn(1, 4, 32))
    with pytest.raises(ValueError, match="a probe does not roll out: give 1"):
        probe(video_features=torch.randn(1, 4, 8, 32), num_future_steps=2)
    with pytest.raises(ValueError, match="There are 3 moments, but this model's probe is for 4"):
        probe(video_features=torch.randn(1, 3, 8, 32))
    with pytest.raises(ValueError, match="The frames are 40 x 40 pixels, but this V-JEPA 2 has positions for 32 x 32"):
        probe.encode_frames(torch.randn(1, 4, 3, 40, 40))
    with pytest.raises(ValueError, match="clip_num_frames=None, the model 4: they must agree"):
        AVTStream(clip, processor_of(tiny_model(tiny_encoder_config("vit"))))
    odd = student("videomae", clip_frame_rate=2.0001)
    with pytest.raises(ValueError, match="a stream needs a simple ratio of the two"):
        AVTStream(odd, processor_of(odd))


def test_a_backbone_that_is_only_put_into_a_model_of_features_is_refused():
    """Without `config.backbone_config`, a checkpoint would lose the backbone."""
    model = tiny_model()
    model.avt.backbone = AutoModel.from_config(tiny_encoder("vit"))
    with pytest.raises(ValueError, match=r"has no backbone .*: avt-distill attach_encoder"):
        model.encode_frames(torch.randn(1, 3, 32, 32))


def test_a_stream_keeps_the_frames_of_one_clip(frames):
    model = student("vjepa2")
    stream = AVTStream(model, processor_of(model))
    for number in range(200):
        stream.push(frames[number % 32], number / 4)
        assert len(stream._memory.shown) <= 2 * 4  # 4 frames at 2 per second, of 4 per second that are pushed
        assert all(frame.content.shape == (3, 32, 32) for _, frame in stream._memory.shown)


@torch.no_grad()
def test_a_frozen_camera_shows_the_same_clip(frames, monkeypatch):
    """In a gap of an hour, only the first few clips are distinct, and each is encoded once."""
    model = student("videomae")
    encoded, original = [], model.encode_frames
    monkeypatch.setattr(model, "encode_frames", lambda pixels: encoded.append(len(pixels)) or original(pixels))
    stream = AVTStream(model, processor_of(model))
    for number in range(9):
        stream.push(frames[number], number / 4)
    encoded.clear()
    stream.advance(3600.0)
    assert sum(encoded) == 2  # the clips of 1.5, 2, 2, 2 s and of 2, 2, 2, 2 s
    still = np.concatenate([frames[:9], np.repeat(frames[8:9], 40, axis=0)])
    torch.testing.assert_close(stream.logits, on_window(model, still, 12.0), atol=1e-5, rtol=0)


LARGE = """
import resource, time
import numpy as np, torch
from modeling_avt import AVTConfig, AVTForAnticipation, AVTVideoProcessor
of_clips = {"clip_num_frames": 64, "clip_frame_rate": 8.0, "num_frames": 1, "frame_rate": 0.125, "tau_o": 8.0}
config = AVTConfig(backbone_config={"model_type": "vjepa2"}, head_type="probe", num_labels=106, **of_clips)
model = AVTForAnticipation(config).eval()
processor = AVTVideoProcessor(size=256, crop_size=256, train_size=(256, 256), **of_clips)
stream, frame = model.stream(processor), np.zeros((720, 1280, 3), dtype=np.uint8)
seconds = []
for number in range(65):  # 8 s: answers at its beginning and at its end
    began = time.perf_counter()
    frame[:] = number
    answer = stream.push(frame, number / 8)
    if answer:
        seconds.append(time.perf_counter() - began)
millions = sum(weight.numel() for weight in model.avt.backbone.parameters()) / 1e6
print(millions, len(stream._memory.shown), seconds, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20)
"""


@pytest.mark.slow
def test_a_stream_of_v_jepa_2_large_stays_under_4_gb(tmp_path):
    """Clips of 64 frames of 256 px: 8,192 tokens through 24 layers per answer, and 65 frames of 0.8 MB in memory."""
    millions, shown, *seconds, gib = run_python(f"{WITH_THE_PROJECT}{LARGE}", tmp_path).replace("[", "").split()
    print(f"{millions} million weights, answers in {seconds} s, {gib} GiB at most")
    assert float(millions) == pytest.approx(304, abs=3)
    assert int(shown) <= 65
    assert float(gib) < 4

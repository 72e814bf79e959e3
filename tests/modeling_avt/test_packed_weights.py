"""Checkpoints with packed weights give nearly the same answers as in full precision."""

import numpy as np
import pytest
import torch
from helpers.packed import WAYS, packed
from helpers.readers import reading_model
from helpers.tiny_models import tiny_config, tiny_model, tiny_processor
from transformers import BitsAndBytesConfig, ViTConfig

from modeling_avt import ActionAnticipationPipeline, AVTForAnticipation
from modeling_avt.numbers_avt import compute_dtype

FEW_BITS = 0.08  # difference in probability: int8, float8 and 4 bits round weights


def wide_config(**fields):
    """A student of videos whose linear layers have widths that bitsandbytes supports."""
    vit = ViTConfig(
        hidden_size=64, num_hidden_layers=1, num_attention_heads=2, intermediate_size=64, image_size=32, patch_size=8
    )
    return tiny_config(backbone_config=vit, feature_dim=None, head_hidden_size=64, initializer_range=0.1, **fields)


def students() -> dict[str, AVTForAnticipation]:
    """Students that take frames, take features, or have a reader."""
    return {
        "frames": tiny_model(wide_config()),
        "features": tiny_model(tiny_config(feature_dim=64, head_hidden_size=64, initializer_range=0.1)),
        "reader": reading_model(wide_config),
    }


STUDENTS = students()


def watched(kind: str) -> tuple:
    """Returns six seconds of input for a student, at 2 rows per second, and its processor."""
    generator = np.random.default_rng(0)
    if kind == "features":
        return generator.normal(size=(12, 64)).astype(np.float32), None
    return generator.integers(0, 256, (12, 40, 48, 3), dtype=np.uint8), tiny_processor()


def answered(model: AVTForAnticipation, kind: str) -> tuple[dict, ...]:
    """Returns the probabilities of a pipeline and of a stream at the same moment."""
    rows, processor = watched(kind)
    pipe = ActionAnticipationPipeline(model, video_processor=processor)
    stream, last = model.stream(processor), None
    for index, row in enumerate(rows):
        last = stream.push(row, index / 2) or last
    return tuple(
        {answer["label"]: answer["score"] for answer in answers}
        for answers in (pipe(rows, at=5.0, frames_per_second=2), last)
    )


def assert_answers_alike(model: AVTForAnticipation, kind: str):
    for answer, expected in zip(answered(model, kind), answered(STUDENTS[kind], kind), strict=True):
        assert answer == pytest.approx(expected, abs=FEW_BITS)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("kind", STUDENTS)
def test_packed_weights_answer_as_full_precision_does(kind, way):
    assert_answers_alike(packed(STUDENTS[kind], way), kind)


@pytest.mark.parametrize("way", WAYS)
def test_packed_weights_recognize_frames_as_full_precision_does(way):
    features = torch.randn(5, 64, generator=torch.Generator().manual_seed(0))
    expected, model = STUDENTS["reader"].recognize_frames(features), packed(STUDENTS["reader"], way)
    torch.testing.assert_close(model.recognize_frames(features), expected, atol=0.1, rtol=0.1)


@pytest.mark.parametrize("way", WAYS)
def test_frames_of_any_floating_type_are_encoded(way):
    pixels, model = torch.rand(2, 3, 32, 32), packed(STUDENTS["frames"], way)
    features = model.encode_frames(pixels)
    assert features.dtype == torch.float32
    torch.testing.assert_close(model.encode_frames(pixels.double()), features)


def test_inputs_are_cast_to_a_type_that_is_computed_with():
    model = STUDENTS["features"]
    assert compute_dtype(packed(model, "uint8").avt.encoder, model.bfloat16().avt.head) == torch.bfloat16
    model.float()
    assert compute_dtype(packed(torch.nn.Sequential(torch.nn.Linear(2, 2, bias=False)), "int8")) == torch.float32


@pytest.mark.bitsandbytes
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("kind", STUDENTS)
@pytest.mark.parametrize("bits", ["nf4", "fp4", "int8"])
def test_bitsandbytes_answers_as_full_precision_does(kind, bits, tmp_path):
    pytest.importorskip("bitsandbytes")
    STUDENTS[kind].save_pretrained(tmp_path / "full")
    skipped = {"llm_int8_skip_modules": ["classifiers", "recognizer"]}  # too narrow for the kernels of bitsandbytes
    options = {"load_in_8bit": True} if bits == "int8" else {"load_in_4bit": True, "bnb_4bit_quant_type": bits}
    config = BitsAndBytesConfig(**skipped, **options)
    model = AVTForAnticipation.from_pretrained(tmp_path / "full", quantization_config=config)
    assert not model.avt.encoder.weight.is_floating_point()
    model.save_pretrained(tmp_path / "packed")
    assert_answers_alike(AVTForAnticipation.from_pretrained(tmp_path / "packed"), kind)
    assert_answers_alike(model, kind)

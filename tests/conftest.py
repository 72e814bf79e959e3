"""Tiny models, generated videos and a process without the package, for every test."""

import os
import subprocess
import sys
import textwrap
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
import torch
from loopback_hub import LoopbackHub
from tiny_language_models import (
    DECODERS,
    ENCODERS,
    write_language_model,
    write_tiny_decoder,
    write_tiny_encoder,
)
from transformers import ViTConfig

from modeling_avt import AVTConfig, AVTForAnticipation, AVTVideoProcessor

os.environ["HF_HUB_OFFLINE"] = "1"
PROJECT = Path(__file__).resolve().parent.parent
SHARED = PROJECT.parent / "shared"
VERB_NOUN = {
    "label_types": ["action", "verb", "noun"],
    "verb_id2label": {0: "cut", 1: "mix"},
    "noun_id2label": {0: "egg", 1: "oil", 2: "flour"},
    "action_to_verb_noun": [[0, 0], [0, 1], [1, 0], [1, 1], [1, 2]],
}


def require_shared(*parts: str) -> Path:
    """The path of recorded or real data beside the checkout; skips the test where it is absent."""
    path = SHARED.joinpath(*parts)
    if not path.exists():
        pytest.skip(f"needs {Path('..', 'shared', *parts)}, which is not part of the repository")
    return path


def tiny_config(**overrides) -> AVTConfig:
    """Features of width 12, 4 frames, 5 actions; larger initial weights than AVT's, so that outputs differ visibly."""
    fields = {
        "backbone_config": None,
        "feature_dim": 12,
        "head_hidden_size": 32,
        "head_num_layers": 2,
        "head_num_positions": 16,
        "num_frames": 4,
        "tau_o": 4.0,
        "num_labels": 5,
        "initializer_range": 0.3,
    }
    if "id2label" in overrides:
        del fields["num_labels"]
    return AVTConfig(**{**fields, **overrides})


def tiny_vit_config(**overrides) -> AVTConfig:
    vit = ViTConfig(
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=64,
        image_size=32,
        patch_size=8,
    )
    return tiny_config(**{"backbone_config": vit, "feature_dim": None, **overrides})


def tiny_model(config: AVTConfig | None = None) -> AVTForAnticipation:
    torch.manual_seed(0)
    return AVTForAnticipation(config or tiny_config()).eval()


def tiny_processor(**overrides) -> AVTVideoProcessor:
    fields = {"size": 36, "crop_size": 32, "train_size": (36, 40), "num_frames": 4, "tau_o": 4.0}
    return AVTVideoProcessor(**{**fields, **overrides})


def numbered_frames(count: int, height: int = 48, width: int = 64) -> np.ndarray:
    """Frames that tell their own number: 8 grey blocks, one a bit; see `frame_number`."""
    bits = np.arange(8)
    frames = np.zeros((count, height, width, 3), dtype=np.uint8)
    for number in range(count):
        blocks = np.where((number >> bits) & 1, 220, 30).astype(np.uint8)
        frames[number] = np.repeat(blocks, width // 8)[None, :, None]
    return frames


def frame_number(frame: np.ndarray) -> int:
    """The number that `numbered_frames` wrote into a frame, after any encoding or scaling."""
    blocks = frame.mean((0, 2)).reshape(8, -1).mean(1)
    return int(((blocks > 125) << np.arange(8)).sum())


def write_video(path: Path, frames: np.ndarray, fps: int = 10, codec: str = "mpeg4", times_s=None, **options) -> Path:
    """Encodes frames; `times_s` gives irregular presentation times, `options` go to the encoder (`g`, `bf`)."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=fps, options={key: str(value) for key, value in options.items()})
        stream.width, stream.height, stream.pix_fmt = frames.shape[2], frames.shape[1], "yuv420p"
        stream.bit_rate = 4_000_000
        if times_s is not None:
            stream.codec_context.time_base = stream.time_base = Fraction(1, 1000)
        for number, image in enumerate(frames):
            frame = av.VideoFrame.from_ndarray(image, format="rgb24")
            if times_s is not None:
                frame.time_base, frame.pts = stream.time_base, round(times_s[number] * 1000)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


@pytest.fixture(scope="session")
def video(tmp_path_factory) -> Path:
    """A 6 s clip at 10 fps of numbered frames, with a key frame every 12."""
    path = tmp_path_factory.mktemp("video") / "numbered.mp4"
    return write_video(path, numbered_frames(60), g=12, sc_threshold=10**9)  # no further key frames at scene changes


# An editable install puts the project on the path through a finder: both are taken off.
WITHOUT_THE_PROJECT = f"""
import importlib.util, sys
sys.meta_path = [finder for finder in sys.meta_path if "editable" not in str(finder).lower()]
sys.path = [path for path in sys.path if path not in ("", {str(PROJECT)!r})]
assert importlib.util.find_spec("modeling_avt") is None
"""


def run_python(
    code: str, folder: Path, *, fails: bool = False, python: str | Path = sys.executable, **environment: str
) -> str:
    """Runs code in a process, and with a Hugging Face cache, of its own, and returns what it prints.

    Of code that `fails`, as it then must, what it says of that.
    """
    inherited = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "HF_HUB_OFFLINE")}
    result = subprocess.run(
        [python, "-c", textwrap.dedent(code)],
        cwd=folder,
        env={**inherited, "HF_HOME": str(folder / "hf_home"), **environment},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (result.returncode != 0) == fails, result.stderr[-4000:]
    return result.stderr if fails else result.stdout


@pytest.fixture
def clean_process(tmp_path):
    """Runs code, offline, in a process that cannot import this project, and returns what it prints."""
    return lambda code: run_python(WITHOUT_THE_PROJECT + textwrap.dedent(code), tmp_path, HF_HUB_OFFLINE="1")


@pytest.fixture
def hub(tmp_path):
    """A Hub on the loopback address; `hub.run(code, place)` runs code against it, `place` naming a cache of its own."""
    server = LoopbackHub()
    environment = {"HF_ENDPOINT": server.start(), "HF_TOKEN": "hf_loopback", "HF_HUB_DISABLE_XET": "1"}
    environment |= {"HF_HUB_DISABLE_TELEMETRY": "1"}

    def run(code: str, place: str, **options) -> str:
        (tmp_path / place).mkdir(exist_ok=True)
        return run_python(code, tmp_path / place, **options, **environment)

    server.run = run
    yield server
    server.stop()


@pytest.fixture(scope="session")
def language_models(tmp_path_factory) -> dict[str, Path]:
    """Folder of a tiny random language model of each kind: `bert`, `distilbert`, `roberta`, `gpt2`, `llama`."""
    root = tmp_path_factory.mktemp("language_models")
    return {kind: write_language_model(root / kind, kind) for kind in (*ENCODERS, *DECODERS)}


@pytest.fixture(scope="session")
def tiny_encoder(tmp_path_factory) -> Path:
    """The folder of a random BERT over kitchen words, with head and tokenizer; see `tiny_language_models`."""
    return write_tiny_encoder(tmp_path_factory.mktemp("encoder"))


@pytest.fixture(scope="session")
def tiny_decoder(tmp_path_factory) -> Path:
    """The folder of a random GPT-2, with head and tokenizer; see `tiny_language_models`."""
    return write_tiny_decoder(tmp_path_factory.mktemp("decoder"))

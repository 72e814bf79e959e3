"""Fixtures of every test; what they are made of is in `helpers/`."""

import os
import textwrap
from pathlib import Path

import pytest
from helpers.processes import WITHOUT_THE_PROJECT, run_python
from helpers.videos import numbered_frames, write_video
from loopback_hub import LoopbackHub
from tiny_language_models import (
    DECODERS,
    ENCODERS,
    write_language_model,
    write_tiny_decoder,
    write_tiny_encoder,
)

os.environ["HF_HUB_OFFLINE"] = "1"


@pytest.fixture(scope="session")
def video(tmp_path_factory) -> Path:
    """A 6 s clip at 10 fps of numbered frames, with a key frame every 12."""
    path = tmp_path_factory.mktemp("video") / "numbered.mp4"
    return write_video(path, numbered_frames(60), g=12, sc_threshold=10**9)  # no further key frames at scene changes


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

"""Fixtures of all tests, built from `helpers/`."""

import gc
from pathlib import Path

import own_cache  # noqa: F401
import pytest
from helpers.processes import ForkServer, kept_port, run_python
from helpers.videos import numbered_frames, write_video
from loopback_hub import LoopbackHub
from tiny_language_models import (
    DECODERS,
    ENCODERS,
    write_language_model,
    write_tiny_decoder,
    write_tiny_encoder,
)


def pytest_collection_finish():
    """Exempts imported modules from garbage collection, which every training runs, and which would take 0.2 s."""
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="session")
def video(tmp_path_factory) -> Path:
    """A 6 s clip at 10 fps of numbered frames, with a key frame every 12."""
    path = tmp_path_factory.mktemp("video") / "numbered.mp4"
    return write_video(path, numbered_frames(60), g=12, sc_threshold=10**9)  # no further key frames at scene changes


@pytest.fixture(scope="session")
def hub_port():
    """The port of every `hub` of the session, because clients read the Hub's address when they are imported."""
    with kept_port() as port:
        yield port


@pytest.fixture(scope="session")
def fork_server(tmp_path_factory, hub_port):
    """Runs code in processes that cannot import this project, and whose Hub is that of the fixture `hub`."""
    environment = {"HF_ENDPOINT": f"http://127.0.0.1:{hub_port}", "HF_HUB_DISABLE_XET": "1"}
    environment |= {"HF_HUB_DISABLE_TELEMETRY": "1"}
    server = ForkServer(tmp_path_factory.mktemp("fork_server"), **environment)
    yield server
    server.stop()


@pytest.fixture(scope="session", autouse=True)
def start_fork_server_early(request):
    """Starts the fork server before the first test if any needs it, so that it imports libraries while others run."""
    if any("fork_server" in item.fixturenames for item in request.session.items):
        request.getfixturevalue("fork_server")


@pytest.fixture
def clean_process(fork_server, tmp_path):
    """Runs code, offline, in a process that cannot import this project, and returns what it prints."""
    return lambda code, **options: fork_server.run(code, tmp_path, HF_HUB_OFFLINE="1", **options)


@pytest.fixture
def hub(hub_port, fork_server, tmp_path):
    """A Hub on the loopback address.

    `hub.run(code, place)` runs code in a process that cannot import this project, with this Hub, and with the folder
    and cache that belong to the name `place`; `python=` chooses another interpreter.
    """
    server = LoopbackHub(hub_port)

    def run(code: str, place: str, **options) -> str:
        (tmp_path / place).mkdir(exist_ok=True)
        if "python" in options:
            return run_python(code, tmp_path / place, **options, **fork_server.environment, HF_TOKEN="hf_loopback")
        return fork_server.run(code, tmp_path / place, **options, HF_TOKEN="hf_loopback")

    server.start()
    server.run = run
    yield server
    server.stop()


@pytest.fixture(scope="session")
def language_models(tmp_path_factory) -> dict[str, Path]:
    """Folders of tiny random language models, one of each kind: `bert`, `distilbert`, `roberta`, `gpt2`, `llama`."""
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

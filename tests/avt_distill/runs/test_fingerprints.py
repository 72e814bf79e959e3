"""Fingerprints of models cover weights, configuration and tokenizer, not the records in the same folder."""

import pytest

from avt_distill.runs.fingerprints import checkpoint_digest


@pytest.fixture
def checkpoint(tmp_path):
    for name in ("config.json", "model.safetensors", "adaptation.json", "training.json"):
        (tmp_path / name).write_text("{}")
    return tmp_path


@pytest.mark.parametrize("name", ["adaptation.json", "reader_comparison.json", "results.json", "training.json"])
def test_a_model_that_was_made_again_with_other_times_is_the_same(checkpoint, name):
    before = checkpoint_digest(checkpoint)
    (checkpoint / name).write_text('{"seconds": 2}')
    assert checkpoint_digest(checkpoint) == before
    assert set(before) == {"config.json", "model.safetensors"}


@pytest.mark.parametrize("name", ["config.json", "model.safetensors", "tokenizer.json"])
def test_other_weights_configuration_or_tokenizer_are_another_model(checkpoint, name):
    before = checkpoint_digest(checkpoint)
    (checkpoint / name).write_text('{"vocab_size": 2}')
    assert checkpoint_digest(checkpoint) != before

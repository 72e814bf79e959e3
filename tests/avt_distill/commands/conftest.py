"""A checkpoint of a tiny student that takes videos, for the tests of commands."""

import pytest
from helpers.tiny_models import tiny_model, tiny_processor, tiny_vit_config

NAMES = ["cut egg", "cut oil", "mix egg", "mix oil", "mix flour"]


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> str:
    folder = tmp_path_factory.mktemp("checkpoint")
    tiny_model(tiny_vit_config(id2label=dict(enumerate(NAMES)), tau_a=0.5)).save_pretrained(folder)
    tiny_processor().save_pretrained(folder)
    return str(folder)

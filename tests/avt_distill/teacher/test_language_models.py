"""Language models: reading direction, truncation of texts, and refusals."""

import json

import pytest
from transformers import BertConfig, GPT2Config, T5Config, ViTConfig

from avt_distill.teacher.language_models import (
    encode,
    is_causal,
    load_text_backbone,
    load_tokenizer,
    name_for_all_releases,
)


def test_decoders_read_from_left_to_right_and_encoders_both_ways():
    assert is_causal(GPT2Config())
    assert not is_causal(BertConfig())
    assert is_causal(BertConfig(is_decoder=True))


@pytest.mark.parametrize("config", [T5Config(), ViTConfig()])
def test_other_models_are_refused(config):
    with pytest.raises(ValueError, match="neither a masked nor a causal language model"):
        is_causal(config)


def test_cutting_keeps_the_first_special_token_and_the_last_actions(language_models):
    """The reference cuts off [CLS], and then classifies the feature of whichever word is first."""
    tokenizer = load_tokenizer(language_models["bert"])
    (ids,) = encode(tokenizer, ["open fridge, take egg, cut tomato"], 5)
    assert tokenizer.convert_ids_to_tokens(ids) == ["[CLS]", ",", "cut", "tomato", "[SEP]"]


@pytest.mark.parametrize("kind", ["gpt2", "llama"])
def test_decoders_get_a_first_token_so_that_no_history_is_a_text_too(language_models, kind):
    tokenizer = load_tokenizer(language_models[kind])
    empty, cut = encode(tokenizer, ["", "open fridge, take egg"], 3)
    assert tokenizer.convert_ids_to_tokens(empty) == ["[CLS]"]
    assert tokenizer.convert_ids_to_tokens(cut) == ["[CLS]", "take", "egg"]


def test_poolers_are_left_out(language_models):
    assert load_text_backbone(language_models["bert"]).pooler is None
    assert load_text_backbone(language_models["distilbert"]).config.model_type == "distilbert"


def test_a_model_that_is_not_there_is_named(tmp_path):
    with pytest.raises(ValueError, match=f"Cannot read the language model '{tmp_path}'"):
        load_text_backbone(tmp_path)


def test_a_generic_tokenizer_is_saved_with_a_class_of_transformers_4(tmp_path, language_models):
    tokenizer = load_tokenizer(language_models["bert"])
    tokenizer.save_pretrained(tmp_path)
    name_for_all_releases(tmp_path)
    assert json.loads((tmp_path / "tokenizer_config.json").read_text())["tokenizer_class"] == "PreTrainedTokenizerFast"
    assert load_tokenizer(tmp_path)("crack egg")["input_ids"] == tokenizer("crack egg")["input_ids"]

"""Loading Hugging Face language models for action text: kind, tokenizer and weights."""

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import torch
from transformers import (
    MODEL_FOR_CAUSAL_LM_MAPPING,
    MODEL_FOR_MASKED_LM_MAPPING,
    AutoConfig,
    AutoModel,
    AutoTokenizer,
    PreTrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from ..runs.checkpoints import load_tokenizer_of, load_whole
from ..runs.folder import read_json, write_json

# Transformers 5's name for the class of a generic tokenizer, and the name that all releases know.
NAME_IN_5, NAME_IN_ALL = "TokenizersBackend", "PreTrainedTokenizerFast"


def is_causal(config: PreTrainedConfig) -> bool:
    """Returns whether a model is causal (GPT-2, Llama) rather than bidirectional (BERT, RoBERTa).

    Raises:
        ValueError: If the model is neither kind of language model, such as an encoder-decoder.
    """
    if not config.is_encoder_decoder:  # excludes models such as BART, which are in both mappings
        if type(config) in MODEL_FOR_MASKED_LM_MAPPING and not getattr(config, "is_decoder", False):
            return False
        if type(config) in MODEL_FOR_CAUSAL_LM_MAPPING:
            return True
    raise ValueError(
        f"A '{config.model_type}' is neither a masked nor a causal language model: give an encoder such as BERT or a "
        "decoder such as GPT-2."
    )


def load_language_model_config(name_or_path: str | Path) -> PreTrainedConfig:
    """Returns the configuration of a language model on the Hub or in a folder.

    Raises:
        ValueError: If there is no such model, or it is not a language model (see `is_causal`).
    """
    try:
        config = AutoConfig.from_pretrained(name_or_path, trust_remote_code=False)
    except (OSError, ValueError) as error:
        raise ValueError(
            f"Cannot read the language model '{name_or_path}' ({str(error).splitlines()[0]}): give its name on the "
            "Hub, or a folder that save_pretrained wrote."
        ) from error
    is_causal(config)
    return config


def name_for_all_releases(folder: Path):
    """Renames the class of a saved tokenizer so that transformers 4 can load it, too."""
    path = Path(folder) / "tokenizer_config.json"
    fields = read_json(path) if path.exists() else {}
    if fields.get("tokenizer_class") == NAME_IN_5:
        write_json(path, {**fields, "tokenizer_class": NAME_IN_ALL})


def load_tokenizer(name_or_path: str | Path, config: PreTrainedConfig | None = None) -> PreTrainedTokenizerBase:
    """Loads a tokenizer that pads on the right and truncates on the left, which keeps recent actions.

    Args:
        name_or_path (`str` or `Path`): A model on the Hub, or a folder.
        config (`PreTrainedConfig`, *optional*): The language model's configuration, if the folder holds that of a
            larger model.

    Raises:
        ValueError: If its files are missing or damaged.
    """
    sides = {"truncation_side": "left", "padding_side": "right"}
    tokenizer = load_tokenizer_of(
        name_or_path, AutoTokenizer.from_pretrained, config=config, trust_remote_code=False, **sides
    )
    if tokenizer.pad_token is None:  # such as GPT-2's; padding is masked, so any token works
        tokenizer.pad_token = tokenizer.eos_token
    return tokenizer


def load_text_backbone(name_or_path: str | Path, *, random_weights: bool = False, **kwargs) -> PreTrainedModel:
    """Loads a language model without its head, and without the pooler of models like BERT.

    Args:
        name_or_path (`str` or `Path`): A model on the Hub, or a folder.
        random_weights (`bool`, *optional*, defaults to `False`): Whether to initialize the weights at random instead;
            seed torch before.
        kwargs: Passed to `from_pretrained`, such as `dtype` or `attn_implementation`.

    Raises:
        ValueError: If the checkpoint lacks weights of the model, or holds more of them; a head is left out.
    """
    config = load_language_model_config(name_or_path)
    # A pooler that cannot be left out is unused, so its weights may be missing.
    whole = {"new": ("pooler.",), "left_out": None}
    load: Callable[..., PreTrainedModel] = partial(
        load_whole, AutoModel.from_pretrained, name_or_path, trust_remote_code=False, **whole
    )
    if random_weights:
        load = partial(AutoModel.from_config, config, trust_remote_code=False)
    if is_causal(config):
        return load(**kwargs)
    try:
        return load(add_pooling_layer=False, **kwargs)
    except TypeError as error:  # DistilBERT, ELECTRA and DeBERTa have no pooler to leave out
        if "add_pooling_layer" not in str(error):
            raise
        return load(**kwargs)


def readable_tokens(model: torch.nn.Module) -> int | None:
    """Returns how many tokens a language model can read, or `None` if it has no fixed number of positions.

    RoBERTa and others number positions from that of the padding token, so the first ones are not used.
    """
    positions = getattr(model.config, "max_position_embeddings", None)
    if positions is None or positions < 1:  # XLNet has -1
        return None
    for module in model.modules():
        table = getattr(module, "position_embeddings", None)
        if isinstance(table, torch.nn.Embedding) and table.padding_idx is not None:
            return positions - table.padding_idx - 1
    return positions


def encode(
    tokenizer: PreTrainedTokenizerBase, texts: Sequence[str], max_length: int, *, cut: str = "left"
) -> list[list[int]]:
    """Returns the token ids of each text, at most `max_length`, truncated on the left, or on the `"right"`.

    Special tokens around a text are kept when it is truncated (the reference cuts off the first one, although it reads
    the feature of the first token). If the tokenizer adds none in front, the beginning-of-text token is added, so that
    an empty history has a token.
    """
    if not texts:
        return []
    front = []
    if not tokenizer("")["input_ids"]:
        front = [tokenizer.eos_token_id if tokenizer.bos_token_id is None else tokenizer.bos_token_id]
    tokenizer.truncation_side = cut
    encoded = tokenizer(list(texts), truncation=True, max_length=max_length - len(front), add_special_tokens=True)
    return [front + ids for ids in encoded["input_ids"]]

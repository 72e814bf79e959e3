"""Any Hugging Face language model as a reader of action text: which way it reads, its tokenizer, its weights."""

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

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

# What transformers 5 calls the class of a tokenizer that is none of its own, and the name that all releases know.
NAME_IN_5, NAME_IN_ALL = "TokenizersBackend", "PreTrainedTokenizerFast"


def is_causal(config: PreTrainedConfig) -> bool:
    """Returns whether a model reads from left to right (GPT-2, Llama) rather than both ways (BERT, RoBERTa).

    Raises:
        ValueError: If the model is neither kind of language model, such as an encoder-decoder.
    """
    if not config.is_encoder_decoder:  # BART is, and in both mappings
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
    """Lets transformers 4 load a tokenizer that was saved to a folder."""
    path = Path(folder) / "tokenizer_config.json"
    fields = read_json(path) if path.exists() else {}
    if fields.get("tokenizer_class") == NAME_IN_5:
        write_json(path, {**fields, "tokenizer_class": NAME_IN_ALL})


def load_tokenizer(name_or_path: str | Path, config: PreTrainedConfig | None = None) -> PreTrainedTokenizerBase:
    """Returns a tokenizer that pads on the right, and cuts on the left: what is recent stays.

    Args:
        name_or_path (`str` or `Path`): A model on the Hub, or a folder.
        config (`PreTrainedConfig`, *optional*): The language model's, if the folder holds that of a larger model.

    Raises:
        ValueError: If its files are missing or damaged.
    """
    sides = {"truncation_side": "left", "padding_side": "right"}
    tokenizer = load_tokenizer_of(
        name_or_path, AutoTokenizer.from_pretrained, config=config, trust_remote_code=False, **sides
    )
    if tokenizer.pad_token is None:  # GPT-2's kind; padding is masked, so any token will do
        tokenizer.pad_token = tokenizer.eos_token
    return tokenizer


def load_text_backbone(name_or_path: str | Path, *, random_weights: bool = False, **kwargs) -> PreTrainedModel:
    """Returns a language model without its head, and without the pooler that BERT's kind adds.

    Args:
        name_or_path (`str` or `Path`): A model on the Hub, or a folder.
        random_weights (`bool`, *optional*): Take the architecture alone; seed torch before.
        kwargs: For `from_pretrained`, such as `dtype` or `attn_implementation`.

    Raises:
        ValueError: If the checkpoint lacks weights of the model, or holds more of them; a head is left out.
    """
    config = load_language_model_config(name_or_path)
    # A pooler that cannot be left out is not read, so it may be new.
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


def encode(
    tokenizer: PreTrainedTokenizerBase, texts: Sequence[str], max_length: int, *, cut: str = "left"
) -> list[list[int]]:
    """Returns the token ids of each text, at most `max_length`, cut on the left, or on the `"right"`.

    The special tokens that the tokenizer puts around a text are kept when it is cut (the reference cuts off the first,
    whose feature it then reads). Where it puts none in front, the beginning-of-text token is put there, so that an
    empty history is a text too.
    """
    if not texts:
        return []
    front = []
    if not tokenizer("")["input_ids"]:
        front = [tokenizer.eos_token_id if tokenizer.bos_token_id is None else tokenizer.bos_token_id]
    tokenizer.truncation_side = cut
    encoded = tokenizer(list(texts), truncation=True, max_length=max_length - len(front), add_special_tokens=True)
    return [front + ids for ids in encoded["input_ids"]]

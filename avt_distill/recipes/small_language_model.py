"""A small language model with random weights, for use without downloads: it learns from recipes only."""

from collections.abc import Iterable
from pathlib import Path

import torch
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
from transformers import BertConfig, BertForMaskedLM, PreTrainedTokenizerFast

from ..runs.folder import whole_files
from ..teacher.language_models import name_for_all_releases

LOWER, SPLITTER = normalizers.Lowercase(), pre_tokenizers.BertPreTokenizer()
SPECIAL_TOKENS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")


def write_language_model(
    folder: str | Path,
    texts: Iterable[str],
    *,
    hidden_size: int = 64,
    num_layers: int = 2,
    num_heads: int = 4,
    num_positions: int = 128,
    seed: int = 0,
) -> list[str]:
    """Writes a BERT with random weights and one token per word of the texts, and returns its vocabulary.

    Initial weights are larger than BERT's, with which such a narrow model hardly learns.

    Args:
        folder (`str` or `Path`): Where to; for `AutoModelForMaskedLM` and `AutoTokenizer`.
        texts (iterable of `str`): What it is to read, such as recipes written by `ActionText`; lower case is enough.
        hidden_size, num_layers, num_heads (`int`, *optional*): Its size; a feed-forward layer is twice as wide.
        num_positions (`int`, *optional*, defaults to 128): Longest text in tokens, special ones included.
        seed (`int`, *optional*, defaults to 0): Of the weights; torch's own generator is left as it was.

    Raises:
        ValueError: If the texts hold no word.
    """
    words = sorted({word for text in texts for word, _ in SPLITTER.pre_tokenize_str(LOWER.normalize_str(text))})
    if not words:
        raise ValueError("The texts hold no word: give what the language model is to read.")
    vocabulary = {word: number for number, word in enumerate([*SPECIAL_TOKENS, *words])}
    config = BertConfig(
        vocab_size=len(vocabulary),
        hidden_size=hidden_size,
        num_hidden_layers=num_layers,
        num_attention_heads=num_heads,
        intermediate_size=2 * hidden_size,
        max_position_embeddings=num_positions,
        initializer_range=0.1,
    )
    with whole_files(folder, last="tokenizer.json") as unfinished:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            BertForMaskedLM(config).save_pretrained(unfinished)
        _word_tokenizer(vocabulary, num_positions).save_pretrained(unfinished)
        name_for_all_releases(unfinished)
    return words


def _word_tokenizer(vocabulary: dict[str, int], num_positions: int) -> PreTrainedTokenizerFast:
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))
    tokenizer.normalizer, tokenizer.pre_tokenizer = LOWER, SPLITTER
    ends = [(token, vocabulary[token]) for token in ("[CLS]", "[SEP]")]
    tokenizer.post_processor = processors.TemplateProcessing(single="[CLS] $A [SEP]", special_tokens=ends)
    names = {f"{token.strip('[]').lower()}_token": token for token in SPECIAL_TOKENS}
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, model_max_length=num_positions, **names)

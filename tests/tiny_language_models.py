"""Tiny random language models of every kind, with a word tokenizer, as folders that `save_pretrained` wrote."""

from pathlib import Path

import torch
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
from transformers import (
    AutoModel,
    AutoModelForCausalLM,
    BertConfig,
    DistilBertConfig,
    GPT2Config,
    LlamaConfig,
    PreTrainedTokenizerFast,
    RobertaConfig,
)

WORDS = (
    *("open", "close", "take", "put", "cut", "wash", "preheat", "add"),
    *("fridge", "egg", "knife", "tomato", "pan", "oven", "salt"),
    *(",", "or", "<a>", "<v>"),
)
SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
SIZE = len(SPECIAL) + len(WORDS)

BERT = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64}
ENCODERS = {
    "bert": BertConfig(vocab_size=SIZE, **BERT),
    "distilbert": DistilBertConfig(vocab_size=SIZE, dim=32, n_layers=2, n_heads=2, hidden_dim=64),
    "roberta": RobertaConfig(vocab_size=SIZE, pad_token_id=0, **BERT),
}
DECODERS = {
    "gpt2": GPT2Config(vocab_size=SIZE, n_embd=32, n_layer=2, n_head=2, bos_token_id=2, eos_token_id=3),
    "llama": LlamaConfig(
        vocab_size=SIZE,
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=64,
        bos_token_id=2,
        eos_token_id=3,
    ),
}


def word_tokenizer(*, is_encoder: bool) -> PreTrainedTokenizerFast:
    """One token a word; an encoder's puts [CLS] and [SEP] around a text, a decoder's nothing."""
    vocabulary = {word: index for index, word in enumerate([*SPECIAL, *WORDS])}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.Replace(",", " , ")
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokens = {"pad_token": "[PAD]", "unk_token": "[UNK]", "mask_token": "[MASK]"}
    if is_encoder:
        tokens |= {"cls_token": "[CLS]", "sep_token": "[SEP]"}
        tokenizer.post_processor = processors.TemplateProcessing(
            single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
        )
    else:
        tokens |= {"bos_token": "[CLS]", "eos_token": "[SEP]"}
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, **tokens)


def write_language_model(folder: Path, kind: str) -> Path:
    """Writes a tiny random model of a kind, seeded, and its tokenizer; encoders without their masked-language head."""
    torch.manual_seed(0)
    is_encoder = kind in ENCODERS
    model = AutoModel.from_config(ENCODERS[kind]) if is_encoder else AutoModelForCausalLM.from_config(DECODERS[kind])
    model.save_pretrained(folder)
    word_tokenizer(is_encoder=is_encoder).save_pretrained(folder)
    return folder

"""Random language models that know some kitchen words, small enough to train in a test."""

from pathlib import Path

import torch
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import BertConfig, BertForMaskedLM, GPT2Config, GPT2LMHeadModel, PreTrainedTokenizerFast

VERBS = (
    "add bake beat boil chop crack cut fry heat knead melt mix open peel pour preheat put serve stir take wash whisk"
)
NOUNS = "batter bowl butter carrot cheese dough egg flour fridge knife milk oil onion oven pan pepper salt sugar tomato"
ENCODER_SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
END_OF_TEXT = "<|endoftext|>"
NUM_POSITIONS = 64


def write_tiny_encoder(folder: Path) -> Path:
    """Saves a BERT with its masked language model head; its tokenizer knows whole words and commas."""
    words = [*ENCODER_SPECIAL, ",", "<", ">", "a", "v", *VERBS.split(), *NOUNS.split()]
    tokenizer = Tokenizer(models.WordLevel({word: i for i, word in enumerate(words)}, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.Lowercase()
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    special = [("[CLS]", words.index("[CLS]")), ("[SEP]", words.index("[SEP]"))]
    tokenizer.post_processor = processors.TemplateProcessing(single="[CLS] $A [SEP]", special_tokens=special)
    names = dict(zip(("pad_token", "unk_token", "cls_token", "sep_token", "mask_token"), ENCODER_SPECIAL, strict=True))
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, model_max_length=NUM_POSITIONS, **names).save_pretrained(folder)
    torch.manual_seed(0)
    sizes = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64}
    config = BertConfig(vocab_size=len(words), max_position_embeddings=NUM_POSITIONS, initializer_range=0.1, **sizes)
    BertForMaskedLM(config).save_pretrained(folder)
    return folder


def write_tiny_decoder(folder: Path) -> Path:
    """Saves a GPT-2; its tokenizer splits bytes into a few pairs and has no special token but the end of text."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=400, special_tokens=[END_OF_TEXT], initial_alphabet=alphabet, show_progress=False
    )
    tokenizer.train_from_iterator([f" {word}" for word in (VERBS + " " + NOUNS).split()], trainer)
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, model_max_length=NUM_POSITIONS, bos_token=END_OF_TEXT, eos_token=END_OF_TEXT
    ).save_pretrained(folder)
    torch.manual_seed(0)
    end = tokenizer.token_to_id(END_OF_TEXT)
    config = GPT2Config(
        vocab_size=tokenizer.get_vocab_size(),
        n_positions=NUM_POSITIONS,
        n_embd=32,
        n_layer=2,
        n_head=2,
        initializer_range=0.1,
        bos_token_id=end,
        eos_token_id=end,
    )
    GPT2LMHeadModel(config).save_pretrained(folder)
    return folder

"""Random language models with a vocabulary of kitchen words, small enough to train in a test."""

from pathlib import Path

import torch
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import (
    AutoModel,
    AutoModelForCausalLM,
    BertConfig,
    BertForMaskedLM,
    DistilBertConfig,
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    PreTrainedTokenizerFast,
    RobertaConfig,
)

VERBS = "add bake boil chop close crack cut fry heat knead melt mix open peel pour preheat put serve stir take wash"
NOUNS = "batter bowl butter carrot cheese dough egg flour fridge knife milk oil onion oven pan pepper salt sugar tomato"
ENCODER_SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
END_OF_TEXT = "<|endoftext|>"
NUM_POSITIONS = 64


WORDS = [*ENCODER_SPECIAL, ",", "<", ">", "a", "v", "or", *VERBS.split(), *NOUNS.split()]
BERT = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64}
ENCODERS = {
    "bert": BertConfig(vocab_size=len(WORDS), **BERT),
    "distilbert": DistilBertConfig(vocab_size=len(WORDS), dim=32, n_layers=2, n_heads=2, hidden_dim=64),
    "roberta": RobertaConfig(vocab_size=len(WORDS), pad_token_id=0, **BERT),
}
ENDS = {"bos_token_id": WORDS.index("[CLS]"), "eos_token_id": WORDS.index("[SEP]")}
DECODERS = {
    "gpt2": GPT2Config(vocab_size=len(WORDS), n_embd=32, n_layer=2, n_head=2, **ENDS),
    "llama": LlamaConfig(vocab_size=len(WORDS), **BERT, **ENDS),
}


def word_tokenizer(*, is_encoder: bool) -> PreTrainedTokenizerFast:
    """Returns a tokenizer with one token per word or comma; an encoder's adds [CLS] and [SEP] around a text."""
    tokenizer = Tokenizer(models.WordLevel({word: i for i, word in enumerate(WORDS)}, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.Lowercase()
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    names = {"pad_token": "[PAD]", "unk_token": "[UNK]"}
    if is_encoder:
        special = [("[CLS]", WORDS.index("[CLS]")), ("[SEP]", WORDS.index("[SEP]"))]
        tokenizer.post_processor = processors.TemplateProcessing(single="[CLS] $A [SEP]", special_tokens=special)
        names |= {"cls_token": "[CLS]", "sep_token": "[SEP]", "mask_token": "[MASK]"}
    else:
        names |= {"bos_token": "[CLS]", "eos_token": "[SEP]"}
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, model_max_length=NUM_POSITIONS, **names)


def write_language_model(folder: Path, kind: str) -> Path:
    """Saves a model of one of `ENCODERS`, without its masked language head, or of `DECODERS`, and a word tokenizer."""
    torch.manual_seed(0)
    is_encoder = kind in ENCODERS
    model = AutoModel.from_config(ENCODERS[kind]) if is_encoder else AutoModelForCausalLM.from_config(DECODERS[kind])
    model.save_pretrained(folder)
    word_tokenizer(is_encoder=is_encoder).save_pretrained(folder)
    return folder


def write_tiny_encoder(folder: Path) -> Path:
    """Saves a BERT with its masked language model head; its tokens are whole words and commas."""
    torch.manual_seed(0)
    config = BertConfig(vocab_size=len(WORDS), max_position_embeddings=NUM_POSITIONS, initializer_range=0.1, **BERT)
    BertForMaskedLM(config).save_pretrained(folder)
    word_tokenizer(is_encoder=True).save_pretrained(folder)
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

"""Names scored from the prefix's cache: the same scores as one forward pass per history and name, and refusals."""

from collections import Counter

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import (
    BertConfig,
    BertForMaskedLM,
    BloomConfig,
    BloomForCausalLM,
    Gemma2Config,
    Gemma2ForCausalLM,
    GPT2Config,
    GPT2LMHeadModel,
    GPT2Model,
    JambaConfig,
    JambaForCausalLM,
    LlamaConfig,
    LlamaForCausalLM,
    MambaConfig,
    MambaForCausalLM,
    MistralConfig,
    MistralForCausalLM,
    OpenAIGPTConfig,
    OpenAIGPTLMHeadModel,
    PreTrainedTokenizerFast,
)

from avt_distill.teacher.action_text import ActionText
from avt_distill.teacher.zero_shot import ZeroShotScorer, action_tokens, score_names

TEXT = ActionText()
# A name that is the beginning of another, a repeated word, one word, many words, and equal texts.
TEXTS = ["put", "put down", "put down pan", "chop chop chop", "stir", "open the big fridge door", "take egg", "stir"]
HISTORIES = [[0, 1, 2, 5, 5, 3], [], [4], [1, 6, 6], [2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2]]
KINDS = [(kind, attention) for kind in ("gpt2", "llama") for attention in ("eager", "sdpa")]
SMALL = {"hidden_size": 32, "intermediate_size": 64, "num_attention_heads": 2, "num_key_value_heads": 2}
VISIBLE = 0.3  # initial weights large enough for outputs to differ visibly


@pytest.fixture(scope="module")
def tokenizer():
    """Byte-level BPE, which merges a word with the space before it, without a token that begins a text."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=320, special_tokens=["<end>"], initial_alphabet=alphabet)
    tokenizer.train_from_iterator([TEXT.sequence(TEXTS)] * 5, trainer)
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="<end>")


def tiny(kind: str, attention: str = "sdpa"):
    torch.manual_seed(0)
    sizes = {"vocab_size": 320, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4}
    common = {"initializer_range": VISIBLE, "attn_implementation": attention}
    if kind == "gpt2":
        return GPT2LMHeadModel(GPT2Config(vocab_size=320, n_embd=32, n_layer=2, n_head=4, n_positions=128, **common))
    config = LlamaConfig(**sizes, num_key_value_heads=2, intermediate_size=64, max_position_embeddings=128, **common)
    return LlamaForCausalLM(config)


def scorer(tokenizer, model=None, texts=TEXTS, text=TEXT, **options) -> ZeroShotScorer:
    return ZeroShotScorer(model or tiny("llama"), tokenizer, texts, text, **{"max_prefix_length": 96, **options})


def plain_scores(model, tokenizer, histories, texts=TEXTS, instruction="", between=", ") -> np.ndarray:
    """One forward pass per history and name, on the tokens of the joined text; shares no code with the scorer."""
    scores = np.empty((len(histories), len(texts)))
    for row, history in enumerate(histories):
        past = instruction + "".join(" " + texts[action] + between.rstrip() for action in history)
        for action, name in enumerate(texts):
            prefix = [tokenizer.eos_token_id, *tokenizer(past)["input_ids"]]
            ids = [tokenizer.eos_token_id, *tokenizer(past + " " + name + between.rstrip())["input_ids"]]
            assert ids[: len(prefix)] == prefix
            with torch.no_grad():
                log_probabilities = model.eval()(torch.tensor([ids])).logits[0].log_softmax(dim=1)
            scores[row, action] = sum(
                log_probabilities[place - 1, ids[place]].item() for place in range(len(prefix), len(ids))
            )
    return scores


@pytest.mark.parametrize(("kind", "attention"), KINDS)
def test_scores_equal_one_forward_a_history_and_name(tokenizer, kind, attention):
    model = tiny(kind, attention)
    for instruction in ("", "The steps, in order:"):
        logits = scorer(tokenizer, model, instruction=instruction, batch_size=3).logits(HISTORIES)
        assert logits.dtype == np.float32
        plain = plain_scores(model, tokenizer, HISTORIES, instruction=instruction)
        assert np.ptp(plain, axis=0)[0] > 0.5  # histories matter to this model
        np.testing.assert_allclose(logits, plain, atol=1e-4)


@pytest.mark.parametrize(("kind", "attention"), KINDS)
def test_neither_batches_nor_other_names_change_a_score(tokenizer, kind, attention):
    model = tiny(kind, attention)
    logits = scorer(tokenizer, model, batch_size=1).logits(HISTORIES)
    for batch_size in (2, 3, 8, 99):
        batched = scorer(tokenizer, model, batch_size=batch_size).logits(HISTORIES)
        np.testing.assert_allclose(batched, logits, atol=1e-4)


def test_a_name_may_beat_the_name_that_begins_it(tokenizer):
    """Without the tokens that end an action, "put" would always beat "put down"."""
    model = tiny("llama")
    ids = torch.tensor(tokenizer(" stir, put down," * 6)["input_ids"])
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    for _ in range(30):
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(model(input_ids=ids[None, :-1]).logits[0], ids[1:]).backward()
        optimizer.step()
    after_stir, after_put_down = scorer(tokenizer, model).logits([[4, 1, 4], [4, 1]])
    assert TEXTS[after_stir.argmax()] == "put down"
    assert TEXTS[after_put_down.argmax()] == "stir"
    assert after_stir[0] < after_stir[1]
    assert after_stir[4] == after_stir[7]  # equal texts


def test_the_tokens_that_may_follow_share_the_probability(tokenizer):
    model = tiny("llama").eval()
    prefixes, stir = [[0, 5, 6], [0]], action_tokens(tokenizer, TEXTS, TEXT)[4]
    first, second = ([[*begin, token] for token in range(320)] for begin in ((), stir))
    for prefix in prefixes:
        assert abs(np.logaddexp.reduce(score_names(model, prefix, first, 64))) < 1e-4
        after_stir = np.logaddexp.reduce(score_names(model, prefix, second, 64))
        np.testing.assert_allclose(after_stir, score_names(model, prefix, [stir], 64)[0], atol=1e-4)


def test_permuted_names_permute_the_logits(tokenizer):
    order = np.random.default_rng(0).permutation(len(TEXTS))
    place_of = np.argsort(order)
    permuted = scorer(tokenizer, texts=[TEXTS[action] for action in order])
    logits = permuted.logits([[int(place_of[action]) for action in history] for history in HISTORIES])
    np.testing.assert_allclose(logits, scorer(tokenizer).logits(HISTORIES)[:, order], atol=1e-5)


@pytest.mark.parametrize("calibrate", [False, True])
def test_no_histories_give_no_logits(tokenizer, calibrate):
    logits = scorer(tokenizer, calibrate=calibrate).logits([])
    assert (logits.shape, logits.dtype) == ((0, len(TEXTS)), np.float32)


def test_histories_are_cut_on_the_left(tokenizer):
    model = tiny("gpt2")
    logits = scorer(tokenizer, model, history_length=2).logits([[5, 3, 1, 4]])
    np.testing.assert_allclose(logits, plain_scores(model, tokenizer, [[1, 4]]), atol=1e-4)
    limit = 1 + len(tokenizer(" put down, stir,")["input_ids"]) + 1  # the first token, two actions, and one to spare
    for history in ([5, 3, 1, 4], np.array([1, 4])):
        np.testing.assert_allclose(
            scorer(tokenizer, model, history_length=None, max_prefix_length=limit).logits([history]), logits, atol=1e-4
        )
    nothing = scorer(tokenizer, model, history_length=0).logits([[5, 3], []])
    np.testing.assert_allclose(nothing, plain_scores(model, tokenizer, [[], []]), atol=1e-4)


@pytest.mark.parametrize(("calibrate", "prefixes"), [(False, 4), (True, 5)])
def test_each_distinct_prefix_is_read_once(tokenizer, calibrate, prefixes):
    subject = scorer(tokenizer, batch_size=3, history_length=6, calibrate=calibrate)
    calls = []
    subject.model.base_model.register_forward_hook(lambda *_: calls.append(1))
    histories = [[5, 0], [1], [5, 0], [0] * 6, [1] + [0] * 6, [3]]
    logits = subject.logits(histories)
    batches = sum(-(-count // 3) for count in Counter(map(len, subject.action_ids)).values())  # batched by length
    assert len(calls) == prefixes * (1 + batches)
    assert (logits[0] == logits[2]).all()
    assert (logits[3] == logits[4]).all()
    subject.calibrate = False
    assert subject.logits([]).shape == (0, len(TEXTS))
    assert len(calls) == prefixes * (1 + batches)


def test_calibration_subtracts_what_the_empty_history_gives(tokenizer):
    model = tiny("llama")
    raw = scorer(tokenizer, model, instruction="Steps:").logits(HISTORIES)
    calibrated = scorer(tokenizer, model, instruction="Steps:", calibrate=True)
    np.testing.assert_allclose(calibrated.logits(HISTORIES), raw - raw[1], atol=1e-4)
    np.testing.assert_allclose(calibrated.logits([[]]), 0, atol=1e-4)


def test_actions_have_the_tokens_of_the_joined_text(tokenizer):
    """A space merges into the word after it, and brackets into the comma after them."""
    texts = [*TEXTS, "open (left)"]
    ids = action_tokens(tokenizer, texts, TEXT)
    history = [8, 1, 0, 8, 5]
    joined = tokenizer(" " + TEXT.history(history, texts, None) + ",")["input_ids"]
    assert [token for action in history for token in ids[action]] == joined
    assert tokenizer.convert_ids_to_tokens(ids[0]) == ["Ġput", ","]


def test_markers_are_scored_whole(tokenizer):
    """ " <v>" and " <a>" share a first token, which alone would not distinguish "put" from "put <v> pan"."""
    text, model = ActionText("markers"), tiny("gpt2")
    texts = text.labels(["put", "put_pan", "stir"])
    logits = scorer(tokenizer, model, texts, text).logits([[1, 0], []])
    plain = plain_scores(model, tokenizer, [[1, 0], []], texts, between=" <a> ")
    np.testing.assert_allclose(logits, plain, atol=1e-4)


def test_a_tokenizer_that_joins_words_is_refused():
    whole = Tokenizer(models.BPE())
    whole.train_from_iterator(
        ["stir, put, stir, put, "] * 9, trainers.BpeTrainer(vocab_size=60, special_tokens=["<end>"])
    )
    joins = PreTrainedTokenizerFast(tokenizer_object=whole, eos_token="<end>")
    with pytest.raises(ValueError, match="joins an action's text"):
        action_tokens(joins, ["stir", "put"], TEXT)


def test_models_without_a_probability_of_what_follows_are_refused(tokenizer):
    sizes = {"vocab_size": 320, "hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
    with pytest.raises(ValueError, match="A 'bert' reads both ways"):
        scorer(tokenizer, BertForMaskedLM(BertConfig(**sizes, intermediate_size=32)))
    with pytest.raises(ValueError, match="GPT2Model has no language head"):
        scorer(tokenizer, GPT2Model(tiny("gpt2").config))


def test_models_without_keys_and_values_to_share_are_refused(tokenizer):
    """Recurrent states cannot be repeated for each name, and in some models several tokens at once restart them."""
    for kind, model in (
        ("mamba", MambaForCausalLM(MambaConfig(vocab_size=320, hidden_size=32, num_hidden_layers=1))),
        ("jamba", JambaForCausalLM(JambaConfig(vocab_size=320, num_hidden_layers=8, **SMALL, num_experts=1))),
        ("openai-gpt", OpenAIGPTLMHeadModel(OpenAIGPTConfig(vocab_size=320, n_embd=32, n_layer=1, n_head=2))),
    ):
        with pytest.raises(ValueError, match=f"A '{kind}' has no cache of keys and values alone"):
            scorer(tokenizer, model)


def test_windows_soft_caps_and_alibi_count_as_in_one_forward(tokenizer):
    """Covers a window shorter than the prefix, a cap on the head's scores, and relative positions."""
    sizes = {"vocab_size": 320, "num_hidden_layers": 2, "initializer_range": VISIBLE, **SMALL}
    llama = {"head_dim": 16, "max_position_embeddings": 128, "sliding_window": 8}
    torch.manual_seed(0)
    for model in (
        MistralForCausalLM(MistralConfig(**sizes, **llama)),
        Gemma2ForCausalLM(Gemma2Config(**sizes, **llama, final_logit_softcapping=2.0)),
        BloomForCausalLM(BloomConfig(vocab_size=320, hidden_size=32, n_layer=2, n_head=2, initializer_range=VISIBLE)),
    ):
        logits = scorer(tokenizer, model, batch_size=3).logits(HISTORIES)
        np.testing.assert_allclose(logits, plain_scores(model, tokenizer, HISTORIES), atol=1e-4)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"history_length": -1}, "history_length is -1"),
        ({"batch_size": 0}, "batch_size is 0"),
        ({"texts": []}, "texts is empty"),
        ({"texts": ["stir", " "]}, "texts is empty or holds blank"),
        ({"max_prefix_length": 128}, "give a max_prefix_length of at most 1"),
        ({"max_prefix_length": 3, "instruction": "The steps, in order:"}, "instruction alone has more than"),
    ],
)
def test_options_out_of_range_are_refused(tokenizer, options, message):
    with pytest.raises(ValueError, match=message):
        scorer(tokenizer, **options)


def test_histories_of_unknown_actions_are_refused(tokenizer):
    for action in (-100, 8):
        with pytest.raises(ValueError, match=f"has action {action}: give ids from 0 to 7"):
            scorer(tokenizer).logits([[1, action]])

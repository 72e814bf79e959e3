"""Adaptation: perplexity, the loss at predicted positions only, new heads, and refusals."""

import math

import numpy as np
import pytest
import torch
import transformers
from transformers import AutoConfig, AutoModel, AutoModelForCausalLM, AutoModelForMaskedLM, AutoTokenizer

from avt_distill.recipes.adaptation import (
    AdaptationArguments,
    AdaptationTrainer,
    check_block_length,
    head_at,
    load_masked_or_causal_model,
    reads_positions_alone,
    train_head,
)
from avt_distill.recipes.blocks import BlockCollator, make_blocks
from avt_distill.teacher.language_models import is_causal, load_language_model_config, load_tokenizer

TEXTS = ["preheat oven, crack egg, whisk egg, add milk", "boil milk", "peel onion, cut onion, fry onion"] * 12
SIZES = {
    "vocab_size": 40,
    "hidden_size": 32,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "intermediate_size": 32,
    "initializer_range": 0.5,
}


def arguments(tmp_path, model, **overrides) -> AdaptationArguments:
    fields = {"use_cpu": True, "disable_tqdm": True, "save_strategy": "no", "max_steps": 1, "block_length": 16}
    names = {"model_name_or_path": str(model), "recipes": "recipes.jsonl", "output_dir": str(tmp_path / "out")}
    return AdaptationArguments(**{**fields, **names, **overrides})


def setup(folder, count=36) -> dict:
    """Returns the trainer's data; the same blocks are trained on and held out."""
    tokenizer = load_tokenizer(folder)
    collator, causal = BlockCollator(tokenizer), is_causal(load_language_model_config(folder))
    blocks = make_blocks(tokenizer, TEXTS[:count], 16, causal=causal)
    fixed = blocks if causal else collator.mask_once(blocks)
    return {"train_dataset": fixed, "eval_dataset": fixed, "data_collator": collator, "processing_class": tokenizer}


def test_perplexity_of_a_causal_model_is_that_of_a_plain_loop(tiny_decoder, tmp_path):
    model = AutoModelForCausalLM.from_pretrained(tiny_decoder)
    args = arguments(tmp_path, tiny_decoder, per_device_eval_batch_size=5)
    metrics = AdaptationTrainer(model, args, **setup(tiny_decoder)).evaluate()
    tokenizer = AutoTokenizer.from_pretrained(tiny_decoder)
    end = tokenizer.eos_token
    ids = torch.tensor(tokenizer(end + end.join(TEXTS) + end)["input_ids"])
    nll = []
    for start in range(0, len(ids) - 1, 16):
        logits = model(input_ids=ids[None, start : start + 16][:, : len(ids) - 1 - start]).logits[0]
        targets = ids[start + 1 : start + 17]
        nll += (-logits.log_softmax(-1)[range(len(targets)), targets]).tolist()
    assert metrics["eval_predicted_tokens"] == len(ids) - 1
    assert metrics["eval_perplexity"] == pytest.approx(math.exp(np.mean(nll)), rel=1e-4)


def test_perplexity_of_a_masked_model_is_that_of_a_plain_loop(tiny_encoder, tmp_path):
    model, data = AutoModelForMaskedLM.from_pretrained(tiny_encoder), setup(tiny_encoder)
    trainer = AdaptationTrainer(model, arguments(tmp_path, tiny_encoder, per_device_eval_batch_size=5), **data)
    assert trainer.selects_positions
    metrics, nll = trainer.evaluate(), []
    for block in data["eval_dataset"]:
        probabilities = model(input_ids=torch.tensor(block["input_ids"])[None]).logits[0].softmax(-1).tolist()
        nll += [-math.log(probabilities[i][label]) for i, label in enumerate(block["labels"]) if label != -100]
    assert metrics["eval_predicted_tokens"] == len(nll) > 20
    assert metrics["eval_perplexity"] == pytest.approx(math.exp(np.mean(nll)), rel=1e-4)


def test_logits_at_predicted_positions_alone_give_the_same_loss_and_gradients(tiny_encoder, tmp_path):
    model, data = AutoModelForMaskedLM.from_pretrained(tiny_encoder).eval(), setup(tiny_encoder)
    trainer = AdaptationTrainer(model, arguments(tmp_path, tiny_encoder), **data)
    batch = data["data_collator"](data["eval_dataset"][:4])
    gradients = []
    for trainer.selects_positions in (True, False):
        model.zero_grad()
        nll = trainer.token_nll(model, batch)
        nll.sum().backward()
        gradients.append((nll, [parameter.grad.clone() for parameter in model.parameters()]))
    torch.testing.assert_close(gradients[0], gradients[1])
    assert all(gradient.any() for gradient in gradients[0][1])


@pytest.mark.parametrize(
    ("name", "sizes"),
    [
        ("Roberta", {}),
        ("Albert", {"embedding_size": 16}),
        ("Electra", {"embedding_size": 16}),
        ("Deberta", {}),
        ("MPNet", {}),
        ("ModernBert", {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2, "cls_token_id": 1, "sep_token_id": 2}),
        ("DistilBert", {"dim": 32, "n_layers": 1, "n_heads": 2, "hidden_dim": 32}),
    ],
)
def test_heads_of_other_encoders_read_positions_alone(name, sizes):
    torch.manual_seed(0)
    config = getattr(transformers, f"{name}Config")(**{**SIZES, **sizes})
    assert reads_positions_alone(AutoModelForMaskedLM.from_config(config))


def test_heads_that_mix_positions_compute_all_logits(tiny_encoder):
    model = AutoModelForMaskedLM.from_pretrained(tiny_encoder)

    class Mixing(torch.nn.Module):
        def forward(self, hidden):
            return head(hidden) + head(hidden).mean(1, keepdim=True)

    head, model.cls = model.cls, Mixing()
    assert not reads_positions_alone(model)
    with head_at(model, torch.ones(1, 4, dtype=torch.bool)):
        pass
    assert not model.base_model._forward_hooks


@pytest.mark.parametrize("folder", ["tiny_encoder", "tiny_decoder"])
def test_accumulated_batches_weigh_every_token_the_same(folder, tmp_path, request):
    """Blocks with different numbers of predicted tokens give the same weights after a step in one batch or several."""
    folder = request.getfixturevalue(folder)
    data, weights = setup(folder, count=9), []
    data["train_dataset"] = (data["train_dataset"] * 8)[:7] + data["train_dataset"][-1:]
    for batch_size, steps in ((8, 1), (2, 4)):
        model = AutoModel.from_pretrained(folder)  # only to determine its type
        model = type_with_head(model).from_pretrained(folder, **without_dropout(model.config))
        args = arguments(
            tmp_path, folder, per_device_train_batch_size=batch_size, gradient_accumulation_steps=steps, optim="sgd"
        )
        args.learning_rate = 1.0
        trainer = AdaptationTrainer(model, args, **data)
        trainer.train()
        weights.append([parameter.detach().clone() for parameter in model.parameters()])
    torch.testing.assert_close(weights[0], weights[1], atol=1e-5, rtol=1e-4)
    untouched = type_with_head(model).from_pretrained(folder)
    assert all((a != b).any() for a, b in zip(weights[0], untouched.parameters(), strict=True))


def type_with_head(model):
    return AutoModelForCausalLM if is_causal(model.config) else AutoModelForMaskedLM


def without_dropout(config) -> dict:
    names = ("hidden_dropout_prob", "attention_probs_dropout_prob", "resid_pdrop", "embd_pdrop", "attn_pdrop")
    return {name: 0.0 for name in names if hasattr(config, name)}


@pytest.fixture
def headless(tiny_encoder, tmp_path):
    folder = tmp_path / "headless"
    AutoModel.from_pretrained(tiny_encoder).save_pretrained(folder)
    AutoTokenizer.from_pretrained(tiny_encoder).save_pretrained(folder)
    return folder


def test_new_heads_are_reported(headless, tiny_encoder, tiny_decoder):
    assert load_masked_or_causal_model(tiny_encoder)[1] == load_masked_or_causal_model(tiny_decoder)[1] == []
    _, new = load_masked_or_causal_model(headless)
    assert "cls.predictions.transform.dense.weight" in new
    assert all(name.startswith("cls.") for name in new)


def test_head_warmup_trains_the_new_head_alone(headless, tmp_path):
    model, new = load_masked_or_causal_model(headless)
    before = {name: parameter.detach().clone() for name, parameter in model.named_parameters()}
    schedule = {"lr_scheduler_type": "cosine_with_min_lr", "lr_scheduler_kwargs": {"min_lr": 1e-6}}  # not for the head
    args = arguments(tmp_path, headless, head_warmup_steps=20, head_learning_rate=1e-2, **schedule)
    data = setup(headless)
    loss = AdaptationTrainer(model, args, **data).evaluate()["eval_loss"]
    train_head(model, new, args, data)
    changed = {name for name, parameter in model.named_parameters() if (parameter != before[name]).any()}
    assert changed == set(new) & before.keys()
    assert AdaptationTrainer(model, args, **data).evaluate()["eval_loss"] < loss - 0.1
    assert all(parameter.requires_grad for parameter in model.parameters())
    assert (args.max_steps, args.learning_rate) == (1, 5e-5)


def test_checkpoints_that_lack_more_than_a_head_are_refused(tiny_encoder, tmp_path):
    model = AutoModelForMaskedLM.from_pretrained(tiny_encoder)
    weights = {name: value for name, value in model.state_dict().items() if "layer.1" not in name}
    model.save_pretrained(tmp_path / "broken", state_dict=weights)
    with pytest.raises(ValueError, match=r"lacks 16 weights of BertForMaskedLM, such as 'bert\.encoder\.layer\.1"):
        load_masked_or_causal_model(tmp_path / "broken")


@pytest.mark.parametrize("model_type", ["t5", "bart"])
def test_encoder_decoders_are_refused(model_type, tmp_path):
    AutoConfig.for_model(model_type).save_pretrained(tmp_path)
    with pytest.raises(ValueError, match=f"A '{model_type}' is neither a masked nor a causal language model"):
        load_masked_or_causal_model(tmp_path)


@pytest.mark.parametrize("folder", ["tiny_encoder", "tiny_decoder"])
def test_blocks_longer_than_the_model_reads_are_refused(folder, request):
    folder = request.getfixturevalue(folder)
    model, tokenizer = load_masked_or_causal_model(folder)[0], load_tokenizer(folder)
    check_block_length(64, model, tokenizer)
    for length in (65, 7):
        with pytest.raises(ValueError, match=f"block_length is {length}: give 8 to 64 tokens"):
            check_block_length(length, model, tokenizer)


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ({"held_out_fraction": 0.0}, "held_out_fraction is 0.0: give a number between 0 and 1"),
        ({"mlm_probability": 1.5}, "mlm_probability is 1.5"),
        ({"text_form": "prose"}, "form is 'prose'"),
        ({"head_warmup_steps": -1}, "head_warmup_steps is -1"),
        ({"label_smoothing_factor": 0.1}, "label_smoothing_factor is not used here"),
    ],
)
def test_invalid_arguments_are_refused(tmp_path, overrides, message):
    with pytest.raises(ValueError, match=message):
        arguments(tmp_path, "bert", **overrides)

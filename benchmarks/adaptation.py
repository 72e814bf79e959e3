"""Measures recipe tokens per second while adapting a language model, compared with one recipe per example.

    python -m benchmarks.adaptation --model sentence-transformers/all-MiniLM-L6-v2 --recipes recipe_actions.jsonl

Each variant trains the same masked language model on the same recipes once: forward pass, backward pass, AdamW step.

- `ours`: the method of `avt-distill adapt_language_model`. Recipes share blocks of `--block_length` tokens, and the
  logits of the vocabulary are computed only at the masked positions.
- `one_a_row`: one recipe per example, 12 per batch, padded to the longest of the batch, with logits at all positions,
  as in the reference.
- `padded_to_longest`: the same, padded to `--longest` tokens.
"""

import argparse
import tempfile
from collections.abc import Iterator, Sequence

import torch
from transformers import Trainer, TrainingArguments

from avt_distill.data.labels import UNLABELLED
from avt_distill.recipes.adaptation import AdaptationTrainer, load_masked_or_causal_model
from avt_distill.recipes.blocks import BlockCollator, load_recipe_texts, make_blocks
from avt_distill.teacher.action_text import ActionText
from avt_distill.teacher.language_models import is_causal, load_tokenizer
from benchmarks.measure import add_common_arguments, describe_machine, print_times, take_turns, write_result

BATCH_SIZE = 12
HELD_OUT = 0.02


def main(arguments: list[str] | None = None):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", required=True, help="masked language model: a folder, or a name on the Hub")
    parser.add_argument("--recipes", required=True, help="file written by avt-distill extract_recipe_actions")
    parser.add_argument("--num_recipes", type=int, default=60)
    parser.add_argument("--block_length", type=int, default=128)
    parser.add_argument("--longest", type=int, default=512, help="number of tokens per example in padded_to_longest")
    parser.add_argument("--threads", type=int, help="number of CPU threads (default: PyTorch's choice)")
    add_common_arguments(parser, repeats=3)
    args = parser.parse_args(arguments)
    if args.threads is not None:
        torch.set_num_threads(args.threads)
    write_result(measure(args), args.output)


def measure(args: argparse.Namespace) -> dict:
    torch.manual_seed(0)
    model, _ = load_masked_or_causal_model(args.model)
    if is_causal(model.config):
        raise SystemExit("error: --model is a causal language model: give a masked one.")
    tokenizer = load_tokenizer(args.model)
    recipes = load_recipe_texts(args.recipes, ActionText(), HELD_OUT).train[: args.num_recipes]
    packed = make_blocks(tokenizer, recipes, args.block_length, causal=False)
    apart = make_blocks(tokenizer, recipes, args.longest, causal=False, packing=False)
    num_tokens = sum(len(block["input_ids"]) for block in apart)
    collator = BlockCollator(tokenizer)
    size = max(1, BATCH_SIZE * num_tokens // len(apart) // args.block_length)  # as many recipes per step as the others
    with tempfile.TemporaryDirectory() as folder:
        options = TrainingArguments(folder, use_cpu=not torch.cuda.is_available())
        ours, plain = AdaptationTrainer(model, options), Trainer(model, options)

    def train(trainer: Trainer, blocks: list, batch_size: int, length: int | None = None) -> float:
        optimizer = torch.optim.AdamW(model.parameters(), lr=0.0)  # leaves the weights unchanged
        model.train()
        for batch in batches(blocks, batch_size, collator, length):
            count = (batch["labels"] != UNLABELLED).sum()
            loss = trainer.compute_loss(model, trainer._prepare_inputs(batch), num_items_in_batch=count)
            loss.backward()
            optimizer.step()
            optimizer.zero_grad()
        return loss.item()

    ways = {
        "ours": lambda: train(ours, packed, size),
        "one_a_row": lambda: train(plain, apart, BATCH_SIZE),
        "padded_to_longest": lambda: train(plain, apart, BATCH_SIZE, args.longest),
    }
    _, times = take_turns(ways, args.repeats)
    print_times(f"{len(recipes)} recipes, {num_tokens} tokens", times, baseline="one_a_row")
    speeds = {name: num_tokens / measured["median_ms"] * 1000 for name, measured in times.items()}
    print(", ".join(f"{name} {speed:.0f} tokens/s" for name, speed in speeds.items()))
    settings = {"threads": torch.get_num_threads(), "parameters_m": model.num_parameters() / 1e6}
    machine = describe_machine("torch", "transformers", **settings)
    return {"machine": machine, "recipes": len(recipes), "tokens": num_tokens, "times": times, "tokens_per_s": speeds}


def batches(blocks: Sequence[dict], size: int, collator: BlockCollator, length: int | None) -> Iterator[dict]:
    """Yields masked batches, padded to their longest block or to a given length."""
    for start in range(0, len(blocks), size):
        batch = collator(blocks[start : start + size])
        if length is not None:
            more = (0, length - batch["input_ids"].shape[1])
            fill = {"input_ids": collator.tokenizer.pad_token_id, "attention_mask": 0, "labels": UNLABELLED}
            batch = {name: torch.nn.functional.pad(value, more, value=fill[name]) for name, value in batch.items()}
        yield batch


if __name__ == "__main__":
    main()

"""Converting recipes to examples for a language model: reading, splitting, packing into blocks of tokens, masking."""

import hashlib
import itertools
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from torch.nn.utils.rnn import pad_sequence
from transformers import DataCollatorForLanguageModeling, PreTrainedTokenizerBase

from ..data.labels import UNLABELLED
from ..teacher.action_text import ActionText
from .files import read_actions

# The same for all runs, whatever their seed, so that perplexities before and after training, and of several runs, are
# comparable.
HELD_OUT_MASK_SEED = 0
TEXTS_AT_ONCE = 10_000


@dataclass(frozen=True)
class RecipeTexts:
    """Recipes as text, split by use.

    Args:
        train (`list[str]`): To train on, in the order of the file.
        held_out (`list[str]`): To measure perplexity on.
        num_without_actions (`int`): Recipes in which no action was found; they are in neither.
        num_repeated (`int`): Recipes whose text is also held out under another id; they are not trained on.
    """

    train: list[str] = field(repr=False)
    held_out: list[str] = field(repr=False)
    num_without_actions: int = 0
    num_repeated: int = 0


def load_recipe_texts(path: str | Path, text: ActionText, held_out_fraction: float) -> RecipeTexts:
    """Returns the recipes of a file (see `read_actions`) as text, those to train on apart from those held out.

    Raises:
        ValueError: If nothing is left to train on, or nothing is held out though something should be.
    """
    train, held_out, num_without_actions = [], [], 0
    for recipe_id, actions in read_actions(path):
        if not actions:
            num_without_actions += 1
            continue
        (held_out if is_held_out(recipe_id, held_out_fraction) else train).append(text.recipe(actions))
    unseen = set(held_out)
    kept = [recipe for recipe in train if recipe not in unseen]
    texts = RecipeTexts(kept, held_out, num_without_actions, len(train) - len(kept))
    if not (train or held_out):
        raise ValueError(f"None of the {num_without_actions} recipes of {path} has actions: is their text English?")
    for name, recipes, change in (("train on", kept, "smaller"), ("measure perplexity on", held_out, "larger")):
        if not recipes:
            raise ValueError(
                f"held_out_fraction={held_out_fraction} leaves none of {path}'s {len(train) + len(held_out)} recipes "
                f"to {name}: give a {change} one, or more recipes."
            )
    return texts


def is_held_out(recipe_id: str, fraction: float) -> bool:
    """Returns whether a recipe is held out, by its id only, so that adding recipes does not change it."""
    return int.from_bytes(hashlib.sha256(recipe_id.encode()).digest()[:8], "big") < fraction * 2**64


def make_blocks(
    tokenizer: PreTrainedTokenizerBase, texts: Sequence[str], block_length: int, *, causal: bool, packing: bool = True
) -> list[dict[str, np.ndarray]]:
    """Converts recipes to examples for a language model of at most `block_length` tokens.

    Packed, recipes follow each other in blocks that are all full but the last, and may begin in one block and end in
    the next. To a masked language model a block is `[CLS] recipe [SEP] recipe ... [SEP]`. To a causal one each recipe
    is between the tokens that begin and end a text, one if both are the same; blocks overlap by one token, so
    that each token but the very first is predicted once. Not packed, a recipe begins a block of its own, as a history
    does at inference; what is longer continues in the next.

    Args:
        tokenizer (`PreTrainedTokenizerBase`): See `load_tokenizer`.
        texts (`Sequence[str]`): Recipes.
        block_length (`int`): Tokens of a block, special tokens included.
        causal (`bool`): Whether the model reads from left to right.
        packing (`bool`, *optional*, defaults to `True`): Whether recipes share blocks.

    Returns:
        `list[dict[str, np.ndarray]]`: `input_ids`, int32 `(T,)`; for causal models also `labels`, `(T,)`: the next
        token of each.
    """
    make = _causal_blocks if causal else _masked_blocks
    return list(make(tokenizer, _token_ids(tokenizer, texts), block_length, packing))


def _masked_blocks(tokenizer: PreTrainedTokenizerBase, recipes: Iterable[list[int]], block_length: int, packing: bool):
    if tokenizer.mask_token_id is None or tokenizer.sep_token_id is None:
        raise ValueError("The tokenizer has no mask or no separator token: masked language modeling needs both.")
    front, back = _special_tokens_around(tokenizer)
    room = block_length - len(front) - len(back)
    if packing:
        recipes = [_concatenate([*ids, tokenizer.sep_token_id] for ids in recipes)[:-1]]
    for tokens in recipes:
        for start in range(0, len(tokens), room):
            yield {"input_ids": np.array([*front, *tokens[start : start + room], *back], dtype=np.int32)}


def _causal_blocks(tokenizer: PreTrainedTokenizerBase, recipes: Iterable[list[int]], block_length: int, packing: bool):
    end = tokenizer.eos_token_id
    if end is None:
        raise ValueError("The tokenizer has no end-of-text token: nothing would mark where a recipe ends.")
    begin = end if tokenizer.bos_token_id is None else tokenizer.bos_token_id
    if packing and begin == end:  # one token then ends a recipe and begins the next
        recipes = [_concatenate(itertools.chain([[begin]], ([*ids, end] for ids in recipes)))]
    else:
        recipes = ([begin, *ids, end] for ids in recipes)
        recipes = [_concatenate(recipes)] if packing else recipes
    for tokens in recipes:
        for start in range(0, len(tokens) - 1, block_length):  # a block's last token is predicted, and read by the next
            block = np.array(tokens[start : start + block_length + 1], dtype=np.int32)
            yield {"input_ids": block[:-1], "labels": block[1:]}


def _special_tokens_around(tokenizer: PreTrainedTokenizerBase) -> tuple[list[int], list[int]]:
    """Returns the special tokens that a tokenizer puts before and after a text."""
    probe = "cook"
    inner, whole = (tokenizer(probe, add_special_tokens=special)["input_ids"] for special in (False, True))
    start = next(i for i in range(len(whole)) if whole[i : i + len(inner)] == inner)
    return whole[:start], whole[start + len(inner) :]


def _concatenate(sequences: Iterable[list[int]]) -> np.ndarray:
    return np.fromiter(itertools.chain.from_iterable(sequences), dtype=np.int32)


def _token_ids(tokenizer: PreTrainedTokenizerBase, texts: Sequence[str]) -> Iterator[list[int]]:
    for start in range(0, len(texts), TEXTS_AT_ONCE):
        batch = list(texts[start : start + TEXTS_AT_ONCE])
        yield from tokenizer(batch, add_special_tokens=False, return_attention_mask=False, verbose=False)["input_ids"]


class BlockCollator:
    """Collator that pads blocks to the longest of a batch, and masks those without labels, differently each time.

    Of the tokens other than special ones, `mlm_probability` are predicted; 80 % of these are masked, 10 % replaced by
    a random token and 10 % left.

    Args:
        tokenizer (`PreTrainedTokenizerBase`): With a padding token.
        mlm_probability (`float`, *optional*, defaults to 0.15): See above.

    Returns:
        `dict[str, torch.Tensor]`: `input_ids`, `attention_mask` and `labels`, `(B, T)` each; `labels` are the tokens to
        predict from the outputs at their positions, -100 elsewhere.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase, mlm_probability: float = 0.15):
        self.tokenizer, self.mlm_probability = tokenizer, mlm_probability
        self.special = torch.tensor(tokenizer.all_special_ids)

    def __call__(self, blocks: Sequence[dict[str, np.ndarray]]) -> dict[str, torch.Tensor]:
        batch = {
            "input_ids": _pad([block["input_ids"] for block in blocks], self.tokenizer.pad_token_id),
            "attention_mask": _pad([np.ones(len(block["input_ids"])) for block in blocks], 0),
        }
        if "labels" in blocks[0]:
            return {**batch, "labels": _pad([block["labels"] for block in blocks], UNLABELLED)}
        return {**batch, **self.mask(batch["input_ids"])}

    def mask(self, input_ids: torch.Tensor, generator: torch.Generator | None = None) -> dict[str, torch.Tensor]:
        """Returns masked `input_ids` and `labels`, drawn from a generator, or else from torch's own."""
        masking = DataCollatorForLanguageModeling(self.tokenizer, mlm_probability=self.mlm_probability)
        masking.generator = generator
        special = torch.isin(input_ids, self.special)
        masked, labels = masking.torch_mask_tokens(input_ids.clone(), special_tokens_mask=special)
        return {"input_ids": masked, "labels": labels}

    def mask_once(self, blocks: Iterable[dict[str, np.ndarray]]) -> list[dict[str, np.ndarray]]:
        """Returns held-out blocks with the masks that they keep: the same for each model of this tokenizer."""
        generator = torch.Generator().manual_seed(HELD_OUT_MASK_SEED)
        masked = (self.mask(torch.from_numpy(block["input_ids"]).long(), generator) for block in blocks)
        return [{name: value.numpy() for name, value in block.items()} for block in masked]


def _pad(rows: Sequence[np.ndarray], value: int) -> torch.Tensor:
    return pad_sequence([torch.from_numpy(row).long() for row in rows], batch_first=True, padding_value=value)  # (B, T)

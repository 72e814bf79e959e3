"""A causal language model as a teacher without any fine-tuning: how likely is each action's name after the history?"""

import copy
import inspect
from collections.abc import Iterator, Sequence

import numpy as np
import torch
from torch.nn.functional import cross_entropy
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from ..runs.checkpoints import check_scores
from .action_text import BETWEEN_ACTIONS, ActionText
from .language_models import encode, is_causal, readable_tokens


class ZeroShotScorer:
    """Scores every action's name given the text of a history: log p(name | prefix) under a causal language model.

    An action is scored as a space, its text and the closing that separates actions: " open fridge," or, with markers,
    " open <v> fridge <a>". Without the closing "put" would always beat "put down", which it begins. The prefix is the
    instruction and the past actions, encoded as they are scored; the first action also follows a space. The prefix of
    an empty history is the instruction alone, or the token that begins a text.

    Args:
        model (`PreTrainedModel`): A causal language model with its head. The scorer puts it into evaluation mode.
        tokenizer (`PreTrainedTokenizerBase`): Its tokenizer.
        texts (`Sequence[str]`): The text of each of the A actions, as returned by `ActionText.labels`.
        text (`ActionText`): The form of the texts.
        instruction (`str`, *optional*, defaults to `""`): Text before the history. It may contain a chat template's
            special tokens, and it is never cut.
        history_length (`int`, *optional*, defaults to 15): The number of past actions to read; all of them for `None`.
        max_prefix_length (`int`, *optional*, defaults to 512): The maximum number of tokens in a prefix, instruction
            included. The oldest actions that do not fit are left out whole.
        calibrate (`bool`, *optional*, defaults to `False`): Whether to subtract log p(name | empty history), which
            leaves what the history adds (pointwise mutual information).
        batch_size (`int`, *optional*, defaults to 32): Names per forward pass. Each holds a copy of the prefix's cache.

    Raises:
        ValueError: If the model is not a causal language model or has no head or key/value cache, if the tokenizer
            joins text across actions, or if an option or text is out of range.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase,
        texts: Sequence[str],
        text: ActionText,
        *,
        instruction: str = "",
        history_length: int | None = 15,
        max_prefix_length: int = 512,
        calibrate: bool = False,
        batch_size: int = 32,
    ):
        if history_length is not None and history_length < 0:
            raise ValueError(f"history_length is {history_length}: give 0 or more actions, or None for all.")
        if batch_size < 1:
            raise ValueError(f"batch_size is {batch_size}: give at least 1 name.")
        _check_model(model)
        self.model = model.eval()
        self.history_length, self.max_prefix_length = history_length, max_prefix_length
        self.calibrate, self.batch_size = calibrate, batch_size
        self.start_ids = encode(tokenizer, [instruction], max_prefix_length + 1)[0]
        if len(self.start_ids) > max_prefix_length:
            raise ValueError(f"The instruction alone has more than max_prefix_length = {max_prefix_length} tokens.")
        self.action_ids = action_tokens(tokenizer, texts, text, instruction)
        positions, longest = readable_tokens(model), max(map(len, self.action_ids))
        if positions is not None and max_prefix_length + longest > positions:
            raise ValueError(
                f"max_prefix_length is {max_prefix_length}, but the model has {positions} positions and the longest "
                f"name {longest} tokens: give a max_prefix_length of at most {positions - longest}."
            )

    def logits(self, histories: Sequence[Sequence[int]]) -> np.ndarray:
        """Returns log p(name | prefix) of each action, less that of the empty history if `calibrate`, float32 `(N, A)`.

        The names' probabilities do not sum to 1, as a text may continue with anything else.

        Args:
            histories (`Sequence[Sequence[int]]`): The action ids before each of N moments, oldest first. Ids without a
                text raise a `ValueError`.
        """
        prefixes, empty = [self._prefix(history) for history in histories], self._prefix(())
        distinct = dict.fromkeys([*prefixes, empty] if self.calibrate else prefixes)
        scores = {prefix: score_names(self.model, prefix, self.action_ids, self.batch_size) for prefix in distinct}
        logits = np.array([scores[prefix] for prefix in prefixes], dtype=np.float32).reshape(-1, len(self.action_ids))
        return logits - scores[empty] if self.calibrate else logits

    def _prefix(self, history: Sequence[int]) -> tuple[int, ...]:
        """Returns the token ids of the instruction and of the latest actions that fit."""
        outside = [int(action) for action in history if not 0 <= action < len(self.action_ids)]
        if outside:
            raise ValueError(f"A history has action {outside[0]}: give ids from 0 to {len(self.action_ids) - 1}.")
        oldest = 0 if self.history_length is None else max(0, len(history) - self.history_length)
        past = []
        for action in reversed(history[oldest:]):
            if len(self.start_ids) + len(past) + len(self.action_ids[action]) > self.max_prefix_length:
                break
            past = self.action_ids[action] + past
        return (*self.start_ids, *past)


def action_tokens(
    tokenizer: PreTrainedTokenizerBase, texts: Sequence[str], text: ActionText, instruction: str = ""
) -> list[list[int]]:
    """Returns the token ids of each action within a sequence: a space, its text and the closing.

    The closing is whole, such as " <a>", since its first token may also begin " <v>".

    Raises:
        ValueError: If there are no texts, a text is blank, or a sequence of actions after the instruction is tokenized
            differently.
    """
    if not len(texts) or not all(each.strip() for each in texts):
        raise ValueError("texts is empty or holds blank texts: give every action a text to score.")

    def ids_of(text: str) -> list[int]:
        return tokenizer(text, add_special_tokens=False)["input_ids"]

    closing = BETWEEN_ACTIONS[text.form].rstrip()
    space = BETWEEN_ACTIONS[text.form][len(closing) :]
    before = ids_of(closing)  # the words of a text's beginning may have other tokens
    action_ids = [ids_of(closing + space + each + closing)[len(before) :] for each in texts]
    begin = instruction or closing
    in_a_row = ids_of(begin + space + text.sequence(texts) + closing)
    if in_a_row != ids_of(begin) + [token for ids in action_ids for token in ids]:
        raise ValueError(
            "The tokenizer joins an action's text with the text before it, so names cannot be scored apart from the "
            "history: use a tokenizer that splits at spaces, and an instruction that does not end amid a word."
        )
    return action_ids


@torch.no_grad()
def score_names(
    model: PreTrainedModel, prefix: Sequence[int], names: Sequence[Sequence[int]], batch_size: int
) -> np.ndarray:
    """Returns log p(name | prefix) of A names given as token ids, float32 `(A,)`. It reads the prefix once."""
    read = model(input_ids=torch.tensor([prefix], device=model.device), use_cache=True, logits_to_keep=1)
    first = read.logits[0, -1].float().log_softmax(dim=0)  # (vocabulary,)
    scores = np.empty(len(names), dtype=np.float32)
    for batch in _batches(names, batch_size):
        tokens = torch.tensor([names[row] for row in batch], device=model.device)  # (B, T)
        total = first[tokens[:, 0]]
        if tokens.shape[1] > 1:
            cache = copy.deepcopy(read.past_key_values)
            cache.batch_repeat_interleave(len(batch))
            logits = model(input_ids=tokens[:, :-1], past_key_values=cache, use_cache=True).logits  # (B, T - 1, V)
            loss = cross_entropy(logits.float().flatten(0, 1), tokens[:, 1:].flatten(), reduction="none")
            total = total - loss.view(len(batch), -1).sum(dim=1)
        scores[batch] = total.cpu().numpy()
    check_scores(torch.from_numpy(scores))
    return scores


def _batches(names: Sequence[Sequence[int]], batch_size: int) -> Iterator[list[int]]:
    """Yields rows of names with equal lengths, which need neither padding nor a mask."""
    for length in sorted({len(name) for name in names}):
        rows = [row for row, name in enumerate(names) if len(name) == length]
        yield from (rows[start : start + batch_size] for start in range(0, len(rows), batch_size))


def _check_model(model: PreTrainedModel):
    kind = model.config.model_type
    if not is_causal(model.config):
        raise ValueError(f"A '{kind}' reads both ways and has no p(name | history): give a decoder such as GPT-2.")
    if model.get_output_embeddings() is None:
        raise ValueError(f"The {type(model).__name__} has no language head: load it with AutoModelForCausalLM.")
    if model._is_stateful or "past_key_values" not in inspect.signature(model.forward).parameters:
        raise ValueError(f"A '{kind}' has no cache of keys and values alone: give an attention model such as GPT-2.")

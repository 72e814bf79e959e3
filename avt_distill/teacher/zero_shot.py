"""A causal language model as a teacher without any fine-tuning: how likely is each action's name after the history?"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from .action_text import BETWEEN_ACTIONS, ActionText
from .language_models import encode, is_causal

# Positions whose scores over the whole vocabulary are held at a time: 50 MB in float32 for a vocabulary of 49,152.
POSITIONS_AT_ONCE = 256
# The mean difference in log p(name | prefix), in nats, that rounding may explain. For SmolLM2-135M it is below 0.001 in
# float32, up to 0.02 in float16 and 0.14 in bfloat16, and from 1.1 to 1.5 where the mask is wrong.
ROUNDING = {torch.float64: 0.01, torch.float32: 0.01, torch.float16: 0.1, torch.bfloat16: 0.5}
# Names on which each scorer is compared with plain scoring.
CHECKED_NAMES = 4


class ZeroShotScorer:
    """Scores every action's name given the text of a history: log p(name | prefix) under a causal language model.

    `logits(histories)` is what fine-tuned teachers and n-gram counts offer too, so that any of them can give the
    student its soft labels. A language model ranks well sooner than it is calibrated: soften with a temperature chosen
    on training rows.

    The text of an action is its name after a space, closed by what stands between actions: " open fridge," or, with
    markers, " open <v> fridge <a>". The closing is part of what is scored: without it "put" would always beat "put
    down", which it begins. A text is the instruction and then the actions, each of them in the very tokens in which it
    is scored, so the seam between history and name is where tokens end anyhow; a tokenizer for which that is not so is
    refused. The first action too follows a space, and an empty history is the instruction alone, or the token that
    begins a text.

    Names share beginnings, so they are scored as a tree: one forward reads the prefix and then every node of the tree
    once, each node attending to the prefix and to the nodes above it, at the position that it has in its own text.

    Args:
        model (`PreTrainedModel`): A causal language model with its head, under eager or sdpa attention. It is put into
            evaluation mode.
        tokenizer (`PreTrainedTokenizerBase`): Its tokenizer.
        texts (`Sequence[str]`): The text of each of the A actions, as `ActionText.labels` gives them.
        text (`ActionText`): The form that the texts are in.
        instruction (`str`, *optional*, defaults to `""`): Text before the history, which may hold a chat template's
            special tokens. It is never cut.
        history_length (`int`, *optional*, defaults to 15): The number of past actions to read; all of them for `None`.
        max_prefix_length (`int`, *optional*, defaults to 512): The most tokens to read, instruction included. The
            oldest actions that do not fit are left out whole.
        calibrate (`bool`, *optional*, defaults to `False`): Whether to subtract log p(name | empty history), which
            leaves what the history says about the action (pointwise mutual information) and drops the model's liking
            for short and frequent names.
        batch_size (`int`, *optional*, defaults to 8): Histories a forward.
        nodes_per_forward (`int`, *optional*, defaults to 512): The size up to which trees are read in one piece. More
            names than that make several trees, since the attention of a tree grows with the square of its size.

    Raises:
        ValueError: for a model that is no causal language model, has no head or cannot attend along a tree, for a
            tokenizer that joins text across actions, and for options and texts out of range.
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
        batch_size: int = 8,
        nodes_per_forward: int = 512,
    ):
        if history_length is not None and history_length < 0:
            raise ValueError(f"history_length is {history_length}: give 0 or more actions, or None for all.")
        if batch_size < 1 or nodes_per_forward < 1:
            raise ValueError(
                f"batch_size is {batch_size} and nodes_per_forward {nodes_per_forward}: give at least 1 of each."
            )
        _check_model(model)
        self.model = model.eval()
        self.history_length = history_length
        self.max_prefix_length = max_prefix_length
        self.calibrate = calibrate
        self.batch_size = batch_size
        self.start_ids = encode(tokenizer, [instruction], max_prefix_length + 1)[0]
        if len(self.start_ids) > max_prefix_length:
            raise ValueError(f"The instruction alone has more than max_prefix_length = {max_prefix_length} tokens.")
        self.action_ids = action_tokens(tokenizer, texts, text, instruction)
        self.trees = name_trees(self.action_ids, nodes_per_forward)
        self._check_positions()
        self._check_tree_attention()

    def logits(self, histories: Sequence[Sequence[int]]) -> np.ndarray:
        """Returns log p(name | prefix) of each action, or what `calibrate` makes of it, float32 `(N, A)`.

        The names' probabilities do not sum to 1, as a text may go on with anything else; a softmax makes them.

        Args:
            histories (`Sequence[Sequence[int]]`): The action ids before each of N moments, oldest first. Equal
                histories are scored anew each time.

        Raises:
            ValueError: for action ids without a text.
        """
        scores = self._log_probabilities(histories)
        return scores - self._empty_history if self.calibrate else scores

    @cached_property
    def _empty_history(self) -> np.ndarray:
        return self._log_probabilities([()])

    def _log_probabilities(self, histories: Sequence[Sequence[int]]) -> np.ndarray:
        prefixes = [self._prefix(history) for history in histories]
        order = sorted(range(len(prefixes)), key=lambda row: len(prefixes[row]))  # equal lengths need no padding
        scores = np.empty((len(prefixes), len(self.action_ids)), dtype=np.float32)
        for start in range(0, len(order), self.batch_size):
            rows = order[start : start + self.batch_size]
            for tree in self.trees:
                scores[np.ix_(rows, tree.actions)] = score_tree(self.model, [prefixes[row] for row in rows], tree)
        return scores

    def _prefix(self, history: Sequence[int]) -> list[int]:
        """Returns the token ids of the instruction and of the latest actions."""
        outside = [int(action) for action in history if not 0 <= action < len(self.action_ids)]
        if outside:
            raise ValueError(f"A history has action {outside[0]}: give ids from 0 to {len(self.action_ids) - 1}.")
        length = len(history) if self.history_length is None else min(len(history), self.history_length)
        past = []
        for action in reversed(history[len(history) - length :]):
            if len(self.start_ids) + len(past) + len(self.action_ids[action]) > self.max_prefix_length:
                break
            past = self.action_ids[action] + past
        return self.start_ids + past

    def _check_positions(self):
        positions = getattr(self.model.config, "max_position_embeddings", None)
        longest = max(map(len, self.action_ids))
        if positions is not None and self.max_prefix_length + longest > positions:
            raise ValueError(
                f"max_prefix_length is {self.max_prefix_length} and the longest name {longest} tokens, but the model "
                f"has {positions} positions: give a max_prefix_length of at most {positions - longest}."
            )

    def _check_tree_attention(self):
        """Scores some names after the longest and the shortest prefix both ways, and refuses models that differ.

        Models may take positions from the order of the tokens (ALiBi), see only the last few (sliding windows) or
        change the head's scores (soft caps): nothing else would tell.
        """
        kind = self.model.config.model_type
        length = self.max_prefix_length if self.history_length is None else self.history_length
        prefixes = [self._prefix([action % len(self.action_ids) for action in range(length)]), self.start_ids]
        tree = max(self.trees, key=lambda tree: len(tree.tokens))
        try:
            scores = score_tree(self.model, prefixes, tree)
        except torch.OutOfMemoryError:
            raise
        except (TypeError, ValueError, RuntimeError) as error:
            raise ValueError(
                f"A '{kind}' does not take a mask of its own and positions ({error}): names cannot be scored as a "
                "tree. Use a model of Llama's or GPT-2's kind."
            ) from error
        places = sorted(set(np.linspace(0, len(tree.actions) - 1, CHECKED_NAMES).astype(int).tolist()))
        names = [self.action_ids[tree.actions[place]] for place in places]
        plain = np.array([[score_plainly(self.model, prefix, name) for name in names] for prefix in prefixes])
        difference = np.abs(scores[:, places] - plain).mean()
        if not difference < ROUNDING[self.model.dtype]:
            raise ValueError(
                f"A '{kind}' scores names {difference:.3f} nats apart as a tree and alone: it ignores the mask or the "
                f"positions, its window is shorter than {len(prefixes[0])} tokens, or it changes its head's scores. "
                "Use a model of Llama's or GPT-2's kind."
            )


@dataclass(frozen=True)
class NameTree:
    """The token tree of some actions' names: M nodes that names go on from, and E edges, each to a name's next token.

    Node 0 is the end of the prefix; the others are tokens to read, each after its parent. A token that ends names and
    begins nothing is no node: it is scored, not read.

    Args:
        actions (`list[int]`): The ids of the A' actions.
        tokens, depths (`torch.Tensor` of shape `(M - 1,)`): Each node's token, and its depth, from 1.
        sees (`torch.Tensor` of bool, `(M - 1, M - 1)`): Whether a node (row) attends to another: itself, its ancestors.
        edge_nodes, edge_tokens (`torch.Tensor` of shape `(E,)`): The node that an edge leaves, ascending; its token.
        name_edges (`torch.Tensor` of shape `(A', longest name)`): The edges along each name, filled up with E.
    """

    actions: list[int]
    tokens: torch.Tensor
    depths: torch.Tensor
    sees: torch.Tensor
    edge_nodes: torch.Tensor
    edge_tokens: torch.Tensor
    name_edges: torch.Tensor


def name_tree(action_ids: Sequence[Sequence[int]], actions: list[int]) -> NameTree:
    """Returns the tree of some actions' names, whose token ids are `action_ids[action]`."""
    paths = {tuple(action_ids[action][:end]) for action in actions for end in range(1, len(action_ids[action]) + 1)}
    inner = sorted({path[:-1] for path in paths})  # () comes first, ancestors before descendants
    node_of = {path: node for node, path in enumerate(inner)}
    edges = sorted(paths, key=lambda path: node_of[path[:-1]])
    edge_of = {path: edge for edge, path in enumerate(edges)}
    sees = torch.zeros(len(inner), len(inner), dtype=torch.bool)
    for path, node in node_of.items():
        sees[node, [node_of[path[:end]] for end in range(len(path) + 1)]] = True
    longest = max(len(action_ids[action]) for action in actions)
    name_edges = torch.full((len(actions), longest), len(edges))
    for row, action in enumerate(actions):
        for end in range(1, len(action_ids[action]) + 1):
            name_edges[row, end - 1] = edge_of[tuple(action_ids[action][:end])]
    return NameTree(
        actions=actions,
        tokens=torch.tensor([path[-1] for path in inner[1:]], dtype=torch.int64),
        depths=torch.tensor([len(path) for path in inner[1:]], dtype=torch.int64),
        sees=sees[1:, 1:],
        edge_nodes=torch.tensor([node_of[path[:-1]] for path in edges]),
        edge_tokens=torch.tensor([path[-1] for path in edges]),
        name_edges=name_edges,
    )


def name_trees(action_ids: Sequence[Sequence[int]], nodes_per_tree: int) -> list[NameTree]:
    """Returns trees that hold every action's name once, each of at most `nodes_per_tree` nodes, or of one name.

    Args:
        action_ids (`Sequence[Sequence[int]]`): The token ids of each action's name, its closing included.
        nodes_per_tree (`int`): The most nodes a tree may have.
    """
    groups, nodes = [], set()
    for action in sorted(range(len(action_ids)), key=lambda action: action_ids[action]):
        own = {tuple(action_ids[action][:end]) for end in range(len(action_ids[action]))}
        if not groups or len(nodes | own) > nodes_per_tree:
            groups.append([])
            nodes = set()
        groups[-1].append(action)
        nodes |= own
    return [name_tree(action_ids, group) for group in groups]


def action_tokens(
    tokenizer: PreTrainedTokenizerBase, texts: Sequence[str], text: ActionText, instruction: str = ""
) -> list[list[int]]:
    """Returns the token ids of each action as it stands amid others: a space, its text, and what closes an action.

    All that closes it, such as " <a>", rather than its first token: " <v>" begins alike.

    Raises:
        ValueError: for no texts or blank ones, and where the tokens of actions in a row, after the instruction, are not
            those of each action in a row.
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
            "The tokenizer joins an action's text with what stands before it, so names cannot be scored apart from the "
            "history: use a tokenizer that splits at spaces, and an instruction that does not end amid a word."
        )
    return action_ids


@torch.no_grad()
def score_tree(model: PreTrainedModel, prefixes: Sequence[Sequence[int]], tree: NameTree) -> np.ndarray:
    """Returns log p(name | prefix) of a tree's names in one forward, float32 `(B, A')`.

    Args:
        model (`PreTrainedModel`): A causal language model, in evaluation mode.
        prefixes (`Sequence[Sequence[int]]`): The token ids of B prefixes, none of them empty.
        tree (`NameTree`): The names of A' actions.
    """
    longest = max(map(len, prefixes))
    lengths = torch.tensor([len(prefix) for prefix in prefixes])
    padded = torch.tensor([[0] * (longest - len(prefix)) + list(prefix) for prefix in prefixes])  # (B, L)
    places = torch.arange(longest) - (longest - lengths[:, None])  # (B, L), negative at padding
    nodes = tree.tokens.expand(len(prefixes), -1)  # (B, M - 1)
    positions = torch.cat([places.clamp(min=0), lengths[:, None] - 1 + tree.depths], dim=1)  # (B, L + M - 1)
    hidden = model.base_model(
        input_ids=torch.cat([padded, nodes], dim=1).to(model.device),
        attention_mask=_tree_mask(places >= 0, tree.sees, model.dtype).to(model.device),
        position_ids=positions.to(model.device),
        use_cache=False,
    ).last_hidden_state[:, longest - 1 :]  # (B, M, D)
    edges = _edge_scores(model.get_output_embeddings(), hidden, tree)
    edges = torch.cat([edges, edges.new_zeros(len(prefixes), 1)], dim=1)  # (B, E + 1)
    return edges[:, tree.name_edges].sum(dim=2).numpy()  # (B, A')


def _tree_mask(is_text: torch.Tensor, sees: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """Returns the additive mask of prefixes padded on the left and then a tree, `(B, 1, L + M - 1, L + M - 1)`.

    Padding attends to itself, as a softmax over nothing would be NaN. Boolean masks would do for sdpa, but eager
    attention adds them up.
    """
    batch, length = is_text.shape
    allowed = torch.zeros(batch, length + len(sees), length + len(sees), dtype=torch.bool)
    allowed[:, :length, :length] = torch.ones(length, length, dtype=torch.bool).tril() & is_text[:, None]
    allowed[:, length:, :length] = is_text[:, None]
    allowed[:, length:, length:] = sees
    allowed |= torch.eye(length + len(sees), dtype=torch.bool)
    mask = torch.zeros(allowed.shape, dtype=dtype).masked_fill_(~allowed, torch.finfo(dtype).min)
    return mask[:, None]


def _edge_scores(head: torch.nn.Module, hidden: torch.Tensor, tree: NameTree) -> torch.Tensor:
    """Returns log p(token | path) of each edge, float32 `(B, E)`, on the CPU."""
    batch, num_nodes = hidden.shape[:2]
    step = max(1, POSITIONS_AT_ONCE // batch)
    scores = []
    for start in range(0, num_nodes, step):
        logits = head(hidden[:, start : start + step]).float()  # (B, step, vocabulary)
        first, last = torch.searchsorted(tree.edge_nodes, torch.tensor([start, start + step])).tolist()
        nodes = (tree.edge_nodes[first:last] - start).to(logits.device)
        tokens = tree.edge_tokens[first:last].to(logits.device)
        scores.append((logits[:, nodes, tokens] - logits.logsumexp(dim=2)[:, nodes]).cpu())
    return torch.cat(scores, dim=1)


@torch.no_grad()
def score_plainly(model: PreTrainedModel, prefix: Sequence[int], name: Sequence[int]) -> float:
    """Returns log p(name | prefix) as the model gives it for one text; `score_tree` must equal it."""
    ids = torch.tensor([[*prefix, *name]], device=model.device)
    scores = model(input_ids=ids, use_cache=False).logits[0, len(prefix) - 1 : -1].float().log_softmax(dim=1)
    return float(scores.gather(1, ids[0, len(prefix) :, None]).sum())


def _check_model(model: PreTrainedModel):
    kind = model.config.model_type
    if not is_causal(model.config):
        raise ValueError(f"A '{kind}' reads both ways and has no p(name | history): give a decoder such as GPT-2.")
    if model.get_output_embeddings() is None:
        raise ValueError(f"The {type(model).__name__} has no language head: load it with AutoModelForCausalLM.")
    attention = model.config._attn_implementation
    if attention not in ("eager", "sdpa"):
        raise ValueError(
            f"The model's attention is '{attention}', which takes no mask of its own: load it with "
            "attn_implementation='sdpa'."
        )

"""A log-linear model with similar weights for actions with similar names, based on a language model's vectors.

With few videos it predicts better than counts alone: see `benchmarks/words/README.md`.
"""

from collections.abc import Sequence

import numpy as np
import torch
from torch import nn
from transformers import set_seed

from ..data.labels import LabelSpace
from .action_text import ActionText
from .language_models import encode, load_text_backbone, load_tokenizer
from .log_linear import BIAS_PRIOR, EARLIER_PRIOR, HISTORIES_AT_ONCE, LogLinearModel

MAX_STEPS, TOLERANCE = 100, 1e-6
VECTOR_WEIGHT = 0.5  # of names, relative to the weights of actions themselves
WIDTH = 64  # maximum width of vectors
TEXTS_AT_ONCE, TOKENS = 64, 64


class WordedLogLinear(LogLinearModel):
    """A log-linear model with a vector for each action (or part of one), which ties the weights of similar actions.

    Each weight is the sum of a free weight for its pair of actions, of terms linear in the vector of either, and of a
    term bilinear in both, all with one Gaussian prior. Without evidence, an action that follows "pour milk" is
    therefore expected to follow "pour water", too; with evidence, the pair's own weight dominates. This is equivalent
    to a prior on the weights with covariance `(I + s^2 E E') x (I + s^2 E E')` for vectors E. The result is a plain
    log-linear model, which `reader.tables.as_tables` exports without the vectors.

    Args:
        num_actions (`int`): A, the number of actions.
        vectors (`np.ndarray` of shape `(P, D)`, *optional*): Vectors of the P parts. Default: none, which gives a
            log-linear model whose biases also have a prior.
        vector_weight (`float`, *optional*, defaults to 0.5): s, the weight of the vectors.
        kwargs: Further arguments of `LogLinearModel`.
    """

    def __init__(
        self, num_actions: int, vectors: np.ndarray | None = None, vector_weight: float = VECTOR_WEIGHT, **kwargs
    ):
        super().__init__(num_actions, **kwargs)
        vectors = np.zeros((self.num_parts, 0)) if vectors is None else vectors
        self.vectors = vector_weight * torch.as_tensor(vectors, dtype=torch.float32)  # (P, D)

    def fit(
        self,
        histories: Sequence[Sequence[int]],
        actions: Sequence[int] | np.ndarray,
        row_weights: np.ndarray | None = None,
    ) -> "WordedLogLinear":
        """Fits the weights (maximum a posteriori) with L-BFGS, and returns the model.

        Args:
            histories, actions: See `LogLinearModel.fit`; all actions must be labeled.
            row_weights (`np.ndarray` of shape `(N,)`, *optional*): Weight of each row. Default: 1.
        """
        targets = torch.as_tensor(np.asarray(actions))
        targets = targets.long() if targets.ndim == 1 else targets.float()
        counts = torch.ones(len(targets)) if row_weights is None else torch.as_tensor(row_weights).float()
        chunks = [slice(start, start + HISTORIES_AT_ONCE) for start in range(0, len(histories), HISTORIES_AT_ONCE)]
        batches = [(self._encode(histories[chunk]), self._expected(targets[chunk]), counts[chunk]) for chunk in chunks]
        own, total = self._parameters(), float(counts.sum())
        parameters = [parameter for block in own for parameter in block]
        optimizer = torch.optim.LBFGS(
            parameters, max_iter=MAX_STEPS, history_size=10, tolerance_change=TOLERANCE, line_search_fn="strong_wolfe"
        )

        def loss() -> torch.Tensor:
            optimizer.zero_grad()
            value = self._penalty(own) / total
            self._assemble(own)
            for inputs, expected, count in batches:
                value = value + (self._losses(*inputs, *expected) * count).sum() / total
            value.backward()
            return value.detach()

        if len(histories):
            optimizer.step(loss)
        with torch.no_grad():
            self._assemble(own)
        return self

    def _parameters(self) -> list[list[torch.Tensor]]:
        """Returns zeros: of each block of weights those of pairs, of vectors on either side, and of both; of biases."""
        num_parts, width = self.vectors.shape
        blocks = []
        for block in range(self.num_last + 1):
            rows = num_parts + (block < self.num_last)  # of the last actions, one for none
            shapes = [(rows, num_parts), (rows, width), (width, num_parts), (width, width)]
            blocks.append([torch.zeros(shape, requires_grad=True) for shape in shapes])
        return [*blocks, [torch.zeros(self.num_actions, requires_grad=True), torch.zeros(width, requires_grad=True)]]

    def _penalty(self, own: list[list[torch.Tensor]]) -> torch.Tensor:
        *blocks, biases = own
        priors = [1.0, *[EARLIER_PRIOR] * (self.num_last - 1), 1.0]
        penalty = BIAS_PRIOR * torch.stack([part.square().sum() for part in biases]).sum()
        for prior, block in zip(priors, blocks, strict=True):
            penalty = penalty + prior * torch.stack([parameter.square().sum() for parameter in block]).sum()
        return 0.5 * self.prior_weight * penalty

    def _assemble(self, own: list[list[torch.Tensor]]):
        """Computes weights and biases from the parameters."""
        *blocks, (bias, of_vectors) = own
        vectors, weights = self.vectors, []
        for pairs, of_next, of_past, of_both in blocks:
            past = nn.functional.pad(vectors, (0, 0, 0, len(pairs) - len(vectors)))  # zeros for none
            weights.append(pairs + of_next @ vectors.T + past @ (of_past + of_both @ vectors.T))
        self.weights = torch.cat(weights)
        parts = torch.as_tensor(self.action_parts)
        self.bias = bias + (vectors[parts].sum(1) @ of_vectors)


def name_vectors(space: LabelSpace, name_or_path: str, *, head_noun_first: bool, parts_apart: bool) -> np.ndarray:
    """Returns vectors of the names of actions, `(A, D)`, or of verbs followed by nouns, `(V + N, D)`.

    Args:
        space (`LabelSpace`): The label space with the names.
        name_or_path (`str`): A language model on the Hub, or a folder.
        head_noun_first (`bool`): See `ActionText`.
        parts_apart (`bool`): Whether to return vectors of verbs and nouns, which `space` must then have.
    """
    names = list(space.actions)
    if parts_apart:
        assert space.verbs is not None
        assert space.nouns is not None
        names = [f"{verb}_" for verb in space.verbs] + [f"_{noun}" for noun in space.nouns]
    return principal(text_vectors(ActionText(head_noun_first=head_noun_first).labels(names), name_or_path))


@torch.inference_mode()
def text_vectors(texts: Sequence[str], name_or_path: str, *, random_weights: bool = False) -> np.ndarray:
    """Returns the mean feature of each text's tokens, `(N, D)`, by a language model without its head.

    Args:
        texts (sequence of N `str`): The texts; tokens after the first 64 are ignored.
        name_or_path (`str`): A language model on the Hub, or a folder.
        random_weights (`bool`, *optional*, defaults to `False`): Whether to use random weights, as a control.
    """
    set_seed(0)
    model = load_text_backbone(name_or_path, random_weights=random_weights).eval()
    tokenizer = load_tokenizer(name_or_path)
    vectors = []
    for start in range(0, len(texts), TEXTS_AT_ONCE):
        ids = encode(tokenizer, texts[start : start + TEXTS_AT_ONCE], TOKENS)
        batch = tokenizer.pad({"input_ids": ids}, return_tensors="pt")
        features = model(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"]).last_hidden_state
        mask = batch["attention_mask"][..., None]
        vectors.append(((features * mask).sum(1) / mask.sum(1)).float().numpy())
    return np.concatenate(vectors)


def principal(vectors: np.ndarray) -> np.ndarray:
    """Returns centered vectors projected to at most 64 principal components, scaled to a mean length of 1, float32."""
    centred = vectors - vectors.mean(0)
    left, sizes, _ = np.linalg.svd(centred, full_matrices=False)
    kept = (left * sizes)[:, :WIDTH]
    return (kept / np.sqrt(np.square(kept).sum(1).mean())).astype(np.float32)

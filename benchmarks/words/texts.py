"""The compared text models: counts, models that add words, and controls with uninformative words."""

import shutil
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import pandas as pd
import scipy.special
import torch

from avt_distill.data.labels import LabelSpace
from avt_distill.recipes.files import read_actions
from avt_distill.runs.fingerprints import checkpoint_digest
from avt_distill.teacher.action_text import ActionText
from avt_distill.teacher.arguments import TeacherArguments
from avt_distill.teacher.count_models import NGramModel
from avt_distill.teacher.fine_tuning import HistoryRule, fine_tuned_teacher
from avt_distill.teacher.scorer import Scorer
from avt_distill.teacher.worded import WordedLogLinear, principal, text_vectors

from .data import Scripts, WordsData

ORDERS = {"unigram": 1, "bigram": 2, "trigram": 3}
LOG_LINEAR = "log-linear"
COUNTS = (*ORDERS, LOG_LINEAR)  # their mixture is the model without words
PRIOR_WEIGHTS = (0.1, 0.33, 1.0, 3.0, 10.0)
PRIOR_WEIGHTS_OF_PARTS = (3.0, 10.0, 30.0)
VECTOR_WEIGHTS = (0.5, 0.25, 1.0)
RECIPE_SHARES = (0.03, 0.1, 0.3, 1.0)  # total weight of recipe rows, relative to that of script rows
NUM_LAST = 2
HISTORY_LENGTH = 10  # number of last actions that a language model reads
LEAST_STEPS = 60  # minimum number of fine-tuning steps
MOST_RECIPE_ROWS = 4000
ALIKE = 0.75  # minimum cosine for mapping an action of a recipe to one of the label space

ASKED = ", asked"  # in a reader: queries the language model instead of the tables distilled from it

# The models, and the control that each is compared with: mostly the same model with its words destroyed.
CONTROLS = {
    "vectors": "vectors, scrambled",
    "vectors of recipes": "vectors, scrambled",
    "vectors of a decoder": "vectors of a decoder, scrambled",
    "verbs and nouns": "verbs and nouns, scrambled",
    "fine-tuned": "fine-tuned, scrambled",
    "fine-tuned on recipes": "fine-tuned, scrambled",
    "fine-tuned" + ASKED: "fine-tuned, scrambled" + ASKED,
    "recipes": "recipes, scrambled",
}
RANDOM = ("vectors, random weights", "fine-tuned, random weights")
MODELS = (*COUNTS, *dict.fromkeys(name for pair in CONTROLS.items() for name in pair), *RANDOM)


@dataclass
class LanguageModels:
    """The paths of language models and recipes, and the epochs of fine-tuning.

    Args:
        encoder (`str`): Folder of the language model, such as all-MiniLM-L6-v2.
        of_recipes (`str`, *optional*): Folder of the same model after `avt-distill adapt_language_model`.
        decoder (`str`, *optional*): Folder of a decoder, such as SmolLM2-135M.
        recipes (`str`, *optional*): File written by `avt-distill extract_recipe_actions`.
        epochs (`float`): Number of fine-tuning epochs.
    """

    encoder: str
    of_recipes: str | None = None
    decoder: str | None = None
    recipes: str | None = None
    epochs: float = 5.0

    def path(self, model: str) -> str:
        """Returns the folder of the language model that a text model uses."""
        name = "of_recipes" if "of recipes" in model or "on recipes" in model else "encoder"
        name = "decoder" if "decoder" in model else name
        path = getattr(self, name)
        if path is None:
            raise ValueError(f"'{model}' needs --{name}: give a folder, or remove this model from --models.")
        return path


@dataclass
class Chosen:
    """A text model whose options were chosen on held-out training videos.

    Args:
        options (`dict`): The chosen options.
        held_out (`np.ndarray` of shape `(M,)`): Log probabilities of the held-out actions.
        fit (`Callable`): Function from scripts to the fitted model.
    """

    options: dict
    held_out: np.ndarray
    fit: Callable[[Scripts], Scorer]


class TextModels:
    """The text models of a data set, fitted to any of its scripts.

    Args:
        data (`WordsData`): The data set.
        models (`LanguageModels`): Paths of the language models and recipes.
        folder (`Path`): Folder in which fine-tuned models are saved.
    """

    def __init__(self, data: WordsData, models: LanguageModels, folder: Path):
        self.data, self.models, self.folder = data, models, folder
        self._vectors: dict[str, np.ndarray] = {}
        self._digests: dict[str, dict[str, str]] = {}

    def digest(self, path: str) -> dict[str, str]:
        """Returns digests of the files of a language model."""
        if path not in self._digests:
            self._digests[path] = checkpoint_digest(path)
        return self._digests[path]

    def chosen(
        self, name: str, scripts: Scripts, key: str, prior_weight: float | None = None, scrambling: int = 0
    ) -> Chosen:
        """Returns a model with the options that have the lowest log loss on held-out videos.

        Args:
            name (`str`): One of `MODELS`.
            scripts (`Scripts`): The scripts to fit and choose on.
            key (`str`): Name of the scripts, used as a folder name of saved models.
            prior_weight (`float`, *optional*): Prior weight of the log-linear model, at which models with words start.
            scrambling (`int`): Seed of the order of scrambled names.
        """
        best: Chosen | None = None
        for options in self._rounds(name, prior_weight):
            for tried in options(best):
                given = name, tried, key, scrambling
                found = Chosen(tried, self._held_out(scripts, *given), self.fit(*given))
                if best is None or found.held_out.mean() > best.held_out.mean():
                    best = found
        assert best is not None
        return best

    def _rounds(self, name: str, prior_weight: float | None) -> list[Callable]:
        """Returns the rounds of options to try, as functions of the best model so far."""
        if name in ORDERS or name.startswith("fine-tuned"):
            return [lambda best: [{}]]
        priors = PRIOR_WEIGHTS if self.data.action_parts is None else PRIOR_WEIGHTS_OF_PARTS
        if name == LOG_LINEAR:
            return [lambda best: [{"prior_weight": weight} for weight in priors]]
        prior = priors[1] if prior_weight is None else prior_weight
        if name.startswith("recipes"):
            return [lambda best: [{"prior_weight": prior, "share": share} for share in RECIPE_SHARES]]
        return [
            lambda best: [{"prior_weight": prior, "vector_weight": weight} for weight in VECTOR_WEIGHTS],
            lambda best: [{**best.options, "prior_weight": 3 * prior}],
        ]

    def _held_out(self, scripts: Scripts, name: str, options: dict, key: str, scrambling: int) -> np.ndarray:
        """Returns the log probability of each held-out action, from models fitted to other videos."""
        found = []
        for number, (others, held_out) in enumerate(scripts.divisions()):
            model = self.fit(name, options, f"{key}_without{number}", scrambling)(others)
            scores = scipy.special.log_softmax(model.logits(held_out.histories).astype(np.float64), axis=1)
            found.append(scores[np.arange(len(held_out.actions)), held_out.actions])
        return np.concatenate(found)

    def fit(self, name: str, options: dict, key: str, scrambling: int) -> Callable[[Scripts], Scorer]:
        """Returns the function that fits a model with given options to scripts; see `chosen`."""
        if name.startswith("fine-tuned"):
            return lambda scripts: self._fine_tuned(name, scripts, key, scrambling)
        if name in ORDERS:
            return lambda scripts: NGramModel(ORDERS[name], self.data.num_actions).fit(
                scripts.histories, scripts.actions.tolist()
            )
        if name.startswith("recipes"):
            return lambda scripts: self._with_recipes(name, scripts, scrambling, **options)
        vectors = None if name == LOG_LINEAR else self.vectors(name, scrambling)
        return lambda scripts: self._log_linear(vectors, **options).fit(scripts.histories, scripts.actions)

    def _log_linear(self, vectors: np.ndarray | None = None, **options) -> WordedLogLinear:
        return WordedLogLinear(
            self.data.num_actions, vectors, num_last=NUM_LAST, action_parts=self.data.action_parts, **options
        )

    def vectors(self, name: str, scrambling: int = 0) -> np.ndarray:
        """Returns a vector of the words of each part, `(P, 64)` at most, centered and with a mean length of 1."""
        if name not in self._vectors:
            if name.startswith("verbs and nouns"):
                vectors = np.zeros((self.data.num_actions, int(self.data.verb_noun.max()) + 1))
                np.put_along_axis(vectors, self.data.verb_noun, 1.0, axis=1)
            else:
                text = ActionText(head_noun_first=self.data.builder.HEAD_NOUN_FIRST)
                texts, path = text.labels(self.data.part_names), self.models.path(name)
                vectors = text_vectors(texts, path, random_weights="random" in name)
            self._vectors[name] = principal(vectors)
        vectors = self._vectors[name]
        return vectors[self.permutation(len(vectors), scrambling)] if "scrambled" in name else vectors

    def permutation(self, count: int, scrambling: int = 0) -> np.ndarray:
        """Returns the index of the scrambled name of each action; verbs and nouns are permuted separately."""
        generator, num_verbs = np.random.default_rng(scrambling), len(self.data.texts.verbs)
        if self.data.setting.parts_apart and count != self.data.num_actions:
            return np.concatenate(
                [generator.permutation(num_verbs), num_verbs + generator.permutation(count - num_verbs)]
            )
        return generator.permutation(count)

    def _fine_tuned(self, name: str, scripts: Scripts, key: str, scrambling: int) -> Scorer:
        """Returns a language model that is fine-tuned on scripts and saved in the folder."""
        folder = self.folder / "teachers" / name.replace(", ", "_").replace(" ", "_") / key
        names = list(self.data.texts.actions)
        if "scrambled" in name:
            names = [names[other] for other in self.permutation(len(names), scrambling)]
        pairs = self.data.verb_noun[scripts.actions]
        rows = pd.DataFrame({"uid": [str(row) for row in range(len(scripts.actions))], "video_id": scripts.videos})
        rows = rows.assign(history=scripts.histories, action=scripts.actions, verb=pairs[:, 0], noun=pairs[:, 1])
        batch = 32 if len(rows) > 500 else 16
        args = TeacherArguments(
            output_dir=str(folder),
            model_name_or_path=self.models.path(name),
            random_weights="random" in name,
            pooling="mean",
            newest_first=True,
            history_length=HISTORY_LENGTH,
            held_out_fraction=0.0,
            learning_rate=2e-4,
            classifier_learning_rate=2e-3,
            lr_scheduler_type="linear",
            warmup_steps=0.1,
            max_grad_norm=1.0,
            weight_decay=0.0,
            max_steps=max(LEAST_STEPS, round(self.models.epochs * len(rows) / batch)),
            per_device_train_batch_size=batch,
            save_strategy="no",
            report_to="none",
            disable_tqdm=True,
            logging_steps=1000,
            use_cpu=not torch.cuda.is_available(),
            seed=0,
        )
        rule = HistoryRule("segment_start", self.data.builder.config.tau_a, self.data.builder.HEAD_NOUN_FIRST)
        scorer = fine_tuned_teacher(rows, LabelSpace(tuple(names)), args, rule)
        if "without" in key:  # needed for held-out videos only, and takes 90 MB
            shutil.rmtree(folder)
        return scorer

    def _with_recipes(self, name: str, scripts: Scripts, scrambling: int, prior_weight: float, share: float) -> Scorer:
        """Returns a log-linear model that also counts recipes, with `share` times the total weight of the scripts."""
        histories, actions = self.recipe_rows
        if "scrambled" in name:
            other = self.permutation(self.data.num_actions, scrambling)
            histories, actions = [other[history].tolist() for history in histories], other[actions]
        weights = np.full(len(actions), share * len(scripts.actions) / max(len(actions), 1))
        rows = [*scripts.histories, *histories], np.concatenate([scripts.actions, actions])
        model = self._log_linear(prior_weight=prior_weight)
        return model.fit(*rows, np.concatenate([np.ones(len(scripts.actions)), weights]))

    @cached_property
    def recipe_rows(self) -> tuple[list[list[int]], np.ndarray]:
        """The recipes as histories and next actions, restricted to actions in the label space."""
        if self.models.recipes is None:
            raise ValueError(
                "'recipes' needs --recipes: give a file of extract_recipe_actions, or remove this model from --models."
            )
        recipes = [actions for _, actions in read_actions(self.models.recipes)]
        text = ActionText(head_noun_first=self.data.builder.HEAD_NOUN_FIRST)
        pairs = sorted({pair for actions in recipes for pair in actions})
        of_recipes = text_vectors([text.pair(*pair) for pair in pairs], self.models.encoder)
        of_actions = text_vectors(text.labels(self.data.texts.actions), self.models.encoder)
        action_of = nearest(of_recipes, of_actions)
        found = dict(zip(pairs, action_of.tolist(), strict=True))
        histories, actions = [], []
        for recipe in recipes:
            done: list[int] = []
            for pair in recipe:
                action = found[pair]
                if action >= 0 and [action] != done[-1:]:
                    if done:
                        histories.append(list(done))
                        actions.append(action)
                    done.append(action)
        kept = np.random.default_rng(0).permutation(len(actions))[:MOST_RECIPE_ROWS]
        return [histories[row] for row in kept], np.array(actions, dtype=np.int64)[kept]


def nearest(vectors: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Returns the index of the most similar other vector by cosine, -1 if none is similar enough, `(N,)`."""
    unit = [array / np.linalg.norm(array, axis=1, keepdims=True) for array in (vectors, others)]
    cosines = unit[0] @ unit[1].T
    best = cosines.argmax(1)
    return np.where(cosines.max(1) >= ALIKE, best, -1)


def mixture_weights(log_probs: np.ndarray, steps: int = 200) -> np.ndarray:
    """Returns the weights of the mixture of models with the lowest log loss, `(K,)`, which sum to 1.

    Args:
        log_probs (`np.ndarray` of shape `(K, N)`): Log probabilities of the true actions, from models fitted to other
            videos.
        steps (`int`, *optional*, defaults to 200): Number of steps of expectation maximization.
    """
    weights = np.full(len(log_probs), 1 / len(log_probs))
    probabilities = np.exp(log_probs)
    for _ in range(steps):
        shares = weights[:, None] * probabilities
        weights = (shares / shares.sum(0)).mean(1)
    return weights


def mean_of_log_probs(log_probs: Iterable[np.ndarray], weights: Iterable[float]) -> np.ndarray:
    """Returns the log of the weighted mean of K models' probabilities, float32 `(N, A)`, from `log_probs` `(N, A)`."""
    mean = sum(weight * np.exp(one.astype(np.float64)) for one, weight in zip(log_probs, weights, strict=True))
    return np.log(mean).astype(np.float32)


class Mixture:
    """The weighted mean of the probabilities of several models, which is itself a `Scorer`.

    Args:
        models (sequence of `Scorer`): The models.
        weights (`np.ndarray` of shape `(K,)`): Weights of the models, which sum to 1.
    """

    def __init__(self, models: Sequence[Scorer], weights: np.ndarray):
        kept = [(model, weight) for model, weight in zip(models, weights, strict=True) if weight > 1e-4]
        self.models, self.weights = [model for model, _ in kept], np.array([weight for _, weight in kept])
        self.weights /= self.weights.sum()

    def logits(self, histories: Sequence[Sequence[int]]) -> np.ndarray:
        """Returns the log probability of each action after each history, float32 `(N, A)`."""
        log_probs = (scipy.special.log_softmax(model.logits(histories), axis=1) for model in self.models)
        return mean_of_log_probs(log_probs, self.weights)

"""Logits of a fine-tuned teacher, computed once per distinct history, in batches of similar length."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from tqdm.auto import tqdm
from transformers import PreTrainedConfig, PreTrainedTokenizerBase

from ..data.labels import LabelSpace
from ..runs.checkpoints import check_scores, load_whole
from .action_text import ActionText
from .language_models import encode, load_tokenizer
from .modeling_teacher import UNREAD, TextTeacher, TextTeacherConfig

# Padded tokens per batch: enough to keep two cores or a GPU busy, 30 MB of activations in a 384-wide encoder.
TOKENS_AT_ONCE = 4096


class TeacherScorer:
    """Computes logits of histories with a saved teacher and its tokenizer.

    Args:
        model (`TextTeacher`): The teacher. It is put into evaluation mode.
        tokenizer (`PreTrainedTokenizerBase`): Its tokenizer.

    Raises:
        ValueError: If the model's configuration does not store how actions are written.
    """

    def __init__(self, model: TextTeacher, tokenizer: PreTrainedTokenizerBase):
        if model.config.action_texts is None:
            raise ValueError(
                "The teacher's config has no action_texts, so histories cannot be converted to text: train it again."
            )
        self.model = model.eval()
        self.tokenizer = tokenizer

    @classmethod
    def from_pretrained(cls, name_or_path: str | Path, **kwargs) -> "TeacherScorer":
        """Loads a saved teacher.

        Args:
            name_or_path (`str` or `Path`): A teacher's folder, or its name on the Hub.
            kwargs: Passed to `TextTeacher.from_pretrained`.

        Raises:
            ValueError: If the folder holds no teacher, or one without all of its weights or tokenizer files.
        """
        backbone_config, reason = None, "its config.json is missing or is not that of a teacher"
        try:
            backbone_config = TextTeacherConfig.from_pretrained(name_or_path).backbone_config
        except OSError as error:
            reason = str(error).splitlines()[0]
        if not isinstance(backbone_config, PreTrainedConfig):
            raise ValueError(
                f"Cannot read a teacher from '{name_or_path}' ({reason}): give a folder that avt-distill "
                "finetune_teacher wrote."
            )
        tokenizer = load_tokenizer(name_or_path, backbone_config)  # before the model, since errors are found faster
        return cls(load_whole(TextTeacher.from_pretrained, name_or_path, left_out=(UNREAD,), **kwargs), tokenizer)

    def check_label_space(self, label_space: LabelSpace, source: str):
        """Raises a `ValueError` unless the teacher was trained on a label space; `source`: its name for messages."""
        known, asked = self.model.config.label_space_hash, label_space.content_hash
        if known != asked:
            raise ValueError(
                f"{source} was trained on label space {known}, not on {asked}: its columns would stand for other "
                "actions, so give the data set that it was trained on."
            )

    def logits(self, histories: Sequence[Sequence[int]], *, progress: bool = False) -> np.ndarray:
        """Returns the logits of the next action after each history, float32 `(N, A)`.

        Args:
            histories (`Sequence[Sequence[int]]`): Action ids, oldest first; `config.history_length` are read.
            progress (`bool`, *optional*, defaults to `False`): Whether to show a progress bar.

        Raises:
            ValueError: If logits are not finite.
        """
        config = self.model.config
        different, positions = different_histories(histories, config.history_length)
        ids = encode_histories(different, config, self.tokenizer)
        scores = np.empty((len(different), len(config.id2label)), dtype=np.float32)
        with tqdm(total=len(different), unit="history", disable=not progress) as bar:
            for rows in _batches([len(tokens) for tokens in ids]):
                scores[rows] = self._batch_logits([ids[row] for row in rows])
                bar.update(len(rows))
        return scores[positions]

    @torch.inference_mode()
    def _batch_logits(self, ids: list[list[int]]) -> np.ndarray:
        batch = self.tokenizer.pad({"input_ids": ids}, return_tensors="pt").to(self.model.device)
        output = self.model(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"])
        check_scores(output.logits)
        return output.logits.float().cpu().numpy()


def different_histories(
    histories: Sequence[Sequence[int]], length: int | None
) -> tuple[list[tuple[int, ...]], list[int]]:
    """Returns the histories that differ in their last `length` actions (`None`: in any), and the index of each history
    among them."""
    read = [tuple(history if length is None else history[max(0, len(history) - length) :]) for history in histories]
    position_of = {history: position for position, history in enumerate(dict.fromkeys(read))}
    return list(position_of), [position_of[history] for history in read]


def encode_histories(histories: Sequence[Sequence[int]], config, tokenizer: PreTrainedTokenizerBase) -> list[list[int]]:
    """Returns the token ids of each history, written as a teacher's `TextTeacherConfig` specifies."""
    text = ActionText(config.text_form)
    options = {"length": config.history_length, "newest_first": config.newest_first}
    texts = [text.history(history, config.action_texts, **options) for history in histories]
    return encode(tokenizer, texts, config.max_length, cut="right" if config.newest_first else "left")


def _batches(lengths: Sequence[int]) -> Iterator[list[int]]:
    """Yields batches of row indices of similar length, longest first, with at most `TOKENS_AT_ONCE` padded tokens or
    one row."""
    order = np.argsort(-np.asarray(lengths), kind="stable").tolist()
    while order:
        size = max(1, TOKENS_AT_ONCE // max(1, lengths[order[0]]))
        yield order[:size]
        order = order[size:]

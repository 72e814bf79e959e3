"""Small readers with random tables, and their inputs."""

import numpy as np
import torch
from helpers.tiny_models import tiny_config, tiny_model

from modeling_avt import AVTForAnticipation
from modeling_avt.configuration_avt import ReaderSettings, actions_digest
from modeling_avt.reader_avt import HistoryReader

ACTIONS = ["cut", "mix", "serve"]


def settings(**changes) -> ReaderSettings:
    fields = {
        "frame_rate": 2.0,
        "transitions": {"kind": "log_linear"},
        "actions": actions_digest(ACTIONS),
        "evidence_weight": 0.5,
        "fusion_weights": [0.5, 0.5],
    }
    return ReaderSettings(**{**fields, **changes})


def loglinear_reader(num_actions: int = len(ACTIONS), length: int = 1, **changes) -> HistoryReader:
    changes = {"transitions": {"kind": "log_linear", "length": length}, **changes}
    return _with_random_tables(HistoryReader(settings(**changes), num_actions))


random_reader = loglinear_reader


def reading_model(config=tiny_config, frame_rate: float = 2.0, **overrides) -> AVTForAnticipation:
    """Returns a tiny model of three actions that recognizes frames, with a random reader."""
    names = dict(enumerate(ACTIONS))
    model = tiny_model(config(id2label=names, recognizes_frames=True, **overrides))
    model.attach_reader(loglinear_reader(frame_rate=frame_rate))
    return model


def ngram_reader(order: int, **changes) -> HistoryReader:
    """Returns an n-gram reader with tables of every context except those that begin with the last action."""
    contexts = [()]
    for length in range(1, order):
        grid = np.stack(np.meshgrid(*[np.arange(len(ACTIONS))] * length), -1).reshape(-1, length)
        contexts += [tuple(context) for context in grid if length == 1 or context[0] != len(ACTIONS) - 1]
    kind = {"kind": "ngram", "order": order, "num_contexts": len(contexts)}
    reader = _with_random_tables(HistoryReader(settings(transitions=kind, **changes), len(ACTIONS)))
    for row, context in enumerate(contexts):
        if context:
            reader.transitions.contexts[row, order - 1 - len(context) :] = torch.tensor(context)
    log_probs = torch.randn(len(contexts), len(ACTIONS), generator=torch.Generator().manual_seed(1))
    reader.transitions.context_log_probs.copy_(log_probs.log_softmax(-1))
    return reader


def _with_random_tables(reader: HistoryReader) -> HistoryReader:
    generator = torch.Generator().manual_seed(0)
    for name in ("leave_phase", "gap_after", "leave_gap", "leave_start"):
        getattr(reader, name).uniform_(0.2, 0.7, generator=generator)
    reader.log_prior.copy_(torch.randn(reader.num_actions + 1, generator=generator).log_softmax(-1))
    for name in ("last_weights", "past_weights", "bias"):
        if hasattr(reader.transitions, name):
            getattr(reader.transitions, name).normal_(generator=generator)
    return reader


def noise(num_frames: int, seed: int = 0, num_actions: int = len(ACTIONS)) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(num_frames, num_actions + 1))

"""What the pipeline and streams share: how scores become an answer, and that model and processor observe alike."""

import torch

from .numbers_avt import check_scores
from .temporal_avt import CLIP_CONTRACT


def most_likely(logits: torch.Tensor, config, top_k: int) -> list[dict]:
    """Returns the most likely next actions, `{"label", "score", "verb", "noun", "starts_in_s"}` each, best first.

    Args:
        logits (`torch.Tensor` of shape `(A,)`): Scores of the actions.
        config (`AVTConfig`): Names them.
        top_k (`int`): How many to return, at most.

    Raises:
        ValueError: where a score is not finite: softmax would answer NaN, or make one action certain.
    """
    check_scores(logits)
    scores, actions = logits.float().softmax(-1).topk(min(top_k, len(logits)))
    return [_describe(action, score, config) for action, score in zip(actions.tolist(), scores.tolist(), strict=True)]


def _describe(action: int, score: float, config) -> dict:
    verb = noun = None
    if config.action_to_verb_noun is not None:
        verb_id, noun_id = config.action_to_verb_noun[action]
        verb = config.verb_id2label and config.verb_id2label[verb_id]
        noun = config.noun_id2label and config.noun_id2label[noun_id]
    label = config.id2label[action]
    return {"label": label, "score": score, "verb": verb, "noun": noun, "starts_in_s": config.tau_a}


def check_observed_alike(video_processor, config):
    """Raises `ValueError` where a processor samples other moments than the model was trained on."""
    for name in ("num_frames", "frame_rate", "tau_o", *CLIP_CONTRACT):
        ours, models = getattr(video_processor, name), getattr(config, name)
        if ours != models:
            raise ValueError(
                f"The video processor has {name}={ours}, the model {models}: they must agree on what is observed."
            )


def described_history(history: list[dict], config) -> list[dict]:
    """Returns a reader's history with the actions' names: `{"label", "action", "start_s", "probability"}` each."""
    return [{"label": config.id2label[entry["action"]], **entry} for entry in history]


def check_can_read(model):
    """Raises `ValueError` for a model whose reader is asked for and does not exist."""
    if model.reader is None:
        raise ValueError(
            "reader is True, but the checkpoint has none: fit one with avt-distill fit_reader, or do not ask for it."
        )

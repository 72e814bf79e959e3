"""Code shared by the pipeline and streams: from scores to answers, and the check that model and processor match."""

import math

import torch

from .calibration_avt import Calibration
from .futures_avt import Question, of_steps, spans
from .numbers_avt import check_scores
from .reader_avt import HistoryReader
from .temporal_avt import CLIP_CONTRACT


def answer_to(
    question: Question,
    scores: torch.Tensor,
    config,
    at_s: float | None,
    reader: HistoryReader | None = None,
    read_until_s: float | None = None,
) -> list[dict]:
    """Returns the answer to a question: the likeliest next actions, sequences of several, or a timeline.

    If the calibration has a threshold, entries of next actions also have `says`: the label of the likeliest action, or
    `None` if its probability is below the threshold.

    Args:
        question (`Question`): What to answer, with how many candidates.
        scores (`torch.Tensor` of shape `(K, A)`): Scores of the next action and, without a reader, of each further step
            of the roll-out.
        config (`AVTConfig`): The model's configuration, which names the actions.
        at_s (`float`, *optional*): End of the observed window in seconds; `None` without a clock.
        reader (`HistoryReader`, *optional*): A reader that has read the video up to that moment.
        read_until_s (`float`, *optional*): That moment on the reader's clock.

    Raises:
        ValueError: If a score is not finite, or a timeline is requested without a clock.
    """
    calibration = calibration_of(config, reader)
    scores = calibration.calibrated(scores)
    if question.num_actions is not None:
        return _sequences(question.num_actions, question, scores, config, reader)
    if question.horizon_s is not None:
        return _timeline(question.horizon_s, scores, config, at_s, reader, read_until_s)
    entries = most_likely(scores[0], config, question.top_k)
    if calibration.error_rate is None:
        return entries
    says = entries[0]["label"] if calibration.says(entries[0]["score"]) else None
    return [{**entry, "says": says} for entry in entries]


def calibration_of(config, reader: HistoryReader | None) -> Calibration:
    """Returns the calibration of the answers with a reader, or of the model alone."""
    return Calibration(**(config.calibration if reader is None else reader.settings.calibration) or {})


def _sequences(
    num_actions: int, question: Question, scores: torch.Tensor, config, reader: HistoryReader | None
) -> list[dict]:
    if reader is not None:
        found = reader.next_actions(num_actions, question.num_sequences, do_sample=question.do_sample)
    else:
        check_scores(scores)
        log_probs = scores.double().log_softmax(-1).cpu().numpy()
        found = of_steps(log_probs, question.num_sequences, do_sample=question.do_sample)
    sequences, totals = (array.tolist() for array in found)
    return [
        {"score": math.exp(total), "actions": [_named(action, config) for action in sequence]}
        for sequence, total in zip(sequences, totals, strict=True)
    ]


def _timeline(
    horizon_s: float,
    scores: torch.Tensor,
    config,
    at_s: float | None,
    reader: HistoryReader | None,
    read_until_s: float | None,
) -> list[dict]:
    if at_s is None:
        raise ValueError("horizon_s needs a clock: give frames_per_second.")
    if reader is not None:
        probabilities, rate, begins_s = reader.timeline(horizon_s, read_until_s), reader.settings.frame_rate, at_s
    else:
        check_scores(scores)
        probabilities, rate = scores.double().softmax(-1).cpu(), config.frame_rate
        begins_s = at_s + config.tau_a
    shown = spans(probabilities.numpy(), begins_s, 1 / rate, at_s + horizon_s)
    return [
        {**_named(span["action"], config), **{name: span[name] for name in ("score", "starts_at_s", "ends_at_s")}}
        for span in shown
    ]


def most_likely(logits: torch.Tensor, config, top_k: int) -> list[dict]:
    """Returns the most likely next actions, `{"label", "score", "verb", "noun", "starts_in_s"}` each, best first.

    Args:
        logits (`torch.Tensor` of shape `(A,)`): Scores of the actions.
        config (`AVTConfig`): The model's configuration, which names the actions.
        top_k (`int`): How many to return, at most.

    Raises:
        ValueError: If a score is not finite: softmax would return NaN, or make one action certain.
    """
    check_scores(logits)
    scores, actions = logits.float().softmax(-1).topk(min(top_k, len(logits)))
    return [_describe(action, score, config) for action, score in zip(actions.tolist(), scores.tolist(), strict=True)]


def _describe(action: int, score: float, config) -> dict:
    label, verb, noun = _named(action, config).values()
    return {"label": label, "score": score, "verb": verb, "noun": noun, "starts_in_s": config.tau_a}


def _named(action: int, config) -> dict:
    """Returns an action's names; `None` for the background."""
    if action == config.num_labels:
        return {"label": None, "verb": None, "noun": None}
    verb = noun = None
    if config.action_to_verb_noun is not None:
        verb_id, noun_id = config.action_to_verb_noun[action]
        verb = config.verb_id2label and config.verb_id2label[verb_id]
        noun = config.noun_id2label and config.noun_id2label[noun_id]
    return {"label": config.id2label[action], "verb": verb, "noun": noun}


def observed_for(entry: dict, window: dict) -> dict:
    """Returns the fields of a window that an entry carries; `starts_at_s` only if the entry is about the next
    action."""
    return {name: value for name, value in window.items() if name != "starts_at_s" or "starts_in_s" in entry}


def check_observed_alike(video_processor, config):
    """Raises `ValueError` if a processor samples different moments than the model was trained on."""
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
    """Raises `ValueError` if a model has no reader."""
    if model.reader is None:
        raise ValueError(
            "reader is True, but the checkpoint has none: fit one with avt-distill fit_reader, or leave reader out."
        )

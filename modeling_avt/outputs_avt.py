"""Outputs of the AVT models."""

from dataclasses import dataclass
from typing import Any

import torch
from transformers.utils import ModelOutput

_ALWAYS_SET: Any = None  # `ModelOutput` requires a default even for fields that are always set


@dataclass
class AVTModelOutput(ModelOutput):
    """Output of `AVTModel`: what the frame encoder and the causal head compute.

    Args:
        frame_features (`torch.Tensor` of shape `(B, T, C)`): Features of the observed frames after the mapper. `None`
            for a probe.
        past_features (`torch.Tensor` of shape `(B, T, C)`): The head's prediction of each observed frame's feature from
            the frames before it; for the first frame its own feature. `None` for a probe.
        future_features (`torch.Tensor` of shape `(B, K, C)`): Predicted features of the K moments after the observed
            window; for a probe the outputs of its Q queries, `(B, Q, D)`.
        observed_features (`torch.Tensor` of shape `(B, T, D)`): Features of the observed frames before the mapper,
            standardized if `config.standardize_features`; for a probe the mean over the tokens of each moment.
        hidden_states, attentions (`tuple[torch.Tensor]`, *optional*): Hidden states and attentions of the head over the
            observed frames.
    """

    frame_features: torch.Tensor | None = None
    past_features: torch.Tensor | None = None
    future_features: torch.Tensor = _ALWAYS_SET
    observed_features: torch.Tensor = _ALWAYS_SET
    hidden_states: tuple[torch.Tensor, ...] | None = None
    attentions: tuple[torch.Tensor, ...] | None = None


@dataclass
class AVTAnticipationOutput(ModelOutput):
    """Output of `AVTForAnticipation`: scores of the next action, and the losses if labels were given.

    Args:
        loss (`torch.Tensor`, scalar, *optional*, returned when any labels are given):
            `action_loss + verb_loss + noun_loss + past_loss_weight * past_loss + frame_loss_weight * frame_loss +
            future_loss_weight * future_loss + feature_loss_weight * feature_loss`.
        logits (`torch.Tensor` of shape `(B, A)`): Scores of the next action (before softmax); with a roll-out, those of
            its last step, unless `config.num_future_actions` is above 1.
        past_logits (`torch.Tensor` of shape `(B, T, A)`, *optional*, returned when `config.classify_past`): Scores of
            each observed frame's action, predicted from the frames before it. Those of the first frame come from that
            frame itself. Values at left-padded frames are meaningless.
        frame_logits (`torch.Tensor` of shape `(B, T, A + 1)`, *optional*, returned when `config.recognizes_frames`):
            Scores of what each observed frame itself shows; the last class is the background.
        verb_logits (`torch.Tensor` of shape `(B, V)`, *optional*), noun_logits (`torch.Tensor` of shape `(B, N)`,
            *optional*): Returned when `config.label_types` asks for them.
        future_logits (`torch.Tensor` of shape `(B, K, A)`, *optional*, returned when `num_future_steps > 1`): Action
            scores of every step.
        future_features (`torch.Tensor` of shape `(B, K, C)`), past_features (`torch.Tensor` of shape `(B, T, C)`):
            See `AVTModelOutput`.
        action_loss, verb_loss, noun_loss, past_loss, frame_loss, future_loss (`torch.Tensor`, scalars, *optional*):
            Returned when their labels are given.
        feature_loss (`torch.Tensor`, scalar, *optional*, returned when T > 1): Error of the predicted features of
            frames 1..T-1.
        hidden_states (`tuple[torch.Tensor]` of shape `(B, T, H)` each, *optional*), attentions (`tuple[torch.Tensor]`
            of shape `(B, heads, T, T)` each, *optional*): Of the head over the observed frames. With V views, B is B *
            V here.
    """

    loss: torch.Tensor | None = None
    logits: torch.Tensor = _ALWAYS_SET
    past_logits: torch.Tensor | None = None
    frame_logits: torch.Tensor | None = None
    verb_logits: torch.Tensor | None = None
    noun_logits: torch.Tensor | None = None
    future_logits: torch.Tensor | None = None
    future_features: torch.Tensor = _ALWAYS_SET
    past_features: torch.Tensor | None = None
    action_loss: torch.Tensor | None = None
    verb_loss: torch.Tensor | None = None
    noun_loss: torch.Tensor | None = None
    past_loss: torch.Tensor | None = None
    frame_loss: torch.Tensor | None = None
    future_loss: torch.Tensor | None = None
    feature_loss: torch.Tensor | None = None
    hidden_states: tuple[torch.Tensor, ...] | None = None
    attentions: tuple[torch.Tensor, ...] | None = None

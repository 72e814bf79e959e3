"""An attentive probe: queries that attend to all tokens of an observed window, one for each label type."""

from typing import Any

import torch
from torch import nn
from transformers import VJEPA2Config
from transformers.models.vjepa2.modeling_vjepa2 import VJEPA2AttentivePooler

from .configuration_avt import AVTConfig

PROBE_LAYERS = ("VJEPA2PoolerSelfAttentionLayer", "VJEPA2PoolerCrossAttentionLayer")
INITIALIZER_RANGE = 0.02  # V-JEPA 2's: standard deviation of the truncated normal distribution of initial weights


class AttentiveProbe(nn.Module):
    """V-JEPA 2's attentive pooler (Assran et al., 2025) with several queries, over the tokens of T moments.

    Self-attention layers over all tokens are followed by a layer in which the queries attend to them. Tokens of a clip
    already carry positions from the encoder; with several moments, a learned vector per moment, initially zero, is
    added.

    Args:
        config (`AVTConfig`): `feature_dim` D, `probe_num_layers`, `probe_num_heads`, `num_frames` T and `label_types`.
    """

    def __init__(self, config: AVTConfig):
        super().__init__()
        width = config.feature_dim
        assert width is not None
        # Always sdpa: this pooler's eager and flash attention (transformers 5.23) ignore the mask.
        of_pooler = VJEPA2Config(
            hidden_size=width,
            num_attention_heads=config.probe_num_heads,
            num_pooler_layers=config.probe_num_layers - 1,
        )
        of_pooler._attn_implementation = "sdpa"
        self.pooler: Any = VJEPA2AttentivePooler(of_pooler)
        # Transformers' pooler has a single query; this one has a query per label type.
        self.pooler.query_tokens = nn.Parameter(torch.zeros(1, config.num_queries, width))
        self.moments = None
        if config.num_frames > 1:
            self.moments = nn.Parameter(torch.zeros(config.num_frames, 1, width))

    def forward(self, tokens: torch.Tensor, frame_mask: torch.Tensor | None = None) -> torch.Tensor:
        """Returns the output of each query, `(B, Q, D)`.

        Args:
            tokens (`torch.Tensor` of shape `(B, T, S, D)`): S tokens for each of T moments.
            frame_mask (`torch.BoolTensor` of shape `(B, T)`, *optional*): `False` marks moments that are not attended
                to.
        """
        num_tokens = tokens.shape[2]
        if self.moments is not None:
            tokens = tokens + self.moments
        hidden = tokens.flatten(1, 2)  # (B, T * S, D)
        mask = None
        # A single moment needs no mask, since the last moment is always observed.
        if frame_mask is not None and frame_mask.shape[1] > 1:
            mask = frame_mask.repeat_interleave(num_tokens, dim=1)[:, None, None]  # (B, 1, 1, T * S)
        for layer in self.pooler.self_attention_layers:
            hidden = layer(hidden, attention_mask=mask)[0]
        queries = self.pooler.query_tokens.expand(len(hidden), -1, -1)
        return self.pooler.cross_attention_layer(queries, hidden, attention_mask=mask)[0]

    @torch.no_grad()
    def draw_weights(self):
        """Initializes weights like V-JEPA 2: later layers contribute less to the residual stream."""
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.trunc_normal_(module.weight, std=INITIALIZER_RANGE)
                nn.init.zeros_(module.bias)
        nn.init.trunc_normal_(self.pooler.query_tokens, std=INITIALIZER_RANGE)
        self_attention = self.pooler.self_attention_layers
        for depth, layer in enumerate(self_attention, start=1):
            nn.init.trunc_normal_(layer.self_attn.out_proj.weight, std=INITIALIZER_RANGE / depth**0.5)
            nn.init.trunc_normal_(layer.mlp.fc2.weight, std=INITIALIZER_RANGE / depth**0.5)
        last = self.pooler.cross_attention_layer.mlp.fc2
        nn.init.trunc_normal_(last.weight, std=INITIALIZER_RANGE / (len(self_attention) + 1) ** 0.5)
        if self.moments is not None:
            nn.init.zeros_(self.moments)

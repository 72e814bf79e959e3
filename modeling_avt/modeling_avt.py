"""The Anticipative Video Transformer (AVT, Girdhar and Grauman, ICCV 2021) as transformers models.

Data flow: frames, or clips -> `AVTModel.encode_frames` (any Hugging Face image or video model) -> features `x (B, T,
D)` of T moments -> optional mapper `(B, T, C)` -> encoder `(B, T, H)` -> causal GPT-2 -> decoder `(B, T, C)`. Output t
of the decoder predicts the feature of frame t+1, so its outputs 0..T-2 describe the observed frames 1..T-1 ("past"),
and output T-1 the moment after the window ("future"), from which the next action is classified.

With `config.head_type = "probe"`: tokens `(B, T, S, D)` of T moments -> `probe_avt.AttentiveProbe` -> one vector for
each label type `(B, Q, D)`, from which it is classified.
"""

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import torch
from torch import nn
from transformers import AutoModel, GPT2Config, GPT2Model, PreTrainedModel

from .configuration_avt import AVTConfig, ReaderSettings
from .encoders_avt import backbone_class, encode, encode_clips, has_class_token, is_frozen, leave_out_predictor
from .loading_avt import check_loaded, load_with_report
from .losses_avt import classification_loss, feature_prediction_loss, past_action_loss
from .model_inputs_avt import check_inputs, check_labels, without_backbone
from .numbers_avt import FEATURE_STATISTICS, compute_dtype, moved_only
from .outputs_avt import AVTAnticipationOutput, AVTModelOutput
from .probe_avt import PROBE_LAYERS, AttentiveProbe
from .reader_avt import HistoryReader
from .streaming_avt import AVTStream

if TYPE_CHECKING:
    # Never executed. Transformers collects a checkpoint's code with a regular expression over the import lines, and up
    # to 5.4 copies only what one file names itself: this block names the other files of a model, its video processor
    # and its pipeline (auto_map, custom_pipelines).
    from .answers_avt import answer_to  # noqa: F401
    from .backbone_configuration_avt import checked_backbone  # noqa: F401
    from .beam_avt import Reading  # noqa: F401
    from .calibration_avt import Calibration  # noqa: F401
    from .futures_avt import Question  # noqa: F401
    from .labels_avt import id_to_label  # noqa: F401
    from .picture_folder_avt import PictureFolder  # noqa: F401
    from .pipeline_avt import ActionAnticipationPipeline  # noqa: F401
    from .pipeline_inputs_avt import VideoFile  # noqa: F401
    from .rules_avt import Number  # noqa: F401
    from .stream_clips_avt import ShownFrame  # noqa: F401
    from .stream_inputs_avt import PushedFrame  # noqa: F401
    from .temporal_avt import Clips  # noqa: F401
    from .transitions_avt import NGramTransitions  # noqa: F401
    from .versions_avt import check_versions  # noqa: F401
    from .video_io_avt import VideoInfo  # noqa: F401
    from .video_packets_avt import PacketTable  # noqa: F401
    from .video_processing_avt import AVTVideoProcessor  # noqa: F401
    from .video_source_avt import VideoDecodeError  # noqa: F401


MAX_FLASH_COLUMNS = 256  # widest attention head that flash attention computes; AVT-b's heads have 512 columns
OTHER_LABELS = (
    "label maps must have as many classes as it was trained with. To classify other labels, pass "
    "ignore_mismatched_sizes=True, which reinitializes the classifiers"
)


class AVTPreTrainedModel(PreTrainedModel):
    """Base of the AVT models: initialization as in the reference, and loading that refuses incomplete checkpoints."""

    config_class = AVTConfig
    base_model_prefix = "avt"
    main_input_name = "pixel_values_videos"
    input_modalities = ["video"]
    supports_gradient_checkpointing = True
    # `forward` returns losses that are already averaged: `Trainer` must divide them by the accumulation steps.
    accepts_loss_kwargs = False
    _supports_sdpa = True
    _supports_flash_attn = True
    _supports_attention_backend = True

    @classmethod
    def from_pretrained(cls, pretrained_model_name_or_path, *args, output_loading_info: bool = False, **kwargs) -> Any:
        """Loads a checkpoint as in transformers, and raises if any weight is missing or left over.

        With `output_loading_info=True` the model is returned unchecked, with transformers' report of missing and
        unexpected weights.

        Raises:
            ValueError: If weights are missing, left over, of other sizes or not finite.
            OSError: If a file is damaged or missing.
        """
        model, report = load_with_report(
            super().from_pretrained, pretrained_model_name_or_path, *args, advice=OTHER_LABELS, **kwargs
        )
        if output_loading_info:
            return model, report
        left_out = model._may_be_left_out(report, pretrained_model_name_or_path, **kwargs)
        check_loaded(model, report, pretrained_model_name_or_path, left_out=left_out)
        return model

    def post_init(self):
        """Finishes construction, and lists the layers that FSDP wraps: those of the backbone's list that exist.

        Accelerate raises if a listed layer does not exist, and V-JEPA 2 lists layers of its predictor and pooler, which
        may be left out.

        Also lists what is loaded in float32 into a model of any dtype: a reader computes in float64 from its tables,
        and features are standardized in float32. Listed after transformers' `post_init`: transformers 4 searches for
        the names among the parameters there, but these are buffers.
        """
        super().post_init()
        layers = {type(module).__name__ for module in self.modules()}
        self._no_split_modules = {*(self._no_split_modules or ()), *PROBE_LAYERS} & layers
        in_float32 = {"reader"} if self.config.reader is not None else set()
        in_float32 |= set(FEATURE_STATISTICS) if self.config.standardize_features else set()
        self._keep_in_fp32_modules_strict = {*(self._keep_in_fp32_modules_strict or ()), *in_float32}

    def _may_be_left_out(self, report, source, **kwargs) -> tuple[str, ...] | None:
        """Returns beginnings of names of checkpoint weights that this model does not need, as in `load_whole`."""
        return None  # the classifiers and the reader, for a model without them

    @torch.no_grad()
    def _init_weights(self, module):
        """Draws linear layers from N(0, initializer_range) and sets their biases to 0 (AVT's
        models/base_model.py:110)."""
        if isinstance(module, nn.Linear):
            nn.init.normal_(module.weight, mean=0.0, std=self.config.initializer_range)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
        elif isinstance(module, AttentiveProbe):  # called after its layers, whose weights this replaces
            module.draw_weights()


class AVTHead(GPT2Model):
    """GPT-2's blocks without token embeddings, all projections drawn from N(0, 0.02).

    The reference pins a GPT-2 that did not yet scale the residual projections by depth (transformers 4.11).
    """

    def __init__(self, config: GPT2Config):
        super().__init__(config)
        self.wte = None

    @torch.no_grad()
    def _init_weights(self, module):
        super()._init_weights(module)
        if hasattr(module, "c_proj"):
            nn.init.normal_(module.c_proj.weight, mean=0.0, std=self.config.initializer_range)


class AVTModel(AVTPreTrainedModel):
    """AVT without classifiers: the frame encoder, and a causal head or a probe.

    To freeze the encoder, call `backbone.requires_grad_(False)`: it then stays in evaluation mode in training, too.

    Args:
        config (`AVTConfig`): The configuration of the model.
    """

    feature_mean: torch.Tensor  # float32 (D,) in a model of any dtype, if `config.standardize_features`
    feature_deviation: torch.Tensor
    probe: AttentiveProbe | None
    head: Any  # an `AVTHead`, or `None` with a probe

    def __init__(self, config: AVTConfig):
        super().__init__(config)
        config.check_consistency()
        self.backbone = None
        if config.backbone_config is not None:
            _, arguments = backbone_class(config.backbone_config)
            self.backbone = AutoModel.from_config(config.backbone_config, **arguments)
            if not config.use_predictor:
                leave_out_predictor(self.backbone)
            # The reference redraws the backbone's linear layers too, before it loads pretrained weights into it.
            self.backbone.apply(self._init_weights)
            self.has_class_token = has_class_token(self.backbone)
        width = config.feature_dim
        assert width is not None  # the configuration fills it in from the backbone
        if config.standardize_features:
            self.register_buffer("feature_mean", torch.zeros(width, dtype=torch.float32))
            self.register_buffer("feature_deviation", torch.ones(width, dtype=torch.float32))
        self.output_dim = width
        self.probe = self.head = None
        if config.head_type == "probe":
            self.probe = AttentiveProbe(config)
        else:
            self._add_head(config, config.head_feature_dim or width)
        self.post_init()

    def _add_head(self, config: AVTConfig, width: int):
        """Adds AVT's mapper, encoder, causal head and decoder for features of the given width."""
        self.mapper = None
        if config.intermediate_dim is not None:
            self.mapper = nn.Linear(width, config.intermediate_dim, bias=False)
            width = config.intermediate_dim
        self.encoder = nn.Linear(width, config.head_hidden_size, bias=False)
        self.head = AVTHead._from_config(_head_config(config), attn_implementation=config._attn_implementation)
        self.decoder = nn.Linear(config.head_hidden_size, width, bias=False)
        self.output_dim = width

    def get_input_embeddings(self):
        return self.encoder if self.probe is None else self.probe

    def train(self, mode: bool = True):
        """Sets training or evaluation mode. A frozen backbone, without trainable parameters, stays in evaluation mode.

        In training mode, its batch norms would change its features, and its dropout would make them random.
        """
        super().train(mode)
        if self.backbone is not None and is_frozen(self.backbone):
            self.backbone.eval()
        return self

    def encode_frames(self, pixel_values: torch.Tensor) -> torch.Tensor:
        """Returns one feature per image or clip, or its tokens for a probe; see `encoders_avt.encode`.

        Args:
            pixel_values (`torch.Tensor` of shape `(N, 3, H, W)`, or `(N, L, 3, H, W)` for video models): Normalized
                frames.

        Returns:
            `torch.Tensor` of shape `(N, D)`, or `(N, S, D)` for a probe, of the type that the backbone computes in,
            whatever the frames' is.

        Raises:
            ValueError: If there is no backbone, or its features are not `config.feature_dim` wide.
        """
        if self.backbone is None or self.config.backbone_config is None:
            raise ValueError(without_backbone(self.config, "give video_features (B, T, D)"))
        features = encode(self.backbone, pixel_values, self.config, self.has_class_token)
        if features.shape[-1] != self.config.feature_dim:
            raise ValueError(
                f"The '{self.backbone.config.model_type}' backbone computes features of width "
                f"{features.shape[-1]}, but feature_dim is {self.config.feature_dim}: set feature_dim to that width."
            )
        return features

    def _encode_windows(self, pixel_values_videos: torch.Tensor) -> torch.Tensor:
        """Encodes the frames of windows, `(B, F, 3, H, W)`, to moments' features `(B, T, D)` or tokens `(B, T, S,
        D)`."""
        pixels = pixel_values_videos
        if self.config.clip_num_frames is not None:
            pixels = pixels[:, self.config.clip_window.clips.to(pixels.device)]  # (B, T, L, 3, H, W)
        return self.encode_frames(pixels.flatten(0, 1)).unflatten(0, (len(pixels), -1))

    def forward(
        self,
        pixel_values_videos: torch.Tensor | None = None,
        video_features: torch.Tensor | None = None,
        frame_mask: torch.Tensor | None = None,
        num_future_steps: int = 1,
        output_hidden_states: bool | None = None,
        output_attentions: bool | None = None,
    ) -> AVTModelOutput:
        """Returns the features of the observed frames and those predicted by the head.

        Args:
            pixel_values_videos (`torch.Tensor` of shape `(B, F, 3, H, W)`, *optional*): Normalized frames, oldest
                first; see `AVTForAnticipation.forward`.
            video_features (`torch.Tensor` of shape `(B, T, D)`, *optional*): Features instead of frames; for a probe,
                tokens `(B, T, S, D)`.
            frame_mask (`torch.BoolTensor` of shape `(B, T)`, *optional*): `False` marks left padding: moments before
                the video.
            num_future_steps (`int`, *optional*, defaults to 1): K, the number of steps to roll out.
            output_hidden_states, output_attentions (`bool`, *optional*): Whether to also return the head's hidden
                states and attentions.

        Returns:
            `AVTModelOutput`.

        Raises:
            ValueError: If neither `pixel_values_videos` nor `video_features` is given.
        """
        if video_features is None:
            if pixel_values_videos is None:
                raise ValueError("Give either pixel_values_videos or video_features; got neither.")
            video_features = self._encode_windows(pixel_values_videos)
        if frame_mask is not None:
            # Attention gives absent frames weight 0, but 0 times a NaN or infinity in their features would be NaN.
            absent = ~frame_mask[..., None] if video_features.ndim == 3 else ~frame_mask[..., None, None]
            video_features = video_features.masked_fill(absent, 0)
        if self.probe is not None:
            tokens = video_features.to(compute_dtype(self.probe))
            return AVTModelOutput(
                future_features=self.probe(tokens, frame_mask), observed_features=self.of_moments(tokens)
            )
        observed = self.standardize(video_features).to(compute_dtype(self.encoder, self.head))
        x = self.read_by_head(observed)
        if self.training and self.config.feature_dropout:
            x = x * nn.functional.dropout(torch.ones_like(x[:, :1]), self.config.feature_dropout)  # the same for all T
        x = x if self.mapper is None else self.mapper(x)  # (B, T, C)
        hidden, head_output = self._roll_out(
            self.encoder(x),
            frame_mask,
            num_future_steps,
            output_hidden_states=output_hidden_states,
            output_attentions=output_attentions,
        )
        decoded = self.decoder(hidden)  # (B, T+K-1, C)
        num_frames = x.shape[1]
        past = decoded[:, : num_frames - 1]
        if frame_mask is not None:
            # The first real frame has no earlier frame to be predicted from, so its own feature is used, as for frame
            # 0.
            past = torch.where(frame_mask[:, :-1, None], past, x[:, 1:])
        return AVTModelOutput(
            frame_features=x,
            past_features=torch.cat([x[:, :1], past], dim=1),  # (B, T, C)
            future_features=decoded[:, num_frames - 1 :],  # (B, K, C)
            observed_features=observed,
            hidden_states=head_output.hidden_states,
            attentions=head_output.attentions,
        )

    def of_moments(self, features: torch.Tensor) -> torch.Tensor:
        """Returns one feature per moment, `(..., D)`; for a probe the mean over its tokens `(..., S, D)`."""
        return features if self.probe is None else features.mean(-2)

    def read_by_head(self, features: torch.Tensor) -> torch.Tensor:
        """Returns the trailing `config.head_feature_dim` columns of frame features `(..., D)`, which the head reads."""
        return features[..., features.shape[-1] - (self.config.head_feature_dim or features.shape[-1]) :]

    def standardize(self, features: torch.Tensor) -> torch.Tensor:
        """Returns frame features `(..., D)`, standardized by column, in float32, if `config.standardize_features`.

        In half precision, a mean far above the deviation would lose the digits that features differ in.
        """
        if not self.config.standardize_features:
            return features
        return (features - self.feature_mean) / self.feature_deviation

    def _apply(self, fn, recurse=True):
        """Moves or casts the model, except that statistics of features are only moved."""
        statistics = {name: self._buffers[name] for name in FEATURE_STATISTICS if name in self._buffers}
        super()._apply(fn, recurse)
        for name, values in statistics.items():
            if values is not None:
                self._buffers[name] = moved_only(fn)(values)
        return self

    def _roll_out(self, embeddings: torch.Tensor, frame_mask: torch.Tensor | None, num_future_steps: int, **flags):
        """Returns the head's hidden states `(B, T+K-1, H)`, and its output over the observed frames.

        As in the reference (models/future_prediction.py), each further step is fed the last hidden state itself.
        """
        # Activation checkpointing disables GPT-2's cache in training: the whole sequence is then recomputed for each
        # step.
        use_cache = num_future_steps > 1 and not (self.head.gradient_checkpointing and self.training)
        observed = self.head(inputs_embeds=embeddings, attention_mask=frame_mask, use_cache=use_cache, **flags)
        hidden, cache = observed.last_hidden_state, observed.past_key_values
        for _ in range(num_future_steps - 1):
            if frame_mask is not None:
                frame_mask = nn.functional.pad(frame_mask, (0, 1), value=True)
            embeddings = torch.cat([embeddings, hidden[:, -1:]], dim=1)
            # With a cache GPT-2 needs only the newest embedding.
            inputs = embeddings[:, -1:] if use_cache else embeddings
            step = self.head(
                inputs_embeds=inputs, attention_mask=frame_mask, past_key_values=cache, use_cache=use_cache
            )
            hidden, cache = torch.cat([hidden, step.last_hidden_state[:, -1:]], dim=1), step.past_key_values
        return hidden, observed


class AVTForAnticipation(AVTPreTrainedModel):
    """AVT with classifiers of the anticipated and the observed frames, and an optional reader of the action history.

    Args:
        config (`AVTConfig`): The configuration of the model.

    Attributes:
        reader (`HistoryReader` or `None`): Reads what a video has shown so far, frame by frame; see `recognize_frames`.
            `forward` does not call it, since an observed window is not the whole video.
    """

    def __init__(self, config: AVTConfig):
        super().__init__(config)
        self.avt = AVTModel(config)
        self.dropout = nn.Dropout(config.classifier_dropout)
        num_classes = config.num_classes
        if config.use_class_mappings:
            num_classes = {"action": num_classes["action"]}
        width = self.avt.output_dim
        self.classifiers = nn.ModuleDict({name: nn.Linear(width, size) for name, size in num_classes.items()})
        num_actions = num_classes["action"]
        self.last_frame_classifier = self.recognizer = self.reader = None
        feature_dim = config.feature_dim
        assert feature_dim is not None
        if config.classify_last_frame:
            self.last_frame_classifier = nn.Linear(config.head_feature_dim or feature_dim, num_actions)
        if config.recognizes_frames:
            self.recognizer = nn.Linear(config.recognizer_feature_dim or feature_dim, num_actions + 1)
        if config.reader is not None:
            self.reader = HistoryReader(ReaderSettings.from_config(config.reader), num_actions)
        self.post_init()

    def _may_be_left_out(self, report, source, **kwargs) -> tuple[str, ...]:
        is_left_over = any(name.startswith("reader.") for name in report["unexpected_keys"])
        if not is_left_over or self.config.reader is not None:
            return ()
        stored, _ = AVTConfig.get_config_dict(source, **kwargs)
        return ("reader.",) if stored.get("reader") else ()  # dropped by the caller: reader=None

    def get_input_embeddings(self):
        return self.avt.get_input_embeddings()

    def encode_frames(self, pixel_values: torch.Tensor) -> torch.Tensor:
        """Returns one feature per image, `(N, 3, H, W)` to `(N, D)`, or per clip; see `AVTModel.encode_frames`."""
        return self.avt.encode_frames(pixel_values)

    def encode_clips(self, frames: torch.Tensor, clips: torch.Tensor) -> torch.Tensor:
        """Returns the features of N moments, `(N, D)`, or tokens `(N, S, D)` for a probe, computed in small batches.

        Args:
            frames (`torch.Tensor` of shape `(F, 3, H, W)`): Normalized frames, on any device.
            clips (`torch.LongTensor` of shape `(N, L)`): Indices of the frames in each moment's clip; L = 1 for image
                models.
        """
        return encode_clips(self, frames, clips)

    def recognize_frames(self, features: torch.Tensor) -> torch.Tensor:
        """Returns the log probabilities of what frames show, float32 `(N, A + 1)`, the background last.

        Args:
            features (`torch.Tensor` of shape `(N, D)`): Features from `encode_frames` or a feature store. A probe's
                tokens `(N, S, D)` are averaged.

        Raises:
            ValueError: If `config.recognizes_frames` is `False`, or the features have another shape.
        """
        if self.recognizer is None:
            raise ValueError(
                "config.recognizes_frames is False: train a model with recognizes_frames=True to recognize frames."
            )
        shape, width = tuple(features.shape), self.config.feature_dim
        is_tokens = self.avt.probe is not None and features.ndim == 3
        if not (features.ndim == 2 or is_tokens) or shape[-1] != width:
            raise ValueError(
                f"The features of frames have the shape {shape}: give (N, {width}), one row for each frame, such as "
                "video_features.flatten(0, 1) for those of windows."
            )
        features = self.avt.of_moments(features) if is_tokens else features
        features = self.avt.standardize(features)
        features = features.to(compute_dtype(self.recognizer, self.avt.probe or self.avt.head))
        return self.recognizer(features[..., : self.recognizer.in_features]).float().log_softmax(-1)

    def attach_reader(self, reader: HistoryReader | None):
        """Adds a reader to the model and its checkpoints; `None` removes it.

        Args:
            reader (`HistoryReader` or `None`): The reader.

        Raises:
            ValueError: If the reader was fitted on other actions, or the model does not recognize frames.
        """
        previous = self.config.reader
        self.config.reader = None if reader is None else asdict(reader.settings)
        try:
            self.config.check_consistency()
        except ValueError:
            self.config.reader = previous
            raise
        self.reader = reader

    def stream(self, video_processor=None, every: float | None = None, **kwargs) -> AVTStream:
        """Returns a stream that anticipates actions from frames pushed one at a time.

        Args:
            video_processor (`AVTVideoProcessor`, *optional*): Prepares frames. Not needed by a model without a
                backbone.
            every (`float`, *optional*): Seconds between answers. Default: the frame interval, `1 / frame_rate`.
            kwargs: Further arguments of `AVTStream`.

        Returns:
            `AVTStream`.
        """
        return AVTStream(self, video_processor, every, **kwargs)

    def forward(
        self,
        pixel_values_videos: torch.Tensor | None = None,
        video_features: torch.Tensor | None = None,
        frame_mask: torch.Tensor | None = None,
        labels: torch.Tensor | None = None,
        past_labels: torch.Tensor | None = None,
        verb_labels: torch.Tensor | None = None,
        noun_labels: torch.Tensor | None = None,
        num_future_steps: int = 1,
        output_hidden_states: bool | None = None,
        output_attentions: bool | None = None,
        return_dict: bool | None = None,
        frame_labels: torch.Tensor | None = None,
        future_labels: torch.Tensor | None = None,
    ) -> AVTAnticipationOutput | tuple:
        """Returns scores of the action that starts `config.tau_a` seconds after the last frame, and losses.

        Args:
            pixel_values_videos (`torch.Tensor` of shape `(B, T, 3, H, W)` or `(B, V, T, 3, H, W)`, *optional*):
                Normalized frames, oldest first. With V views of one clip (crops, flips), the outputs of all views are
                averaged. A video model needs F frames instead of T: each frame of the T overlapping clips once, as
                `AVTVideoProcessor` samples them (`temporal_avt.ClipWindow`).
            video_features (`torch.Tensor` of shape `(B, T, D)`, *optional*):
                Features instead of frames, or tokens `(B, T, S, D)` for a probe; for a model with a backbone, the
                output of `encode_frames`.
            frame_mask (`torch.BoolTensor` of shape `(B, T)`, *optional*):
                `False` marks left padding, moments before the video begins, which are not attended to. The last frame
                always has position T-1.
            labels (`torch.LongTensor` of shape `(B,)`, *optional*): Next action, 0..A-1, or -100 where unknown.
            past_labels (`torch.LongTensor` of shape `(B, T)`, *optional*): Action of each observed frame; -100 marks
                unlabeled frames. Not used unless `config.classify_past`.
            verb_labels, noun_labels (`torch.LongTensor` of shape `(B,)`, *optional*): Next verb and noun, or -100.
                Not used unless `config.label_types` asks for them.
            num_future_steps (`int`, *optional*, defaults to 1):
                K. Above 1, the head is rolled out further, one frame interval per step, and every step is returned as
                `future_logits`.
            output_hidden_states, output_attentions (`bool`, *optional*):
                Whether to also return the head's hidden states and attentions. Attentions need
                `attn_implementation="eager"`.
            return_dict (`bool`, *optional*): Whether to return an `AVTAnticipationOutput` instead of a plain tuple.
            frame_labels (`torch.LongTensor` of shape `(B, T)`, *optional*): What each observed frame itself shows: an
                action 0..A-1, A for the background, or -100 where unknown. Not used unless `config.recognizes_frames`.
            future_labels (`torch.LongTensor` of shape `(B, Z)`, *optional*): The next Z actions, of which the first is
                `labels`, or -100 where unknown. Rolls out Z steps. Not used unless `config.num_future_actions` is above
                1.

        Raises:
            ValueError: If inputs or labels do not fit the model. The message names the argument, its shape or value and
                what is accepted.
        """
        future_labels = future_labels if self.config.num_future_actions > 1 else None
        if future_labels is not None:
            num_future_steps = max(num_future_steps, self.config.num_future_actions)
        check_inputs(self.config, pixel_values_videos, video_features, frame_mask, num_future_steps)
        frame_mask = None if frame_mask is None else frame_mask.bool()
        num_views = 1
        if pixel_values_videos is not None and pixel_values_videos.ndim == 6:
            num_views = pixel_values_videos.shape[1]
            pixel_values_videos = pixel_values_videos.flatten(0, 1)  # (B*V, T, 3, H, W)
            frame_mask = None if frame_mask is None else frame_mask.repeat_interleave(num_views, dim=0)
        outputs = self.avt(
            pixel_values_videos,
            video_features,
            frame_mask,
            num_future_steps,
            output_hidden_states=output_hidden_states,
            output_attentions=output_attentions,
        )
        past = _average_views(outputs.past_features, num_views)
        future = _average_views(outputs.future_features, num_views)
        future_logits = self._classify(future)  # (B, K, .) each
        observed = _average_views(outputs.observed_features, num_views)
        if self.last_frame_classifier is not None:
            of_last_frame = self.last_frame_classifier(self.avt.read_by_head(observed[:, -1:]))
            if self.config.num_future_actions > 1:  # this classifier only predicts the next action, not those after it
                of_last_frame = nn.functional.pad(of_last_frame, (0, 0, 0, num_future_steps - 1))
            future_logits["action"] = future_logits["action"] + of_last_frame
        frame_logits = None
        if self.recognizer is not None:
            frame_logits = self.recognizer(self.dropout(observed[..., : self.recognizer.in_features]))  # (B, T, A + 1)
        is_answer = 0 if self.config.num_future_actions > 1 else -1  # the reference answers with the last step
        logits = {name: scores[:, is_answer] for name, scores in future_logits.items()}
        if self.config.use_class_mappings:
            logits.update(self._sum_action_logits(logits["action"]))
        past_logits = None
        if self.config.predicts_past:
            past_logits = self.classifiers["action"](self.dropout(past))  # (B, T, A)

        losses = self._classification_losses(logits, past_logits, labels, past_labels, verb_labels, noun_labels)
        if frame_labels is not None and frame_logits is not None:
            check_labels("frame_labels", frame_labels, frame_logits)
            losses["frame_loss"] = classification_loss(frame_logits, frame_labels)
        if future_labels is not None:
            trained_logits = future_logits["action"][:, : self.config.num_future_actions]
            check_labels("future_labels", future_labels, trained_logits)
            losses["future_loss"] = classification_loss(trained_logits[:, 1:], future_labels[:, 1:])
        feature_loss = _feature_loss(outputs, frame_mask)
        output = AVTAnticipationOutput(
            loss=self._total_loss(losses, feature_loss),
            logits=logits["action"],
            past_logits=past_logits,
            frame_logits=frame_logits,
            verb_logits=logits.get("verb"),
            noun_logits=logits.get("noun"),
            future_logits=future_logits["action"] if num_future_steps > 1 else None,
            future_features=future,
            past_features=past,
            feature_loss=feature_loss,
            hidden_states=outputs.hidden_states,
            attentions=outputs.attentions,
            **losses,
        )
        return_dict = self.config.return_dict if return_dict is None else return_dict
        return output if return_dict else output.to_tuple()

    def _classify(self, future: torch.Tensor) -> dict[str, torch.Tensor]:
        """Returns scores `(B, K, .)` by label type from features `(B, K, C)`; a probe has one query per label type."""
        if self.avt.probe is None:
            return {name: layer(self.dropout(future)) for name, layer in self.classifiers.items()}
        of_queries = zip(self.classifiers.items(), self.dropout(future).split(1, dim=1), strict=True)
        return {name: layer(found) for (name, layer), found in of_queries}

    def _sum_action_logits(self, action_logits: torch.Tensor) -> dict[str, torch.Tensor]:
        """Returns verb and noun scores as sums of the raw scores of their actions (AVT's models/base_model.py:236)."""
        sums = {}
        for position, name in enumerate(("verb", "noun")):
            if name in self.config.label_types:
                ids = [pair[position] for pair in self.config.action_to_verb_noun]
                empty = action_logits.new_zeros(action_logits.shape[0], self.config.num_classes[name])
                sums[name] = empty.index_add(1, torch.tensor(ids, device=action_logits.device), action_logits)
        return sums

    def _classification_losses(self, logits, past_logits, labels, past_labels, verb_labels, noun_labels):
        losses = {}
        for name, scores, target in (
            ("action", logits["action"], labels),
            ("verb", logits.get("verb"), verb_labels),
            ("noun", logits.get("noun"), noun_labels),
        ):
            if target is not None and scores is not None:
                check_labels("labels" if name == "action" else f"{name}_labels", target, scores)
                losses[f"{name}_loss"] = classification_loss(scores, target)
        if past_labels is not None and past_logits is not None:
            check_labels("past_labels", past_labels, past_logits)
            losses["past_loss"] = past_action_loss(
                past_logits, past_labels, normalizer=self.config.past_loss_normalizer
            )
        return losses

    def _total_loss(self, losses: dict[str, torch.Tensor], feature_loss: torch.Tensor | None) -> torch.Tensor | None:
        if not losses:
            return None
        weights = {name: getattr(self.config, f"{name}_weight") for name in ("past_loss", "frame_loss", "future_loss")}
        terms: list[torch.Tensor] = [weights.get(name, 1.0) * loss for name, loss in losses.items()]
        if feature_loss is not None:
            terms.append(self.config.feature_loss_weight * feature_loss)
        return sum(terms[1:], start=terms[0])


def _head_config(config: AVTConfig) -> GPT2Config:
    per_head = config.head_hidden_size // config.head_num_heads
    attention = config._attn_implementation or ""
    if "flash" in attention and per_head > MAX_FLASH_COLUMNS:
        raise ValueError(
            f"attn_implementation is '{attention}', which supports heads of up to {MAX_FLASH_COLUMNS} columns, but "
            f"AVT's head has {per_head} (head_hidden_size / head_num_heads): load it with attn_implementation='sdpa'."
        )
    return GPT2Config(
        vocab_size=1,  # unused, since AVTHead removes the token embeddings
        bos_token_id=None,
        eos_token_id=None,
        n_positions=config.head_num_positions,
        n_embd=config.head_hidden_size,
        n_layer=config.head_num_layers,
        n_head=config.head_num_heads,
        activation_function="gelu_pytorch_tanh",  # GPT-2's "gelu_new" in one kernel, without intermediate copies
        resid_pdrop=config.head_dropout,
        embd_pdrop=config.head_dropout,
        attn_pdrop=config.head_dropout,
    )


def _average_views(features: torch.Tensor | None, num_views: int) -> Any:
    if features is None or num_views == 1:
        return features
    return features.unflatten(0, (-1, num_views)).mean(1)  # (B*V, ...) -> (B, ...)


def _feature_loss(outputs: AVTModelOutput, frame_mask: torch.Tensor | None) -> torch.Tensor | None:
    """Returns the feature loss over frames 1..T-1 of all views, as in the reference; `None` for one frame or a
    probe."""
    if outputs.frame_features is None or outputs.past_features is None or outputs.frame_features.shape[1] < 2:
        return None
    both_exist = None if frame_mask is None else frame_mask[:, 1:] & frame_mask[:, :-1]
    return feature_prediction_loss(outputs.past_features[:, 1:], outputs.frame_features[:, 1:], both_exist)


AVTModel.register_for_auto_class("AutoModel")
AVTForAnticipation.register_for_auto_class("AutoModel")

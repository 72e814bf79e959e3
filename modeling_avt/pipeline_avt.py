"""`pipeline("action-anticipation")`: which actions start next in a video, at one moment or along it."""

import numpy as np
import torch
from transformers import Pipeline

from .answers_avt import check_observed_alike, most_likely
from .video_io_avt import probe
from .video_processing_avt import FRAMES_AT_ONCE


class ActionAnticipationPipeline(Pipeline):
    """Anticipates actions in video files.

    ```python
    anticipate = pipeline("action-anticipation", model="user/name", trust_remote_code=True)
    anticipate("cooking.mp4")                  # what starts `tau_a` seconds after the end of the video
    anticipate("cooking.mp4", at=12.0)         # what starts `tau_a` seconds after 12 s
    anticipate("cooking.mp4", every=1.0)       # a timeline
    ```
    """

    _load_processor = False
    _load_image_processor = False
    _load_video_processor = True
    _load_feature_extractor = False
    _load_tokenizer = False

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        if self.video_processor is None:
            raise ValueError(
                "The action-anticipation pipeline needs a video_processor: save an AVTVideoProcessor beside the model."
            )
        check_observed_alike(self.video_processor, self.model.config)

    def __call__(self, videos, **kwargs):
        """Returns the most likely next actions of each video.

        Args:
            videos (`str`, `Path`, `bytes`, or a list, dataset or generator of them): Video files, or their content.
            at (`float`, *optional*): End of the observed window, in seconds from the first frame. Default: the end of
                the video.
            every (`float`, *optional*): Seconds between the moments of a timeline over the whole video; instead of
                `at`.
            top_k (`int`, *optional*, defaults to 5): How many actions to return.

        Returns:
            For each video a list of `{"label", "score", "verb", "noun", "starts_in_s"}`, most likely first: `score` is
            a probability, `verb` and `noun` are `None` unless the model names them, `starts_in_s` is the model's
            `tau_a`. With `every`, a list of `{"at_s", "starts_at_s", "anticipated"}`, one a moment, `anticipated` being
            such a list.

        Raises:
            VideoDecodeError: where a video cannot be read, or ends before `at`.
        """
        return super().__call__(videos, **kwargs)

    def _sanitize_parameters(self, at: float | None = None, every: float | None = None, top_k: int | None = None):
        if at is not None and every is not None:
            raise ValueError("Give either at, for one moment, or every, for a timeline.")
        if every is not None and every <= 0:
            raise ValueError(f"every is {every}: give the seconds between two moments, above 0.")
        if top_k is not None and top_k < 1:
            raise ValueError(f"top_k is {top_k}: give 1 or more.")
        given = {"at": at, "every": every}
        preprocess = {name: value for name, value in given.items() if value is not None}
        postprocess = {} if top_k is None else {"top_k": top_k}
        return preprocess, {}, {**postprocess, "is_timeline": every is not None}

    def preprocess(self, video, at: float | None = None, every: float | None = None) -> dict:
        """Returns each frame once, `pixel_values (F, 3, H, W)`, and for each of M moments the T frames it observes.

        `positions (M, T)` index into the frames; `frame_mask (M, T)`; `at_s`, M floats.
        """
        moments = [at]
        if at is None:
            end_s = probe(video).duration_s
            moments = [end_s] if every is None else list(np.arange(1, int(end_s / every + 1e-6) + 1) * every)
            if not moments:
                raise ValueError(f"every={every} is longer than the video, which ends at {end_s:.3f} s.")
        windows = [self.video_processor.sample_times(moment) for moment in moments]
        times, masks = (np.stack(arrays) for arrays in zip(*windows, strict=True))
        frames, positions = self.video_processor.read_moments(video, times, masks)
        return {
            "pixel_values": frames,
            "positions": positions,
            "frame_mask": torch.from_numpy(masks),
            "at_s": [float(moment) for moment in moments],
        }

    def _forward(self, inputs):
        chunks = inputs["pixel_values"].to(self.model.dtype).split(FRAMES_AT_ONCE)
        features = torch.cat([self.model.encode_frames(chunk) for chunk in chunks])  # (F, D)
        windows = features[inputs["positions"]]  # (M, T, D)
        outputs = self.model(video_features=windows, frame_mask=inputs["frame_mask"])
        return {"logits": outputs.logits, "at_s": inputs["at_s"]}

    def postprocess(self, outputs, top_k: int = 5, is_timeline: bool = False) -> list[dict]:
        anticipated = [most_likely(logits, self.model.config, top_k) for logits in outputs["logits"]]
        if not is_timeline:
            return anticipated[0]
        tau_a = self.model.config.tau_a
        return [
            {"at_s": at_s, "starts_at_s": at_s + tau_a, "anticipated": actions}
            for at_s, actions in zip(outputs["at_s"], anticipated, strict=True)
        ]

    def save_pretrained(self, save_directory, **kwargs):
        super().save_pretrained(save_directory, **kwargs)
        self.video_processor.save_pretrained(save_directory, **kwargs)  # transformers 5.23 leaves it out

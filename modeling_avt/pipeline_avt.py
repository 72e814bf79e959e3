"""`pipeline("action-anticipation")`: the actions that start next in a video, at one moment or along a timeline."""

from collections.abc import Callable, Iterator, Sequence, Sized
from types import GeneratorType
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch.utils.data import DataLoader
from transformers import Pipeline
from transformers.pipelines.pt_utils import PipelineDataset, PipelineIterator

from .answers_avt import answer_to, check_can_read, check_observed_alike, described_history, observed_for
from .futures_avt import Question
from .model_inputs_avt import without_backbone
from .numbers_avt import check_encoded, check_features, check_weights, compute_dtype
from .pipeline_inputs_avt import (
    ClockedArray,
    ObservedWindow,
    VideoArray,
    VideoFile,
    is_list_of_frames,
    is_uint8,
    to_source,
)
from .reader_avt import pool
from .rules_avt import SECONDS, SECONDS_AHEAD
from .temporal_avt import TIME_SLACK_S, checked_every, sample_frame_times, timeline_moments
from .video_processing_avt import AVTVideoProcessor
from .video_source_avt import is_video_source

if TYPE_CHECKING:  # for releases of transformers that copy only the files that this file itself imports
    from .backbone_configuration_avt import checked_backbone  # noqa: F401
    from .beam_avt import Reading  # noqa: F401
    from .calibration_avt import Calibration  # noqa: F401
    from .configuration_avt import ReaderSettings  # noqa: F401
    from .labels_avt import id_to_label  # noqa: F401
    from .losses_avt import classification_loss  # noqa: F401
    from .picture_folder_avt import PictureFolder  # noqa: F401
    from .transitions_avt import NGramTransitions  # noqa: F401
    from .versions_avt import check_versions  # noqa: F401
    from .video_io_avt import VideoInfo  # noqa: F401
    from .video_packets_avt import PacketTable  # noqa: F401


class ActionAnticipationPipeline(Pipeline):
    """Pipeline that anticipates actions in video files, arrays of frames and features of frames.

    ```python
    anticipate = pipeline("action-anticipation", model="user/name", trust_remote_code=True)
    anticipate("cooking.mp4")                          # what starts `tau_a` seconds after the end of the video
    anticipate("cooking.mp4", at=12.0)                 # what starts `tau_a` seconds after 12 s
    anticipate("cooking.mp4", every=1.0)               # a timeline
    anticipate(frames, at=12.0, frames_per_second=30)  # uint8 (N, H, W, 3)
    anticipate(["a.mp4", "b.mp4", "c.mp4"], batch_size=3)
    ```

    A model without a backbone accepts features and needs no video processor. After `import modeling_avt`, a model
    object is also accepted: `pipeline("action-anticipation", model=model, video_processor=processor)`.

    Args:
        model (`AVTForAnticipation`): The model. It is put into evaluation mode.
        video_processor (`AVTVideoProcessor`, *optional*): Prepares videos; required for a model with a backbone.
            Default: `processor`, or else the one saved with the model.
        device (`int`, `str` or `torch.device`, *optional*): The device, as in every transformers pipeline.
        dtype (`torch.dtype` or `str`, *optional*): The dtype to cast the model to. Default: unchanged.
        batch_size (`int`, *optional*, defaults to 1): Number of videos that are run through the model at once, for
            lists, data sets and generators.
        kwargs: Defaults for the arguments of `__call__`.

    Raises:
        ValueError: If the model is of another kind or has weights that are not finite, or if the video processor is
            missing or samples other moments than the model was trained on.
    """

    model: Any  # an `AVTForAnticipation`, whose module names this one
    video_processor: AVTVideoProcessor | None

    _load_processor = False
    _load_image_processor = False
    _load_video_processor = None  # loaded if it exists: a model that accepts features has none
    _load_feature_extractor = False
    _load_tokenizer = False

    def __init__(self, model, *args, video_processor=None, dtype: str | torch.dtype | None = None, **kwargs):
        if model.config.model_type != "avt":  # not isinstance: remote code has a class of its own
            raise ValueError(
                f"The model is a {type(model).__name__} of type '{model.config.model_type}': the action-anticipation "
                "pipeline needs a checkpoint of type 'avt', such as AVTForAnticipation.save_pretrained writes."
            )
        super().__init__(model, *args, **kwargs)
        if dtype not in (None, "auto"):  # transformers does not cast a model that it did not load
            dtype = getattr(torch, dtype) if isinstance(dtype, str) else dtype
            if dtype != compute_dtype(model):
                model.to(dtype)
        model.eval()  # a constructed model is in training mode, where dropout would make answers random
        check_weights(model, model.name_or_path or "the model")
        # Transformers 4 has no video processors, and would treat this argument as one of `__call__`.
        processor: Any = self.processor if video_processor is None else video_processor
        if processor is None and model.config.backbone_config is not None:
            processor = _processor_beside(model)
        if processor is not None:
            check_observed_alike(processor, model.config)
        self.video_processor = processor

    def __call__(self, videos, **kwargs):
        """Anticipates the next actions of each video.

        Args:
            videos: One video, or several as a list, `torch.utils.data.Dataset` (such as `KeyDataset`), generator, or
                array with one more dimension. A video is one of

                - a file, `str` or `Path`, its content, `bytes`, or a file open for reading;
                - its frames: uint8 `(N, H, W, 3)` or `(N, 3, H, W)`, or a list of `(H, W, 3)`;
                - features of its frames: floating point `(N, D)`; for a model with a backbone, the output of
                  `encode_frames`;
                - `{"video": ...}` or `{"video_features": ...}` with one of these and, for arrays, optionally
                  `frames_per_second`, `start_s` (time of the first frame in seconds; default 0) or `frame_mask`; or
                  `{"bytes": ..., "path": ...}`, the form of a video that `datasets` does not decode.

            at (`float`, *optional*): End of the observed window, in seconds from the first frame. Default: the end of
                the video. All numbers here may also be NumPy scalars or tensors of one element.
            every (`float`, *optional*): Seconds between the moments of a timeline over the whole video, instead of
                `at`. At least 0.001, and large enough for at most 100,000 moments. For an array with a `start_s`, the
                moments `start_s + every`, `start_s + 2 * every`, ... whose windows do not begin before the array.
            top_k (`int`, *optional*, defaults to 5): Number of actions to return.
            num_actions (`int`, *optional*): Z. Return sequences of the next Z actions instead, whenever the first one
                starts: continuations of the reader's hypotheses or, without a reader, the steps of the model's
                roll-out, where step z is the z-th next action.
            num_sequences (`int`, *optional*, defaults to 5): K, the number of sequences, the likeliest ones.
            do_sample (`bool`, *optional*, defaults to `False`): Whether to sample the sequences instead, with torch's
                default generator: call `torch.manual_seed` for reproducible ones.
            horizon_s (`float`, *optional*): Return a timeline of the next `horizon_s` seconds instead: from the reader,
                which models durations of actions, or without one from the roll-out, which begins `tau_a` ahead and has
                one step every `1 / frame_rate` seconds.
            reader (`bool`, *optional*): Whether to pool the model's answers with those of the checkpoint's
                `HistoryReader`. Default: `True` if the checkpoint has one. It reads the video from its beginning at
                `reader.frame_rate` frames per second: for a moment at 600 s and 1 frame/s, 600 more frames are decoded
                and encoded.
            read_from_s (`float`, *optional*, defaults to 0): Time in seconds at which the reader begins, to save that
                work: it then ignores earlier actions. Also for arrays that begin later than the video.
            frames_per_second (`float`, *optional*): Frame rate of arrays: frame or feature `i` is shown from `i /
                frames_per_second` on, and the moments to observe are sampled from them. Without it, an array is the
                observed window itself: exactly the model's `num_frames` rows, used unchanged, oldest first; `frame_mask
                (T,)` is `False` for rows before the beginning of the video.
            batch_size (`int`, *optional*): See the class docstring.
            num_workers (`int`, *optional*, defaults to 0): Number of processes that read videos in advance.

        Returns:
            For each video a list of `{"label", "score", "verb", "noun", "starts_in_s", "observed_from_s",
            "observed_until_s", "starts_at_s"}`, most likely first: `score` is a probability, `verb` and `noun` are
            `None` unless the model has names for them, `starts_in_s` is the model's `tau_a`. The observed window spans
            `observed_from_s` to `observed_until_s` (which is `at`), and the answer is about the action that starts at
            `starts_at_s`, in seconds from the first frame; the three are `None` for arrays without
            `frames_per_second`. With `every`, a list of `{"at_s", "starts_at_s", "anticipated"}`, one per moment, where
            `anticipated` is such a list.

            With `num_actions`, the list holds K sequences, `{"score", "actions"}` each, likeliest first: `actions` are
            Z `{"label", "verb", "noun"}` in order, and `score` is the probability of the sequence (for a sample, the
            product of the probabilities of its actions, each given those before it). With `horizon_s`, it holds
            `{"label", "verb", "noun", "score", "starts_at_s", "ends_at_s"}` in order of time, without gaps; `label` is
            `None` where most likely no action happens. Both also contain the fields of the window.

            With a reader, each answer, and each moment of a timeline, also has `history`, the actions recognized so
            far: `{"label", "action", "start_s", "probability"}` each, oldest first, at most 64.

            For one video its answer; for a list or array of videos, a list of answers; for a data set or generator, a
            lazy iterable, which `tqdm` can wrap to show progress.

        Raises:
            VideoDecodeError: If a file cannot be read, or ends before `at`.
            ValueError: If an array holds neither frames nor features of this model, a moment is outside of it, or
                observed features or the model's scores are not finite.
        """
        is_array = isinstance(videos, (np.ndarray, torch.Tensor))
        is_batch = is_array and videos.ndim == (5 if is_uint8(videos) else 3)
        is_one = is_video_source(videos)  # checked first: an open file is also an iterator, of lines
        if is_list_of_frames(videos):
            videos = {"video": list(videos)}
        elif is_batch or (isinstance(videos, Sequence) and not is_one):
            videos = list(videos)
        elif isinstance(videos, Iterator) and not isinstance(videos, GeneratorType) and not is_one:
            videos = (video for video in videos)
        if isinstance(videos, list) and not videos:
            raise ValueError("videos is empty: give at least one.")
        return super().__call__(videos, **kwargs)

    def _sanitize_parameters(
        self,
        at: float | None = None,
        every: float | None = None,
        top_k: int | None = None,
        frames_per_second: float | None = None,
        reader: bool | None = None,
        read_from_s: float | None = None,
        num_actions: int | None = None,
        num_sequences: int | None = None,
        do_sample: bool | None = None,
        horizon_s: float | None = None,
    ):
        if at is not None and every is not None:
            raise ValueError("Give either at, for one moment, or every, for a timeline.")
        at = None if at is None else SECONDS("at", at)
        every = None if every is None else checked_every(every)
        read_from_s = None if read_from_s is None else SECONDS_AHEAD("read_from_s", read_from_s)
        if reader:
            check_can_read(self.model)
        # `at` of a call replaces `every` of the construction, and vice versa.
        preprocess = {} if at is None and every is None else {"at": at, "every": every}
        given = {"frames_per_second": frames_per_second, "reader": reader, "read_from_s": read_from_s}
        preprocess |= {name: value for name, value in given.items() if value is not None}
        further = {"num_actions": num_actions, "horizon_s": horizon_s}
        question: dict = {} if num_actions is None and horizon_s is None else further
        given = {"top_k": top_k, "num_sequences": num_sequences, "do_sample": do_sample}
        question |= {name: value for name, value in given.items() if value is not None}
        Question(**question)  # raises before any video is read
        return preprocess, question, {}

    def get_iterator(
        self, inputs, num_workers: int, batch_size: int, preprocess_params, forward_params, postprocess_params
    ):
        """Returns an iterable of the answers for several videos.

        Replaces transformers' method (5.23, pipelines/base.py: `pad_collate_fn`), which refuses batches without a
        tokenizer or feature extractor. Nothing is padded here: videos of a batch may differ in their numbers of frames
        and moments.
        """
        if isinstance(inputs, Sized):
            dataset = PipelineDataset(inputs, self.preprocess, preprocess_params)
        else:
            dataset = PipelineIterator(inputs, self.preprocess, preprocess_params)
            num_workers = min(num_workers, 1)  # each worker would iterate over the whole generator
        batches = DataLoader(dataset, num_workers=num_workers, batch_size=batch_size, collate_fn=list)

        def answer(batch: list[dict]) -> list:
            outputs = self.forward(batch, **forward_params)
            return [self.postprocess(output, **postprocess_params) for output in outputs]

        return _Answers(inputs, batches, answer)

    def preprocess(
        self,
        video,
        at: float | None = None,
        every: float | None = None,
        frames_per_second: float | None = None,
        reader: bool | None = None,
        read_from_s: float = 0.0,
    ) -> dict:
        """Returns the observed frames or features of a video, each once, and the T of them in the window of each of M
        moments.

        `pixel_values (F, 3, H, W)`, with `clips (U, L)` that index into them, or `video_features (U, D)`; `positions
        (M, T)`, which index into the U moments that are distinct; `frame_mask (M, T)`; `at_s`, M floats, or `[None]`
        without a clock; `is_timeline`; and the moments that the reader reads, `read_s`, G floats, and `read_positions
        (G,)`, both empty without a reader.
        """
        source = to_source(video, frames_per_second)
        self._check_source(source)
        is_read = reader is not False and self.model.reader is not None
        if isinstance(source, ObservedWindow):
            if is_read:
                raise ValueError(
                    f"{source.described} is the observed window alone, but the checkpoint's reader reads the video "
                    "from its beginning: give all frames with frames_per_second, or reader=False for the model alone."
                )
            return self._prepare_window(source, at, every)
        moments = [float(source.end_s if at is None else at)] if every is None else self._timeline(source, every)
        config = self.model.config
        windows = [self._sample(moment) for moment in moments]
        times, masks = (np.stack(arrays) for arrays in zip(*windows, strict=True))
        read_s = self._read_times(source, moments, read_from_s) if is_read else np.empty(0)
        # The moments that the reader reads are appended below the windows, in rows of T, so that all are sampled
        # together.
        rows_read = -(-len(read_s) // config.num_frames)
        room = np.full(rows_read * config.num_frames, 0.0)
        room[: len(read_s)] = read_s
        is_moment = np.arange(len(room)) < len(read_s)
        times = np.concatenate([times, room.reshape(rows_read, config.num_frames)])
        observed = np.concatenate([masks, is_moment.reshape(rows_read, config.num_frames)])
        content, positions = self._observed(source, times, observed)
        return {
            **content,
            "positions": positions[: len(moments)],
            "frame_mask": torch.from_numpy(masks),
            "at_s": moments,
            "is_timeline": every is not None,
            "read_s": read_s.tolist(),
            "read_positions": positions[len(moments) :].flatten()[: len(read_s)],
        }

    def _sample(self, at_s: float) -> tuple[np.ndarray, np.ndarray]:
        """Returns the moments in a window, `(T,)` in seconds, and their mask."""
        config = self.model.config
        # The exact protocol samples moments, not frame numbers: the video's own rate does not matter.
        rates = {"video_fps": config.frame_rate, "frame_rate": config.frame_rate, "num_frames": config.num_frames}
        return sample_frame_times(at_s - config.tau_o, at_s, **rates)

    def _timeline(self, source: VideoFile | ClockedArray, every: float) -> list[float]:
        """Returns the moments of a timeline. One of an array that begins later than the video counts from there on,
        without the moments whose windows begin before the array."""
        if not isinstance(source, ClockedArray) or source.start_s <= 0:
            return timeline_moments(source.end_s, every)
        moments = timeline_moments(source.end_s, every, source.start_s)
        held = [moment for moment in moments if self._begins_s(source, moment) >= source.start_s - TIME_SLACK_S]
        return held or moments[-1:]  # `numbers_at` refuses it and names what is missing

    def _begins_s(self, source: ClockedArray, at_s: float) -> float:
        """Returns the time of the first row that the window of a moment needs."""
        times, mask = self._sample(at_s)
        return float(times[mask][0] if source.is_features else self.model.config.clips.times(times[mask][0])[0])

    def _read_times(self, source: VideoFile | ClockedArray, moments: list[float], read_from_s: float) -> np.ndarray:
        """Returns the times in seconds at which the reader reads a frame, from `read_from_s` to the last moment."""
        if read_from_s > moments[0] + TIME_SLACK_S:
            raise ValueError(f"read_from_s is {read_from_s}, after the moment {moments[0]:g} s: give an earlier time.")
        start_s, reader = source.start_s if isinstance(source, ClockedArray) else 0.0, self.model.reader
        if start_s > read_from_s and reader.skips_beginning(start_s - read_from_s):
            raise ValueError(
                f"{source.described} begins at {start_s:g} s, but the checkpoint's reader reads from "
                f"{read_from_s:g} s on: give the video from its beginning; read_from_s={start_s:g} to ignore "
                "everything before that; or reader=False for the model alone."
            )
        rate, read_from_s = reader.settings.frame_rate, max(read_from_s, start_s)
        return read_from_s + np.arange(int((moments[-1] - read_from_s + TIME_SLACK_S) * rate) + 1) / rate

    def _observed(self, source: VideoFile | ClockedArray, times: np.ndarray, mask: np.ndarray):
        """Returns the frames or features shown at times, each once, and the position of each time among the moments."""
        if isinstance(source, VideoFile):
            assert self.video_processor is not None  # see `_check_source`
            frames, distinct = self.video_processor.read_moments(source.file, times, mask)
            return {"pixel_values": frames, "clips": distinct.clips}, distinct.positions
        if source.is_features:
            numbers, positions = _distinct(source.numbers_at(times, mask), mask)
            return self._prepare(source.rows[numbers]), positions
        distinct = self.model.config.clips.distinct(times, mask)
        numbers, places = _distinct(source.numbers_at(distinct.times_s, np.ones(len(distinct.times_s), dtype=bool)))
        return {**self._prepare(source.rows[numbers]), "clips": places[distinct.clips]}, distinct.positions

    def _check_source(self, source: VideoFile | VideoArray):
        config = self.model.config
        if isinstance(source, VideoArray) and source.is_features:
            if source.rows.shape[1] != config.feature_dim:
                raise ValueError(f"The features are {source.described}: this model needs (N, {config.feature_dim}).")
        elif config.backbone_config is None:
            advice = f"give features of frames, floating (N, {config.feature_dim}), instead of {source.described}"
            raise ValueError(without_backbone(config, advice))

    def _prepare_window(self, source: ObservedWindow, at: float | None, every: float | None) -> dict:
        """Returns the inputs for an array without a clock, whose rows are the observed window."""
        config, num_rows = self.model.config, len(source.rows)
        num_moments = config.num_frames
        clips = None if source.is_features else config.clip_window.clips
        num_frames = num_moments if clips is None else len(config.clip_window.offsets_s)
        if at is not None or every is not None:
            raise ValueError(
                f"{'at' if every is None else 'every'} needs a clock, and {source.described} has none: give "
                "frames_per_second."
            )
        if num_rows != num_frames:
            raise ValueError(
                f"{source.described} is not the {num_frames} frames that the model observes: give frames_per_second, "
                f"so that they can be sampled, or exactly {num_frames} frames."
            )
        mask = torch.ones(num_moments, dtype=torch.bool)
        if source.frame_mask is not None:
            mask = torch.as_tensor(source.frame_mask).bool()
            if mask.shape != (num_moments,):
                raise ValueError(f"frame_mask has the shape {tuple(mask.shape)}: give ({num_moments},).")
        return {
            **self._prepare(source.rows, mask),
            "clips": clips,
            "positions": torch.arange(num_moments)[None],
            "frame_mask": mask[None],
            "at_s": [None],
            "is_timeline": False,
            "read_s": [],
            "read_positions": torch.empty(0, dtype=torch.int64),
        }

    def _prepare(self, rows: torch.Tensor, mask: torch.Tensor | None = None) -> dict[str, torch.Tensor]:
        rows = rows.cpu()
        if rows.is_floating_point():
            observed = rows if mask is None else rows[mask]
            check_features(observed, "Observed features", "extract them again")
            return {"video_features": rows.float()}
        assert self.video_processor is not None  # see `_check_source`
        return {"pixel_values": self.video_processor.prepare(rows.__getitem__, len(rows))}

    def _forward(self, videos: dict | list[dict], **question) -> dict | list[dict]:
        if isinstance(videos, dict):
            return self._forward([videos], **question)[0]
        if self.model.training:
            raise ValueError("The model is in training mode, where dropout makes answers random: call model.eval().")
        asked, features = Question(**question), self._features(videos)  # (F, D) each
        windows = torch.cat([rows[video["positions"]] for rows, video in zip(features, videos, strict=True)])
        masks = torch.cat([video["frame_mask"] for video in videos])
        # With a reader, steps beyond the first come from the reader. A call reads all of its videos or none.
        num_steps = 1 if videos[0]["read_s"] else asked.num_future_steps(self.model.config)
        output = self.model(video_features=windows, frame_mask=masks, num_future_steps=num_steps)
        scores = output.logits[:, None] if num_steps == 1 else output.future_logits  # (all moments, K, A)
        parts = scores.split([len(video["positions"]) for video in videos])
        kept = [{key: video[key] for key in ("at_s", "is_timeline")} for video in videos]
        answers = [[*self._answers(asked, *of_video)] for of_video in zip(videos, features, parts, strict=True)]
        return [{"answers": of_video, **rest} for of_video, rest in zip(answers, kept, strict=True)]

    def _answers(self, asked: Question, video: dict, features: torch.Tensor, scores: torch.Tensor) -> Iterator[dict]:
        """Yields the answer at each of M moments and, with a reader, the history recognized so far."""
        config = self.model.config
        if not video["read_s"]:
            for of_moment, at_s in zip(scores, video["at_s"], strict=True):
                yield {"anticipated": answer_to(asked, of_moment, config, at_s)}
            return
        reader = self.model.reader
        reader = reader.begin_video(midway=reader.skips_beginning(video["read_s"][0]))
        log_probs = self.model.recognize_frames(features[video["read_positions"]])
        reached = reader.read_to(video["at_s"], log_probs, video["read_s"])
        for of_moment, at_s in zip(scores.cpu(), reached, strict=True):
            pooled = pool(of_moment, reader.next_action(config.tau_a, at_s), reader.settings.fusion_weights)
            anticipated = answer_to(asked, pooled, config, at_s, reader, at_s)
            yield {"anticipated": anticipated, "history": described_history(reader.history(), config)}

    def _features(self, videos: list[dict]) -> list[torch.Tensor]:
        """Returns each video's features, encoding all frames of a batch together."""
        with_frames = [video for video in videos if "pixel_values" in video]
        encoded = iter(())
        if with_frames:
            firsts = np.cumsum([0, *(len(video["pixel_values"]) for video in with_frames[:-1])]).tolist()
            clips = torch.cat([video["clips"] + first for video, first in zip(with_frames, firsts, strict=True)])
            features = self.model.encode_clips(torch.cat([video["pixel_values"] for video in with_frames]), clips)
            check_encoded(features)
            encoded = iter(features.split([len(video["clips"]) for video in with_frames]))
        return [next(encoded) if "pixel_values" in video else video["video_features"] for video in videos]

    def postprocess(self, outputs) -> list[dict]:
        moments = []
        for answer, at_s in zip(outputs["answers"], outputs["at_s"], strict=True):
            window = self._window(at_s)
            actions = [action | observed_for(action, window) for action in answer["anticipated"]]
            moments.append({"at_s": at_s, "starts_at_s": window["starts_at_s"], **answer, "anticipated": actions})
        if outputs["is_timeline"]:
            return moments
        read = {name: value for name, value in moments[0].items() if name == "history"}
        return [{**action, **read} for action in moments[0]["anticipated"]]

    def _window(self, at_s: float | None) -> dict[str, float | None]:
        """Returns the observed window of a moment, and the time at which the anticipated action starts."""
        if at_s is None:
            return {"observed_from_s": None, "observed_until_s": None, "starts_at_s": None}
        config = self.model.config
        observed_from_s = max(at_s - config.tau_o, 0.0)
        return {"observed_from_s": observed_from_s, "observed_until_s": at_s, "starts_at_s": at_s + config.tau_a}

    def save_pretrained(self, save_directory, **kwargs):
        super().save_pretrained(save_directory, **kwargs)
        if self.video_processor is not None:
            self.video_processor.save_pretrained(save_directory, **kwargs)  # transformers 5.23 does not save it


def _processor_beside(model) -> Any:
    """Returns the video processor from the folder or Hub repository that a model was loaded from."""
    place = model.config.name_or_path
    reason = "this one was not loaded from a folder or the Hub"
    if place:
        try:
            return AVTVideoProcessor.from_pretrained(place)
        except (OSError, ValueError) as error:
            reason = f"none can be read from {place} ({str(error).splitlines()[0]})"
    raise ValueError(
        f"The action-anticipation pipeline needs a video_processor for a model with a backbone, and {reason}: pass "
        "video_processor=AVTVideoProcessor(...), or save one with the model."
    )


def _distinct(numbers: np.ndarray, mask: np.ndarray | None = None) -> tuple[torch.Tensor, torch.Tensor]:
    """Returns the distinct numbers where the mask is `True`, ascending, and the index of each number among them."""
    distinct = np.unique(numbers if mask is None else numbers[mask])
    places = np.searchsorted(distinct, numbers)
    return torch.from_numpy(distinct), torch.from_numpy(places if mask is None else np.where(mask, places, 0))


class _Answers:
    """The answers to a data set or generator of videos, computed while they are iterated over.

    Its length is the number of videos, whatever the batch size, as `tqdm` expects.
    """

    def __init__(self, videos, batches: DataLoader, answer: Callable[[list[dict]], list]):
        self.videos, self.batches, self.answer = videos, batches, answer

    def __len__(self) -> int:
        return len(self.videos)  # TypeError for a generator, as it should be

    def __iter__(self) -> Iterator:
        for batch in self.batches:
            yield from self.answer(batch)

"""Preprocessing of videos or frames to `pixel_values_videos`: sampling, resizing, cropping and normalizing in torch."""

# First: it raises a clear error on releases that are too old for the imports below.
from .versions_avt import MINIMUM_VERSIONS  # noqa: F401

# isort: split
import inspect
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from transformers.dynamic_module_utils import custom_object_save
from transformers.feature_extraction_utils import BatchFeature
from transformers.image_processing_base import ImageProcessingMixin

from .numbers_avt import as_tensor
from .rules_avt import Flag, Number, WholeNumber, shown
from .temporal_avt import (
    CLIP_FRAME_RATE,
    CLIP_RULES,
    FRAMES_AT_ONCE,
    TIME_RULES,
    Clips,
    DistinctClips,
    sample_frame_times,
)
from .video_io_avt import VideoContent, probe, read_frames, short_side_size
from .video_source_avt import is_video_source

if TYPE_CHECKING:  # for releases of transformers that copy only the files that this file itself imports
    from .picture_folder_avt import PictureFolder  # noqa: F401
    from .video_packets_avt import PacketTable  # noqa: F401

SIDE_PX = WholeNumber(least=1, most=16_384)  # twice the longer side of 8K video
SMALLEST_STD = 1e-6  # of pixels from 0 to 1: a smaller divisor would make them overflow
# The files in which transformers stores video processors. All releases read the first.
FILE_NAMES = ("video_preprocessor_config.json", "preprocessor_config.json")
AUTO_CLASSES = ("AutoProcessor", "AutoVideoProcessor")


class AVTVideoProcessor(ImageProcessingMixin):
    """Prepares videos like AVT: resizes the short side to `size`, crops to `crop_size`, scales to `(x / 255 - mean) /
    std`.

    Transformers' video processors need torchvision in most releases. This one needs torch only, and loads and saves
    like them through the mixin that image processors of every release share.

    It also stores the time contract that a model was trained under, so that it can sample a file by itself: see `read`.

    Args:
        size (`int` or `{"shortest_edge": int}`, *optional*, defaults to 248): Short side before cropping, in pixels.
        crop_size (`int` or `{"height": int, "width": int}`, *optional*, defaults to 224): Size of the crop, in pixels.
        train_size (`tuple[int, int]`, *optional*, defaults to `(248, 280)`):
            In training, the short side is drawn from this range, both ends included.
        flip_probability (`float`, *optional*, defaults to 0.5): In training, the probability of mirroring a clip.
        image_mean, image_std (`Sequence[float]`, *optional*, default to 0.5 each): Mean and standard deviation of R, G
            and B, for pixels scaled to 0..1.
        antialias (`bool`, *optional*, defaults to `True`): Whether downscaling uses antialiasing. The reference does
            not: `False` for converted checkpoints.
        num_frames (`int`, *optional*, defaults to 10): Frames T sampled from a video.
        frame_rate (`float`, *optional*, defaults to 1.0): Frames sampled per second.
        tau_o (`float`, *optional*, defaults to 10.0): Length of the observed window in seconds.
        clip_num_frames, clip_frame_rate (*optional*): Length and frame rate of a video model's clips; see `AVTConfig`.

    Raises:
        ValueError: If a value is out of range, or a crop would not fit into the resized frame.
    """

    model_input_names = ["pixel_values_videos", "frame_mask"]

    def __init__(
        self,
        size: int | dict = 248,
        crop_size: int | dict = 224,
        train_size: Sequence[int] = (248, 280),
        flip_probability: float = 0.5,
        image_mean: Sequence[float] = (0.5, 0.5, 0.5),
        image_std: Sequence[float] = (0.5, 0.5, 0.5),
        antialias: bool = True,
        num_frames: int = 10,
        frame_rate: float = 1.0,
        tau_o: float = 10.0,
        clip_num_frames: int | None = None,
        clip_frame_rate: float = CLIP_FRAME_RATE,
        **kwargs,
    ):
        place = f"{type(self).__module__.rpartition('.')[2]}.{type(self).__name__}"
        super().__init__(**{"auto_map": dict.fromkeys(AUTO_CLASSES, place), **kwargs})
        self.size = _sides("size", size, ("shortest_edge",))
        self.crop_size = _sides("crop_size", crop_size, ("height", "width"))
        self.train_size = [SIDE_PX("train_size", side) for side in _of_length(2, "train_size", train_size)]
        if self.train_size[0] > self.train_size[1]:
            raise ValueError(
                f"train_size is {shown(train_size)}: give the smallest short side first, then the largest."
            )
        self.flip_probability = Number(least=0, most=1)("flip_probability", flip_probability)
        self.image_mean = [Number()("image_mean", mean) for mean in _of_length(3, "image_mean", image_mean)]
        self.image_std = [Number(least=SMALLEST_STD)("image_std", std) for std in _of_length(3, "image_std", image_std)]
        self.antialias = Flag()("antialias", antialias)
        self.num_frames = TIME_RULES["num_frames"]("num_frames", num_frames)
        self.frame_rate = TIME_RULES["frame_rate"]("frame_rate", frame_rate)
        self.tau_o = TIME_RULES["tau_o"]("tau_o", tau_o)
        self.clip_num_frames = CLIP_RULES["clip_num_frames"]("clip_num_frames", clip_num_frames)
        self.clip_frame_rate = CLIP_RULES["clip_frame_rate"]("clip_frame_rate", clip_frame_rate)
        smallest = min(self.size["shortest_edge"], *self.train_size)
        if max(self.crop_size.values()) > smallest:
            raise ValueError(
                f"crop_size is {self.crop_size}, larger than the smallest short side, {smallest}: raise size and "
                "train_size, or give a smaller crop."
            )

    def __call__(self, videos, **kwargs) -> BatchFeature:
        """Calls `preprocess`."""
        return self.preprocess(videos, **kwargs)

    @classmethod
    def get_image_processor_dict(cls, pretrained_model_name_or_path, **kwargs) -> tuple[dict[str, Any], dict]:
        """Returns the stored fields of a processor, and the remaining arguments.

        Raises:
            OSError: If none of `FILE_NAMES` exists.
        """
        errors = []
        for name in FILE_NAMES:
            try:
                return super().get_image_processor_dict(
                    pretrained_model_name_or_path, **{**kwargs, "image_processor_filename": name}
                )
            except OSError as error:
                errors.append(error)
        raise errors[0]

    @classmethod
    def from_dict(cls, image_processor_dict: dict[str, Any], **kwargs) -> Any:
        """Returns a processor with these fields, which `kwargs` may override."""
        return_unused = kwargs.pop("return_unused_kwargs", False)
        own = set(inspect.signature(cls.__init__).parameters) - {"self", "kwargs"}
        given = {name: kwargs.pop(name) for name in own & set(kwargs)}
        processor = cls(**{**image_processor_dict, **given})
        return (processor, kwargs) if return_unused else processor

    def to_dict(self) -> dict[str, Any]:
        """Returns the fields to store in a file."""
        # No `video_processor_type`: transformers before 5.19 would search for a built-in class of that name. `auto_map`
        # is enough.
        return {name: value for name, value in vars(self).items() if not name.startswith("_")}

    def save_pretrained(self, save_directory, push_to_hub: bool = False, **kwargs):
        """Saves the processor and its code; see `ImageProcessingMixin.save_pretrained`."""
        folder = Path(save_directory)
        folder.mkdir(parents=True, exist_ok=True)
        own: Any = self  # gets an `auto_map` like a configuration
        custom_object_save(self, folder, config=own)
        self.to_json_file(folder / FILE_NAMES[0])
        if push_to_hub:
            self.push_to_hub(kwargs.pop("repo_id", folder.name), **kwargs)

    @property
    def clips(self) -> Clips:
        """The clips that a model encodes, one at each sampled moment."""
        return Clips(self.clip_num_frames, self.clip_frame_rate)

    def sample_times(self, at_s: float) -> tuple[np.ndarray, np.ndarray]:
        """Returns the moments to observe, float64 `(T,)` in seconds, and their mask, bool `(T,)`, for a window that
        ends at `at_s`."""
        # The exact protocol samples times, not frame numbers, so the video's own rate does not matter.
        return sample_frame_times(
            at_s - self.tau_o, at_s, video_fps=self.frame_rate, frame_rate=self.frame_rate, num_frames=self.num_frames
        )

    def read(self, video: VideoContent, at_s: float | None = None) -> tuple[np.ndarray, np.ndarray]:
        """Returns the observed frames of a file, uint8 `(F, H, W, 3)`, and the mask of its moments, bool `(T,)`.

        Args:
            video (`str`, `Path`, `bytes` or open file): A video file, its content, or a file open for reading.
            at_s (`float`, *optional*): End of the observed window in seconds. Default: the end of the video.

        Moments before the video begins are black frames and `False` in the mask. F is T for image models, and the
        number of frames in the clips of T moments for video models: see `temporal_avt.ClipWindow`.

        Raises:
            VideoDecodeError: If the file cannot be read, or ends before `at_s`.
        """
        moments, mask = self.sample_times(probe(video).duration_s if at_s is None else at_s)
        return self.read_window(video, moments, mask), mask

    def read_window(self, video: VideoContent, moments_s: np.ndarray, mask: np.ndarray) -> np.ndarray:
        """Returns the frames of a file that are in the clips of a window, uint8 `(F, H, W, 3)`.

        Args:
            video (`str`, `Path`, `bytes` or open file): A video file, its content, or a file open for reading.
            moments_s (`np.ndarray` of shape `(T,)`): The sampled moments, in seconds.
            mask (`np.ndarray` of bool, `(T,)`): Which of them are observed. Frames that only unobserved moments need
                are black.

        Raises:
            VideoDecodeError: If the file cannot be read, or ends before the last moment.
        """
        times, is_needed = self.clips.window(self.num_frames, self.frame_rate).times(moments_s, mask)
        shown = read_frames(video, times[is_needed])
        frames = np.zeros((len(times), *shown.shape[1:]), dtype=np.uint8)
        frames[is_needed] = shown
        return frames

    def read_moments(
        self, video: VideoContent, moments_s: np.ndarray, mask: np.ndarray | None = None
    ) -> tuple[torch.Tensor, DistinctClips]:
        """Returns the prepared frames `(F, 3, crop, crop)` of the clips of many moments, and the `DistinctClips` of
        them.

        Windows and clips overlap: each frame is decoded and prepared once, a few at a time.

        Args:
            video (`str`, `Path`, `bytes` or open file): A video file, its content, or a file open for reading.
            moments_s (`np.ndarray` of shape `(...)`): Seconds from the first frame.
            mask (`np.ndarray` of bool of the same shape, *optional*): `False`: the moment is left out.
        """
        distinct = self.clips.distinct(moments_s, mask)
        return self.read_prepared(video, distinct.times_s), distinct

    def read_prepared(self, video: VideoContent, times_s: np.ndarray) -> torch.Tensor:
        """Returns the frames shown at times `(F,)` in a file, prepared as in evaluation, `(F, 3, crop, crop)`."""
        return self.prepare(lambda numbers: read_frames(video, times_s[numbers]), len(times_s))

    def prepare(self, frames: Callable[[slice], Any], num_frames: int) -> torch.Tensor:
        """Returns frames prepared as in evaluation, `(F, 3, crop, crop)`, processed in small batches to bound memory.

        Args:
            frames (`Callable`): Returns the frames of a slice of 0..F-1, uint8 `(n, H, W, 3)`.
            num_frames (`int`): F, the number of frames.
        """
        chunks = [slice(first, first + FRAMES_AT_ONCE) for first in range(0, num_frames, FRAMES_AT_ONCE)]
        return torch.cat([self.preprocess(frames(chunk))["pixel_values_videos"][0] for chunk in chunks])

    def preprocess(
        self,
        videos,
        *,
        at_s: float | Sequence[float] | np.ndarray | torch.Tensor | None = None,
        training: bool = False,
        num_crops: int = 1,
        flip_views: bool = False,
        generator: torch.Generator | None = None,
        num_frames: int | None = None,
        do_sample_frames: bool = True,
        return_tensors: str | None = "pt",
    ) -> BatchFeature:
        """Returns `pixel_values_videos`, float32 `(B, F, 3, crop, crop)`, and for files `frame_mask`, bool `(B, T)`.

        F is T, the moments sampled, or for video models the number of frames in their clips: see `read`.

        Args:
            videos: One video or a list of them. A video is a file (`str`, `Path`, `bytes` or open), which is sampled,
                or its frames, which are all used: uint8 `(T, H, W, 3)` or `(T, 3, H, W)`, or a list of `(H, W, 3)`.
            at_s (`float`, list or array, *optional*): For files, the end of each observed window. Default: the end of
                the video.
            training (`bool`, *optional*, defaults to `False`): Whether to draw the short side, crop and mirroring at
                random, once per clip.
            num_crops (`int`, *optional*, defaults to 1): 1: the center crop. 3: top left, center and bottom right, as
                in AVT's evaluation, stacked as views: `(B, V, T, 3, crop, crop)`.
            flip_views (`bool`, *optional*, defaults to `False`): Whether to add each crop mirrored, as further views.
            generator (`torch.Generator`, *optional*): Random generator for training. Default: torch's global one.
            num_frames (`int`, *optional*): Must be the processor's own; the built-in video-classification pipeline
                passes it.
            do_sample_frames (`bool`, *optional*): Files are always sampled; accepted for the built-in pipeline.
            return_tensors (`str`, *optional*, defaults to `"pt"`): The tensor type, as in other transformers
                processors.

        Raises:
            ValueError: If frames have another type or shape, videos differ in length, or options exclude each other.
            VideoDecodeError: If a file cannot be read.
        """
        if num_frames not in (None, self.num_frames):
            raise ValueError(
                f"num_frames={num_frames}, but this processor samples {self.num_frames}: set it at construction."
            )
        if num_crops not in (1, 3) or (training and (num_crops != 1 or flip_views)):
            raise ValueError(f"num_crops={num_crops}: give 1 or 3, and in training neither 3 crops nor flip_views.")
        videos = _as_list(videos)
        given: Any = at_s.tolist() if isinstance(at_s, (np.ndarray, torch.Tensor)) else at_s
        moments = list(given) if isinstance(given, Sequence) else [given] * len(videos)
        if len(moments) != len(videos):
            raise ValueError(f"at_s has {len(moments)} entries for {len(videos)} videos: give one for each.")
        clips, masks = [], []
        for video, moment in zip(videos, moments, strict=True):
            if is_video_source(video):
                video, mask = self.read(video, moment)
                masks.append(torch.from_numpy(mask))
            frames = _to_frames(video)  # (T, 3, H, W)
            clips.append(
                self._training_clip(frames, generator) if training else self._views(frames, num_crops, flip_views)
            )
        lengths = {clip.shape[-4] for clip in clips}
        if len(lengths) > 1:
            raise ValueError(
                f"The videos have {sorted(lengths)} frames: videos in a batch must have equal lengths, so process "
                "them separately."
            )
        if 0 < len(masks) < len(videos):
            raise ValueError("videos mixes files and frames: give one kind in a batch.")
        batch = {"pixel_values_videos": torch.stack(clips)}
        if masks:
            batch["frame_mask"] = torch.stack(masks)
        return BatchFeature(batch, tensor_type=return_tensors)

    def _training_clip(self, frames: torch.Tensor, generator: torch.Generator | None) -> torch.Tensor:
        low, high = self.train_size
        frames = self._resize(frames, _randint(low, high, generator))
        if torch.rand((), generator=generator) < self.flip_probability:
            frames = frames.flip(-1)
        free_height, free_width = self._free_space(frames)
        return self._normalise(
            self._crop(frames, _randint(0, free_height, generator), _randint(0, free_width, generator))
        )

    def _views(self, frames: torch.Tensor, num_crops: int, flip_views: bool) -> torch.Tensor:
        """Returns `(T, 3, crop, crop)`, or `(V, T, 3, crop, crop)` if there are several views
        (common/transforms.py:254)."""
        frames = self._resize(frames, self.size["shortest_edge"])
        free_height, free_width = self._free_space(frames)
        corners = [(round(free_height / 2), round(free_width / 2))]
        if num_crops == 3:
            corners = [(0, 0), *corners, (free_height, free_width)]
        crops = [self._crop(frames, top, left) for top, left in corners]
        if flip_views:
            crops += [crop.flip(-1) for crop in crops]
        views = self._normalise(torch.stack(crops))
        return views if len(crops) > 1 else views[0]

    def _resize(self, frames: torch.Tensor, short_side: int) -> torch.Tensor:
        """Returns frames `(T, 3, H, W)` with their short side at `short_side`: uint8 -> uint8, or float32 0 to 255."""
        height, width = frames.shape[-2:]
        size = short_side_size(height, width, short_side)
        if size == (height, width):
            return frames
        # uint8 is 10 to 30 times as fast here, and rounded as in image libraries; the reference uses float32.
        frames = frames if self.antialias else frames.float()
        return torch.nn.functional.interpolate(frames, size=size, mode="bilinear", antialias=self.antialias)

    def _free_space(self, frames: torch.Tensor) -> tuple[int, int]:
        return frames.shape[-2] - self.crop_size["height"], frames.shape[-1] - self.crop_size["width"]

    def _crop(self, frames: torch.Tensor, top: int, left: int) -> torch.Tensor:
        return frames[..., top : top + self.crop_size["height"], left : left + self.crop_size["width"]]

    def _normalise(self, frames: torch.Tensor) -> torch.Tensor:
        # (x - 255 mean) / (255 std) equals (x / 255 - mean) / std with one pass less over the pixels.
        mean = 255 * torch.tensor(self.image_mean).view(3, 1, 1)
        std = 255 * torch.tensor(self.image_std).view(3, 1, 1)
        return (frames.float() - mean) / std


def _sides(name: str, size, sides: tuple[str, ...]) -> dict[str, int]:
    """Returns sizes in pixels by side, from a dict or one number for all sides."""
    given = size if isinstance(size, Mapping) else dict.fromkeys(sides, size)
    if missing := [side for side in sides if side not in given]:
        raise ValueError(
            f"{name} is {shown(size)}: give a number of pixels, or a dict of them that has {' and '.join(missing)}."
        )
    return {side: SIDE_PX(name, given[side]) for side in sides}


def _of_length(length: int, name: str, values) -> list:
    values = values.tolist() if isinstance(values, (np.ndarray, torch.Tensor)) else values
    if not isinstance(values, (list, tuple)) or len(values) != length:
        raise ValueError(f"{name} is {shown(values)}: give {length} numbers.")
    return list(values)


def _as_list(videos) -> list:
    """Returns the videos of a batch: a file, an array of frames, or a list of frames `(H, W, 3)` is one video."""
    if is_video_source(videos) or getattr(videos, "ndim", None) == 4 or not isinstance(videos, Iterable):
        return [videos]
    videos = list(videos)
    if not videos:
        raise ValueError("videos is empty: give at least one.")
    return [videos] if getattr(videos[0], "ndim", None) == 3 else videos


def _to_frames(video) -> torch.Tensor:
    """Returns the frames of one video as uint8 `(T, 3, H, W)`."""
    frames = as_tensor(video).cpu()
    if frames.dtype != torch.uint8 or frames.ndim != 4 or 3 not in (frames.shape[1], frames.shape[-1]):
        raise ValueError(
            f"A video's frames are {frames.dtype} of shape {tuple(frames.shape)}: give uint8 (T, H, W, 3) or "
            "(T, 3, H, W)."
        )
    return frames.permute(0, 3, 1, 2) if frames.shape[-1] == 3 else frames


def _randint(low: int, high: int, generator: torch.Generator | None) -> int:
    return int(torch.randint(low, high + 1, (), generator=generator))


AVTVideoProcessor.register_for_auto_class("AutoVideoProcessor")

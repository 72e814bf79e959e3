"""Extraction of features of whole videos with any pretrained image or video model into a feature store."""

import json
import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch.utils.data import DataLoader

from modeling_avt.backbone_configuration_avt import has_predictor
from modeling_avt.configuration_avt import AVTConfig
from modeling_avt.modeling_avt import AVTForAnticipation, AVTModel
from modeling_avt.rules_avt import OrNone
from modeling_avt.temporal_avt import CLIP_FRAME_RATE, FRAMES_AT_ONCE, TIME_RULES, TIME_SLACK_S, Clips
from modeling_avt.video_io_avt import VideoDecodeError, picture_folder, probe
from modeling_avt.video_processing_avt import AVTVideoProcessor

from ..runs.checkpoints import check_encoded
from ..runs.fingerprints import NUM_BLOCKS, columns_digest, sampled_digest
from ..runs.folder import read_record, refuse_other_settings, write_json
from .backbones import load_backbone
from .encoder_record import EXTRACTION
from .files import shown_video
from .stores import feature_file, is_complete, write_features

PREDICT_AHEAD_S = OrNone(TIME_RULES["tau_a"])
OTHER_FEATURES = (
    "{place} holds features with {name}={found}, not {wanted}: give another folder, otherwise one store would "
    "hold two kinds of features."
)


class PretrainedEncoder:
    """A pretrained image or video model as a function from frames to one feature per moment.

    Features are those of `AVTModel.encode_frames`: the model's own pooled output if it has one, else its class
    token, else the mean over its tokens. Only V-JEPA 2's encoder is run, unless `predict_ahead_s` is given.

    Args:
        model_name_or_path (`str` or `Path`): See `load_backbone`.
        dtype (`torch.dtype`, *optional*, defaults to `torch.float32`): The dtype of weights and activations.
        device (`str` or `torch.device`, *optional*, defaults to `"cpu"`): The device to run on.
        compile_model (`bool`, *optional*, defaults to `False`): Whether to compile the model: slower to start, then
            faster.
        clip_num_frames (`int`, *optional*), clip_frame_rate (`float`, *optional*, defaults to 8.0): See `AVTConfig`.
        predict_ahead_s (`float`, *optional*): Append the output of V-JEPA 2's predictor for this many seconds later, as
            the second half of the feature.

    Attributes:
        config (`PreTrainedConfig`): The model's configuration.
        avt_config (`AVTConfig`): The clips, and D, the width of the features.
        is_video_model (`bool`): Whether a feature is computed from a clip.
        num_frames (`int`): L, frames of a clip; 1 for image models.

    Raises:
        ValueError: If the model cannot be loaded whole (see `load_backbone`) or has no predictor.
    """

    def __init__(
        self,
        model_name_or_path: str | Path,
        dtype: torch.dtype = torch.float32,
        device: str | torch.device = "cpu",
        compile_model: bool = False,
        clip_num_frames: int | None = None,
        clip_frame_rate: float = CLIP_FRAME_RATE,
        predict_ahead_s: float | None = None,
    ):
        use_predictor = predict_ahead_s is not None
        predict_ahead_s = PREDICT_AHEAD_S("predict_ahead_s", predict_ahead_s)
        backbone = load_backbone(model_name_or_path, use_predictor=use_predictor, dtype=dtype)
        self.config, self.device = backbone.config, torch.device(device)
        # Only `encode_frames` is used, with the pretrained model as its backbone; the rest is built without memory.
        config = AVTConfig(
            backbone_config=self.config,
            clip_num_frames=clip_num_frames,
            clip_frame_rate=clip_frame_rate,
            use_predictor=use_predictor,
            tau_a=predict_ahead_s or 0.0,
            head_hidden_size=1,
            head_num_heads=1,
            head_num_layers=1,
        )
        self.avt_config = config
        self.is_video_model, self.num_frames = config.clip_num_frames is not None, config.clips.length
        with torch.device("meta"):
            self.model = AVTModel(config).eval()
        self.model.backbone = backbone.eval().to(self.device)
        if compile_model:  # V-JEPA 2's encoder is called directly, so compiling the whole model would have no effect
            backbone.get_submodule("encoder" if has_predictor(self.config) else "").compile()

    @torch.inference_mode()
    def __call__(self, frames: torch.Tensor, positions: torch.Tensor) -> np.ndarray:
        """Returns the features of B moments, float32 `(B, D)`.

        Args:
            frames (`torch.Tensor` of shape `(F, 3, H, W)`): Normalized frames.
            positions (`torch.LongTensor` of shape `(B, L)`): Indices of the L frames in each moment's clip.

        Raises:
            ValueError: If features are not finite.
        """
        clips = frames.to(self.device)[positions.to(self.device)]  # (B, L, 3, H, W)
        features = self.model.encode_frames(clips if self.is_video_model else clips[:, 0])
        check_encoded(features)
        # NumPy has no bfloat16.
        return features.float().cpu().numpy()


@dataclass(frozen=True)
class ExtractedVideo:
    """The result of extracting one video.

    Args:
        video_id (`str`): Its name in the store.
        num_rows (`int`): Number of features written; 0 if the file already existed, or the video cannot be read.
        error (`VideoDecodeError`, *optional*): The error if the video cannot be read.
    """

    video_id: str
    num_rows: int = 0
    error: VideoDecodeError | None = None


def extract_features(
    videos: Mapping[str, str | Path],
    folder: str | Path,
    encode: Callable[[torch.Tensor, torch.Tensor], np.ndarray],
    processor: AVTVideoProcessor,
    frame_rate: float,
    *,
    skip_unreadable: bool = False,
    **options,
) -> Iterator[ExtractedVideo]:
    """Extracts videos in order, and yields the result for each once its features are written.

    Videos whose file is complete are not encoded again, so that an interrupted run continues where it stopped.

    Args:
        videos (mapping of `str` to `str` or `Path`): Videos by video id; see `avt_distill.data.videos`.
        folder (`str` or `Path`): Folder to write `<video_id>.safetensors` to.
        encode, processor, frame_rate, options: See `extract_video`.
        skip_unreadable (`bool`, *optional*, defaults to `False`): Whether to yield the error of a video that cannot be
            read and continue, instead of raising it.

    Raises:
        VideoDecodeError: If a video cannot be read, unless `skip_unreadable`.
        ValueError: If the folder holds features of another video with the same video id.
    """
    refuse_other_videos(folder, videos)
    Path(folder).mkdir(parents=True, exist_ok=True)
    for video_id, video in videos.items():
        path = feature_file(folder, video_id)
        if is_complete(path):
            yield ExtractedVideo(video_id)
            continue
        try:
            shows = video_digest(video)
            features = extract_video(video, encode, processor, frame_rate, **options)
        except VideoDecodeError as error:
            if not skip_unreadable:
                raise
            yield ExtractedVideo(video_id, error=error)
        else:
            write_features(path, features, frame_rate, shows=shows)
            yield ExtractedVideo(video_id, len(features))


def refuse_other_videos(folder: str | Path, videos: Mapping[str, str | Path]) -> int:
    """Raises an error if a store holds features of other videos with the same video ids, or of earlier content.

    Returns the number of videos that were not compared: features of earlier versions do not record their video.

    Args:
        folder (`str` or `Path`): The feature store.
        videos (mapping of `str` to `str` or `Path`): Videos by video id.

    Raises:
        ValueError: If a video differs. The message names it.
        VideoDecodeError: If a video whose features are stored cannot be read.
    """
    files = {video_id: feature_file(folder, video_id) for video_id in videos}
    shown = {video_id: shown_video(path) for video_id, path in files.items() if is_complete(path)}
    recorded = {video_id: shows for video_id, shows in shown.items() if shows is not None}
    if different := [video_id for video_id, shows in recorded.items() if shows != video_digest(videos[video_id])]:
        first = different[0]
        raise ValueError(
            f"{files[first]} holds features of another video than {videos[first]}, or of that video before it changed "
            f"(videos that differ: {len(different)}): give another folder, or delete the file to extract it again."
        )
    return len(shown) - len(recorded)


def video_digest(video: str | Path) -> str:
    """Returns a short digest of a video's content: see `sampled_digest`.

    Of a folder of pictures, the rate, the names and sizes of all pictures and the content of 32 of them are used.

    Raises:
        VideoDecodeError: If the file cannot be read.
    """
    try:
        if (pictures := picture_folder(video)) is None:
            return sampled_digest(video)
        files = [Path(file) for file in pictures.files()]
        sampled = files[:: math.ceil(len(files) / NUM_BLOCKS)]
        content = [pictures.frames_per_second, *((file.name, file.stat().st_size) for file in files)]
        return columns_digest({"pictures": [*content, *map(sampled_digest, sampled)]})["pictures"]
    except OSError as error:
        raise VideoDecodeError(str(video), f"it cannot be opened ({error.strerror}).") from error


def extract_video(
    video: str | Path,
    encode: Callable[[torch.Tensor, torch.Tensor], np.ndarray],
    processor: AVTVideoProcessor,
    frame_rate: float,
    *,
    num_frames: int = 1,
    clip_frame_rate: float = CLIP_FRAME_RATE,
    batch_size: int = 32,
    num_workers: int = 0,
) -> np.ndarray:
    """Returns the features of a video, float32 `(N, D)`: row i describes the video up to `i / frame_rate` seconds.

    Args:
        video (`str` or `Path`): The file.
        encode (`Callable`): Maps frames `(F, 3, H, W)` and positions `(B, L)` to features `(B, D)`, such as a
            `PretrainedEncoder`.
        processor (`AVTVideoProcessor`): Resizes, crops and normalizes the frames.
        frame_rate (`float`): Rows per second.
        num_frames (`int`, *optional*, defaults to 1): L, the number of frames in the clip that ends at each row's time.
            Before the beginning of the video, its first frame is repeated.
        clip_frame_rate (`float`, *optional*, defaults to 8.0): Frames per second within a clip.
        batch_size (`int`, *optional*, defaults to 32): Number of rows per batch.
        num_workers (`int`, *optional*, defaults to 0): Number of processes that decode in advance.

    Raises:
        VideoDecodeError: If the file cannot be read.
    """
    for name, value in (("frame_rate", frame_rate), ("clip_frame_rate", clip_frame_rate), ("batch_size", batch_size)):
        if not value > 0:
            raise ValueError(f"{name} is {value}: give a number above 0.")
    num_rows = max(math.ceil((probe(video).duration_s - TIME_SLACK_S) * frame_rate), 1)
    times = np.arange(num_rows) / frame_rate
    batches = [times[first : first + batch_size] for first in range(0, num_rows, batch_size)]
    read = partial(_read_clips, video, processor, Clips(num_frames, clip_frame_rate))
    features = []
    for batch in DataLoader(batches, batch_size=None, num_workers=num_workers, collate_fn=read):
        if isinstance(batch, VideoDecodeError):
            raise batch
        features.append(encode(*batch))
    return np.concatenate(features)


@torch.inference_mode()
def encode_moments(
    model: AVTForAnticipation, processor: AVTVideoProcessor, video: str, moments_s: np.ndarray
) -> np.ndarray:
    """Returns a student's features at moments of a video, float32 `(U, D)`, encoded in small batches.

    Args:
        model (`AVTForAnticipation`): The student. A probe's tokens are averaged.
        processor (`AVTVideoProcessor`): Crops the center, as in evaluation.
        video (`str`): The file.
        moments_s (`np.ndarray` of shape `(U,)`): Seconds from the first frame.

    Raises:
        VideoDecodeError: If the file cannot be read.
        ValueError: If features are not finite.
    """
    encoded = []
    for first in range(0, len(moments_s), FRAMES_AT_ONCE):
        frames, distinct = processor.read_moments(video, moments_s[first : first + FRAMES_AT_ONCE])
        features = model.avt.of_moments(model.encode_clips(frames, distinct.clips)[distinct.positions])
        check_encoded(features)
        encoded.append(features.float().cpu().numpy())
    return np.concatenate(encoded)


def _read_clips(
    video: str | Path, processor: AVTVideoProcessor, clips: Clips, moments_s: np.ndarray
) -> tuple[torch.Tensor, torch.Tensor] | VideoDecodeError:
    """Returns the distinct frames of B clips, each decoded once, and their positions in the clips `(B, L)`.

    An error is returned rather than raised, since a data loader would re-raise it as text in another exception.
    """
    distinct = clips.distinct(moments_s)
    try:
        return processor.read_prepared(video, distinct.times_s), distinct.clips
    except VideoDecodeError as error:
        return error


def keep_extraction(folder: str | Path, settings: dict):
    """Records the settings of a folder's features, and raises if the folder holds features with other settings.

    Args:
        folder (`str` or `Path`): The feature store.
        settings (`dict`): JSON-serializable settings, stored in `extraction.json`. The model's path (`model`) is not
            compared if `revision` is equal.

    Raises:
        ValueError: If the folder holds features with other settings, or of unknown origin.
    """
    path, settings = Path(folder) / EXTRACTION, json.loads(json.dumps(settings))
    if not any(path.parent.glob("*.safetensors")):  # also a run that failed before its first video
        path.parent.mkdir(parents=True, exist_ok=True)
        write_json(path, settings)
        return
    if not path.exists():
        raise ValueError(
            f"{folder} holds features but no {EXTRACTION}, so their encoder is unknown: give another folder."
        )
    found = read_record(path)
    is_same_model = settings.get("revision") is not None and settings["revision"] == found.get("revision")
    compared = {name: value for name, value in settings.items() if not (is_same_model and name == "model")}
    refuse_other_settings(found, compared, refusal=OTHER_FEATURES, place=path.parent)

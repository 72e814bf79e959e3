"""Checks of the frames or features pushed into a stream, and decisions about their times."""

from dataclasses import dataclass
from enum import Enum, auto

import numpy as np
import torch

from .model_inputs_avt import without_backbone
from .numbers_avt import check_features
from .temporal_avt import TIME_SLACK_S

# Networks and decoders put frames out of order by less than this; a clock that is set back goes back farther.
OUT_OF_ORDER_S = 1.0
# Thirty years: longer gaps mean that the clock was set. Far beyond, floats cannot distinguish the times of frames.
LONGEST_VIDEO_S = 1e9
LEFT_OUT = (
    "A frame at %.3f s was left out: it does not fit the stream's clock, which is at %.3f s. This warning is shown "
    "once; num_left_out counts such frames."
)
RESTARTED = (
    "The clock of the frames was set from %.3f s to %.3f s: a new video begins, and what was observed before is "
    "discarded. This warning is shown once; num_restarts counts these events."
)


@dataclass
class PushedFrame:
    """A frame as it was pushed: pixels or features `(D,)`, and its time on the caller's clock."""

    content: torch.Tensor
    time_s: float


class Verdict(Enum):
    """Decision about a frame, by its time, and about the frame set aside before it, if any."""

    GOES_ON = auto()  # it follows the last frame taken: take it, leave out the one set aside
    REPEATED = auto()  # it has the time of the last frame taken or of the one set aside: leave it out
    OUT_OF_ORDER = auto()  # it comes up to `OUT_OF_ORDER_S` late: leave it out
    JUMPS = auto()  # it follows neither: set it aside in the place of the other
    CONFIRMS = auto()  # it follows the one set aside: take that one, then judge this one after it


def judge(after_shown_s: float, after_known_s: float, after_aside_s: float | None, max_gap_s: float) -> Verdict:
    """Returns the decision about a frame from its time alone, given as seconds after earlier events.

    Args:
        after_shown_s (`float`): After the last frame taken.
        after_known_s (`float`): After the time up to which it is known what was shown: that of the last frame taken or,
            after an advance, a later one.
        after_aside_s (`float` or `None`): After the frame set aside, if there is one.
        max_gap_s (`float`): The longest gap that is accepted without waiting for the next frame.
    """
    if any(after_s is not None and abs(after_s) <= TIME_SLACK_S for after_s in (after_shown_s, after_aside_s)):
        return Verdict.REPEATED
    if -OUT_OF_ORDER_S <= after_known_s <= TIME_SLACK_S:
        return Verdict.OUT_OF_ORDER
    if after_aside_s is not None and confirms(after_aside_s, after_known_s):
        return Verdict.CONFIRMS
    return Verdict.GOES_ON if 0 < after_known_s <= max_gap_s else Verdict.JUMPS


def confirms(after_aside_s: float, after_known_s: float) -> bool:
    """Whether a frame continues from the one set aside: it is not earlier, and jumped in the same direction."""
    aside_is_ahead = after_known_s > after_aside_s
    return after_aside_s >= 0 and (aside_is_ahead or after_known_s < -OUT_OF_ORDER_S)


def as_seconds(time_s) -> float:
    try:
        seconds = float(time_s)
    except (TypeError, ValueError, OverflowError):
        seconds = np.nan
    if not np.isfinite(seconds):
        raise ValueError(f"time_s is {time_s!r}: give seconds, as a number.")
    return seconds


def checked_frame(frame, config) -> torch.Tensor:
    """Returns a copy of a frame, on the CPU, or of its features.

    Raises:
        ValueError: If the model of `config` does not accept the frame.
    """
    if not isinstance(frame, torch.Tensor):
        frame = torch.from_numpy(_as_array(frame))
    else:
        frame = frame.detach().to("cpu", copy=True)
    if config.backbone_config is None:
        if frame.dtype == torch.uint8 and frame.ndim == 3:
            raise ValueError(without_backbone(config, f"give features of frames, floating ({config.feature_dim},)"))
        if not frame.is_floating_point() or frame.shape != (config.feature_dim,):
            raise ValueError(
                f"The features are {frame.dtype} of shape {tuple(frame.shape)}: this model needs floating point "
                f"({config.feature_dim},)."
            )
        check_features(frame, "The features", "leave the frame out, or extract them again")
    elif frame.dtype != torch.uint8 or frame.ndim != 3 or 3 not in (frame.shape[0], frame.shape[-1]):
        raise ValueError(
            f"The frame is {frame.dtype} of shape {tuple(frame.shape)}: give uint8 (H, W, 3) or (3, H, W)."
        )
    elif not frame.numel():
        raise ValueError(f"The frame has the shape {tuple(frame.shape)}: it holds no pixels.")
    return frame


def _as_array(frame) -> np.ndarray:
    """Returns a contiguous copy: torch refuses views with negative strides, such as BGR reversed to RGB."""
    try:
        array = np.array(frame, order="C")
    except (TypeError, ValueError):
        array = np.array(None)
    if array.dtype.kind not in "biuf" or not array.size:
        raise ValueError(f"The frame is a {type(frame).__name__} of shape {array.shape}: give an array of its values.")
    return array

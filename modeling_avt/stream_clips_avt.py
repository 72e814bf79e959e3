"""The frames that a stream keeps for its model's clips, and the selection of each moment's clip from them.

All times are counted in ticks of one grid, on which moments and the frames of their clips fall: tick i * `per_moment`
is moment i, and the frames of its clip are those shown at ticks `per_frame` apart that end there.
"""

from collections import deque
from dataclasses import dataclass, field

import torch


@dataclass
class ShownFrame:
    """A frame of a stream: its pixels as pushed, replaced by prepared ones once needed; or its feature `(D,)`."""

    content: torch.Tensor
    begins_s: float
    is_prepared: bool = False


@dataclass
class Clip:
    """The frames of a moment and, once it has been encoded, its feature `(D,)` or tokens `(S, D)`."""

    frames: list[ShownFrame]
    features: torch.Tensor | None = None

    def shows(self, frames: list[ShownFrame]) -> bool:
        return len(frames) == len(self.frames) and all(a is b for a, b in zip(self.frames, frames, strict=True))


@dataclass
class ClipMemory:
    """The frames shown at the last ticks, as far as clips of coming moments need them.

    Args:
        length (`int`): L, frames of a clip; 1 for image models.
        per_moment (`int`): Ticks from one moment to the next.
        per_frame (`int`): Ticks from one frame of a clip to the next.
    """

    length: int
    per_moment: int
    per_frame: int
    num_ticks: int = 0  # ticks that are over: 0..num_ticks-1
    shown: deque[tuple[int, ShownFrame]] = field(default_factory=deque)  # from which tick on, in order

    def copy(self) -> "ClipMemory":
        return ClipMemory(self.length, self.per_moment, self.per_frame, self.num_ticks, self.shown.copy())

    def show(self, frame: ShownFrame, num_ticks: int):
        """Records that a frame is shown at the next `num_ticks` ticks."""
        if num_ticks <= 0:
            return
        if not self.shown or self.shown[-1][1] is not frame:
            self.shown.append((self.num_ticks, frame))
        self.num_ticks += num_ticks

    def clip(self, moment: int) -> list[ShownFrame]:
        """Returns the frames of a moment that is over, oldest first; before the video its first frame is repeated."""
        last = moment * self.per_moment
        wanted = [max(last - back * self.per_frame, 0) for back in range(self.length)]  # newest first
        frames, places = [], reversed(self.shown)
        begins, frame = next(places)
        for tick in wanted:
            while begins > tick:
                begins, frame = next(places)
            frames.append(frame)
        return frames[::-1]

    def num_moments(self) -> int:
        """Returns the number of moments that have passed."""
        return -(-self.num_ticks // self.per_moment)

    def num_distinct(self) -> int:
        """Returns the number of moments showing the same frame after which clips no longer change."""
        return -(-(self.length - 1) * self.per_frame // self.per_moment) + 1

    def forget(self, next_moment: int):
        """Drops frames that no clip from the next moment on contains."""
        oldest = next_moment * self.per_moment - (self.length - 1) * self.per_frame
        while len(self.shown) > 1 and self.shown[1][0] <= oldest:
            self.shown.popleft()

"""What the benchmarks of readers read in place of videos: made-up scripts, and a recognizer of a stated accuracy.

The scripts have a grammar: each action has a few usual followers, most of which share its noun where actions have one.
The recognizer errs as trained ones do: it mostly takes an action for another of the same verb or noun, stays with a
mistake for a few frames, and is calibrated. It is not a trained model, and numbers measured with it are not accuracies
on videos.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from avt_distill.reader.frames import frame_labels

USUAL_FOLLOWERS, FOLLOWED = 3, 0.8  # of each action; how often one of them comes next
SAME_PART = 0.8  # of mistakes, those for an action of the same verb or of the same noun
STAYS = 0.5  # probability that the next frame of the same action is taken for the same class
NOISE = 0.3  # standard deviation of the scores of each frame


def action_parts(num_verbs: int, num_nouns: int, num_actions: int) -> np.ndarray:
    """Returns made-up actions as a verb and a noun each, int64 `(A, 2)`; nouns come after verbs. All parts occur."""
    generator = np.random.default_rng(0)
    covering = np.arange(max(num_verbs, num_nouns))
    pairs = covering % num_verbs * num_nouns + covering % num_nouns
    others = generator.permutation(np.setdiff1d(np.arange(num_verbs * num_nouns), pairs))
    verbs, nouns = np.divmod(np.sort(np.concatenate([pairs, others])[:num_actions]), num_nouns)
    return np.stack([verbs, num_verbs + nouns], axis=1)


def make_scripts(lengths: Sequence[int], num_actions: int, parts: np.ndarray | None, mean_s: float) -> pd.DataFrame:
    """Returns the segment table of made-up videos: durations of `mean_s` on average, half of them with a gap after it.

    Args:
        lengths (sequence of `int`): The number of actions in each video.
        num_actions (`int`): A.
        parts (`np.ndarray` of shape `(A, 2)`, *optional*): The verb and noun of each action.
        mean_s (`float`): Seconds.
    """
    generator = np.random.default_rng(1)
    popularity = 1 / (1 + generator.permutation(num_actions))
    popularity /= popularity.sum()
    usual = generator.choice(num_actions, size=(num_actions, USUAL_FOLLOWERS), p=popularity)
    if parts is not None:  # all but the last go on with the same noun
        for action, noun in enumerate(parts[:, 1]):
            usual[action, :-1] = generator.choice(np.flatnonzero(parts[:, 1] == noun), USUAL_FOLLOWERS - 1)
    own_mean_s = mean_s * generator.gamma(4, 1 / 4, num_actions)
    segments = []
    for video, length in enumerate(lengths):
        action, time_s = int(generator.choice(num_actions, p=popularity)), 2.0
        for _ in range(length):
            duration_s = 0.5 + generator.gamma(2, own_mean_s[action] / 2)
            segments.append((f"v{video:03d}", time_s, time_s + duration_s, action))
            time_s += duration_s + (generator.random() < 0.5) * generator.exponential(2.0)
            follows = generator.random() < FOLLOWED
            action = generator.choice(usual[action]) if follows else generator.choice(num_actions, p=popularity)
    return pd.DataFrame(segments, columns=["video_id", "start_s", "end_s", "action"])


def true_frames(segments: pd.DataFrame, num_actions: int, frame_rate: float) -> dict[str, tuple]:
    """Returns times `(F,)` and true classes `(F,)`, A for the background, of all frames of each video."""
    frames = {}
    for video_id, script in segments.groupby("video_id", sort=True):
        times_s = np.arange(int(script["end_s"].max() * frame_rate) + 1) / frame_rate
        frames[video_id] = times_s, frame_labels(str(video_id), times_s, script, num_actions)
    return frames


@dataclass
class SimulatedRecognizer:
    """A frame recognizer that is right as often as is stated.

    Of the other frames, `SAME_PART` show another action of the same verb or, as often, of the same noun; the rest show
    any class, by its share of all frames, the background included. While an action lasts, a frame is taken for what the
    frame before it was with probability `STAYS`. The posterior is `accuracy` for the class that is taken for the right
    one, and spread over others as mistakes are, with noise on all scores.

    Args:
        accuracy (`float`): Share of frames that are right.
        prior (`np.ndarray` of shape `(A + 1,)`): Share of frames of each class, the background last.
        parts (`np.ndarray` of shape `(A, K)`, *optional*): The verb and noun of each action.
    """

    accuracy: float
    prior: np.ndarray
    parts: np.ndarray | None = None

    def log_probs(self, labels: np.ndarray, seed: int) -> np.ndarray:
        """Returns the log posteriors of a video's frames, float64 `(F, A + 1)`; `labels` `(F,)` are the true ones."""
        generator = np.random.default_rng(seed)
        log_probs, taken, before = np.empty((len(labels), len(self.prior))), -1, -1
        for frame, label in enumerate(labels.tolist()):
            if label != before or generator.random() >= STAYS:
                taken = self._taken_for(label, generator)
            posterior = (1 - self.accuracy) * self._mistakes(taken)
            posterior[taken] += self.accuracy
            scores = np.log(posterior) + NOISE * generator.normal(size=len(posterior))
            log_probs[frame] = scores - np.log(np.exp(scores).sum())
            before = label
        return log_probs

    def _taken_for(self, label: int, generator: np.random.Generator) -> int:
        if generator.random() < self.accuracy:
            return label
        mistakes = self._mistakes(label)
        mistakes[label] = 0
        return int(generator.choice(len(mistakes), p=mistakes / mistakes.sum()))

    def _mistakes(self, label: int) -> np.ndarray:
        """Returns how likely each class is to be taken for another one, `(A + 1,)`."""
        shares = self.prior.copy()
        if self.parts is None or label == len(self.parts):
            return shares
        for part in self.parts[label]:
            alike = np.flatnonzero((self.parts == part).any(1) & (np.arange(len(self.parts)) != label))
            if len(alike):
                shares[alike] += SAME_PART / (1 - SAME_PART) / self.parts.shape[1] * self._shares_of(alike)
        return shares / shares.sum()

    def _shares_of(self, actions: np.ndarray) -> np.ndarray:
        return self.prior[actions] / self.prior[actions].sum()


def share_of_frames(labels: np.ndarray, num_actions: int) -> np.ndarray:
    """Returns the share of frames of each class, smoothed, `(A + 1,)`; `labels` are those of many frames."""
    counts = np.bincount(labels[labels >= 0], minlength=num_actions + 1) + 1.0
    return counts / counts.sum()

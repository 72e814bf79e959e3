"""Synthetic input of benchmarks instead of videos: generated scripts, and recognizers of a given accuracy.

Scripts are generated from a grammar: each action has a few usual followers, most of which share its noun if actions
have nouns. The recognizers make mistakes similar to those of trained ones: they mostly confuse actions with the same
verb or noun, keep a mistake for several frames, and are calibrated. They are not trained models, and numbers measured
with them are not accuracies on videos.

`SimulatedRecognizer` is the simple one. `CausalRecognizer` also notices actions late and is wrong for whole stretches
of a video, like a real online recognizer (that of EPIC-Tent).
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import pandas as pd
import scipy.optimize
import scipy.special

from avt_distill.reader.frames import frame_labels

USUAL_FOLLOWERS, FOLLOWED = 3, 0.8  # per action; probability that one of them comes next
SAME_PART = 0.8  # share of mistakes that have the same verb or the same noun
STAYS = 0.5  # probability that the next frame of an action is recognized as the same class
NOISE = 0.3  # standard deviation of the noise on each frame's scores
DELAY, RUN, SPREAD = 0.2, 2.4, 0.5  # for `CausalRecognizer`, fitted to the real recognizer of EPIC-Tent
LEAST_CONFIDENT, MOST_CONFIDENT = 0.25, 0.98  # range of the confidence of a run
TRIED_RUNS = 2000  # number of runs that are simulated to find the mean confidence
AFTER_S, LAGS_S = (0, 1, 2, 4, 8), (1, 5, 10, 30)  # for `error_statistics`


def action_parts(num_verbs: int, num_nouns: int, num_actions: int) -> np.ndarray:
    """Returns the verb and noun of generated actions, int64 `(A, 2)`; nouns come after verbs, and all parts occur."""
    generator = np.random.default_rng(0)
    covering = np.arange(max(num_verbs, num_nouns))
    pairs = covering % num_verbs * num_nouns + covering % num_nouns
    others = generator.permutation(np.setdiff1d(np.arange(num_verbs * num_nouns), pairs))
    verbs, nouns = np.divmod(np.sort(np.concatenate([pairs, others])[:num_actions]), num_nouns)
    return np.stack([verbs, num_verbs + nouns], axis=1)


def make_scripts(lengths: Sequence[int], num_actions: int, parts: np.ndarray | None, mean_s: float) -> pd.DataFrame:
    """Returns the segment table of generated videos, in which half of the actions are followed by a gap.

    Args:
        lengths (sequence of `int`): The number of actions in each video.
        num_actions (`int`): Number of actions A.
        parts (`np.ndarray` of shape `(A, 2)`, *optional*): The verb and noun of each action.
        mean_s (`float`): Mean duration of an action in seconds.
    """
    generator = np.random.default_rng(1)
    popularity = 1 / (1 + generator.permutation(num_actions))
    popularity /= popularity.sum()
    usual = generator.choice(num_actions, size=(num_actions, USUAL_FOLLOWERS), p=popularity)
    if parts is not None:  # all followers but the last have the same noun
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
    """Returns the times `(F,)` and true classes `(F,)` of all frames by video; class A is the background."""
    frames = {}
    for video_id, script in segments.groupby("video_id", sort=True):
        times_s = np.arange(int(script["end_s"].max() * frame_rate) + 1) / frame_rate
        frames[video_id] = times_s, frame_labels(str(video_id), times_s, script, num_actions)
    return frames


@dataclass
class SimulatedRecognizer:
    """A frame recognizer with a given share of correct frames.

    Of the other frames, a share of `SAME_PART` is recognized as another action with the same verb or, equally often,
    with the same noun. The rest are recognized as any class, in proportion to its share of all frames, including the
    background. While an action lasts, a frame is recognized as the same class as the frame before it with probability
    `STAYS`. The posterior gives `accuracy` to the recognized class and spreads the rest like mistakes, with noise on
    all scores.

    Args:
        accuracy (`float`): Share of correctly recognized frames.
        prior (`np.ndarray` of shape `(A + 1,)`): Share of frames of each class, the background last.
        parts (`np.ndarray` of shape `(A, K)`, *optional*): The verb and noun of each action.
    """

    accuracy: float
    prior: np.ndarray
    parts: np.ndarray | None = None

    def log_probs(self, labels: np.ndarray, seed: int) -> np.ndarray:
        """Returns the log posteriors of a video's frames, float64 `(F, A + 1)`, from their true classes `(F,)`."""
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
        """Returns the distribution of the classes that a class is confused with, itself included, `(A + 1,)`."""
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
    """Returns the smoothed share of frames of each class, `(A + 1,)`, in the `labels` of many frames."""
    counts = np.bincount(labels[labels >= 0], minlength=num_actions + 1) + 1.0
    return counts / counts.sum()


@dataclass
class CausalRecognizer:
    """A frame recognizer with a given share of correct frames, which errs like online ones: late, in whole stretches.

    It notices each new action after an exponentially distributed delay, and reports the previous action until then. It
    never uses an action that has not begun. It assigns one class to what it has noticed during a run of frames of
    geometric length. Each run draws a confidence from a Beta distribution between 0.25 and 0.98. With that probability,
    its class is correct; otherwise it is a mistake like those of `SimulatedRecognizer`, mostly with the same verb or
    noun. The posterior gives the confidence to the reported class and, by Bayes' rule, the rest to the classes that are
    mistaken for it, with noise on all scores. Wrong runs are less confident, and frames are correct as often as their
    posterior states.

    Args:
        prior (`np.ndarray` of shape `(A + 1,)`): Share of frames of each class, the background last.
        confidence (`float`): Mean confidence of a run.
        late (`float`): Share of frames with a new action that is not noticed yet.
        delay, run (`float`): Mean delay, and mean length of a run, in frames.
        parts (`np.ndarray` of shape `(A, K)`, *optional*): The verb and noun of each action, with nouns
            numbered after verbs.
        spread (`float`): Sum of the parameters of the Beta distribution; with a lower sum, confidences differ more.
    """

    prior: np.ndarray
    confidence: float
    late: float
    delay: float
    run: float
    parts: np.ndarray | None = None
    spread: float = SPREAD
    _mass: np.ndarray = field(init=False, repr=False)  # share of frames of each part in the prior
    _totals: np.ndarray = field(init=False, repr=False)  # normalizers of the mistakes of each class, (A + 1,)
    _causes: dict[int, np.ndarray] = field(init=False, repr=False, default_factory=dict)

    def __post_init__(self):
        parts = np.empty((len(self.prior) - 1, 0), dtype=np.int64) if self.parts is None else self.parts
        self.parts, self._weight = parts, SAME_PART / (1 - SAME_PART) / max(parts.shape[1], 1)
        self._mass = np.zeros(int(parts.max()) + 1 if parts.size else 0)
        for column in parts.T:
            np.add.at(self._mass, column, self.prior[:-1])
        shared = self._others_mass(np.arange(len(parts))) > 0
        self._totals = 1 - self.prior + self._weight * np.append(shared.sum(1), 0)

    @classmethod
    def of_accuracy(
        cls,
        accuracy: float,
        videos: Sequence[np.ndarray],
        num_actions: int,
        parts: np.ndarray | None = None,
        *,
        delay: float = DELAY,
        run: float = RUN,
        spread: float = SPREAD,
    ) -> "CausalRecognizer":
        """Returns the recognizer that has a given share of correct frames on videos.

        Args:
            accuracy (`float`): Share of correctly recognized frames.
            videos (sequence of `np.ndarray`): The true classes of each video's frames, see `true_frames`.
            num_actions, parts: Number of actions A, and the verb and noun of each action.
            delay, run (`float`): Mean delay and mean length of a run, relative to the mean length of an action.
            spread (`float`): See the class.

        Raises:
            ValueError: If this accuracy cannot be reached, for example because too many frames are noticed late.
        """
        lengths = [
            np.diff(np.append(_changes(shown), len(shown)))[shown[_changes(shown)] < num_actions] for shown in videos
        ]
        prior, mean = share_of_frames(np.concatenate(videos), num_actions), float(np.concatenate(lengths).mean())
        found = cls(prior, accuracy, 0.0, delay * mean, run * mean, parts, spread)
        generator = np.random.default_rng(0)
        found.late = float(np.concatenate([found._noticed(shown, generator) != shown for shown in videos]).mean())
        least, most = found._right(LEAST_CONFIDENT), found._right(MOST_CONFIDENT)
        if not least < accuracy < most:
            raise ValueError(
                f"accuracy is {accuracy}, but {100 * found.late:.0f} % of frames show actions not noticed yet: give "
                f"a share between {least:.2f} and {most:.2f}, or a shorter delay."
            )
        between = LEAST_CONFIDENT, MOST_CONFIDENT
        found.confidence = scipy.optimize.brentq(lambda mean: found._right(mean) - accuracy, *between, xtol=1e-3)
        return found

    def log_probs(self, labels: np.ndarray, seed: int) -> np.ndarray:
        """Returns the log posteriors of a video's frames, float64 `(F, A + 1)`, from their true classes `(F,)`.

        Frames of unknown class are treated as background.
        """
        # Separate generators, so that later frames do not change earlier ones.
        late, ends, runs, noise = (np.random.default_rng([seed, number]) for number in range(4))
        noticed = self._noticed(np.where(labels < 0, len(self.prior) - 1, labels), late)
        begins = ends.random(len(labels)) < 1 / max(self.run, 1.0)
        begins[_changes(noticed)] = True
        posteriors = self._runs(noticed[begins], self.confidence, runs)
        scores = np.log(posteriors)[np.cumsum(begins) - 1]
        scores = scores + NOISE * noise.normal(size=scores.shape)
        return scores - scipy.special.logsumexp(scores, axis=1, keepdims=True)

    def _runs(self, noticed: np.ndarray, confidence: float, generator: np.random.Generator) -> np.ndarray:
        """Returns the posteriors of runs of frames, `(N, A + 1)`, given the class noticed in each."""
        (others,), width = generator.spawn(1), MOST_CONFIDENT - LEAST_CONFIDENT
        mean = np.clip((confidence - LEAST_CONFIDENT) / width, 1e-3, 1 - 1e-3)
        shares = generator.beta(self.spread * mean, self.spread * (1 - mean), size=len(noticed))
        confidences = LEAST_CONFIDENT + width * shares
        draws, posteriors = others.random((len(noticed), 2)), np.empty((len(noticed), len(self.prior)))
        for run, (reported, sure) in enumerate(zip(noticed.tolist(), confidences, strict=True)):
            if draws[run, 0] >= sure:
                reported = int(np.searchsorted(np.cumsum(self._mistakes(reported)), draws[run, 1]))
                reported = min(reported, len(self.prior) - 1)
            posterior = (1 - sure) * self._behind(reported)
            posterior[reported] += sure
            posteriors[run] = (1 - self.late) * posterior + self.late * self.prior
        return posteriors

    def _right(self, confidence: float) -> float:
        """Returns the share of correct frames at a mean confidence of runs, with the same draws for each confidence."""
        generator = np.random.default_rng(0)
        noticed = generator.choice(len(self.prior), TRIED_RUNS, p=self.prior)
        right = self._runs(noticed, confidence, generator).argmax(1) == noticed
        return (1 - self.late) * float(right.mean())

    def _noticed(self, labels: np.ndarray, generator: np.random.Generator) -> np.ndarray:
        """Returns the latest class that is noticed at each frame, `(F,)`."""
        changes = _changes(labels)
        noticed_at = changes + np.round(generator.exponential(self.delay, len(changes))).astype(int)
        noticed_at[0], newest = 0, np.zeros(len(labels), dtype=int)
        for number, frame in enumerate(noticed_at):
            newest[frame:] = number  # skips an earlier change that is noticed later
        return labels[changes][newest]

    def _mistakes(self, label: int) -> np.ndarray:
        """Returns the distribution of the classes that a class is mistaken for, `(A + 1,)`."""
        shares = self.prior.copy()
        if label < len(self.parts):
            for part, mass in zip(self.parts[label], self._others_mass(label), strict=True):
                if mass > 0:
                    alike = np.flatnonzero((self.parts == part).any(1))
                    shares[alike] += self._weight * self.prior[alike] / mass
        shares[label] = 0
        return shares / shares.sum()

    def _behind(self, reported: int) -> np.ndarray:
        """Returns the distribution of the true classes when a class is reported by mistake, `(A + 1,)`."""
        if reported not in self._causes:
            likelihood = np.full(len(self.prior), self.prior[reported])
            if reported < len(self.parts):
                for part in self.parts[reported]:
                    alike, column = np.nonzero(self.parts == part)
                    mass = self._others_mass(alike)[np.arange(len(alike)), column]
                    likelihood[alike[mass > 0]] += self._weight * self.prior[reported] / mass[mass > 0]
            shares = self.prior * likelihood / self._totals
            shares[reported] = 0
            self._causes[reported] = shares / shares.sum()
        return self._causes[reported]

    def _others_mass(self, actions) -> np.ndarray:
        """Returns the share of frames of the other actions that have each part of given actions, `(..., K)`."""
        mass = self._mass[self.parts[actions]] - self.prior[:-1][actions][..., None]
        return np.where(mass > 1e-12, mass, 0.0)


def _changes(labels: np.ndarray) -> np.ndarray:
    """Returns the index of the first frame of each stretch of one class."""
    return np.concatenate([[0], 1 + np.flatnonzero(np.diff(labels))])


def error_statistics(reported: Sequence[np.ndarray], shown: Sequence[np.ndarray], frame_rate: float) -> dict:
    """Returns statistics of a recognizer's errors, to compare a simulated recognizer with a real one.

    Args:
        reported, shown (sequence of `np.ndarray` of shape `(F,)`): The reported and the true class of each frame of
            each video. The background counts like any other class.
        frame_rate (`float`): Frames per second.

    Returns:
        `dict`: `right`, the share of correct frames; `right_after`, the same by seconds since the action began
        (`AFTER_S`); `correlation` of correctness between frames that are `LAGS_S` seconds apart; `error_run_s`, the
        mean length of a stretch of errors, and `error_run_of_a_frame_s`, the mean length of the stretch that contains
        an erroneous frame; `previous` and `next`, the shares of errors that report the previous or next action;
        `never` and `always`, the shares of segments with under 5 % or over 95 % of their frames correct. NaN if no
        video is long enough.
    """
    hits = [r == s for r, s in zip(reported, shown, strict=True)]
    after: dict[float, list[float]] = {seconds: [] for seconds in AFTER_S}
    neighbors, shares, runs = np.zeros(2), [], []
    for r, s, hit in zip(reported, shown, hits, strict=True):
        first = _changes(s)
        for number, (begin, end) in enumerate(zip(first, np.append(first[1:], len(s)), strict=True)):
            shares.append(float(hit[begin:end].mean()))
            for seconds in AFTER_S:
                after[seconds] += hit[begin:end][int(seconds * frame_rate) :][: max(1, int(frame_rate))].tolist()
            wrong = r[begin:end][~hit[begin:end]]
            around = [s[first[n]] if 0 <= n < len(first) else -1 for n in (number - 1, number + 1)]
            neighbors += [(wrong == other).sum() for other in around]
        stretches = np.append(_changes(hit.astype(int)), len(hit))
        runs += np.diff(stretches)[~hit[stretches[:-1]]].tolist()
    seconds = np.array(runs) / frame_rate
    return {
        "right": float(np.concatenate(hits).mean()),
        "right_after": {key: float(np.mean(values)) if values else np.nan for key, values in after.items()},
        "correlation": {lag: _correlation(hits, round(lag * frame_rate)) for lag in LAGS_S},
        "error_run_s": float(seconds.mean()),
        "error_run_of_a_frame_s": float(np.average(seconds, weights=seconds)),
        "previous": float(neighbors[0] / sum(runs)),
        "next": float(neighbors[1] / sum(runs)),
        "never": float(np.mean(np.array(shares) < 0.05)),
        "always": float(np.mean(np.array(shares) > 0.95)),
    }


def _correlation(hits: Sequence[np.ndarray], lag: int) -> float:
    pairs = [(hit[:-lag], hit[lag:]) for hit in hits if len(hit) > lag]
    if not pairs:
        return np.nan
    return float(np.corrcoef(*(np.concatenate(side) for side in zip(*pairs, strict=True)))[0, 1])

"""Training batches that seed and epoch decide alone: their order, their rows, and what is drawn while they are made.

Random states that a checkpoint holds cannot decide about them. `Trainer` saves its state when one batch is made ahead
of the step (accelerate 1.15) and restores it when the first batches are made again (transformers 5.23); those of worker
processes are not saved at all.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import torch
from torch.utils.data import Dataset, RandomSampler, Sampler
from transformers.trainer_pt_utils import LengthGroupedSampler


class EpochRows(Dataset):
    """The rows of a data set, those of each batch with a seed: of the run's seed, the epoch and the rows' numbers.

    Args:
        rows (`Sequence`): Has a length, and rows by number.
        seed (`int`): Of the run.
    """

    def __init__(self, rows: Any, seed: int):
        self.rows, self.seed = rows, seed
        self.epoch = torch.zeros((), dtype=torch.int64).share_memory_()  # persistent workers read it in each epoch

    def __len__(self) -> int:
        return len(self.rows)

    def __getitems__(self, numbers: Sequence[int]) -> tuple[int, Sequence[Any]]:
        """Returns a batch's seed and its rows."""
        seeds = np.random.SeedSequence([self.seed, int(self.epoch), *numbers])
        at_once = getattr(self.rows, "__getitems__", None)
        rows = [self.rows[number] for number in numbers] if at_once is None else at_once(numbers)
        return int(seeds.generate_state(1, np.uint64)[0]), rows


class SeededCollator:
    """Makes batches of `EpochRows` with another collator, whose draws from torch's generator the batch's seed decides.

    The generator itself, from which dropout draws on the CPU, is left as it was.
    """

    def __init__(self, collator: Callable[[Any], Any]):
        self.collator = collator

    def __call__(self, batch: tuple[int, Sequence[Any]]) -> Any:
        seed, rows = batch
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(seed)  # torch.manual_seed would seed accelerators, too
            return self.collator(rows)


class EpochOrder(Sampler[int]):
    """The order of a sampler of transformers, drawn by seed and epoch.

    Accelerate makes random orders repeatable too (1.15), but not that of rows grouped by length, nor any under
    `use_seedable_sampler: false`.
    """

    def __init__(self, sampler: Sampler[int], seed: int):
        self.sampler, self.seed, self.epoch = sampler, seed, 0
        self.generator = torch.Generator()
        if isinstance(sampler, (RandomSampler, LengthGroupedSampler)):
            sampler.generator = self.generator

    def set_epoch(self, epoch: int):
        self.epoch = epoch

    def __len__(self) -> int:
        return len(self.sampler)  # pyright: ignore[reportArgumentType]

    def __iter__(self) -> Iterator[int]:
        self.generator.manual_seed(self.seed + self.epoch)
        return iter(self.sampler)

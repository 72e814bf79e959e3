"""Training batches that depend only on seed and epoch: their order, their rows, and random draws of the collator.

The random states in checkpoints cannot ensure this: `Trainer` saves its state after the next batch has been made
(accelerate 1.15) and restores it after the first batches of a resumed run (transformers 5.23), and those of worker
processes are not saved at all.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import torch
from torch.utils.data import Dataset, RandomSampler, Sampler
from transformers.trainer_pt_utils import LengthGroupedSampler


class EpochRows(Dataset):
    """The rows of a data set, which adds to each batch a seed derived from the run's seed, the epoch and the rows'
    numbers.

    Args:
        rows (`Sequence`): Has a length, and rows by number.
        seed (`int`): Of the run.
    """

    def __init__(self, rows: Any, seed: int):
        self.rows, self.seed = rows, seed
        self.epoch = torch.zeros(
            (), dtype=torch.int64
        ).share_memory_()  # in shared memory, so that persistent workers see the current epoch

    def __len__(self) -> int:
        return len(self.rows)

    def __getitems__(self, numbers: Sequence[int]) -> tuple[int, Sequence[Any]]:
        """Returns a batch's seed and its rows."""
        seeds = np.random.SeedSequence([self.seed, int(self.epoch), *numbers])
        at_once = getattr(self.rows, "__getitems__", None)
        rows = [self.rows[number] for number in numbers] if at_once is None else at_once(numbers)
        return int(seeds.generate_state(1, np.uint64)[0]), rows


class SeededCollator:
    """Collates batches of `EpochRows` with another collator, under torch's generator seeded by the batch.

    The generator's state is restored afterwards, since dropout draws from it on the CPU.
    """

    def __init__(self, collator: Callable[[Any], Any]):
        self.collator = collator

    def __call__(self, batch: tuple[int, Sequence[Any]]) -> Any:
        seed, rows = batch
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(seed)  # not torch.manual_seed, which would also seed accelerators
            return self.collator(rows)


class EpochOrder(Sampler[int]):
    """The order of a sampler of transformers, drawn by seed and epoch.

    Accelerate also makes random orders repeatable (1.15), but not for rows grouped by length or `use_seedable_sampler:
    false`.
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

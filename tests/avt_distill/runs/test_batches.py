"""Batch order and random draws depend on seed, epoch and rows only."""

import torch
from accelerate.data_loader import SeedableRandomSampler
from torch.utils.data import RandomSampler
from transformers.trainer_pt_utils import LengthGroupedSampler

from avt_distill.runs.batches import EpochOrder, EpochRows, SeededCollator

ROWS = list("abcdefgh")


def draw(rows: list[str]) -> tuple[list[str], list[float]]:
    return rows, torch.rand(len(rows)).tolist()


def drawn(numbers: list[int], *, seed: int = 0, epoch: int = 0):
    rows = EpochRows(ROWS, seed)
    rows.epoch.fill_(epoch)
    return SeededCollator(draw)(rows.__getitems__(numbers))


def test_draws_follow_seed_epoch_and_rows_alone():
    first = drawn([3, 1])
    assert first[0] == ["d", "b"]
    torch.manual_seed(5)
    assert drawn([3, 1]) == first
    others = [drawn([3, 1], seed=1), drawn([3, 1], epoch=1), drawn([1, 3]), drawn([3, 2])]
    assert len({tuple(draws) for _, draws in [first, *others]}) == 5


def test_the_generator_of_dropout_is_not_moved():
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    drawn([3, 1])
    assert torch.rand(3).equal(expected)


def test_a_random_order_is_that_of_accelerate():
    order = EpochOrder(RandomSampler(ROWS), seed=3)
    expected = SeedableRandomSampler(ROWS, data_seed=3)
    for epoch in (0, 2, 1):
        order.set_epoch(epoch)
        expected.set_epoch(epoch)
        assert list(order) == list(expected)


def test_an_order_by_length_follows_seed_and_epoch():
    def order(seed: int, epoch: int) -> list[int]:
        sampler = EpochOrder(LengthGroupedSampler(2, lengths=[1, 2, 3, 4] * 5), seed)
        sampler.set_epoch(epoch)
        return list(sampler)

    assert order(0, 1) == order(0, 1)
    assert sorted(order(0, 1)) == list(range(20))
    assert order(0, 1) != order(0, 0)
    assert order(0, 1) != order(1, 1)


def test_rows_are_fetched_at_once_where_the_data_set_can():
    class AtOnce(list):
        def __getitems__(self, numbers):
            return [self[number] * 2 for number in numbers]

    assert EpochRows(AtOnce(ROWS), 0).__getitems__([2, 0])[1] == ["cc", "aa"]

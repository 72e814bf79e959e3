"""Rules for user input: the values each accepts, the type it returns, and the error for all others."""

from fractions import Fraction

import numpy as np
import pytest
import torch

from modeling_avt.rules_avt import LONGEST_SHOWN, TOP_K, Choice, Flag, Number, OrNone, WholeNumber

NO_NUMBERS = [True, "2", None, [2], {}, 2j, np.array([1, 2]), torch.ones(2), np.bool_(True), float("nan"), float("inf")]


@pytest.mark.parametrize(
    "value",
    [
        2,
        2.0,
        Fraction(2),
        np.float16(2),
        np.float64(2),
        np.int8(2),
        np.array(2),
        np.array([2.0]),
        torch.tensor(2),
        torch.tensor([[2.0]], requires_grad=True),
        torch.tensor(2.0, dtype=torch.bfloat16),
    ],
    ids=repr,
)
def test_numbers_of_any_kind_become_pythons_own(value):
    number = Number(least=0)("at", value)
    assert number == 2
    assert type(number) in (int, float)


@pytest.mark.parametrize(
    "value", [2, np.int64(2), np.uint8(2), np.array([2]), torch.tensor(2), torch.tensor([2])], ids=repr
)
def test_whole_numbers_of_any_kind_become_pythons_own(value):
    number = TOP_K("top_k", value)
    assert (number, type(number)) == (2, int)


@pytest.mark.parametrize("value", NO_NUMBERS, ids=repr)
def test_values_that_are_not_numbers_are_refused(value):
    with pytest.raises(ValueError, match=r"^at is .*: give a finite number of seconds\.$"):
        Number(unit="seconds")("at", value)
    with pytest.raises(ValueError, match=r"^top_k is .*: give a whole number, 1 or more\.$"):
        TOP_K("top_k", value)


@pytest.mark.parametrize("value", [2.0, np.float64(2), torch.tensor(2.0), 0, -1], ids=repr)
def test_only_whole_numbers_from_1_on_are_counts(value):
    with pytest.raises(ValueError, match=r"^top_k is (2\.0|0|-1): give a whole number, 1 or more\.$"):
        TOP_K("top_k", value)


@pytest.mark.parametrize(
    ("rule", "accepted", "refused", "words"),
    [
        (Number(above=0), [1e-300, 1e300], [0, -1e-300, 10**400], "a finite number, above 0"),
        (Number(least=0, below=1), [0, 0.999], [1, -0.001], "a finite number, 0 or more and below 1"),
        (Number(above=0, most=1000), [1000], [1000.1, 0], "a finite number, above 0 and at most 1000"),
        (WholeNumber(1, 8), [1, 8], [0, 9, 10**400], "a whole number from 1 to 8"),
        (OrNone(WholeNumber(1, 8)), [None, 8], [0, "None"], "a whole number from 1 to 8, or None"),
        (Flag(), [True, np.bool_(False), torch.tensor(True)], [1, 0, "true", None], "True or False"),
        (Choice(("all", "labelled")), ["all"], ["some", None, 1], "'all' or 'labelled'"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_bounds_and_their_words(rule, accepted, refused, words):
    for value in accepted:
        assert rule("x", value) == value
    for value in refused:
        with pytest.raises(ValueError, match=r"^x is ") as error:
            rule("x", value)
        assert str(error.value).endswith(f": give {words}.")


def test_a_long_value_is_cut_in_the_message():
    with pytest.raises(ValueError, match="top_k is '") as error:
        TOP_K("top_k", "9" * 10_000)
    assert len(str(error.value)) < LONGEST_SHOWN + 60

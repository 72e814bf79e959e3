"""ZeroGPU's decorator if its package is installed, and plain functions otherwise."""

import importlib
import sys
from types import SimpleNamespace

import pytest
import torch

from space import zero_gpu


@pytest.fixture
def with_package(monkeypatch):
    """Returns a function that reloads the module with or without a package `spaces`; restores the module afterwards."""
    monkeypatch.delenv("SPACES_ZERO_GPU", raising=False)

    def load(package):
        monkeypatch.setitem(sys.modules, "spaces", package)
        return importlib.reload(zero_gpu)

    yield load
    monkeypatch.undo()
    importlib.reload(zero_gpu)


def gpu(duration):
    """Imitates `spaces.GPU` as far as a page uses it."""
    return lambda function: lambda *args: (duration(*args), function(*args))


def test_functions_are_plain_without_the_package(with_package):
    plain = with_package(None)
    function = plain.on_gpu(duration=len)(str)
    assert function is str
    assert not plain.is_lent()
    assert plain.device() == ("cuda" if torch.cuda.is_available() else "cpu")


def test_functions_borrow_a_gpu_with_the_package(with_package, monkeypatch):
    lent = with_package(SimpleNamespace(GPU=gpu))
    assert lent.on_gpu(duration=len)(str.upper)("cut") == (3, "CUT")
    assert not lent.is_lent()  # the package also runs where no GPU is lent
    monkeypatch.setenv("SPACES_ZERO_GPU", "true")
    assert lent.is_lent()
    assert lent.device() == "cuda"


def test_a_loan_grows_with_the_video_and_is_limited():
    assert [zero_gpu.loan_s(moments) for moments in (1, 100, 600)] == [15, 50, 120]


def test_reasons_are_returned_and_faults_raised():
    assert zero_gpu.result_or_reason(int)("7") == (7, None)
    assert zero_gpu.result_or_reason(int)("x") == (None, "invalid literal for int() with base 10: 'x'")
    with pytest.raises(ZeroDivisionError):
        zero_gpu.result_or_reason(lambda: 1 / 0)()

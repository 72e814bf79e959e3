"""The package: the names its files define can be imported from it, and importing it is cheap."""

import inspect
import pkgutil
import subprocess
import sys
from importlib import import_module

from helpers.places import PROJECT

from avt_distill import metrics


def test_every_public_name_of_a_protocol_is_importable_from_the_package():
    found = {
        (name, value)
        for module in pkgutil.iter_modules(metrics.__path__)
        if module.name != "checks"
        for name, value in vars(import_module(f"avt_distill.metrics.{module.name}")).items()
        if not name.startswith("_") and (inspect.isfunction(value) or inspect.isclass(value))
        if value.__module__ == f"avt_distill.metrics.{module.name}"
    }
    assert len(found) > 30
    for name, value in found:
        assert getattr(metrics, name) is value, name
        assert name in metrics.__all__


def test_importing_the_metrics_loads_no_optimizer_statistics_or_framework():
    names = ("torch", "scipy.optimize", "scipy.stats")
    code = f"import avt_distill.metrics, sys; print([n for n in {names} if n in sys.modules])"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=PROJECT)
    assert result.stdout.strip() == "[]"

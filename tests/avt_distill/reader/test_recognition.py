"""Calibration of a reader's recognizer."""

import numpy as np
import pytest
from scipy.special import log_softmax

from avt_distill.metrics import fit_temperature
from avt_distill.reader.recognition import best_temperature


@pytest.mark.parametrize(("scale", "is_too_sure"), [(1.0, False), (3.0, False), (100.0, True)])
def test_the_temperature_is_that_of_held_out_frames_and_one_that_is_too_low_is_reported(caplog, scale, is_too_sure):
    generator = np.random.default_rng(0)
    logits = generator.normal(size=(2000, 4))
    labels = (logits + generator.gumbel(size=logits.shape)).argmax(axis=1)  # drawn from the softmax of the logits
    found = best_temperature(log_softmax(scale * logits, axis=1), labels)
    assert found == pytest.approx(min(8.0, fit_temperature(scale * logits, labels)), rel=0.04)
    assert ("too sure of itself even at temperature 8, the highest that is tried" in caplog.text) == is_too_sure

"""Scores of models on a split: storage, metrics, comparisons, calibration and challenge submissions."""

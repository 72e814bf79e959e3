"""Scores of a model on a split: kept, measured, compared, submitted."""

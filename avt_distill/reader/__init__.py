"""Fitting readers of recognized histories on training videos, and comparing them with text-free models."""

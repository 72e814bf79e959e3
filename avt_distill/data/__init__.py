"""Annotations, label spaces, history, features: everything between a benchmark's files and a batch."""

"""Extracting actions from recipes, and adapting language models to them."""

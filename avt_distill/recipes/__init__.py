"""From recipes to a language model that has read them."""

"""Sharing results: uploads to the Hub, cards, exported programs."""

"""The reader of recognised histories: fitted on training videos, measured beside what reads no text."""

"""The reader of recognized histories: fitted on training videos, measured beside what reads no text."""

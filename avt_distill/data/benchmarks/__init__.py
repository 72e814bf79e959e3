"""The benchmarks, one module each, which convert annotation files to segment tables."""

"""The benchmarks, one file each: from their files to segment tables."""

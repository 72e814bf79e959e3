"""The command line: one file per command, which parses its options and calls the package that does the work."""

"""What every command shares: its command line, and the folder of a run."""

"""Infrastructure of the commands: command lines, folders of runs, resuming and errors."""

"""Pictures of what teachers and students say. Matplotlib is of the extra `plots`."""

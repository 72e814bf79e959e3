"""Pictures of what teachers and students anticipate. Drawing needs matplotlib, which the extra `plots` installs."""

"""The text teacher: from recipes and past actions to soft labels for the student."""

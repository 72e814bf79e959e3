"""The student: construction, training with a teacher's soft labels, and evaluation."""

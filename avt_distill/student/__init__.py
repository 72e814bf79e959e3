"""The student: built, trained beside its teacher, measured."""

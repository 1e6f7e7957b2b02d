"""Sentences with a place for a name: those of the package, of a file, and of a run's own test split."""

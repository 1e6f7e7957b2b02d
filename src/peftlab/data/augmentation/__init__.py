"""Augmentation: seeded edits of the training examples that keep their gold, one file an augmentation."""

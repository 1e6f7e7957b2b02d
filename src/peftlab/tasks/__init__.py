"""Kinds of problems, one file a task."""

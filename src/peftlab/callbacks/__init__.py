"""Callbacks that a configuration may choose, one file each."""

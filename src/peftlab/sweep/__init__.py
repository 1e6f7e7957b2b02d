"""Sweeps: many runs by one command, by plan, in slots, with nothing lost."""

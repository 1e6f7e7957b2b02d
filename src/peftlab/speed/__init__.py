"""Faster ways to the same result, or ones that say how they differ."""

"""Whom does a finished model fail? Gaps between groups of its examples, and names swapped in.

Where the predictions that a run kept suffice, torch is not imported.
"""

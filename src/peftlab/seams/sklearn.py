"""Privates of scikit-learn."""

from __future__ import annotations

from typing import Any

import numpy as np

NODE = ("feature_idx", "num_threshold", "missing_go_to_left", "left", "right", "is_leaf", "value")
"""What decides where a row goes in a tree of numbers, and what its leaf says."""


def boosted_trees(classifier: Any) -> tuple[float, list[dict[str, np.ndarray]]]:
    """Return the margin that a histogram gradient boosting of two classes begins with, and the nodes of its trees."""
    trees = [tree.nodes for (tree,) in classifier._predictors]
    return float(classifier._baseline_prediction.ravel()[0]), [{key: nodes[key] for key in NODE} for nodes in trees]

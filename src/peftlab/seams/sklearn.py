"""Privates of scikit-learn."""

from __future__ import annotations

from typing import Any

import numpy as np

NODE = ("feature_idx", "num_threshold", "missing_go_to_left", "left", "right", "is_leaf", "value")
"""What decides where a row goes in a tree of numbers, and what its leaf says."""


def boosted_trees(classifier: Any) -> tuple[float, list[dict[str, np.ndarray]]]:
    """Return the margin that a histogram gradient boosting of two classes begins with, and the nodes of its trees.

    The threshold of a split that parts missing numbers from all others is the largest number in place of infinity,
    which JSON does not have.
    """
    trees = [tree.nodes for (tree,) in classifier._predictors]
    finite = [{key: np.nan_to_num(nodes[key]) for key in NODE} for nodes in trees]
    return float(classifier._baseline_prediction.ravel()[0]), finite

"""Boosted trees by numpy alone: where a row ends in them, and what each of its columns contributes.

A tree is the arrays of its nodes (`peftlab.seams.sklearn.NODE`), the root first, children behind their parents.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from math import factorial

import numpy as np

Tree = Mapping[str, np.ndarray]


def checked(tree: Tree, width: int) -> Tree:
    """Return a tree that was read from a file.

    Raises:
        ValueError: it is none: a row could go round in it, or leave it.
    """
    nodes = np.arange(len(tree["value"]))
    inner = ~tree["is_leaf"].astype(bool)
    for child in (tree["left"][inner], tree["right"][inner]):
        if not len(nodes) or (child <= nodes[inner]).any() or (child >= len(nodes)).any():
            raise ValueError("the nodes of a tree do not follow from each other")
    if ((tree["feature_idx"][inner] < 0) | (tree["feature_idx"][inner] >= width)).any():
        raise ValueError(f"a tree asks for a column beyond the {width} there are")
    return tree


def leaves(tree: Tree, matrix: np.ndarray) -> np.ndarray:
    """Return what the leaf of each row says, shape (rows,)."""
    node, is_leaf = np.zeros(len(matrix), np.int64), tree["is_leaf"].astype(bool)
    while (inner := ~is_leaf[node]).any():
        at = node[inner]
        left = _goes_left(tree, at, matrix[inner, tree["feature_idx"][at]])
        node[inner] = np.where(left, tree["left"][at], tree["right"][at])
    return tree["value"][node]


def contributions(
    tree: Tree, matrix: np.ndarray, background: np.ndarray, of_column: np.ndarray, number: int
) -> np.ndarray:
    """Return the interventional Shapley values of the features of each row, exact, shape (rows, number).

    A leaf is reached by a row of which some features are those of a background row if each feature on its path is
    taken from a row that satisfies it there. Of the a features that only the row satisfies and the b that only the
    background row does, the former share the leaf's value by (a - 1)! b! / (a + b)! each, and the latter lose it by
    a! (b - 1)! / (a + b)!, which are the shares of the orders in which they decide.

    Args:
        tree: the tree.
        matrix: the rows, shape (rows, width).
        background: the rows that they are compared with, shape (others, width).
        of_column: the feature of each column, shape (width,).
        number: how many features there are.
    """
    values = np.zeros((len(matrix), number))
    ways = [
        _goes_left(tree, np.arange(len(tree["value"])), rows[:, tree["feature_idx"]]) for rows in (matrix, background)
    ]
    for leaf, path in _paths(tree):
        nodes, turns = (np.array(each) for each in zip(*path, strict=True))
        features, place = np.unique(of_column[tree["feature_idx"][nodes]], return_inverse=True)
        own, other = (_satisfied(way[:, nodes] == turns, place, len(features)) for way in ways)
        only_own, only_other = own[:, None] & ~other, ~own[:, None] & other
        a, b = only_own.sum(axis=-1), only_other.sum(axis=-1)
        reached = (own[:, None] | other).all(axis=-1)
        gains, losses = _shares(len(features))
        gain, loss = (np.where(reached, table[a, b], 0.0) for table in (gains, losses))
        moved = (gain[..., None] * only_own - loss[..., None] * only_other).mean(axis=1)
        values[:, features] += tree["value"][leaf] * moved
    return values


def _goes_left(tree: Tree, nodes: np.ndarray, cells: np.ndarray) -> np.ndarray:
    """Return whether cells go left at nodes, of one shape in their last dimension."""
    missing = tree["missing_go_to_left"][nodes].astype(bool)
    return np.where(np.isnan(cells), missing, cells <= tree["num_threshold"][nodes])


def _paths(tree: Tree) -> Iterator[tuple[int, list[tuple[int, bool]]]]:
    """Yield each leaf with the nodes above it, and whether left is taken there; a root alone explains nothing."""
    waiting: list[tuple[int, list[tuple[int, bool]]]] = [(0, [])]
    while waiting:
        node, path = waiting.pop()
        if not tree["is_leaf"][node]:
            waiting += [(int(tree[side][node]), [*path, (node, side == "left")]) for side in ("left", "right")]
        elif path:
            yield node, path


def _satisfied(steps: np.ndarray, place: np.ndarray, number: int) -> np.ndarray:
    """Return whether all steps of each feature are taken, shape (rows, features)."""
    return np.stack([steps[:, place == one].all(axis=1) for one in range(number)], axis=1)


def _shares(most: int) -> tuple[np.ndarray, np.ndarray]:
    """Return (a - 1)! b! / (a + b)! and a! (b - 1)! / (a + b)! for all a and b up to `most`; 0 where a or b is 0."""
    gains = np.zeros((most + 1, most + 1))
    for a in range(1, most + 1):
        for b in range(most + 1 - a):
            gains[a, b] = factorial(a - 1) * factorial(b) / factorial(a + b)
    return gains, gains.T

"""Which hyperparameters matter? Functional analysis of variance on a random forest."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

TREES = 100
LEAST_TRIALS = 10
"""Fewer say nothing about a space of settings."""


@dataclass(frozen=True)
class Importance:
    """How much of a score's variance over the tried settings one hyperparameter explains by itself."""

    name: str
    share: float
    """From 0 to 1; what all shares leave is interaction between hyperparameters, and noise that the forest fits."""
    sd: float
    """Standard deviation over the trees."""


@dataclass(frozen=True)
class Importances:
    """The importance of all hyperparameters of a search."""

    of: tuple[Importance, ...]
    """The greatest first."""
    fit: float
    """How well the forest predicts trials that it has not seen: R² out of bag. Near or below 0 the shares mean nothing,
    as they only describe how trees fit noise."""
    trials: int


def importance(settings: Sequence[Mapping[str, Any]], scores: Sequence[float], seed: int = 0) -> Importances:
    """Return the importance of each hyperparameter (Hutter, Hoos & Leyton-Brown 2014).

    A random forest (Breiman 2001, as in scikit-learn) predicts the score; the variance of each tree is decomposed
    exactly. Deviating from the paper, a hyperparameter is distributed as in the trials rather than uniformly over its
    range, so that the scale of learning rates does not matter: numbers count by rank, others in the order of their
    text.

    Args:
        settings: the values of each trial by hyperparameter, the same ones in all.
        scores: of the trials.
        seed: of the forest.

    Raises:
        ValueError: there are fewer than 10 trials, numbers differ, or a trial lacks a hyperparameter.
    """
    names = list(settings[0]) if settings else []
    if len(settings) < LEAST_TRIALS or len(settings) != len(scores):
        raise ValueError(
            f"{len(settings)} settings with {len(scores)} scores; expected at least {LEAST_TRIALS} of each"
        )
    if any(set(one) != set(names) for one in settings):
        raise ValueError(f"the trials differ in their hyperparameters; the first has {', '.join(names)}")
    from sklearn.ensemble import RandomForestRegressor

    levels = [_levels([one[name] for one in settings]) for name in names]
    forest = RandomForestRegressor(TREES, oob_score=True, random_state=seed, n_jobs=1)
    forest.fit(np.stack(levels, axis=1), np.asarray(scores, np.float64))
    weights = [np.bincount(one) / len(one) for one in levels]
    shares = np.array([shares_of_tree(one.tree_, weights) for one in forest.estimators_])
    ranked = [
        Importance(name, float(share), float(sd))
        for name, share, sd in zip(names, shares.mean(axis=0), shares.std(axis=0), strict=True)
    ]
    ranked.sort(key=lambda one: -one.share)
    return Importances(tuple(ranked), float(forest.oob_score_), len(settings))


def shares_of_tree(tree: Any, weights: Sequence[np.ndarray]) -> np.ndarray:
    """Return the share of each input in the variance of a regression tree, by itself (Hutter et al., algorithm 2).

    Args:
        tree: scikit-learn's ``tree_``, whose inputs are whole numbers from 0.
        weights: the probability of each value of each input.

    Returns:
        Shape (inputs,); zeros if the tree is constant.
    """
    leaves, inside = _leaves(tree, weights)
    # probability of each leaf's values, by input, shape (inputs, leaves)
    extents = np.array([mask @ weight for mask, weight in zip(inside, weights, strict=True)])
    volumes = extents.prod(axis=0)
    mean = volumes @ leaves
    variance = volumes @ (leaves - mean) ** 2
    if variance <= 1e-15 * max(1.0, mean**2):
        return np.zeros(len(weights))
    shares = []
    for mask, weight, extent in zip(inside, weights, extents, strict=True):
        others = np.divide(volumes, extent, out=np.zeros_like(volumes), where=extent > 0)
        marginal = (leaves * others) @ mask
        shares.append(weight @ (marginal - mean) ** 2 / variance)
    return np.array(shares)


def _leaves(tree: Any, weights: Sequence[np.ndarray]) -> tuple[np.ndarray, list[np.ndarray]]:
    """Return the value of each leaf, and for each input which of its values lead there, shape (leaves, values)."""
    values: list[float] = []
    boxes: list[list[np.ndarray]] = []
    waiting = [(0, [np.ones(len(weight), bool) for weight in weights])]
    while waiting:
        node, box = waiting.pop()
        if tree.children_left[node] < 0:
            values.append(float(tree.value[node].item()))
            boxes.append(box)
            continue
        split = tree.feature[node]
        goes_left = np.arange(len(weights[split])) <= tree.threshold[node]
        for child, side in ((tree.children_left[node], goes_left), (tree.children_right[node], ~goes_left)):
            waiting.append((child, [mask & side if place == split else mask for place, mask in enumerate(box)]))
    return np.array(values), [np.array([box[place] for box in boxes], np.float64) for place in range(len(weights))]


def _levels(values: Sequence[Any]) -> np.ndarray:
    """Return the place of each value among the distinct ones: numbers by size, mixed or other values by their text."""
    numbers = all(isinstance(value, int | float) and not isinstance(value, bool) for value in values)
    keys = [float(value) if numbers else str(value) for value in values]
    places = {key: place for place, key in enumerate(sorted(set(keys)))}
    return np.array([places[key] for key in keys])

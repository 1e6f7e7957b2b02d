"""Shapley values of the words in the game whose worth is the logit (Shapley 1953; Strumbelj and Kononenko 2010)."""

from __future__ import annotations

from math import factorial, sqrt

import numpy as np

from peftlab.use.explanation.attribution import Attribution, Settings
from peftlab.use.explanation.subject import Subject

EXACT = 8
"""Up to so many words, every set of them is computed: 256."""


def explain(subject: Subject, settings: Settings) -> Attribution:
    """Return the Shapley value of each word: exact for few words, else from sampled orders with standard errors."""
    number = len(subject.words)
    values, errors, details = (
        (exact(subject), None, {"sets": 2**number}) if number <= EXACT else sampled(subject, settings)
    )
    return Attribution(values, errors, float(values.sum() - (subject.full - subject.empty)), details)


def all_sets(number: int) -> np.ndarray:
    """Return every set of so many words as booleans, shape (2 ** number, number); bit n of a row's index is word n."""
    return (np.arange(2**number)[:, None] >> np.arange(number) & 1).astype(bool)


def exact(subject: Subject) -> np.ndarray:
    """Return the mean of what a word adds to the words before it over all orders, shape (words,)."""
    number = len(subject.words)
    sets = all_sets(number)
    worth, sizes = subject.value(sets), sets.sum(1)
    weights = np.asarray([factorial(size) * factorial(number - size - 1) for size in range(number)]) / factorial(number)
    values = np.zeros(number)
    for word in range(number):
        without = np.flatnonzero(~sets[:, word])
        values[word] = (weights[sizes[without]] * (worth[without | 1 << word] - worth[without])).sum()
    return values


def sampled(subject: Subject, settings: Settings) -> tuple[np.ndarray, np.ndarray, dict[str, int]]:
    """Return estimates from random orders and their standard errors, each of shape (words,), and their number.

    Orders come in pairs, each with its reverse, whose errors partly cancel (Mitchell et al. 2022, section 4.1); the
    standard errors are those of the mean over pairs.
    """
    number, pairs = len(subject.words), max(2, settings.samples // 2)
    random = np.random.default_rng(settings.seed)
    orders = [order for _ in range(pairs) for one in [random.permutation(number)] for order in (one, one[::-1])]
    # the words that are there after each step of an order, shape (orders, words + 1, words)
    sets = np.stack([np.argsort(order) < np.arange(number + 1)[:, None] for order in orders])
    worth = subject.value(sets.reshape(-1, number)).reshape(len(orders), number + 1)
    added = np.zeros((len(orders), number))
    for one, order, steps in zip(added, orders, np.diff(worth, axis=1), strict=True):
        one[order] = steps
    of_pairs = added.reshape(pairs, 2, number).mean(1)
    return of_pairs.mean(0), of_pairs.std(0, ddof=1) / sqrt(pairs), {"orders": len(orders)}

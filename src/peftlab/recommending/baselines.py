"""Recommenders that a trained one has to beat. Each learns from histories, and scores all items for a history."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from peftlab.reading.words import WORD_OF_TWO
from peftlab.recommending.interactions import Catalogue

Histories = Sequence[Sequence[int]]
"""The places of the items of each user."""

Recommender = Callable[[Histories], np.ndarray]
"""Returns the scores of all items for each history, float64 of shape (histories, items)."""

NEIGHBOURS = (10, 20, 50, 100, 200, None)
"""Numbers of neighbours that item-kNN may choose from by validation; None: all."""
RECENT = (1, 3, 5, 10)
"""Numbers of the last items that it may choose from, where it reads no more."""
SHRINKAGE = (50.0, 100.0, 200.0, 500.0, 1000.0)
"""Values that EASE may choose from by validation."""


def popularity(histories: Histories, catalogue: Catalogue) -> Recommender:
    """Score each item by how many users have it."""
    counts = np.asarray(_matrix(histories, catalogue).sum(0), np.float64).ravel()
    return lambda of: np.tile(counts, (len(of), 1))


def item_knn(histories: Histories, catalogue: Catalogue, neighbours: int | None = 20) -> Recommender:
    """Score an item by the cosines of its users to those of the items in the history, as far as these are among its
    `neighbours` nearest, or all for None (Sarwar et al. 2001; Deshpande & Karypis 2004)."""
    together = _together(histories, catalogue)
    lengths = np.sqrt(np.diag(together))
    cosine = together / np.maximum(np.outer(lengths, lengths), 1e-12)
    np.fill_diagonal(cosine, 0.0)
    kept = len(cosine) if neighbours is None else neighbours
    if kept < len(cosine):
        least = -np.partition(-cosine, kept - 1, axis=1)[:, kept - 1 : kept]
        cosine[cosine < least] = 0.0
    return lambda of: np.asarray(_matrix(of, catalogue) @ cosine.T)


def recent_knn(
    histories: Histories, catalogue: Catalogue, recent: int = 3, neighbours: int | None = None
) -> Recommender:
    """Score items as `item_knn` does, by the last `recent` items of a history alone: what comes next often depends on
    what came last, and a baseline without order would make any model with it look good."""
    recommender = item_knn(histories, catalogue, neighbours)
    return lambda of: recommender([own[-recent:] for own in of])


def ease(histories: Histories, catalogue: Catalogue, shrinkage: float = 200.0) -> Recommender:
    """Score items by the linear model that best restores histories with no item restoring itself (Steck 2019,
    equation 8): a closed form, which inverts a matrix of all items."""
    together = _together(histories, catalogue)
    inverse = np.linalg.inv(together + shrinkage * np.eye(len(together)))
    weights = inverse / -np.diag(inverse)
    np.fill_diagonal(weights, 0.0)
    return lambda of: np.asarray(_matrix(of, catalogue) @ weights)


def tf_idf(histories: Histories, catalogue: Catalogue) -> Recommender:
    """Score an item by how many words its text shares with those in the history: sums of cosines of TF-IDF vectors."""
    vectors = _words_of(catalogue).fit_transform(catalogue.texts)
    return lambda of: np.asarray((_matrix(of, catalogue) @ vectors @ vectors.T).toarray())


def word_search(catalogue: Catalogue) -> Callable[[Sequence[str]], np.ndarray]:
    """Score an item by how many words its text shares with what was asked: the cosine of TF-IDF vectors."""
    words = _words_of(catalogue)
    vectors = words.fit_transform(catalogue.texts)
    return lambda queries: np.asarray((words.transform(queries) @ vectors.T).toarray())


BASELINES: Mapping[str, Callable[..., Recommender]] = {
    "popularity": popularity,
    "item_knn": item_knn,
    "recent_knn": recent_knn,
    "tf_idf": tf_idf,
    "ease": ease,
}
"""By name."""

OF_HISTORIES = ("item_knn", "recent_knn", "ease")
"""Those that score nothing without a history; where something is asked instead, ``tf_idf`` is `word_search`."""

CHOICES: Mapping[str, Mapping[str, Sequence[Any]]] = {
    "item_knn": {"neighbours": NEIGHBOURS},
    "recent_knn": {"recent": RECENT, "neighbours": (100, None)},
    "ease": {"shrinkage": SHRINKAGE},
}
"""The options that are chosen on the validation split, as the trained model's are."""


def _words_of(catalogue: Catalogue) -> Any:
    """Return what makes TF-IDF vectors: of words of two letters or more, or of all characters where no text has one."""
    from sklearn.feature_extraction.text import TfidfVectorizer

    has_words = any(re.search(WORD_OF_TWO, text) for text in catalogue.texts)
    return TfidfVectorizer(token_pattern=WORD_OF_TWO if has_words else r"\S")


def _matrix(histories: Histories, catalogue: Catalogue) -> Any:
    """Return which user has which item, sparse of shape (histories, items)."""
    from scipy.sparse import csr_matrix

    rows = np.repeat(np.arange(len(histories)), [len(own) for own in histories])
    columns = np.fromiter((item for own in histories for item in own), np.int64, len(rows))
    counts = csr_matrix((np.ones(len(rows)), (rows, columns)), shape=(len(histories), len(catalogue.items)))
    counts.data[:] = 1.0  # of an item that a user has twice, too
    return counts


def _together(histories: Histories, catalogue: Catalogue) -> np.ndarray:
    """Return how many users have both of two items, shape (items, items)."""
    matrix = _matrix(histories, catalogue)
    return np.asarray((matrix.T @ matrix).toarray(), np.float64)

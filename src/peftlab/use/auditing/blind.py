"""Scores that know nothing of the run: what they find is how members and others differ in kind.

An attack that does no better says nothing about what was learnt by heart (Das et al. 2024, "Blind Baselines Beat
Membership Inference Attacks for Foundation Models", https://arxiv.org/abs/2406.16201).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from peftlab.reading.words import WORD_OF_TWO

FOLDS = 5


def words(texts: Sequence[str], member: np.ndarray, clusters: np.ndarray, seed: int = 0) -> np.ndarray:
    """Return how probable a naive Bayes model over words finds it that a text is a member's.

    Each text is judged by a model of other clusters.

    Args:
        texts: the texts.
        member: whether each is a member's, shape (texts,).
        clusters: the cluster of each text, shape (texts,).
        seed: of the division into folds.

    Returns:
        log odds, shape (texts,); nan where the clusters cannot be divided.
    """
    from sklearn.feature_extraction.text import HashingVectorizer
    from sklearn.naive_bayes import MultinomialNB

    as_words = HashingVectorizer(token_pattern=WORD_OF_TWO, n_features=2**16, alternate_sign=False, norm=None)
    counts = as_words.transform(texts)
    numbers = np.unique(clusters, return_inverse=True)[1]
    fold = np.random.default_rng(seed).permutation(numbers.max() + 1)[numbers] % FOLDS
    odds = np.full(len(texts), np.nan)
    for held_out in range(FOLDS):
        here, others = fold == held_out, fold != held_out
        if here.any() and len(np.unique(member[others])) == 2:
            known = MultinomialNB(fit_prior=False).fit(counts[others], member[others])
            odds[here] = np.diff(known.predict_joint_log_proba(counts[here])).ravel()
    return odds

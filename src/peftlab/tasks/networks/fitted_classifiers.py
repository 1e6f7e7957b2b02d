"""Linear classifiers that are fitted to the embeddings of a few labelled texts, in double precision. No torch."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

_APART = 30.0
"""How far below all others the logit of a class without examples lies: its probability is below 1e-13."""


class Linear(NamedTuple):
    """A linear classifier: its logits are ``embeddings @ weight.T + bias``."""

    weight: np.ndarray
    """Shape (classes, features)."""
    bias: np.ndarray
    """Shape (classes,)."""


class Labelled(NamedTuple):
    """Embeddings of length 1 with their classes."""

    embeddings: np.ndarray
    """Shape (texts, features)."""
    classes: np.ndarray
    """The number of each text's class, shape (texts,)."""
    weights: np.ndarray
    """The weight of each text, above 0, shape (texts,)."""


def logistic(labelled: Labelled, classes: int, inverse_regularization: float) -> Linear:
    """Return the multinomial logistic regression with a Gaussian prior on its weights.

    It minimises the sum of the weighted cross-entropies of the texts, plus half the squared weights over
    `inverse_regularization`; the bias is free.

    Args:
        labelled: texts of at least two classes.
        classes: the number of classes; those without a text are never predicted.
        inverse_regularization: C of scikit-learn.
    """
    from sklearn.linear_model import LogisticRegression

    fitted = LogisticRegression(C=inverse_regularization, tol=1e-6, max_iter=10_000)
    fitted.fit(labelled.embeddings, labelled.classes, labelled.weights)
    weight, bias = fitted.coef_, fitted.intercept_
    if len(weight) == 1:  # of two classes, that of the second alone
        weight, bias = (np.concatenate([-part / 2, part / 2]) for part in (weight, bias))
    return _of_all(Linear(weight, bias), fitted.classes_, classes)


def prototypes(labelled: Labelled, classes: int, temperature: float) -> Linear:
    """Return the classifier by the nearest mean of a class: logits are minus half the squared distances to the means,
    over the temperature, up to what is the same for all classes (Snell et al. 2017, equations 2 and 8).

    Args:
        labelled: the texts.
        classes: the number of classes; those without a text are never predicted.
        temperature: how fast probabilities fall with the distance.
    """
    present = np.unique(labelled.classes)
    means = np.stack(
        [
            np.average(labelled.embeddings[of_class], axis=0, weights=labelled.weights[of_class])
            for of_class in (labelled.classes == name for name in present)
        ]
    )
    return _of_all(Linear(means / temperature, -(means**2).sum(axis=1) / (2 * temperature)), present, classes)


def _of_all(fitted: Linear, present: np.ndarray, classes: int) -> Linear:
    """Return the classifier with rows for all classes, those without examples included."""
    # an embedding has length 1, so that no logit is less than this
    lowest = (fitted.bias - np.linalg.norm(fitted.weight, axis=1)).min()
    weight = np.zeros((classes, fitted.weight.shape[1]))
    bias = np.full(classes, lowest - _APART)
    weight[present], bias[present] = fitted
    return Linear(weight, bias)

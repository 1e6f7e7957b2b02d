"""Classifiers of embeddings: against the conditions that define them, and the nearest mean by hand."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.special import softmax

from peftlab.tasks.networks.fitted_classifiers import Labelled, logistic, prototypes


def drawn(classes, seed=0):
    random = np.random.default_rng(seed)
    of = np.asarray(classes)
    embeddings = random.normal(size=(len(of), 6)) + 2 * np.eye(6)[of]
    embeddings /= np.linalg.norm(embeddings, axis=1, keepdims=True)
    return Labelled(embeddings, of, random.uniform(0.5, 2, len(of)))


@pytest.mark.parametrize("classes", [[0, 1, 2] * 8, [0, 1] * 8])
def test_the_logistic_regression_is_at_its_minimum(classes):
    labelled, number = drawn(classes), len({*classes})
    weight, bias = logistic(labelled, number, inverse_regularization=3.0)
    apart = softmax(labelled.embeddings @ weight.T + bias, axis=1) - np.eye(number)[labelled.classes]
    apart *= labelled.weights[:, None]
    assert np.abs(apart.sum(axis=0)).max() < 1e-3
    # scikit-learn regularises one vector where there are two classes, half of which each of ours has
    scale = 3.0 if number > 2 else 1.5
    np.testing.assert_allclose(weight, -scale * apart.T @ labelled.embeddings, atol=1e-3)


def test_prototypes_are_the_nearest_means():
    labelled = drawn([0, 1, 2] * 4)
    weight, bias = prototypes(labelled, 3, temperature=0.2)
    means = np.stack(
        [
            (labelled.embeddings * labelled.weights[:, None])[labelled.classes == n].sum(axis=0)
            / labelled.weights[labelled.classes == n].sum()
            for n in range(3)
        ]
    )
    text = drawn([1], seed=1).embeddings
    distances = ((text[:, None] - means) ** 2).sum(axis=-1)
    np.testing.assert_allclose(softmax(text @ weight.T + bias), softmax(-distances / (2 * 0.2)))


@pytest.mark.parametrize("fit", [lambda own: logistic(own, 5, 10.0), lambda own: prototypes(own, 5, 0.1)])
def test_a_class_without_examples_is_never_predicted(fit):
    labelled = drawn([1, 3, 4] * 4)
    weight, bias = fit(labelled)
    shares = softmax(drawn([0, 1, 2, 3, 4] * 3, seed=1).embeddings @ weight.T + bias, axis=1)
    assert shares[:, [0, 2]].max() < 1e-12
    assert (shares[:, [1, 3, 4]].sum(axis=1) > 1 - 1e-9).all()

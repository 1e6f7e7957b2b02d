"""The scores against numbers computed by other programs, or by hand."""

from __future__ import annotations

from dataclasses import asdict

import numpy as np
import pytest
from sklearn.covariance import LedoitWolf
from sklearn.neighbors import NearestNeighbors

from peftlab.abstaining.scores import energy, knn, mahalanobis, msp, score_called, score_names
from peftlab.errors import ConfigError

LOGITS = np.asarray([[2.0, -1.0, 0.5], [0.1, 0.2, 0.0], [5.0, 4.0, -3.0]])

# of pytorch-ood 0.4.0, in double precision: -EnergyBased.score(LOGITS, T) and -MaxSoftmax.score(LOGITS, T)
ENERGY = {
    1.0: [2.241311296657157, 1.201942848229244, 5.313506900283053],
    2.0: [3.0559514877106198, 2.2988908969059967, 5.970826451664262],
}
MSP = {
    1.0: [0.7855970345892759, 0.3671654011109255, 0.7308793357119101],
    2.0: [0.5897976636568125, 0.35013186144895325, 0.61544282733744],
}


@pytest.fixture
def clouds() -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(0)
    classes = np.repeat([0, 1, 2], 30)
    return random.normal(size=(90, 8)) * np.linspace(0.3, 2, 8) + 3 * np.eye(3, 8)[classes], classes


def test_energy_and_msp_are_those_of_pytorch_ood():
    for temperature, expected in ENERGY.items():
        assert energy.score(LOGITS, {}, temperature) == pytest.approx(expected, rel=1e-12)
    for temperature, expected in MSP.items():
        assert msp.score(LOGITS, {}, temperature) == pytest.approx(expected, rel=1e-12)
    assert np.isfinite(energy.score(1e4 * LOGITS, {})).all()


def test_knn_is_the_distance_to_the_kth_neighbour(clouds, monkeypatch):
    features, classes = clouds
    texts = np.random.default_rng(1).normal(size=(40, 8))
    normal = lambda x: x / np.linalg.norm(x, axis=1, keepdims=True)  # noqa: E731
    nearest = NearestNeighbors(n_neighbors=7).fit(normal(features))
    expected = -nearest.kneighbors(normal(texts))[0][:, -1]
    statistics = knn.learn(features, classes, k=7)
    assert knn.score(texts, statistics, k=7) == pytest.approx(expected, abs=2e-3)  # kept in fp16
    monkeypatch.setattr(knn, "_AT_ONCE", 200)
    assert knn.score(texts, statistics, k=7) == pytest.approx(expected, abs=2e-3)
    with pytest.raises(ConfigError, match=r"out_of_scope.options.k=91: there are 90 training texts"):
        knn.learn(features, classes, k=91)


def test_mahalanobis_is_the_distance_in_the_shrunk_covariance(clouds):
    features, classes = clouds
    means = np.stack([features[classes == c].mean(0) for c in range(3)])
    centred = features - means[classes]
    estimate = LedoitWolf(assume_centered=True).fit(centred)
    texts = np.random.default_rng(1).normal(size=(40, 8))
    expected = [-min((x - m) @ estimate.precision_ @ (x - m) for m in means) for x in texts]
    statistics = mahalanobis.learn(features, classes)
    assert float(statistics["shrinkage"][0]) == pytest.approx(estimate.shrinkage_, rel=1e-5)
    assert mahalanobis.score(texts, statistics) == pytest.approx(expected, rel=1e-4, abs=1e-4)
    plain = np.linalg.inv(centred.T @ centred / len(centred))
    expected = [-min((x - m) @ plain @ (x - m) for m in means) for x in texts]
    assert mahalanobis.score(texts, mahalanobis.learn(features, classes, shrinkage=0.0)) == pytest.approx(
        expected, 1e-3
    )


def test_mahalanobis_bears_more_features_than_texts():
    random = np.random.default_rng(0)
    features, classes = random.normal(size=(6, 20)), np.asarray([0, 0, 0, 4, 4, 4])  # classes without texts in between
    assert np.isfinite(mahalanobis.score(random.normal(size=(5, 20)), mahalanobis.learn(features, classes))).all()


def test_mahalanobis_of_classes_without_two_texts_that_differ_is_no_distance():
    features = np.random.default_rng(0).normal(size=(3, 5)).astype(np.float32)
    for twice in (features, np.repeat(features, 2, axis=0)):
        with pytest.raises(ConfigError, match="none has two that differ"):
            mahalanobis.learn(twice, np.repeat([0, 1, 2], len(twice) // 3))


def test_every_score_is_greater_in_scope(clouds):
    features, classes = clouds
    far = -6 * np.ones((20, 8)) + np.random.default_rng(2).normal(size=(20, 8))
    head = np.eye(3, 8).T * 3
    for name in score_names():
        score = score_called(name)
        options = asdict(score.Options())
        statistics = score.learn(features, classes, **options)
        inside, outside = (values @ head if score.READS == "logits" else values for values in (features, far))
        scores = [score.score(values, statistics, **options) for values in (inside, outside)]
        assert np.median(scores[0]) > np.median(scores[1]), name
        assert all(((score.RANGE[0] < each) & (each <= score.RANGE[1])).all() for each in scores), name

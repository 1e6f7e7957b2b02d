"""Corrected shares: known answers, and that their intervals cover."""

from __future__ import annotations

import numpy as np
import pytest

from peftlab.errors import ConfigError
from peftlab.opinion.correction import Confusion, drawn_shares, em, project

COUNTS = np.array([[80.0, 15, 5], [20, 160, 20], [3, 12, 85]])
LABELS = ("negative", "neutral", "positive")


@pytest.fixture
def random():
    return np.random.default_rng(0)


def test_two_labels_are_corrected_as_rogan_and_gladen_write():
    sensitivity, specificity, apparent = 0.9, 0.8, 0.34
    confusion = Confusion(("no", "yes"), np.array([[80.0, 20], [10, 90]]))
    corrected = confusion.inverse @ [1 - apparent, apparent]
    assert corrected[1] == pytest.approx((apparent + specificity - 1) / (sensitivity + specificity - 1))


def test_the_predicted_shares_of_true_ones_give_these_back():
    confusion, shares = Confusion(LABELS, COUNTS), np.array([0.2, 0.5, 0.3])
    assert confusion.inverse @ (shares @ confusion.rates) == pytest.approx(shares)
    assert confusion.priors == pytest.approx([0.25, 0.5, 0.25])


def test_the_nearest_point_of_the_simplex(random):
    points = random.normal(size=(50, 4))
    nearest = project(points)
    assert nearest.min() >= 0
    assert nearest.sum(-1) == pytest.approx(1)
    others = random.dirichlet(np.ones(4), size=200)
    distance = np.linalg.norm(points - nearest, axis=-1)
    assert (distance[:, None] <= np.linalg.norm(points[:, None] - others, axis=-1) + 1e-9).all()
    assert project(np.array([0.2, 0.3, 0.5])) == pytest.approx([0.2, 0.3, 0.5])


@pytest.mark.slow
def test_intervals_cover_the_true_share_where_the_confusion_is_uncertain_too(random):
    rates, shares, covered, narrow = Confusion(LABELS, COUNTS).rates, np.array([0.3, 0.4, 0.3]), 0, 0
    for _ in range(200):
        own = Confusion(LABELS, np.stack([random.multinomial(100, row) for row in rates]).astype(float))
        counts = random.multinomial(500, shares @ rates).astype(float)
        low, high = np.quantile(drawn_shares(counts, own.draws(random), random)[:, 0], (0.025, 0.975))
        covered += low <= shares[0] <= high
        fixed = np.broadcast_to(own.inverse, (500, 3, 3))
        low, high = np.quantile(drawn_shares(counts, fixed, random)[:, 0], (0.025, 0.975))
        narrow += low <= shares[0] <= high
    assert 180 <= covered <= 199
    assert narrow < covered - 10


@pytest.mark.slow
def test_probabilities_give_the_shares_and_their_error(random):
    priors, shares = np.array([0.5, 0.3, 0.2]), np.array([0.2, 0.3, 0.5])
    means = np.array([0.0, 1.5, 3.0])

    def probabilities(number):
        x = random.normal(means[random.choice(3, p=shares, size=number)])
        joint = np.exp(-((x[:, None] - means) ** 2) / 2) * priors
        return joint / joint.sum(1, keepdims=True)

    estimates = np.array([em(probabilities(400), priors)[0] for _ in range(60)])
    _, variance = em(probabilities(20_000), priors)
    assert estimates.mean(0) == pytest.approx(shares, abs=0.02)
    assert estimates.std(0) == pytest.approx(np.sqrt(variance / 400), rel=0.35)


@pytest.mark.parametrize(
    ("counts", "said"),
    [
        (np.array([[5.0, 1], [20, 80]]), "6 labelled texts of 'a'"),
        (np.array([[50.0, 50], [45, 55]]), "hardly tells some labels apart"),
    ],
)
def test_a_confusion_that_corrects_nothing_is_refused(counts, said):
    with pytest.raises(ConfigError, match=said):
        Confusion(("a", "b"), counts).check("opinion")

"""Lower limits of epsilon."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.optimize import brentq
from scipy.stats import binom, norm

from peftlab.report.statistics.epsilon import lower_limits, of_guesses, of_rates

DELTA = 1e-5


def gaussian(seed: int, sigma: float, size: int) -> tuple[np.ndarray, np.ndarray]:
    """Return what a Gaussian mechanism of sensitivity 1 tells of examples that a coin let in."""
    random = np.random.default_rng(seed)
    members = random.random(size) < 0.5
    return members + sigma * random.normal(size=size), members


def epsilon_of_gaussian(sigma: float) -> float:
    """Return the exact epsilon of the mechanism at `DELTA` (Balle & Wang 2018, theorem 8)."""

    def excess(epsilon: float) -> float:
        terms = norm.cdf(1 / (2 * sigma) - epsilon * sigma), norm.cdf(-1 / (2 * sigma) - epsilon * sigma)
        return terms[0] - math.exp(epsilon) * terms[1] - DELTA

    return brentq(excess, 0, 50)


@pytest.mark.slow
def test_an_attack_that_guesses_proves_nothing():
    wrong = {"rates": 0, "guesses": 0}
    for seed in range(500):
        random = np.random.default_rng(seed)
        found = lower_limits(random.normal(size=200), random.random(200) < 0.5, 0.0, seed=seed)
        for name in wrong:
            wrong[name] += getattr(found, name) > 0
    assert all(count <= 25 for count in wrong.values()), wrong  # 5 %


@pytest.mark.slow
@pytest.mark.parametrize(("sigma", "size"), [(0.5, 1000), (1.0, 4000)])
def test_limits_are_below_the_epsilon_of_a_known_mechanism_and_above_nothing(sigma, size):
    exact = epsilon_of_gaussian(sigma)
    found = [lower_limits(*gaussian(seed, sigma, size), DELTA, seed=seed) for seed in range(20)]
    for name in ("rates", "guesses"):
        limits = [getattr(one, name) for one in found]
        assert sum(limit > exact for limit in limits) <= 2, (name, exact, limits)
        assert sum(limit > 0.3 for limit in limits) >= 18, (name, exact, limits)


def test_the_limit_by_rates_is_that_of_its_formula():
    high, low = 1 - 0.025 ** (1 / 100), 0.025 ** (1 / 100)  # of 0 in 100, and of 100 in 100
    assert of_rates(100, 100, 0, 100, 0.01) == pytest.approx(math.log((low - 0.01) / high))
    assert of_rates(0, 100, 0, 100, 0.0) == 0.0
    assert of_rates(50, 100, 50, 100, 0.0) == 0.0
    missed = of_rates(100, 100, 90, 100, 0.0)  # what an alarm does not prove, its absence may
    assert missed == pytest.approx(of_rates(10, 100, 0, 100, 0.0))


def test_an_attack_that_is_wholly_wrong_proves_nothing():
    members = np.arange(40) < 20
    found = lower_limits(np.where(members, 0.0, 1.0), members, DELTA)
    assert (found.rates, found.guesses) == (0, 0)


def test_the_limit_by_guesses_is_where_a_binomial_tail_has_the_risk():
    limit = of_guesses(95, 100, 500, 0.0)
    assert binom.sf(94, 100, 1 / (1 + math.exp(-limit))) == pytest.approx(0.05, abs=1e-4)
    with_delta = [of_guesses(95, 100, 500, delta) for delta in (1e-6, 1e-4, 1e-2)]
    assert limit > with_delta[0] > with_delta[1] > with_delta[2] == 0.0
    assert of_guesses(0, 0, 500, 0.0) == 0.0


def test_the_term_of_delta_is_that_of_a_plain_loop():
    right, guesses, examples, delta = 60, 70, 200, 1e-4
    limit = of_guesses(right, guesses, examples, delta)
    chance = 1 / (1 + math.exp(-limit))
    total = largest = 0.0
    for i in range(1, right + 1):
        total += binom.pmf(right - i, guesses, chance)
        largest = max(largest, total / i)
    assert binom.sf(right - 1, guesses, chance) + 2 * delta * examples * largest == pytest.approx(0.05, abs=2e-4)

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.optimize import brentq
from scipy.stats import norm

pytest.importorskip("opacus")

from opacus.accountants import PRVAccountant

from peftlab.data.poisson import Poisson
from peftlab.errors import ConfigError
from peftlab.privacy import guarantee
from peftlab.privacy.accountant import TOLERANCE, Release, epsilon_of, noise_for
from peftlab.privacy.guarantee import settle
from peftlab.privacy.spec import PrivacySpec


def exact(sigma, steps, delta):
    """The epsilon of a Gaussian mechanism of sensitivity 1, composed `steps` times (Balle and Wang 2018, theorem 8)."""
    sigma = sigma / math.sqrt(steps)

    def excess(epsilon):
        a, b = 1 / (2 * sigma), epsilon * sigma
        return norm.cdf(a - b) - math.exp(epsilon + norm.logcdf(-a - b)) - delta

    return brentq(excess, 0, 1000)


def by_moments(sigma, rate, steps, delta):
    """The epsilon from Rényi divergences of whole orders (Mironov, Talwar and Zhang 2019, section 3.3)."""
    best = math.inf
    for order in range(2, 200):
        terms = [
            math.lgamma(order + 1) - math.lgamma(k + 1) - math.lgamma(order - k + 1)
            + k * math.log(rate) + (order - k) * math.log1p(-rate) + (k * k - k) / (2 * sigma**2)
            for k in range(order + 1)
        ]  # fmt: skip
        largest = max(terms)
        divergence = (largest + math.log(sum(math.exp(term - largest) for term in terms))) / (order - 1)
        conversion = math.log1p(-1 / order) - math.log(delta * order) / (order - 1)  # Canonne et al. 2020
        best = min(best, steps * divergence + conversion)
    return best


@pytest.mark.parametrize(("sigma", "steps", "delta"), [(1.0, 1, 1e-5), (5.0, 30, 1e-5), (20.0, 200, 1e-6)])
def test_without_sampling_it_is_the_closed_form(sigma, steps, delta):
    found, expected = epsilon_of([Release(sigma, 1.0, steps)], delta), exact(sigma, steps, delta)
    assert expected <= found <= expected + 1.1 * TOLERANCE


@pytest.mark.slow
@pytest.mark.parametrize(("sigma", "rate", "steps", "delta"), [(0.8, 0.016, 189, 1e-4), (1.1, 0.01, 1000, 1e-5)])
def test_it_is_opacus_epsilon_and_below_that_of_moments(sigma, rate, steps, delta):
    found = epsilon_of([Release(sigma, rate, steps)], delta)
    accountant = PRVAccountant()
    for _ in range(steps):
        accountant.step(noise_multiplier=sigma, sample_rate=rate)
    assert found == pytest.approx(accountant.get_epsilon(delta), abs=1e-6)
    upper = by_moments(sigma, rate, steps, delta)
    assert 0.5 * upper < found < upper


@pytest.mark.exhaustive
def test_noise_is_the_least_that_suffices():
    sigma = noise_for(3.0, 1e-5, 0.02, 150)
    assert 2.9 < epsilon_of([Release(sigma, 0.02, 150)], 1e-5) <= 3.0
    assert epsilon_of([Release(sigma * 0.999, 0.02, 150)], 1e-5) > 3.0


@pytest.mark.slow
def test_several_trainings_on_the_same_data_spend_together():
    one = Release(1.0, 0.02, 100)
    assert epsilon_of([], 1e-5) == 0
    assert epsilon_of([one, one], 1e-5) == pytest.approx(epsilon_of([Release(1.0, 0.02, 200)], 1e-5), abs=TOLERANCE)
    assert epsilon_of([one, Release(2.0, 0.02, 100)], 1e-5) > epsilon_of([one], 1e-5)


@pytest.mark.slow
def test_an_epsilon_that_no_noise_reaches_is_refused():
    with pytest.raises(ConfigError, match="no noise suffices"):
        noise_for(1e-3, 1e-5, 0.02, 100)


def test_what_cannot_be_computed_or_promises_nothing_is_refused(monkeypatch):
    with pytest.raises(ConfigError, match=r"privacy\.epsilon=200: promises nothing"):
        noise_for(200.0, 1e-5, 0.05, 100)
    with pytest.raises(ConfigError, match=r"cannot compute .* at delta=1e-14 .* Raise privacy\.delta"):
        epsilon_of([Release(1.0, 0.05, 100)], 1e-14)
    monkeypatch.setattr(guarantee, "epsilon_of", lambda releases, delta: math.inf)
    with pytest.raises(ConfigError, match=r"noise_multiplier=0\.1: 3 steps with so little noise"):
        settle(PrivacySpec(noise_multiplier=0.1), Poisson(np.arange(5), 0.5, 3), 3)


def test_an_epsilon_is_never_below_nothing():
    assert epsilon_of([Release(1.0, 0.05, 100)], 0.5) == 0


def test_an_open_delta_needs_several_units():
    one = Poisson(np.zeros(5, dtype=np.int64), 1.0, 3)
    with pytest.raises(ConfigError, match=r"privacy\.delta=null: n \*\* -1\.1 of one group is 1"):
        settle(PrivacySpec(noise_multiplier=1.0, unit="group"), one, 3)

"""The privacy that training spends, by Opacus's accountant of privacy random variables (Gopi et al. 2021)."""

from __future__ import annotations

import functools
import logging
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any

from peftlab.errors import ConfigError

log = logging.getLogger("peftlab")

TOLERANCE = 0.01
"""How far an epsilon may lie above the true one; it never lies below."""
MOST = 100.0
"""The largest epsilon that noise is looked for: a larger one promises nothing, and the search takes minutes."""


@dataclass(frozen=True)
class Release:
    """Steps of the Gaussian mechanism on Poisson samples."""

    noise_multiplier: float
    """The noise's standard deviation, in units of the largest norm of what a unit adds."""
    sample_rate: float
    """The probability that a unit takes part in a step."""
    steps: int


def epsilon_of(releases: Sequence[Release], delta: float) -> float:
    """Return an upper bound on the epsilon of all `releases` together, at most `TOLERANCE` above the true one;
    infinite where it is too large to be computed.

    Raises:
        ConfigError: it cannot be computed, or the extra is not installed.
    """
    history = tuple((each.noise_multiplier, each.sample_rate, each.steps) for each in releases if each.steps)
    return _epsilon(history, delta) if history else 0.0


@functools.cache  # seconds for a search, and the runs of a sweep ask the same
def _epsilon(history: tuple[tuple[float, float, int], ...], delta: float) -> float:
    accountant = _accountants().PRVAccountant()
    accountant.history = [*history]
    with warnings.catch_warnings(action="ignore"):  # of logarithms of 0 in the tails, and of where it looks for bounds
        try:
            found = float(accountant.get_epsilon(delta, eps_error=TOLERANCE))
        except (ValueError, RuntimeError) as error:
            raise ConfigError(
                f"privacy: the accountant cannot compute the epsilon of this training at delta={delta:g} ({error}). "
                "Raise privacy.delta, or privacy.noise_multiplier if it is below 0.2"
            ) from error
    return max(0.0, found)  # below 0 where delta is so large that it bounds everything


def noise_for(epsilon: float, delta: float, sample_rate: float, steps: int) -> float:
    """Return the smallest noise multiplier, to four digits, with which training spends at most `epsilon`.

    Raises:
        ConfigError: `epsilon` is above `MOST`, no noise suffices, or the extra is not installed.
    """
    if epsilon > MOST:
        raise ConfigError(
            f"privacy.epsilon={epsilon:g}: promises nothing, and is too large to look for its noise. Give at most "
            f"{MOST:g}, or the noise itself: privacy.epsilon=null privacy.noise_multiplier=0.3"
        )
    log.info("privacy: looking for the noise with which %d steps spend epsilon %g", steps, epsilon)
    low, high = 0.0, 1.0
    while epsilon_of([Release(high, sample_rate, steps)], delta) > epsilon:
        low, high = high, 2 * high
        if high > 1e5:
            raise ConfigError(
                f"privacy.epsilon={epsilon:g}: no noise suffices for {steps} steps at delta={delta:g}. Raise epsilon"
            )
    while high - low > 1e-4 * high:
        middle = (low + high) / 2
        if epsilon_of([Release(middle, sample_rate, steps)], delta) > epsilon:
            low = middle
        else:
            high = middle
    return high


def name() -> str:
    """Return the accountant and its version, for the record."""
    return f"PRV, opacus {version('opacus')}"


def _accountants() -> Any:
    """Return Opacus's accountants.

    Raises:
        ConfigError: the extra is not installed.
    """
    try:
        from opacus import accountants
    except ModuleNotFoundError as error:
        raise ConfigError('privacy: its accountant is not installed: pip install "peftlab[privacy]"') from error
    return accountants

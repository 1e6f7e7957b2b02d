"""What a private training promises, settled before it begins: noise, probability, steps, epsilon."""

from __future__ import annotations

import math
from dataclasses import dataclass

from peftlab.data.poisson import Poisson
from peftlab.errors import ConfigError
from peftlab.privacy import accountant
from peftlab.privacy.accountant import TOLERANCE, Release, epsilon_of, noise_for
from peftlab.privacy.spec import PrivacySpec, Unit


@dataclass(frozen=True)
class Guarantee:
    """An (epsilon, delta) guarantee for each unit of the training split, when one is added or removed."""

    epsilon: float
    delta: float
    noise_multiplier: float
    max_grad_norm: float
    sample_rate: float
    steps: int
    """The steps of the whole training. A training that stops early has the same guarantee."""
    unit: Unit
    units: int
    """The number of units in the training split."""
    accountant: str

    @property
    def expected(self) -> float:
        """The expected number of units in a step, by which the sum of their gradients is divided."""
        return self.sample_rate * self.units

    def settled(self, spec: PrivacySpec) -> dict[str, object]:
        """Return the values of the open entries of `spec`, so that the run can be repeated and resumed with them."""
        key = None if spec.key_file is None else str(spec.key_file.expanduser().absolute())
        settled = {"noise_multiplier": self.noise_multiplier, "delta": self.delta}
        return {**settled, "key_file": key, "key_sha256": spec.digest}

    def spent(self, steps: int) -> float:
        """Return the epsilon of the first `steps` steps."""
        return epsilon_of([Release(self.noise_multiplier, self.sample_rate, steps)], self.delta)

    def __str__(self) -> str:
        return (
            f"epsilon {self.epsilon:.3g} at delta {self.delta:.2g} for each {self.unit} of the training split "
            f"(noise multiplier {self.noise_multiplier:.4g}, norm {self.max_grad_norm:g}, each of {self.units:,} "
            f"{self.unit}s in a step with probability {self.sample_rate:.4g}, {self.steps:,} steps; "
            f"{self.accountant})"
        )


def settle(spec: PrivacySpec, sampling: Poisson, steps: int) -> Guarantee:
    """Return the guarantee of a training of so many `steps`.

    Raises:
        ConfigError: the noise that is given spends more than the epsilon that is given, or more than can be computed;
            no noise suffices; or delta is open, and there is one unit alone.
    """
    if spec.delta is None and sampling.number == 1:
        raise ConfigError(
            f"privacy.delta=null: n ** -1.1 of one {spec.unit} is 1, which promises nothing. Train on several "
            f"{spec.unit}s, or give a probability: privacy.delta=1e-5"
        )
    delta = sampling.number**-1.1 if spec.delta is None else spec.delta
    noise = spec.noise_multiplier
    if noise is None:
        assert spec.epsilon is not None
        noise = noise_for(spec.epsilon, delta, sampling.rate, steps)
    epsilon = epsilon_of([Release(noise, sampling.rate, steps)], delta)
    if spec.epsilon is not None and epsilon > spec.epsilon + TOLERANCE:
        raise ConfigError(
            f"privacy.noise_multiplier={noise:g}: {steps} steps with it spend epsilon {epsilon:.3g}, more than "
            f"privacy.epsilon={spec.epsilon:g}. Set one of them to null"
        )
    if math.isinf(epsilon):
        raise ConfigError(
            f"privacy.noise_multiplier={noise:g}: {steps} steps with so little noise have an epsilon that is too large "
            "to be computed, and promise nothing. Raise it, or set privacy=none"
        )
    return Guarantee(
        epsilon,
        delta,
        noise,
        spec.max_grad_norm,
        sampling.rate,
        steps,
        spec.unit,
        sampling.number,
        accountant.name(),
    )

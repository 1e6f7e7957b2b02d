"""The section `privacy` of the configuration."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Literal

from pydantic import ConfigDict, Field
from pydantic.dataclasses import dataclass

from peftlab.errors import ConfigError
from peftlab.storage.secrets import read_secret

Unit = Literal["example", "group", "client"]


@dataclass(kw_only=True, config=ConfigDict(extra="forbid"))
class PrivacySpec:
    """Differentially private training (Abadi et al. 2016)."""

    epsilon: float | None = Field(default=None, gt=0, allow_inf_nan=False)
    """The guarantee of the whole training, from which the noise follows; None: it follows from `noise_multiplier`."""
    noise_multiplier: float | None = Field(default=None, gt=0, allow_inf_nan=False)
    """The noise's standard deviation, in units of `max_grad_norm`; None: what `epsilon` needs."""
    delta: float | None = Field(default=None, gt=0, lt=1)
    """The probability that `epsilon` does not bound; None: ``n ** -1.1``, of n units."""
    max_grad_norm: float = Field(default=1.0, gt=0, allow_inf_nan=False)
    """The norm that each unit's gradient, or a client's change of the weights, is scaled down to over all trained
    tensors."""
    unit: Unit = "example"
    """What the guarantee is for: a training example, all examples of a group, such as a person's, or all that a client
    of a federation has."""
    key_file: Path | None = None
    """A file of random bytes that noise and batches are drawn from; None: they are drawn from the run's identity."""
    key_sha256: str | None = None
    """The digest of these bytes, filled in when the file is read."""

    def __post_init__(self) -> None:
        """Check that something says how much noise there is."""
        if self.epsilon is None and self.noise_multiplier is None:
            raise ValueError("epsilon and noise_multiplier are both null: set one of them, such as privacy.epsilon=8")
        if self.key_file is not None and self.key_sha256 not in (None, self.digest):
            raise ConfigError(
                f"privacy.key_file = '{self.key_file}': it is not the key that the run began with; put that one there"
            )

    @property
    def digest(self) -> str | None:
        """The digest of the key; None: there is none."""
        return None if self.key_file is None else hashlib.sha256(read_key(self.key_file)).hexdigest()

    def secret(self, run: str) -> bytes:
        """Return the bytes that noise and batches of a run are drawn from.

        They differ between any two runs, also of one seed: the difference of two sums with the same noise has none, and
        epsilons of several trainings add up only if each draws its own.

        Args:
            run: the digest of its identity.
        """
        key = b"" if self.key_file is None else read_key(self.key_file)
        return hashlib.sha256(f"peftlab privacy {run} ".encode() + key).digest()


def read_key(path: Path) -> bytes:
    """Return the bytes of a key.

    Raises:
        ConfigError: the file cannot be read, or has too few.
    """
    advice = "Make one with `head -c 32 /dev/urandom > FILE`, and keep it to yourself"
    return read_secret(path, f"privacy.key_file = '{path}'", advice)

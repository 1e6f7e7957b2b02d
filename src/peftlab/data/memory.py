"""What a run remembers of the examples of an earlier one: the entries of ``data.replay``."""

from __future__ import annotations

from pydantic import ConfigDict, Field
from pydantic.dataclasses import dataclass


@dataclass(kw_only=True, config=ConfigDict(extra="forbid"))
class Memory:
    """Training examples of an earlier run that are learnt again."""

    run: str
    """The folder of the run, or the start of its id."""
    per_class: int | None = Field(default=5, ge=1)
    """How often the examples hold each class, see `peftlab.data.sampling.shots`; None: all examples."""
    seed: int = Field(default=0, ge=0, lt=2**32)
    """Chooses the examples; of one seed, a larger memory contains the smaller ones."""
    times: int = Field(default=1, ge=1)
    """How often an epoch has each of them."""
    sha256: str | None = None
    """The digest of the examples; None: whatever is there."""

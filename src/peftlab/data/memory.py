"""What a run remembers of the examples of an earlier one: the entries of ``data.replay``, and what they stand for."""

from __future__ import annotations

from dataclasses import dataclass as plain_dataclass
from dataclasses import field, replace
from typing import Any

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


@plain_dataclass(frozen=True)
class Recalled:
    """The examples that are remembered of one run."""

    entry: Memory
    """The entry of the configuration, with the run's folder and the digest of the examples."""
    labels: list[str]
    """The labels of the run, in the order of its logits."""
    examples: list[Any]
    """The examples, under ids of their own: ``replay0:train:7`` is of the first entry."""
    factors: dict[str, float] = field(default_factory=dict)
    """By id, the factor on the weight of an example in the loss; 1 for all others."""

    @property
    def repeated(self) -> list[Any]:
        """The examples as often as an epoch has them."""
        return [
            replace(one, id=name)
            for n in range(self.entry.times)
            for one, name in zip(self.examples, self.ids(n), strict=True)
        ]

    def ids(self, number: int) -> list[str]:
        """Return the ids of the examples in their repetition `number`, from 0."""
        return [f"{example.id}:{number}" if number else example.id for example in self.examples]

    @property
    def weights(self) -> dict[str, float]:
        """By id, the factor on the weight of a repeated example in the loss; 1 for all others."""
        every = [zip(self.ids(n), self.ids(0), strict=True) for n in range(self.entry.times)]
        return {name: self.factors[first] for pairs in every for name, first in pairs if first in self.factors}

    def describe(self) -> dict[str, Any]:
        """Return what the run record says about it."""
        return {"run": self.entry.run, "examples": len(self.examples), "labels": self.labels}

"""Base of the terms that weight the task's loss by the groups that examples belong to, such as the people in them."""

from __future__ import annotations

from abc import abstractmethod
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import field
from typing import Any, ClassVar

import torch
from pydantic import Field
from torch import Tensor
from typing_extensions import override

from peftlab.data.identities.groups import groups_of
from peftlab.errors import ConfigError, SourceError
from peftlab.regularizers.regularizer import Material, Term, spec
from peftlab.storage.digests import sha256_of
from peftlab.tasks.batch import Batch


@spec
class OfGroups(Term):
    """Takes the place of the task's loss, with a factor for each example that its group decides."""

    terms: str = "gender"
    """A theme of the package, or a file: the group of an example is that whose terms its texts have, see
    `peftlab.data.identities.terms`."""
    column: str | None = None
    """The column of the data with the groups, in place of `terms`."""
    share: float = Field(default=1.0, ge=0, le=1)
    """The share of the weighted loss in the objective; the rest is the task's own."""
    sha256: str | None = None
    """The digest of the groups of the training examples, set by the run; a run that continues or repeats it needs the
    same."""
    sizes: dict[str, int] = field(default_factory=dict, init=False)
    """The number of training examples of each group, set by `prepare`."""
    places: dict[str, int] = field(default_factory=dict, init=False, repr=False)
    """By id of a training example, its place in what `weigh` returns."""
    neutral: ClassVar[Mapping[str, float]] = {"share": 0}
    of_examples: ClassVar[tuple[str, ...]] = ("sha256",)
    host_work: ClassVar[str | None] = "it looks up the groups of the examples"

    @property
    def how(self) -> str:
        """How the groups are found, for messages."""
        return f"terms={self.terms}" if self.column is None else f"column={self.column}"

    @property
    @override
    def replaces(self) -> float:
        return self.share

    @override
    def prepare(self, material: Material) -> None:
        groups = groups_of(material.task, material.examples, self.terms, self.column, material.format)
        self.sizes = dict(sorted(Counter(groups).items()))
        if len(self.sizes) < 2:
            raise ConfigError(
                f"no effect: by {self.how}, all {len(groups):,} training examples are in the group "
                f"'{next(iter(self.sizes))}'. Choose other groups, or leave it out"
            )
        digest = sha256_of(groups)
        if self.sha256 not in (None, digest):
            raise SourceError(
                "the groups of the training examples have changed since this run began with them: put the old file of "
                "terms back, or begin anew with sha256=null"
            )
        self.sha256 = digest
        places = self.weigh(groups, material)
        self.places = {example.id: place for example, place in zip(material.examples, places, strict=True)}

    @abstractmethod
    def weigh(self, groups: Sequence[str], material: Material) -> Sequence[int]:
        """Settle the factors of the training examples; return the place of each example's factor among them.

        Raises:
            ConfigError: all factors are 1.
        """

    @override
    def resolved(self) -> dict[str, Any]:
        return {"sha256": self.sha256}

    def places_in(self, batch: Batch) -> Tensor:
        """Return the place of each example of a batch, shape (examples,); of a copy or a filler, which have no weight,
        it is 0."""
        own = [self.places[example.id] for example in batch.examples]
        own += [0] * (len(batch.weights) - len(own))
        return torch.tensor(own).to(batch.weights.device, non_blocking=True)

"""Reweighting: labels and groups count as if they were independent, or each group as much as another."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import field
from typing import Literal

from torch import Tensor
from typing_extensions import override

from peftlab.errors import ConfigError
from peftlab.regularizers.of_groups import OfGroups
from peftlab.regularizers.regularizer import Computed, Material, spec
from peftlab.tasks.losses.on_device import on_device


@spec
class Reweight(OfGroups):
    """Multiplies the loss of an example of group g and label y by ``P(g) P(y) / P(g, y)`` (Kamiran & Calders 2012,
    section 5.3), the shares of the training examples, so that a label is as frequent in every group.

    The label of an example with several classes, such as those of its entities, is the set of them.
    """

    balance: Literal["independence", "groups"] = "independence"
    """``independence``: as above. ``groups``: each group has the same total weight, whatever its labels; for tasks
    without classes too."""
    factors: tuple[float, ...] = field(default=(), init=False, repr=False)
    """The different factors."""

    @override
    def weigh(self, groups: Sequence[str], material: Material) -> Sequence[int]:
        labels: list[tuple[str, ...]] = [()] * len(groups)
        if self.balance == "independence":
            labels = [tuple(sorted(material.task.classes(one))) for one in material.examples]
        keys = list(zip(groups, labels, strict=True))
        of_label, of_both = Counter(labels), Counter(keys)
        of_key = {
            (group, label): self._expected(group, of_label[label], len(groups)) / count
            for (group, label), count in of_both.items()
        }
        if all(abs(factor - 1) < 1e-9 for factor in of_key.values()):
            raise ConfigError(
                f"no effect: with balance={self.balance}, all weights are 1: the groups by {self.how} are balanced "
                "already, or the task has no classes (balance=groups needs none). Leave it out"
            )
        order = {key: place for place, key in enumerate(of_key)}
        self.factors = tuple(of_key.values())
        return [order[key] for key in keys]

    def _expected(self, group: str, of_label: int, examples: int) -> float:
        """Return how many examples of a group should have the label that `of_label` examples have."""
        if self.balance == "groups":
            return examples / len(self.sizes)
        return self.sizes[group] * of_label / examples

    @override
    def acted(self) -> Mapping[str, float]:
        return {"groups": len(self.sizes), "least_factor": min(self.factors), "largest_factor": max(self.factors)}

    @override
    def losses(self, computed: Computed) -> Tensor:
        losses = computed.task.losses(computed.outputs, computed.batch)
        factors = on_device(self.factors, losses.device)[self.places_in(computed.batch)]
        return self.share * factors.to(losses.dtype) * losses

"""Rules that merge the weights of runs of one pretrained model into one model's, tensor by tensor."""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from typing import Annotated, Any, Literal

import torch
from pydantic import ConfigDict, Field, FiniteFloat
from pydantic.dataclasses import dataclass
from torch import Tensor
from typing_extensions import override

from peftlab.errors import ConfigError, did_you_mean
from peftlab.validation import checked

spec = dataclass(kw_only=True, config=ConfigDict(extra="forbid"))

Share = Annotated[float, Field(gt=0, le=1)]


@spec
class Rule(ABC):
    """Merges weights; sums are in double precision, and the result is rounded once."""

    @property
    def options(self) -> dict[str, Any]:
        """The options by name."""
        return dict(vars(self))

    def check(self, runs: int) -> None:  # noqa: B027
        """Check the options against the number of `runs`.

        Raises:
            ConfigError: they do not fit.
        """

    def cut(self, changes: Iterable[Tensor]) -> float:
        """Return the magnitude below which the rule drops changes of a run.

        Args:
            changes: all changes of the run, in pieces of shape (values,), computed only when they are asked for.
        """
        return 0.0

    @abstractmethod
    def merged(
        self, original: Tensor, weights: Tensor, cuts: Sequence[float], random: Sequence[torch.Generator]
    ) -> Tensor:
        """Return the merged weights, (values,), in double precision.

        Args:
            original: a piece of the pretrained weights, (values,).
            weights: of the same piece, those of each run, (runs, values).
            cuts: for each run, the result of `cut`.
            random: for each run, a generator for what is drawn in this piece.
        """


@spec
class Soup(Rule):
    """The weighted mean of the weights (Wortsman et al. 2022, "Model soups").

    It adds to the pretrained weights the mean of the changes, and the soup of one run has exactly its weights.
    """

    weights: list[Annotated[FiniteFloat, Field(ge=0)]] | None = None
    """The weight of each run, in proportion; None: all the same."""

    @override
    def check(self, runs: int) -> None:
        if self.weights is not None and (len(self.weights) != runs or sum(self.weights) == 0):
            raise ConfigError(
                f"weights = {self.weights}: give each of the {runs} runs a weight of 0 or more, and not 0 to all"
            )

    @override
    def merged(
        self, original: Tensor, weights: Tensor, cuts: Sequence[float], random: Sequence[torch.Generator]
    ) -> Tensor:
        shares = torch.tensor(self.weights or [1.0] * len(weights), dtype=torch.float64)
        return shares / shares.sum() @ weights.double()


@spec
class GreedySoup(Rule):
    """The mean of the runs that do not harm it (recipe 1 of "Model soups").

    In order of their validation scores, each run is added if the validation score of the soup does not fall. The test
    split has no part in this; the soup's validation score is the result of a selection, and as optimistic as one.
    """

    @override
    def merged(
        self, original: Tensor, weights: Tensor, cuts: Sequence[float], random: Sequence[torch.Generator]
    ) -> Tensor:
        return weights.double().mean(0)


@spec
class OfChanges(Rule):
    """Merges what fine-tuning has added to the pretrained weights."""

    scale: FiniteFloat = 1.0
    """The factor on the merged change (lambda in the papers)."""

    def thinned(self, change: Tensor, cut: float, random: torch.Generator) -> Tensor:
        """Return a piece of a run's `change`, (values,), without what the rule drops of it."""
        return change

    @abstractmethod
    def combined(self, changes: Tensor) -> Tensor:
        """Return one change, (values,), for those of several runs, (runs, values)."""

    @override
    def merged(
        self, original: Tensor, weights: Tensor, cuts: Sequence[float], random: Sequence[torch.Generator]
    ) -> Tensor:
        changes = [self.thinned(*each) for each in zip(weights - original, cuts, random, strict=True)]
        return original.double() + self.scale * self.combined(torch.stack(changes).double())


@spec
class Arithmetic(OfChanges):
    """The sum of the changes, scaled (Ilharco et al. 2023, "Editing models with task arithmetic").

    A negative scale makes the model worse at what the runs have learnt.
    """

    scale: FiniteFloat = 0.4

    @override
    def combined(self, changes: Tensor) -> Tensor:
        return changes.sum(0)


@spec
class Ties(OfChanges):
    """Trims each run's changes, elects a sign for each weight, and averages what agrees with it (Yadav et al. 2023)."""

    density: Share = 0.2
    """The share of a run's changed weights that is kept: the largest changes, over all tensors."""

    @override
    def cut(self, changes: Iterable[Tensor]) -> float:
        sizes = torch.cat([change[change != 0].abs() for change in changes] or [torch.zeros(0)]).numpy()
        if not len(sizes):
            return 0.0
        dropped = len(sizes) - max(1, round(self.density * len(sizes)))
        sizes.partition(dropped)  # in place
        return float(sizes[dropped])

    @override
    def thinned(self, change: Tensor, cut: float, random: torch.Generator) -> Tensor:
        return change.where(change.abs() >= cut, 0)

    @override
    def combined(self, changes: Tensor) -> Tensor:
        return mean_of_elected(changes)


@spec
class Dare(OfChanges):
    """Drops random changes of each run and scales up the rest, so that it is the same on average (Yu et al. 2024)."""

    density: Share = 0.5
    """The probability with which a change is kept (1 - p in the paper)."""
    then: Literal["mean", "ties"] = "mean"
    """How the runs' changes are combined: by their mean, or by TIES' election of signs."""
    seed: int = Field(default=0, ge=0)

    @override
    def thinned(self, change: Tensor, cut: float, random: torch.Generator) -> Tensor:
        kept = torch.rand(change.shape, generator=random) < self.density
        return change.where(kept, 0) / self.density

    @override
    def combined(self, changes: Tensor) -> Tensor:
        return changes.mean(0) if self.then == "mean" else mean_of_elected(changes)


RULES: Mapping[str, type[Rule]] = {
    "soup": Soup,
    "greedy_soup": GreedySoup,
    "arithmetic": Arithmetic,
    "ties": Ties,
    "dare": Dare,
}
"""The rules by the names that ``peftlab ensemble --how`` knows."""


def rule_of(how: str, options: Mapping[str, Any]) -> Rule:
    """Return the rule called `how` with these `options`.

    Raises:
        ConfigError: there is no such rule, or it has no such option or value.
    """
    if how not in RULES:
        raise ConfigError(f"how = '{how}': no such rule.{did_you_mean(how, RULES)} Allowed: {', '.join(RULES)}")
    rule: Rule = checked(RULES[how], dict(options), how)
    return rule


def mean_of_elected(changes: Tensor) -> Tensor:
    """Return the mean of the changes whose sign is that of their sum, (values,); 0 where no sign prevails.

    This is the second and the third step of TIES: a change of 0 has no vote and is not counted.

    Args:
        changes: shape (runs, values).
    """
    agreeing = changes.sign() == changes.sum(0).sign()
    agreeing &= changes != 0
    return changes.where(agreeing, 0).sum(0) / agreeing.sum(0).clamp(min=1)


def generator(seed: int, run: int, tensor: str) -> torch.Generator:
    """Return a generator on the CPU that is a function of `seed`, the number of a `run` and the name of a `tensor`."""
    digest = hashlib.sha256(f"{seed} {run} {tensor}".encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:8], "big") >> 1)

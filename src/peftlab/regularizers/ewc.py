"""Elastic weight consolidation: weights that earlier runs depend on stay near theirs."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass as plain_dataclass
from dataclasses import field
from typing import Annotated, Any, ClassVar

import torch
from pydantic import BeforeValidator, Field
from torch import Tensor, nn
from typing_extensions import override

from peftlab.errors import ConfigError
from peftlab.regularizers.earlier import Earlier, Importance, earlier_runs
from peftlab.regularizers.regularizer import Computed, Material, Term, spec

log = logging.getLogger("peftlab")


@plain_dataclass
class Pull:
    """A quadratic around a value of a weight."""

    centre: Tensor
    strength: Tensor
    """Of the shape of the weight: how much each of its numbers is drawn to the centre."""

    def __call__(self, weight: Tensor) -> Tensor:
        """Return half the weighted sum of squared distances, a scalar."""
        if self.centre.device != weight.device:
            self.centre, self.strength = self.centre.to(weight.device), self.strength.to(weight.device)
        return (self.strength * (weight - self.centre) ** 2).sum() / 2


@spec
class Ewc(Term):
    """Adds ``strength / 2 * sum F (w - w*)^2`` (Kirkpatrick et al. 2017, equation 3).

    w* are the weights that an earlier run has ended with, and F is the diagonal of their Fisher information over its
    training examples, see `peftlab.training.fisher`. Weights are matched by name, and the rows of the output layer by
    label. Of several runs each has a term of its own; ``online`` keeps one, around the last run, whose Fisher
    information is ``F_last + online * F_before + online^2 * ...`` (Schwarz et al. 2018, section 4). A step makes one
    pass; the passes over `examples` of each earlier run, before the first step, are not counted.
    """

    previous: Annotated[list[str], BeforeValidator(lambda one: [one] if isinstance(one, str) else one or [])] = field(
        default_factory=list
    )
    """Finished runs, oldest first, by their folders or the starts of their ids; one may stand alone."""
    sha256: Annotated[list[str], BeforeValidator(lambda digests: digests or [])] = field(default_factory=list)
    """The digests of their identities and adapters; empty: whatever is there."""
    strength: float = Field(default=1000.0, ge=0, allow_inf_nan=False)
    """The paper's lambda, for a mean loss: the Fisher information is that of one example."""
    online: float | None = Field(default=None, ge=0, le=1)
    """By how much the importance to each run before the last fades; None: each run has a term."""
    examples: int = Field(default=200, ge=1)
    """The largest number of training examples of each run to compute the Fisher information over."""
    runs: list[Earlier] = field(default_factory=list, init=False, repr=False)
    """The earlier runs, set by `prepare`."""
    labels: list[str] = field(default_factory=list, init=False, repr=False)
    """The labels of this run."""
    pulls: dict[str, list[Pull]] = field(default_factory=dict, init=False, repr=False)
    """By name of a trained weight, set by `set_up`."""
    neutral: ClassVar[Mapping[str, float]] = {"strength": 0}
    reads_weights: ClassVar[bool] = True
    waits: ClassVar[bool] = True
    host_work: ClassVar[str | None] = "it has not been tried in recorded steps"

    @override
    def prepare(self, material: Material) -> None:
        if not self.previous:
            raise ConfigError("previous is empty: name a finished run by its folder or its id")
        self.runs, self.labels = earlier_runs(self.previous, self.sha256, material), list(material.task.labels)
        for run in self.runs:
            if run.weights_sha256 != material.weights_sha256:
                raise ConfigError(
                    f"{run.place} has other pretrained weights than this run: they are not near each other"
                )
        if not self.runs[-1].begun_with:
            log.warning(
                "regularizer.ewc: this run does not begin with the weights of %s, but is drawn to them; set "
                "adapter=%s/adapter",
                *(self.runs[-1].place,) * 2,
            )

    @override
    def resolved(self) -> dict[str, Any]:
        return {"previous": [run.place for run in self.runs], "sha256": [run.sha256 for run in self.runs]}

    @override
    def set_up(self, model: nn.Module) -> None:
        weights = {name: one.detach() for name, one in model.named_parameters() if one.requires_grad}
        self.pulls = {}
        for run in self.runs:
            importance = run.importance(self.examples)
            if not any(fisher.any() for fisher in importance.fisher.values()):
                raise ConfigError(f"no answer of {run.place} depends on its weights: their Fisher information is 0")
            own = self._pulls(weights, importance, run)
            if not own:
                raise ConfigError(
                    f"{run.place} and this run train no weight of the same name and shape: use its method and options"
                )
            if left := sorted(weights.keys() - own.keys()):
                log.info("regularizer.ewc: not drawn to %s, as it has not trained them: %s", run.place, ", ".join(left))
            self._add(own)

    def _add(self, own: Mapping[str, Pull]) -> None:
        """Add the terms of a run to those of the runs before."""
        if self.online is not None:
            for name, (before,) in self.pulls.items():
                faded = self.online * before.strength
                pull = own.get(name, Pull(before.centre, torch.zeros_like(faded)))  # what it does not train stays there
                self.pulls[name] = [Pull(pull.centre, pull.strength + faded)]
        for name, pull in own.items():
            if self.online is None or name not in self.pulls:
                self.pulls.setdefault(name, []).append(pull)

    def _pulls(self, weights: Mapping[str, Tensor], importance: Importance, run: Earlier) -> dict[str, Pull]:
        """Return the terms of one run, by name of the weight."""
        pulls = {}
        for name, weight in weights.items():
            if name not in importance.fisher:
                continue
            centre, fisher = importance.weights[name].to(weight), importance.fisher[name].to(weight)
            if name in importance.output and run.task.labels != self.labels:
                centre, fisher = self._by_label(weight, centre, fisher, run)
            if centre.shape == weight.shape and fisher.any():
                pulls[name] = Pull(centre, fisher)
        return pulls

    def _by_label(self, weight: Tensor, centre: Tensor, fisher: Tensor, run: Earlier) -> tuple[Tensor, Tensor]:
        """Return centre and importance of an output layer with a row for each label of this run, 0 for new ones."""
        rows = run.places(self.labels)
        theirs = [run.task.labels.index(self.labels[row]) for row in rows]
        own = torch.zeros_like(weight), torch.zeros_like(weight)
        if len(centre) != len(run.task.labels) or len(weight) != len(self.labels) or centre[0].shape != weight[0].shape:
            return own
        for whole, part in zip(own, (centre, fisher), strict=True):
            whole[rows] = part[theirs]
        return own

    @override
    def acted(self) -> Mapping[str, float]:
        return {"weights": sum(pull.strength.count_nonzero().item() for of in self.pulls.values() for pull in of)}

    @override
    def losses(self, computed: Computed) -> Tensor:
        """Return the same for each example by its weight, so that their mean is the term."""
        weights = dict(computed.model.named_parameters())
        value = torch.stack([pull(weights[name]) for name, of in self.pulls.items() for pull in of]).sum()
        return computed.batch.weights.to(value.dtype) * self.strength * value

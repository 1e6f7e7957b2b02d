"""Several models for one task as one: their outputs are mixed, before the task reads its answers off them.

The weighted mean of probability distributions is a linear opinion pool (Stone 1961; Lakshminarayanan et al. 2017,
section 2.4); a vote counts the most probable classes instead.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from peftlab.errors import UserError
from peftlab.tasks.networks.heads import Head, logits_of
from peftlab.tasks.outputs.deferred_logits import DeferredLogits

How = Literal["average", "vote"]

_TIE = 1e-3
"""The share of the mean probabilities in the result of a vote: enough to decide between classes with as many votes, and
less than one vote of a thousand."""


@dataclass(frozen=True)
class Mixture:
    """How the outputs of several models become those of one."""

    weights: Sequence[float]
    """The weight of each model, which sum to 1."""
    how: How = "average"
    temperature: float = 1.0
    """Divides the logits of the mixture (Rahaman & Thiery 2021): models that are calibrated each are underconfident
    together."""

    def softmax(self, logits: Sequence[Tensor | DeferredLogits]) -> Any:
        """Return logits of the mixture of the models' distributions over the last dimension."""
        deferred = [one for one in logits if isinstance(one, DeferredLogits)]
        if len(deferred) == len(logits):
            return self._deferred(deferred)
        whole = [(one.full if isinstance(one, DeferredLogits) else one).float() for one in logits]
        return self.mixed(whole[0], [one.log_softmax(-1) for one in whole])

    def mixed(self, first: Tensor, logs: Sequence[Tensor]) -> Tensor:
        """Return logits of the mixture of distributions over the last dimension.

        They are the first model's plus the logarithm of the ratio of mean and first probability. So a single model's,
        and those of equal ones, stay what they are to the last bit.

        Args:
            first: the first model's logits, (..., classes).
            logs: each model's log probabilities, (..., classes).
        """
        if self.how == "vote" and len(logs) > 1:
            votes = self.mean([F.one_hot(log.argmax(-1), log.shape[-1]).to(log.dtype) for log in logs])
            mean = self.mean([log.exp() for log in logs])
            return ((1 - _TIE) * votes + _TIE * mean).clamp(min=torch.finfo(mean.dtype).tiny).log()
        return self._cooled(first + self._log_mean([log - logs[0] for log in logs]))

    def sigmoid(self, logits: Sequence[Tensor]) -> Tensor:
        """Return logits of the mixtures of the models' Bernoulli distributions."""
        both = [torch.stack([-one.float(), one.float()], -1) / 2 for one in logits]  # whose softmax is the sigmoid
        mixed = Mixture(self.weights, self.how).mixed(both[0], [F.logsigmoid(2 * one) for one in both])
        return self._cooled(mixed[..., 1] - mixed[..., 0])

    def mean(self, values: Sequence[Tensor]) -> Tensor:
        """Return the weighted mean of `values`."""
        return torch.stack([weight * value for weight, value in zip(self.weights, values, strict=True)]).sum(0)

    def of_head(self, outputs: Sequence[Any], head: Head) -> Any:
        """Return the mixture of the models' outputs, in the class of the first one's, by the kind of `head`.

        Raises:
            UserError: numbers cannot be voted on.
        """
        mix: Callable[[Sequence[Any]], Tensor] = self.softmax
        if head.problem_type == "multi_label_classification":
            mix = self.sigmoid
        elif head.problem_type == "regression":
            if self.how == "vote":
                raise UserError("a vote counts classes, and a regression has numbers: average them, --how average")
            mix = lambda values: self.mean([value.float() for value in values])  # noqa: E731
        return like(outputs[0], {name: mix([each[name] for each in outputs]) for name in logits_of(outputs[0])})

    def _deferred(self, logits: Sequence[DeferredLogits]) -> DeferredLogits:
        """Return the mixture of distributions over a vocabulary, still not multiplied out."""
        sizes = [one.hidden.shape[-1] for one in logits]

        def project(hidden: Tensor) -> Any:
            parts = zip(logits, torch.split(hidden, sizes, -1), strict=True)
            return self.softmax([one.of(part) for one, part in parts])

        return DeferredLogits(torch.cat([one.hidden for one in logits], -1), logits[0].head, project)

    def _log_mean(self, logs: Sequence[Tensor]) -> Tensor:
        """Return the logarithm of the weighted mean of the exponentials of `logs`."""
        stacked = torch.stack(list(logs))
        most = stacked.amax(0)
        return most + self.mean((stacked - most).exp().unbind()).log()

    def _cooled(self, logits: Tensor) -> Tensor:
        return logits if self.temperature == 1 else logits / self.temperature


class Members(nn.Module):
    """Several models for one task as one, whose outputs are a mixture of theirs.

    `Task.outputs` mixes what `each` returns; a plain forward pass, which knows no batch, mixes by `mix`.

    Args:
        members: the models, which may share weights.
        mixture: how their outputs are mixed.
        mix: `Task.mixed` of the task.
    """

    def __init__(self, members: Sequence[nn.Module], mixture: Mixture, mix: Callable[..., Any]) -> None:
        super().__init__()
        self.members = nn.ModuleList(members)
        self.mixture, self._mix = mixture, mix
        self.together: Callable[[Mapping[str, Tensor]], list[Any]] | None = None
        """Runs all members in one pass; None: they run one after another."""

    def forward(self, **inputs: Any) -> Any:
        """Return the mixture of the members' outputs."""
        return self._mix(self.each(inputs), self.mixture)

    def each(self, inputs: Mapping[str, Any]) -> list[Any]:
        """Return the outputs of each member, in transformers' form."""
        if self.together is not None:
            return self.together(inputs)
        return [member(**inputs) for member in self.members]

    @property
    def config(self) -> Any:
        """The configuration of the backbone."""
        return self.members[0].config

    def get_input_embeddings(self) -> nn.Module:
        """Return the word embeddings that all members share.

        Raises:
            UserError: they have several.
        """
        tables: list[Any] = [member.get_input_embeddings() for member in self.members]  # type: ignore[operator]
        if any(table is not tables[0] and table.weight is not tables[0].weight for table in tables):
            raise UserError("the members of this ensemble have word embeddings of their own: there is no one table")
        table: nn.Module = tables[0]
        return table


def like(outputs: Any, values: Mapping[str, Any]) -> Any:
    """Return `values` as outputs of a model, in the class of `outputs`."""
    return type(outputs)(**values)

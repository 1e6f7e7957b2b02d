"""Two models on the same examples: hidden states and attention block by block, logits, and what methods insert."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from peftlab.errors import ConfigError
from peftlab.tasks.batch import Batch
from peftlab.tasks.networks.heads import logits_of
from peftlab.tasks.task import Task
from peftlab.use.differing.passes import Attended, Layer, Observed
from peftlab.use.differing.similarity import cka, jensen_shannon

_OUTSIDE = -1e3
"""Tasks give the logits of what is no candidate values far below any model's."""
TOKENS = 4096
"""Tokens of all examples together whose states are compared: with more, CKA is no more certain, and they are kept."""


@dataclass(frozen=True)
class LayerChange:
    """How far a block of the second model is from that of the first."""

    stack: str
    block: int
    cka: float
    """The debiased linear CKA of the hidden states after the block."""
    moved: float
    """The mean distance of a token's hidden states, over their norm in the first model."""
    attention: float | None
    """The mean Jensen-Shannon divergence of what a token attends to, in bits; None: the architecture does not show
    it."""
    crossed: float | None
    """The same of what a decoder's token attends to in the encoder; None: the block has no such attention."""


@dataclass(frozen=True)
class LogitChange:
    """How far the logits of the second model are from those of the first."""

    shift: float
    """The mean absolute difference; where a softmax follows, of logits with mean 0, since others give the same."""
    size: float
    """The mean absolute value of those of the first model."""
    agreement: float | None
    """The share of predictions whose largest logit is the same; None: they are no choice among labels."""


class Comparison:
    """Adds up how two models differ, batch by batch.

    Args:
        task: tells which outputs are distributions.
        examples: how many there will be.
    """

    def __init__(self, task: Task, examples: int) -> None:
        self._task = task
        self.of_tokens = task.head.outputs != "text"
        """Whether hidden states are compared token by token, or as the mean over the tokens of each row."""
        self._each = max(1, math.ceil(TOKENS / max(examples, 1)))
        self._rows: dict[Layer, list[tuple[Tensor, Tensor]]] = defaultdict(list)
        self._means: dict[tuple[str, Layer], list[Tensor]] = defaultdict(list)
        self._shifts: list[Tensor] = []

    def add(self, before: Observed, after: Observed, batch: Batch) -> None:
        """Add a batch that both models have computed."""
        for layer in [layer for layer in before.states if layer in after.states]:
            one, other, real = before.states[layer], after.states[layer], before.real[layer]
            self._rows[layer].append((self._chosen(one, real).cpu(), self._chosen(other, real).cpu()))
            self._means["moved", layer].append(((other - one).norm(dim=-1) / one.norm(dim=-1).clamp(min=1e-12))[real])
        for place in [place for place in before.attention if place in after.attention]:
            one, other = (_to_texts(observed, place) for observed in (before, after))
            if one.shape != other.shape:  # one has fewer heads
                continue
            divergence = jensen_shannon(one, other).mean(1)  # over the heads
            kind = "crossed" if place.crosses else "attention"
            self._means[kind, place.layer].append(divergence[before.real[place.layer]])

    def add_logits(self, before: Observed, after: Observed, batch: Batch) -> None:
        """Add the logits of a batch; only where they mean the same in both models."""
        one, other = (_logits(self._task, observed, batch) for observed in (before, after))
        counts = one > _OUTSIDE
        if one.shape[-1] > 1:
            one, other = (_centred(logits, counts) for logits in (one, other))
            agree = (one.argmax(-1) == other.argmax(-1)).double()
        else:
            agree = one.new_full(one.shape[:-1], math.nan, dtype=torch.double)
        number = counts.sum(-1)
        sizes = [(part.abs() * counts).sum(-1).double() / number for part in (other - one, one)]
        self._shifts.append(torch.stack([*sizes, agree]).cpu())

    def layers(self) -> list[LayerChange]:
        """Return what has been added, block by block in the order of the pass."""
        changes = []
        for layer, pairs in self._rows.items():
            one, other = (torch.cat(rows) for rows in zip(*pairs, strict=True))
            means = [self._mean(kind, layer) for kind in ("moved", "attention", "crossed")]
            changes.append(LayerChange(*layer, cka(one, other), means[0] or 0.0, *means[1:]))
        return changes

    def logits(self) -> LogitChange | None:
        """Return what has been added of the logits; None: nothing."""
        if not self._shifts:
            return None
        shift, size, agreement = torch.cat(self._shifts, 1).mean(1).tolist()
        return LogitChange(shift, size, None if math.isnan(agreement) else agreement)

    def _mean(self, kind: str, layer: Layer) -> float | None:
        parts = self._means.get((kind, layer))
        return float(torch.cat(parts).double().mean()) if parts else None

    def _chosen(self, states: Tensor, real: Tensor) -> Tensor:
        """Return the states of the tokens to compare, (tokens, hidden), or their mean over each row's tokens."""
        if not self.of_tokens:
            weights = real[..., None].to(states.dtype)
            return (states * weights).sum(1) / weights.sum(1).clamp(min=1)
        return torch.cat([states[row, spread_over(places, self._each)] for row, places in enumerate(_places(real))])


def _centred(logits: Tensor, counts: Tensor) -> Tensor:
    """Return `logits` with mean 0 over those that count; the others stay far below."""
    mean = (logits * counts).sum(-1, keepdim=True) / counts.sum(-1, keepdim=True)
    return torch.where(counts, logits - mean, _OUTSIDE)


def spread_over(places: Tensor, most: int) -> Tensor:
    """Return at most so many of `places`, evenly spread over them."""
    if len(places) <= most:
        return places
    return places[torch.linspace(0, len(places) - 1, most, device=places.device).round().long()]


def _places(real: Tensor) -> Iterable[Tensor]:
    return (row.nonzero()[:, 0] for row in real)


def _to_texts(observed: Observed, place: Attended) -> Tensor:
    """Return what each token of the texts attends to among them, (rows, heads, tokens, keys)."""
    weights, tokens = observed.attention[place], observed.real[place.layer].shape[1]
    keys = weights.shape[-1] - virtual_keys(observed, place)
    weights = weights[:, :, -tokens:, -keys:]
    return weights / weights.sum(-1, keepdim=True).clamp(min=1e-12)


def virtual_keys(observed: Observed, place: Attended) -> int:
    """Return how many of the keys are those of virtual tokens: the first ones."""
    layer = place.layer
    if place.crosses:  # the keys are those of the encoder, whose blocks come first
        layer = next(one for one in observed.real if one.stack != layer.stack)
    return observed.attention[place].shape[-1] - observed.real[layer].shape[1]


def _logits(task: Task, observed: Observed, batch: Batch) -> Tensor:
    """Return the logits that count, (predictions, labels); where no softmax follows, each by itself."""
    try:
        distributions = task.distributions(observed.outputs, batch)
    except ConfigError:
        return torch.cat([one.float().flatten() for one in logits_of(observed.outputs).values()])[:, None]
    return distributions.logits.float()[distributions.weights > 0]


class Insertions:
    """Adds up what a method inserts into one model, batch by batch."""

    def __init__(self) -> None:
        self._added: dict[str, list[Tensor]] = defaultdict(list)
        self._virtual: dict[Layer, list[Tensor]] = defaultdict(list)
        self._prefixes: dict[str, list[Tensor]] = defaultdict(list)

    def add(self, observed: Observed) -> None:
        """Add what a pass of the model has shown."""
        for name, ratios in observed.added.items():
            self._added[name].append(ratios[~ratios.isnan()])
        for place, weights in observed.attention.items():
            if number := virtual_keys(observed, place):
                real = observed.real[place.layer]
                to_virtual = weights[:, :, -real.shape[1] :, :number].sum(-1).mean(1)
                self._virtual[place.layer].append(to_virtual[real])
        for name, prefix in observed.prefixes.items():
            norms = [part.float().norm(dim=-1).mean() for part in (prefix.keys, prefix.values)]
            self._prefixes[name].append(torch.stack(norms))

    def added(self) -> dict[str, float]:
        """Return, by module, the mean norm of what it adds to a token's states, over the norm of these."""
        return {name: float(torch.cat(ratios).mean()) for name, ratios in self._added.items()}

    def to_virtual(self) -> dict[Layer, float]:
        """Return, by block, the mean share of its attention that a token of a text pays to virtual tokens."""
        return {layer: float(torch.cat(shares).mean()) for layer, shares in self._virtual.items()}

    def prefixes(self) -> dict[str, Mapping[str, float]]:
        """Return, by attention, the mean norms of the keys and of the values of its prefix."""
        means = {name: torch.stack(norms).mean(0).tolist() for name, norms in self._prefixes.items()}
        return {name: {"keys": keys, "values": values} for name, (keys, values) in means.items()}

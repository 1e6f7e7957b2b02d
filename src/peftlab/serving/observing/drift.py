"""How far what is served is from what the model was validated on, and whether chance explains it.

Four things are compared, each as a distribution over bins: the tokens of an input, the share of tokens that the
vocabulary lacks, the labels, and the probabilities. Two measures say how far two distributions :math:`p` and :math:`q`
are apart: the population stability index, :math:`\\sum (p - q) \\ln(p / q)`, and the Jensen-Shannon divergence in bits,
which lies between 0 and 1 (Lin 1991, equation 3.1).

How far apart two samples of the *same* inputs are depends on their sizes and on how inputs hang together: a sentence
has several entities. So the limit of each measure is found by drawing whole inputs, with replacement, for the reference
and for the window, and taking the quantile of the differences. What the reference has none of may be rare rather than
impossible: the rate of an empty bin is drawn from its posterior under Jeffreys' prior.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np

from peftlab.serving.observing.traits import CONFIDENCES, LENGTHS, Traits, bin_of

LEVEL = 0.01
"""How often a window of the same inputs as the reference is called different, by any of the things compared."""

FEWEST = 100
"""Inputs of the smallest window that says anything."""

_DRAWS, _AT_ONCE = 4_000, 200
_PRIOR = 0.5
"""Jeffreys' prior: what is added to each bin, as an empty one says little, and must not say infinity."""


@dataclass(frozen=True)
class Difference:
    """How far one thing is from the reference."""

    of: str
    """``lengths``, ``unknown``, ``labels`` or ``confidence``."""
    psi: float
    js: float
    psi_limit: float
    js_limit: float
    """What chance alone stays below, in all but `LEVEL` of windows of this size."""

    @property
    def beyond_chance(self) -> bool:
        """Whether the window differs more than chance explains."""
        return self.js > self.js_limit


@dataclass(frozen=True)
class Reference:
    """What each input of a sample adds to the counts: no texts.

    Args:
        bins: the names of the bins of each thing compared.
        counts: what each input adds to each bin, shape (inputs, bins of all together).
        ranges: the bounds of the ranges of predicted numbers; empty for other tasks.
    """

    bins: dict[str, tuple[str, ...]]
    counts: np.ndarray
    ranges: tuple[float, ...] = ()
    _limits: dict[int, dict[str, tuple[float, float]]] = field(default_factory=dict, repr=False)

    @cached_property
    def _places(self) -> dict[str, slice]:
        places, start = {}, 0
        for name, bins in self.bins.items():
            places[name] = slice(start, start + len(bins))
            start += len(bins)
        return places

    def differences(self, window: Mapping[str, Mapping[str, float]], inputs: int) -> list[Difference]:
        """Return how far a window of `inputs` is from the reference; nothing if it has fewer than `FEWEST`.

        Args:
            window: the counts of the bins of each thing compared; a label that the reference lacks counts as one bin.
            inputs: how many inputs the window has.
        """
        if inputs < FEWEST:
            return []
        limits = self.limits(inputs)
        differences = []
        for name, (psi_limit, js_limit) in limits.items():
            observed = self._in_bins(name, window.get(name, {}))
            if not observed.any():
                continue
            psi, js = measures(self.counts[:, self._places[name]].sum(0), observed)
            differences.append(Difference(name, float(psi), float(js), psi_limit, js_limit))
        return differences

    def limits(self, inputs: int) -> dict[str, tuple[float, float]]:
        """Return the limits of both measures for each thing compared, for windows of `inputs`.

        They are found for the next smaller of few sizes, about 10 % apart, whose limits are a little higher.
        """
        size = int(1.1 ** int(np.log(inputs) / np.log(1.1) + 1e-9))
        if size not in self._limits:
            self._limits[size] = self._drawn_limits(size)
        return self._limits[size]

    def _drawn_limits(self, size: int) -> dict[str, tuple[float, float]]:
        compared = [name for name in self.bins if self.counts[:, self._places[name]].any() and len(self.bins[name]) > 1]
        generator = np.random.default_rng(size)
        drawn: dict[str, list[np.ndarray]] = {name: [] for name in compared}
        alike, times = np.unique(self.counts, axis=0, return_counts=True)  # many inputs are alike: fewer to draw
        counts, chances, inputs = alike.astype(np.float64), times / times.sum(), int(times.sum())
        empty = self.counts.sum(0) == 0
        for _ in range(_DRAWS // _AT_ONCE):
            rates = empty * generator.gamma(_PRIOR, 1 / inputs, (_AT_ONCE, len(empty)))
            reference, window = (
                generator.multinomial(n, chances, _AT_ONCE) @ counts + generator.poisson(n * rates)
                for n in (inputs, size)
            )
            for name in compared:
                place = self._places[name]
                drawn[name].append(np.stack(measures(reference[:, place], window[:, place])))
        share = 1 - LEVEL / max(1, len(compared))
        limits = {}
        for name, parts in drawn.items():
            psi, js = np.quantile(np.concatenate(parts, axis=1), share, axis=1, method="higher")
            limits[name] = (float(psi), float(js))
        return limits

    def _in_bins(self, name: str, window: Mapping[str, float]) -> np.ndarray:
        bins = self.bins[name]
        rest = sum(count for one, count in window.items() if one not in bins)
        observed = np.array([window.get(one, 0.0) for one in bins], dtype=np.float64)
        if name == "labels":
            observed[-1] += rest
        return observed

    def as_json(self) -> dict[str, Any]:
        """Return the reference as JSON values; `from_json` reads them."""
        return {
            "bins": {name: list(bins) for name, bins in self.bins.items()},
            "counts": self.counts.tolist(),
            "ranges": list(self.ranges),
        }

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> Reference:
        """Return the reference in JSON values.

        Raises:
            ValueError, KeyError, TypeError, AttributeError: they are none.
        """
        bins = {str(name): tuple(map(str, names)) for name, names in document["bins"].items()}
        counts = np.array(document["counts"], dtype=np.int64)
        if counts.ndim != 2 or counts.shape[1] != sum(map(len, bins.values())) or (counts < 0).any():
            raise ValueError("its counts do not have the shape of its bins")
        return cls(bins, counts, tuple(map(float, document["ranges"])))


UNSEEN = "(unseen)"
"""The bin of labels that the reference lacks."""


def reference_of(
    tokens: Sequence[int], unknown: Sequence[int], traits: Sequence[Traits], ranges: Sequence[float] = ()
) -> Reference:
    """Return the reference of inputs with these numbers of tokens, of unknown ones, and these traits of answers."""
    labels = sorted({label for one in traits for label in one.labels})
    bins = {
        "lengths": tuple(_names(LENGTHS)),
        "unknown": ("known", "unknown"),
        "labels": (*labels, UNSEEN) if labels else (),
        "confidence": tuple(_names(CONFIDENCES)),
    }
    starts = dict(zip(bins, np.cumsum([0, *map(len, bins.values())])[:-1].tolist(), strict=True))
    places = {label: starts["labels"] + place for place, label in enumerate(labels)}
    counts = np.zeros((len(tokens), sum(map(len, bins.values()))), np.int64)
    for row, (length, lacking, one) in enumerate(zip(tokens, unknown, traits, strict=True)):
        counts[row, starts["lengths"] + bin_of(length, LENGTHS)] += 1
        counts[row, starts["unknown"]] += length - lacking
        counts[row, starts["unknown"] + 1] += lacking
        for label in one.labels:
            counts[row, places[label]] += 1
        for confidence in one.confidences:
            counts[row, starts["confidence"] + bin_of(confidence, CONFIDENCES)] += 1
    return Reference(bins, counts, tuple(ranges))


def measures(reference: np.ndarray, window: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the population stability index and the Jensen-Shannon divergence of counts, shape (..., bins)."""
    p, q = (_shares(counts) for counts in (reference, window))
    middle = (p + q) / 2
    js = ((p * np.log2(p / middle)).sum(-1) + (q * np.log2(q / middle)).sum(-1)) / 2
    return ((p - q) * np.log(p / q)).sum(-1), js


def _shares(counts: np.ndarray) -> np.ndarray:
    filled = counts + _PRIOR
    return filled / filled.sum(-1, keepdims=True)


def _names(ends: Sequence[float]) -> Iterator[str]:
    """Yield the names of bins as Prometheus writes their upper ends."""
    yield from (str(float(end)) for end in ends)
    yield "+Inf"

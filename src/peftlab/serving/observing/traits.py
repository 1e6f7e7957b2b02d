"""What an input and its answer add to counts that are kept: numbers, never a text."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

LENGTHS = (4, 8, 12, 16, 24, 32, 48, 64, 96, 128, 192, 256, 384, 512)
"""The upper ends of the bins of tokens; a last one is open."""

CONFIDENCES = (0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.98, 0.99, 0.995, 0.999)
"""The upper ends of the bins of probabilities; a last one reaches to 1. They narrow where models are, near 1."""

NOTHING = "none"
"""The label of an answer that has found nothing, such as a sentence without entities."""

_LISTS = {"entities": "type", "spans": "type"}
"""Entries of an answer that list what was found, and where each has its label."""


@dataclass(frozen=True)
class Traits:
    """The labels of an answer, and how probable each is."""

    labels: tuple[str, ...] = ()
    confidences: tuple[float, ...] = ()


def traits(answer: Mapping[str, Any], ranges: Sequence[float] = ()) -> Traits:
    """Return the labels and probabilities in the answer of any task; none where the task has none.

    The labels are entity types, classes, intents, or the range that a predicted number is in. A choice, an answer to
    a question and a written text have no label; the first two have a probability.

    Args:
        answer: as `peftlab.use.predictor.Predictor` gives it.
        ranges: the inner bounds of the ranges of predicted numbers.
    """
    for key, name in _LISTS.items():
        if isinstance(listed := answer.get(key), list) and all(isinstance(one, Mapping) for one in listed):
            return Traits(
                _or_nothing([one.get(name) for one in listed]), _numbers([one.get("probability") for one in listed])
            )
    value = answer.get("intent", answer.get("predicted"))
    probability = answer.get("probability")
    confidences = _numbers(probability if isinstance(probability, list) else [probability])
    if isinstance(value, list):
        return Traits(_or_nothing(value), confidences)
    if isinstance(value, str):
        return Traits((value,), confidences)
    if isinstance(value, float) and ranges:
        return Traits((range_of(value, ranges),), confidences)
    return Traits((), confidences)


def range_of(value: float, ranges: Sequence[float]) -> str:
    """Return the name of the range that `value` is in, such as ``0.5 to 1.25``; the outer ones are open."""
    place = bisect_right(ranges, value)
    if place == 0:
        return f"below {ranges[0]:.4g}"
    if place == len(ranges):
        return f"from {ranges[-1]:.4g}"
    return f"{ranges[place - 1]:.4g} to {ranges[place]:.4g}"


def bin_of(value: float, ends: Sequence[float]) -> int:
    """Return the number of the bin of `value`: the first whose upper end it does not exceed."""
    return bisect_left(ends, value)


def _or_nothing(labels: Sequence[Any]) -> tuple[str, ...]:
    return tuple(label for label in labels if isinstance(label, str)) or (NOTHING,)


def _numbers(values: Sequence[Any]) -> tuple[float, ...]:
    return tuple(float(value) for value in values if isinstance(value, int | float))

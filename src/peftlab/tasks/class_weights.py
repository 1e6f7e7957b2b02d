"""The weight of each label's examples in the loss."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field

from peftlab.errors import ConfigError, did_you_mean

log = logging.getLogger("peftlab")


def _with_texts_as_keys(value: Any) -> Any:
    """Return `value` with text keys: a label that YAML reads as a number or as true is text in the data."""
    if not isinstance(value, dict):
        return value
    return {key if isinstance(key, str) else json.dumps(key): weight for key, weight in value.items()}


Weight = Annotated[float, Field(gt=0, allow_inf_nan=False)]
ClassWeights = Annotated[dict[str, Weight] | Literal["balanced"], BeforeValidator(_with_texts_as_keys)]


def balanced(counts: Mapping[str, int], labels: Sequence[str]) -> dict[str, float]:
    """Return the weights that give every label the same total weight: n / (labels * examples of the label).

    They equal scikit-learn's ``compute_class_weight("balanced")`` over the labels that occur; the others get 1, with a
    warning.
    """
    total, occurring = sum(counts.values()), sum(count > 0 for count in counts.values())
    if missing := [label for label in labels if not counts.get(label)]:
        log.warning("task.class_weights=balanced: no training example is %s: the weight is 1", ", ".join(missing))
    return {label: total / (occurring * counts[label]) if counts.get(label) else 1.0 for label in labels}


def settled(
    weights: Mapping[str, float], labels: Sequence[str], names: Mapping[str, Sequence[str]]
) -> dict[str, float]:
    """Return a weight for each of `labels`, 1 by default.

    Args:
        weights: the configured weights, by name.
        labels: the labels in the order of the logits.
        names: the labels that each name stands for, one or several. Where two names stand for one label, the one with
            fewer labels wins.

    Raises:
        ConfigError: a name stands for nothing; the message suggests the nearest one.
    """
    for name in weights:
        if name not in names:
            raise ConfigError(
                f"task.class_weights: there is no label '{name}'.{did_you_mean(name, names)} "
                f"Allowed: {', '.join(names)}"
            )
    exact_last = sorted(weights, key=lambda name: -len(names[name]))
    return dict.fromkeys(labels, 1.0) | {label: weights[name] for name in exact_last for label in names[name]}

"""The weight of each label's examples in the loss."""

from __future__ import annotations

import json
import logging
import math
from collections.abc import Mapping, Sequence
from typing import Annotated, Any

from pydantic import BeforeValidator, Field

from peftlab.errors import ConfigError, did_you_mean

log = logging.getLogger("peftlab")


def with_texts_as_keys(value: Any) -> Any:
    """Return `value` with text keys: a label that YAML reads as a number or as true is text in the data."""
    if not isinstance(value, dict):
        return value
    return {key if isinstance(key, str) else json.dumps(key): weight for key, weight in value.items()}


Weight = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Rule = Annotated[str, Field(pattern=r"^(balanced|effective_number(:0?\.\d+)?)$")]
"""How weights follow from the numbers of examples: ``balanced``, ``effective_number`` or ``effective_number:BETA``."""
ClassWeights = Annotated[dict[str, Weight] | Rule, BeforeValidator(with_texts_as_keys)]

BETA = 0.999
"""The beta of ``effective_number``."""


def counted(rule: str, counts: Mapping[str, int], labels: Sequence[str]) -> dict[str, float]:
    """Return the weights that `rule` makes of the number of training examples of each label.

    A label without examples weighs 1, with a warning.

    Raises:
        ConfigError: beta is 0.
    """
    if missing := [label for label in labels if not counts.get(label)]:
        log.warning("task.class_weights=%s: no training example is %s: the weight is 1", rule, ", ".join(missing))
    if rule == "balanced":
        return balanced(counts, labels)
    return effective_number(counts, labels, float(rule.partition(":")[2] or BETA))


def balanced(counts: Mapping[str, int], labels: Sequence[str]) -> dict[str, float]:
    """Return the weights that give every label the same total weight: n / (labels * examples of the label).

    They equal scikit-learn's ``compute_class_weight("balanced")`` over the labels that occur; the others get 1.
    """
    total, occurring = sum(counts.values()), sum(count > 0 for count in counts.values())
    return {label: total / (occurring * counts[label]) if counts.get(label) else 1.0 for label in labels}


def effective_number(counts: Mapping[str, int], labels: Sequence[str], beta: float) -> dict[str, float]:
    """Return weights in inverse proportion to each label's effective number of examples (Cui et al. 2019, equation 2).

    That is ``(1 - beta ** n) / (1 - beta)`` for n examples: at most n, and at most ``1 / (1 - beta)``, so that the
    weights lie between equal ones (beta 0) and balanced ones (beta near 1). Their mean over the labels that occur is 1,
    as in the paper; the other labels get 1.

    Raises:
        ConfigError: beta is 0, so that all are equal.
    """
    if beta == 0:
        raise ConfigError("task.class_weights=effective_number:0: all weights are equal; leave it out, or raise beta")
    occurring = [label for label in labels if counts.get(label)]
    inverse = {label: (1 - beta) / -math.expm1(counts[label] * math.log(beta)) for label in occurring}
    mean = sum(inverse.values()) / len(inverse) if inverse else 1.0
    return {label: inverse[label] / mean if label in inverse else 1.0 for label in labels}


def settled(
    weights: Mapping[str, float],
    labels: Sequence[str],
    names: Mapping[str, Sequence[str]],
    key: str = "task.class_weights",
) -> dict[str, float]:
    """Return a weight for each of `labels`, 1 by default.

    Args:
        weights: the configured weights, by name.
        labels: the labels in the order of the logits.
        names: the labels that each name stands for, one or several. Where two names stand for one label, the one with
            fewer labels wins.
        key: the setting that names the weights, for messages.

    Raises:
        ConfigError: a name stands for nothing; the message suggests the nearest one.
    """
    for name in weights:
        if name not in names:
            raise ConfigError(
                f"{key}: there is no label '{name}'.{did_you_mean(name, names)} Allowed: {', '.join(names)}"
            )
    exact_last = sorted(weights, key=lambda name: -len(names[name]))
    return dict.fromkeys(labels, 1.0) | {label: weights[name] for name in exact_last for label in names[name]}

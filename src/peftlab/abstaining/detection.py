"""How well a score tells texts in scope from those out of scope, and from which score on a text is taken to be in it.

Of all scores, the greater, the more a text is in scope. A text is accepted from the threshold on. Plain NumPy.
"""

from __future__ import annotations

import math
import re

import numpy as np

from peftlab.errors import ConfigError
from peftlab.scores.ordering import auc

RULE = re.compile(r"(fpr|recall):(0?\.\d+|0|1|1\.0+)")
"""How a threshold is chosen: ``fpr:0.05`` or ``recall:0.9``."""


def auroc(inside: np.ndarray, outside: np.ndarray) -> float:
    """Return the probability that a text in scope has a greater score than one out of scope; ties count half."""
    both = np.concatenate([inside, outside])
    return auc(both, np.arange(len(both)) < len(inside))


def aupr(inside: np.ndarray, outside: np.ndarray) -> float:
    """Return the average precision of finding those out of scope by a small score: sum of (R_n - R_{n-1}) P_n.

    Chance is the share of texts out of scope, so that a value says nothing without it.
    """
    scores = np.concatenate([outside, inside])
    is_outside = np.concatenate([np.ones(len(outside)), np.zeros(len(inside))])
    order = np.argsort(scores, kind="stable")
    scores, found = scores[order], np.cumsum(is_outside[order])
    last = np.append(np.flatnonzero(np.diff(scores)), len(scores) - 1)  # equal scores are found together
    precision, recall = found[last] / (last + 1), found[last] / len(outside)
    return float((np.diff(recall, prepend=0.0) * precision).sum())


def fpr_at_recall(inside: np.ndarray, outside: np.ndarray, recall: float = 0.95) -> float:
    """Return the share of texts out of scope that are accepted where `recall` of those in scope are: FPR95."""
    place = len(inside) - max(1, math.ceil(recall * len(inside) - 1e-9))
    return float((outside >= np.sort(inside)[place]).mean())


def threshold_of(rule: str | float, inside: np.ndarray, outside: np.ndarray) -> float:
    """Return the threshold that a rule gives on validation scores.

    Args:
        rule: ``fpr:0.05``: at most 5 % of the texts in scope are rejected; ``recall:0.9``: at least 90 % of those out
            of scope are; a number is the threshold itself.
        inside: the scores of the texts in scope.
        outside: those of the texts out of scope, which ``recall`` needs.

    Raises:
        ConfigError: there are no scores to choose by.
    """
    if isinstance(rule, float | int):
        return float(rule)
    kind, _, share = rule.partition(":")
    if kind == "fpr":
        ordered = np.sort(inside)
        rejected = math.floor(float(share) * len(ordered) + 1e-9)
        return float(ordered[rejected]) if rejected < len(ordered) else math.nextafter(float(ordered[-1]), math.inf)
    if not len(outside):
        raise ConfigError(
            f"out_of_scope.threshold={rule}: the validation split has no texts out of scope. Name their label, "
            "out_of_scope.label=LABEL, or choose fpr:0.05, which needs none"
        )
    needed = math.ceil(float(share) * len(outside) - 1e-9)
    return math.nextafter(float(np.sort(outside)[needed - 1]), math.inf) if needed else float(np.min(outside))

"""Sets of labels that hold the right one with a chosen probability: split conformal prediction. NumPy and scipy.

On validation texts that nothing else was chosen by, and new texts drawn as they were, the sets of a model hold the
right label with probability at least 1 - alpha, whatever the model (Vovk et al. 2005); over the draw of n validation
texts, their coverage follows Beta(n + 1 - l, l) with l = floor((n + 1) alpha).
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np

from peftlab.storage.digests import canonical_json

Kind = Literal["lac", "aps"]
"""``lac``: a label is in the set if it is probable enough (Sadinle et al. 2019): the smallest sets on average, which
may be empty; ``aps``: the most probable labels until their sum is large enough, the last one by chance (Romano et al.
2020, equation 7): sets adapt to how hard a text is."""


def nonconformity(probabilities: np.ndarray, kind: Kind, draws: np.ndarray) -> np.ndarray:
    """Return how little each label conforms, (texts, labels).

    Args:
        probabilities: of each label, (texts, labels).
        kind: the kind of sets.
        draws: uniform numbers from 0 to 1, (texts,); only ``aps`` reads them.
    """
    if kind == "lac":
        return 1.0 - probabilities
    order = np.argsort(-probabilities, axis=1, kind="stable")
    ranked = np.take_along_axis(probabilities, order, axis=1)
    ranked = np.cumsum(ranked, axis=1) - ranked + draws[:, None] * ranked
    scores = np.empty_like(ranked)
    np.put_along_axis(scores, order, ranked, axis=1)
    return scores


def quantile(scores: np.ndarray, alpha: float) -> float | None:
    """Return the ceil((n + 1)(1 - alpha))-th smallest of n scores; None: they are too few to leave any label out."""
    place = math.ceil((len(scores) + 1) * (1 - alpha) - 1e-9)
    return float(np.sort(scores)[place - 1]) if place <= len(scores) else None


def limits_of(scores: np.ndarray, golds: np.ndarray, labels: int, alpha: float, by_class: bool) -> list[float | None]:
    """Return the greatest nonconformity of a label in a set, for each label.

    Args:
        scores: the nonconformity of each label of validation texts, (texts, labels).
        golds: their right labels, (texts,).
        labels: how many labels there are.
        alpha: the greatest share of sets without the right label.
        by_class: whether that holds for each label (Mondrian: Vovk et al. 2005, section 4.5) or on average over all.
    """
    own = scores[np.arange(len(golds)), golds]
    if by_class:
        return [quantile(own[golds == label], alpha) for label in range(labels)]
    return [quantile(own, alpha)] * labels


def drawn_by(answer: Mapping[str, Any]) -> Any:
    """Return what the draw of an answer belongs to: its input, or of a file what is in it, whatever it is called."""
    return answer.get("drawn_by", answer["input"])


def draws_of(inputs: Sequence[Any], seed: int) -> np.ndarray:
    """Return a uniform number for each input, a function of the seed and the input alone: answers do not change."""
    digests = (hashlib.sha256(canonical_json([seed, one]).encode()).digest() for one in inputs)
    return np.asarray([int.from_bytes(digest[:6], "big") / 2**48 for digest in digests])


def members(scores: np.ndarray, limits: Sequence[float | None]) -> np.ndarray:
    """Return whether each label is in the set of each text, (texts, labels)."""
    return scores <= np.asarray([math.inf if limit is None else limit for limit in limits])


def slack(checkpoints: int, texts: int, level: float = 0.95) -> float:
    """Return by how much coverage may fall short because the checkpoint was chosen on the same validation texts.

    Of each checkpoint, the coverage that n texts lead to is beyond this from the truth with probability at most (1 -
    level) / checkpoints (Dvoretzky-Kiefer-Wolfowitz, one-sided; Massart 1990); so is, by the union bound, the coverage
    of the chosen one with probability at most 1 - level.
    """
    return math.sqrt(math.log(checkpoints / (1 - level)) / (2 * texts))

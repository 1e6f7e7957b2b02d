"""The choice of one template by labelled examples alone, with the untrained model (Perez, Kiela and Cho 2021)."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from peftlab.tasks.inputs.texts import Text

Choice = Literal["none", "cv", "mdl", "ensemble"]
"""What is done with several templates: one is chosen by cross-validated accuracy, or by minimum description length; or
all are asked."""

_BLOCKS = 5
"""Folds of the cross-validation, and blocks of the description."""


@dataclass(frozen=True)
class Quality:
    """How well a template suits the examples."""

    accuracy: float
    bits: float
    """The sum of -log2 of the probabilities of the labels: the length of their description, given the texts."""


Judge = Callable[[int, Sequence[Text], Sequence[Text]], tuple[np.ndarray, np.ndarray]]
"""Returns, for a template and examples, whether each is answered right and the log probability of its label; further
examples may be shown as demonstrations."""


def qualities(judge: Judge, templates: int, examples: Sequence[Text], how: Choice, seed: int) -> list[Quality]:
    """Return the quality of each template on labelled `examples`, in blocks that `seed` draws.

    A block is answered with demonstrations from all others (``cv``), or from those before it (``mdl``), so that the
    whole is the code that a receiver could decode who learns the labels block by block. Without demonstrations, nothing
    is learnt, and both read each example once.
    """
    order = np.random.default_rng([seed, _BLOCKS]).permutation(len(examples)).tolist()
    blocks = [[examples[n] for n in order[start::_BLOCKS]] for start in range(_BLOCKS)]
    found = []
    for template in range(templates):
        right, log_p = list[np.ndarray](), list[np.ndarray]()
        for n, block in enumerate(blocks):
            rest = blocks[:n] if how == "mdl" else [*blocks[:n], *blocks[n + 1 :]]
            if block:
                own_right, own_log_p = judge(template, block, [one for other in rest for one in other])
                right.append(own_right)
                log_p.append(own_log_p)
        bits = -float(np.concatenate(log_p).sum()) / math.log(2)
        found.append(Quality(float(np.concatenate(right).mean()), bits))
    return found


def best(of_each: Sequence[Quality], how: Choice) -> int:
    """Return the number of the best template: the most accurate, or the shortest description; the other one decides
    between equals."""
    keys = [(-one.accuracy, one.bits) if how == "cv" else (one.bits, -one.accuracy) for one in of_each]
    return min(range(len(keys)), key=keys.__getitem__)


def recorded(of_each: Sequence[Quality], templates: Sequence[str], labels: int) -> dict[str, Any]:
    """Return the qualities for the record, and how many labels they are of."""
    scores = [
        {"template": template, "accuracy": round(one.accuracy, 6), "bits": round(one.bits, 4)}
        for template, one in zip(templates, of_each, strict=True)
    ]
    return {"by": scores, "labels": labels}

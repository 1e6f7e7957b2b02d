"""The examples that a loop may ask about, without their labels, and what each of them costs to label."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from peftlab.active_learning.observed import Observed
from peftlab.config import RunSpec
from peftlab.tasks.inputs.several_labels import LabelledText
from peftlab.tasks.inputs.words import Sentence


def without_gold(example: Any) -> Any:
    """Return an example without its gold, as a pool holds it: what chooses from the pool cannot look."""
    if isinstance(example, Sentence):
        return replace(example, tags=["O"] * len(example.words))
    return replace(example, **{"labels" if isinstance(example, LabelledText) else "label": None})


def chosen_by_labels(spec: RunSpec) -> list[str]:
    """Return the settings by which labels of the whole pool decide which examples are in it, or what they weigh."""
    data, apart = spec.data, spec.out_of_scope
    cleaned = {} if data.clean is None else data.clean.chosen
    acting = (
        kind for kind in ("duplicates", "conflicts", "label_errors") if cleaned.get(kind) in ("drop", "downweight")
    )
    settings = {
        "data.duplicates=drop": data.duplicates == "drop",
        "data.subset.labels": data.subset is not None and data.subset.labels is not None,
        **{f"data.clean.{kind}={cleaned[kind]}": True for kind in acting},
        "out_of_scope.label": apart is not None and apart.label is not None,
        "out_of_scope.held_out": apart is not None and apart.held_out is not None,
    }
    return [setting for setting, holds in settings.items() if holds]


def costs(examples: Sequence[Any], in_words: bool) -> np.ndarray:
    """Return what labelling each example costs, shape (examples,): the number of its words, or 1."""
    return np.asarray([len(example.words) if in_words else 1 for example in examples], dtype=np.int64)


def affordable(order: Sequence[int] | np.ndarray, cost: np.ndarray, budget: int) -> list[int]:
    """Return the first places of `order` up to the one with which their costs reach `budget`.

    The last one may go beyond it: to pass over those that are too long would favour short sentences. What it costs more
    is missing from the next round, whose budget is that of all rounds so far.
    """
    before = np.cumsum(cost[order]) - cost[order]
    return [int(place) for place in np.asarray(order)[before < budget]]


def most(cost: np.ndarray, budget: int) -> int:
    """Return the number of examples that `budget` pays for at most: the cheapest ones."""
    return len(affordable(np.argsort(cost, kind="stable"), cost, budget))


def of_validation(new: Sequence[str], asked: int, have: int, share: float, random: np.random.Generator) -> list[str]:
    """Return which of the `new` ids go to validation, so that this split has `share` of all labels, one at least.

    Args:
        new: the ids whose labels were just asked for.
        asked: all of them so far, these included.
        have: those that are in the validation split already.
        share: of the labels.
        random: chooses.
    """
    wanted = min(max(1, round(share * asked)) - have, len(new) - (asked == len(new)))
    return sorted(np.asarray(new)[random.permutation(len(new))[:wanted]].tolist()) if wanted > 0 else []


def remaining(number: int, taken: Iterable[int]) -> np.ndarray:
    """Return the places from 0 to `number` that are not taken."""
    return np.setdiff1d(np.arange(number), np.asarray(list(taken), dtype=np.int64))


def unseen(number: int) -> Observed:
    """Return what is known of `number` examples without a model: nothing."""
    return Observed(np.zeros(number + 1, dtype=np.int64), np.empty((0, 1)))

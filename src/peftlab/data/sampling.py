"""Chooses the training examples of a small budget: in a fixed order, so that each sample contains the smaller ones."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from peftlab.data.spec import BudgetSpec
from peftlab.data.views import chosen
from peftlab.errors import ConfigError
from peftlab.tasks.task import Task

log = logging.getLogger("peftlab")

BY_KEYS = (
    *("train_examples", "stratified", "per_class", "sample_seed", "listed", "half"),
    *("eval_examples", "validation_per_class", "overfit_batches"),
)
"""The keys of a budget that decide which examples a run uses."""

Classes = Sequence[Mapping[str, int]]
"""How often each class occurs in each example, see `Task.classes`."""


def random_sample(number: int, size: float, seed: int = 0) -> np.ndarray:
    """Return the sorted positions of `size` of `number` examples: the first ones of a random order, which `seed` fixes.

    Args:
        number: the number of examples.
        size: a number of them, or a share of at least one; all of them if there are no more.
        seed: fixes the order.
    """
    return np.sort(_order(number, seed)[: _size(number, size)])


def stratified_sample(classes: Classes, size: float, seed: int = 0) -> np.ndarray:
    """Return the sorted positions of `size` examples that have the classes in the proportions of all examples.

    An example counts for the rarest class that it has; one without any, such as a sentence without entities, for a
    stratum of its own. The k-th of the n examples of a stratum, in the order of `random_sample`, is at (k - 1/2) / n,
    and the sample is what comes first on this scale: within one example, each stratum has its share.
    """
    totals = _totals(classes)
    strata: dict[str | None, list[int]] = {}
    order = _order(len(classes), seed).tolist()
    for place in order:
        of_example = classes[place]
        rarest = min(of_example, key=lambda name: (totals[name], name), default=None)
        strata.setdefault(rarest, []).append(place)
    scale = {place: (k + 0.5) / len(members) for members in strata.values() for k, place in enumerate(members)}
    ordered = sorted(order, key=scale.__getitem__)  # a stable sort: equal ones stay in the random order
    return np.sort(np.asarray(ordered[: _size(len(classes), size)], dtype=np.int64))


def shots(classes: Classes, per_class: int, seed: int = 0) -> np.ndarray:
    """Return the sorted positions of the first examples, in the order of `random_sample`, that hold `per_class` of each
    class.

    An example that is taken for one class may hold others, as sentences hold entities of several types: of these there
    are then more than `per_class`.
    """
    counts: Counter[str] = Counter()
    missing = {name for of_example in classes for name in of_example}
    taken = []
    for place in _order(len(classes), seed).tolist():
        if wanted := missing & classes[place].keys():
            taken.append(place)
            counts.update({name: classes[place][name] for name in wanted})
            missing -= {name for name in wanted if counts[name] >= per_class}
            if not missing:
                break
    return np.sort(np.asarray(taken, dtype=np.int64))


def half_of(number: int, half: int, seed: int = 0) -> np.ndarray:
    """Return the sorted positions of one half of `number` examples: a fair coin decides on each of them.

    Args:
        number: the number of examples.
        half: an even number and the next one are the two halves of one throw.
        seed: fixes the coins, together with the throw.
    """
    heads = np.random.default_rng((seed, half // 2)).random(number) < 0.5
    return np.flatnonzero(heads == (half % 2 == 0))


def sampled(split: str, examples: Sequence[Any], task: Task, budget: BudgetSpec) -> Sequence[Any]:
    """Return the examples of `split` that `budget` takes, in their original order.

    Raises:
        ConfigError: the sample goes by classes, and the examples have none.
    """
    if split == "train":
        places = _training_sample(examples, task, budget)
    elif split == "validation" and budget.validation_per_class is not None:
        places = _shots(examples, task, budget.validation_per_class, budget.sample_seed, "validation_per_class")
    else:
        places = _some(examples, budget.eval_examples)
    return examples if places is None or len(places) == len(examples) else chosen(examples, places)


def left_out(examples: Sequence[Any], sample: Sequence[Any]) -> Sequence[Any]:
    """Return the examples that are not in a sample of them, in their original order."""
    taken = {example.id for example in sample}
    return chosen(examples, [n for n, example in enumerate(examples) if example.id not in taken])


def _training_sample(examples: Sequence[Any], task: Task, budget: BudgetSpec) -> np.ndarray | None:
    """Return the positions of the training examples that `budget` takes; None: all of them."""
    places = _whole_sample(examples, task, budget)
    if budget.half is None:
        return places
    places = np.arange(len(examples)) if places is None else places
    half = half_of(len(places), budget.half, budget.sample_seed)
    if not len(half):
        raise ConfigError(
            f"budget.half={budget.half}: of {len(places)} training examples, none is in this half. Take more, or the "
            f"other half, budget.half={budget.half ^ 1}"
        )
    return places[half]


def _whole_sample(examples: Sequence[Any], task: Task, budget: BudgetSpec) -> np.ndarray | None:
    """Return the same, whatever half of it is taken."""
    size, per_class, seed = budget.train_examples, budget.per_class, budget.sample_seed
    if per_class is None and (size is None or not budget.stratified):
        return _some(examples, size, seed)
    if per_class is not None:
        return _shots(examples, task, per_class, seed, "per_class")
    assert size is not None
    return stratified_sample(_classes(examples, task, "stratified"), size, seed)


def _shots(examples: Sequence[Any], task: Task, per_class: int, seed: int, key: str) -> np.ndarray:
    """Return the positions of `shots`, which the budget's `key` wants."""
    classes = _classes(examples, task, key)
    if few := ", ".join(_fewer(_totals(classes), per_class)):
        split = "validation" if key == "validation_per_class" else "training"
        log.warning("budget.%s=%d: the %s split has fewer of %s", key, per_class, split, few)
    return shots(classes, per_class, seed)


def _classes(examples: Sequence[Any], task: Task, key: str) -> Classes:
    """Return the classes of `examples`, by which the budget's `key` takes some of them.

    Raises:
        ConfigError: they have none.
    """
    classes = [task.classes(example) for example in examples]
    if not any(classes):
        instead = "budget.train_examples=N alone" if key != "validation_per_class" else "budget.eval_examples=N"
        raise ConfigError(
            f"budget.{key}: the examples of task={task.name} have no classes to go by. Take a random sample: {instead}"
        )
    return classes


def _some(examples: Sequence[Any], size: float | None, seed: int = 0) -> np.ndarray | None:
    return None if size is None else random_sample(len(examples), size, seed)


def _fewer(totals: Mapping[str, int], per_class: int) -> Iterator[str]:
    for name, count in sorted(totals.items()):
        if count < per_class:
            yield f"{name} ({count})"


def _totals(classes: Classes) -> Counter[str]:
    totals: Counter[str] = Counter()
    for of_example in classes:
        totals.update(of_example)
    return totals


def _order(number: int, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).permutation(number)


def _size(number: int, size: float) -> int:
    return max(1, round(size * number)) if isinstance(size, float) else size

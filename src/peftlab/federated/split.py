"""Divides the training examples among clients, and draws the clients of each round. No torch."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from peftlab.data.attributes import attribute
from peftlab.data.poisson import Poisson
from peftlab.errors import ConfigError
from peftlab.federated.spec import FederatedSpec
from peftlab.tasks.task import Task

Clients = dict[str, np.ndarray]
"""By name, the sorted positions of each client's examples in the training split, shape (examples of the client,)."""

ATTEMPTS = 100
"""Dirichlet divisions that are drawn until each client has an example."""

_DIVISION, _ROUND = 1, 2
"""Keep the random streams of a seed apart."""


def divided(spec: FederatedSpec, examples: Sequence[Any], task: Task, format: Any, seed: int) -> Clients:
    """Return the clients, each example with exactly one of them; equal arguments give equal clients.

    Args:
        spec: says how.
        examples: the training examples.
        task: tells the classes of an example.
        format: has read their files, an object of the section ``data.format``.
        seed: the seed of the run.

    Raises:
        ConfigError: a client has no example, or the examples have no classes or no such column.
        DataError: the column is not in a file, or a cell of it is empty.
    """
    if spec.by == "column":
        return _by_value(spec, examples, format)
    assert spec.clients is not None, "the specification has checked it"
    if len(examples) < spec.clients:
        raise ConfigError(f"federated.clients={spec.clients}: there are {len(examples):,} training examples")
    if spec.by == "iid":
        order = np.random.default_rng([seed, _DIVISION]).permutation(len(examples))
        parts = np.array_split(order, spec.clients)
    else:
        assert spec.alpha is not None, "the specification has checked it"
        parts = dirichlet(strata(task, examples), spec.clients, spec.alpha, seed)
    return {str(number): np.sort(part) for number, part in enumerate(parts)}


def strata(task: Task, examples: Sequence[Any]) -> list[str | None]:
    """Return the class of each example: of several, the rarest; of none, as of a sentence without entities, None.

    Raises:
        ConfigError: no example has a class.
    """
    classes = [task.classes(example) for example in examples]
    totals: Counter[str] = Counter()
    for each in classes:
        totals.update(each)
    if not totals:
        raise ConfigError(
            f"federated.by=dirichlet: the examples of task={task.name} have no classes. Use federated.by=iid, or "
            "by=column"
        )
    return [min(each, key=lambda name: (totals[name], name), default=None) for each in classes]


def dirichlet(of_examples: Sequence[str | None], clients: int, alpha: float, seed: int) -> list[np.ndarray]:
    """Return the positions of the examples of each client: the shares of a class are drawn from Dir(alpha, ..., alpha).

    With alpha to infinity, all clients have the classes in the same proportions; with alpha to 0, each class is with
    one client (Hsu et al. 2019, who draw the classes of a client; here, as Yurochkin et al. 2019, the clients of a
    class, so that all examples are given out).

    Args:
        of_examples: the class of each example.
        clients: the number of clients.
        alpha: the concentration.
        seed: the seed of the run.

    Raises:
        ConfigError: in each of `ATTEMPTS` divisions, a client has no example.
    """
    random = np.random.default_rng([seed, _DIVISION])
    by_class: dict[str | None, list[int]] = {}
    for place, name in enumerate(of_examples):
        by_class.setdefault(name, []).append(place)
    for _ in range(ATTEMPTS):
        parts: list[list[int]] = [[] for _ in range(clients)]
        for name in sorted(by_class, key=lambda each: (each is None, each)):
            members = random.permutation(by_class[name])
            bounds = np.cumsum(random.dirichlet(np.full(clients, alpha)))[:-1] * len(members)
            for part, own in zip(parts, np.split(members, np.round(bounds).astype(np.int64)), strict=True):
                part.extend(own.tolist())
        if all(parts):
            return [np.asarray(part, dtype=np.int64) for part in parts]
    raise ConfigError(
        f"federated.alpha={alpha:g}: of {clients} clients, some had no example in each of {ATTEMPTS} divisions of "
        f"{len(of_examples):,} examples. Raise alpha, or lower federated.clients"
    )


def drawn(
    names: Sequence[str], spec: FederatedSpec, round_: int, seed: int, sampling: Poisson | None = None
) -> list[int]:
    """Return the sorted numbers of the clients that take part in a round, which is counted from 0.

    They are as many in each, or, with a `sampling`, each has a chance of its own.
    """
    if sampling is not None:
        return sampling.plan(0)[round_]
    order = np.random.default_rng([seed, _ROUND, round_]).permutation(len(names))
    return sorted(order[: spec.taking_part(len(names))].tolist())


def shares(members: np.ndarray, examples: Sequence[Any], task: Task) -> Mapping[str, float]:
    """Return the share of each class among the classes of a client's examples; empty where they have none."""
    counts: Counter[str] = Counter()
    for place in members:
        counts.update(task.classes(examples[int(place)]))
    total = sum(counts.values())
    return {name: round(count / total, 4) for name, count in sorted(counts.items())}


def _by_value(spec: FederatedSpec, examples: Sequence[Any], format: Any) -> Clients:
    if spec.column is not None:
        values: list[str | None] = list(attribute(examples, spec.column, format))
    else:
        values = [getattr(example, "group", None) for example in examples]
    if None in values:
        raise ConfigError(
            "federated.by=column: some training examples have no group. Name a column of the data, "
            "federated.column=NAME, or data.format.group=NAME"
        )
    clients: dict[str, list[int]] = {}
    for place, value in enumerate(values):
        clients.setdefault(str(value), []).append(place)
    if len(clients) == 1:
        raise ConfigError(f"federated.by=column: all training examples are of one client, '{next(iter(clients))}'")
    return {name: np.asarray(clients[name], dtype=np.int64) for name in sorted(clients)}

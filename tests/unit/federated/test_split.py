"""Every example has one client, by the seed alone; the smaller alpha is, the more their classes differ."""

from __future__ import annotations

from collections import Counter
from types import SimpleNamespace

import numpy as np
import pytest

from peftlab.errors import ConfigError
from peftlab.federated.spec import FederatedSpec
from peftlab.federated.split import divided, drawn, shares

TASK = SimpleNamespace(name="classification", classes=lambda example: {example.label: 1} if example.label else {})
ROUNDS = {"rounds": 3, "local_epochs": 1}


def examples(number=600):
    return [SimpleNamespace(label="abc"[n % 3], group=f"g{n % 4}") for n in range(number)]


def clients_of(seed=0, number=600, **options):
    return divided(FederatedSpec(**ROUNDS, **options), examples(number), TASK, None, seed)


WAYS = [
    {"clients": 7},
    {"clients": 7, "by": "dirichlet", "alpha": 0.3},
    {"clients": 1, "by": "dirichlet", "alpha": 0.3},
    {"by": "column"},
]


@pytest.mark.parametrize("options", WAYS, ids=str)
def test_clients_are_a_partition_that_the_seed_decides(options):
    clients, again, other = (clients_of(seed, **options) for seed in (0, 0, 1))
    assert sorted(np.concatenate(list(clients.values())).tolist()) == list(range(600))
    assert all(len(members) and (np.diff(members) > 0).all() for members in clients.values())
    assert all(np.array_equal(clients[name], again[name]) for name in clients | again)
    decided = options.get("clients") == 1 or options.get("by") == "column"
    assert decided == all(np.array_equal(clients[name], other[name]) for name in clients | other)


def test_one_client_has_all_in_order_and_iid_clients_are_equally_large():
    assert clients_of(clients=1)["0"].tolist() == list(range(600))
    assert {len(members) for members in clients_of(clients=7).values()} == {85, 86}


def test_a_column_names_the_clients():
    clients = clients_of(by="column")
    assert list(clients) == ["g0", "g1", "g2", "g3"]
    assert all(place % 4 == int(name[1]) for name, members in clients.items() for place in members)


@pytest.mark.slow
def test_the_shares_of_a_class_are_those_of_a_dirichlet_distribution():
    """Of k clients, the variance of a share is (1 / k)(1 - 1 / k) / (k alpha + 1)."""
    for alpha in (0.3, 1.0, 100.0):
        found = []
        for seed in range(60):
            clients = clients_of(seed, number=900, clients=4, by="dirichlet", alpha=alpha)
            counts = [Counter(n % 3 for n in members.tolist()) for members in clients.values()]
            found += [count[label] / 300 for count in counts for label in range(3)]
        expected = 0.25 * 0.75 / (4 * alpha + 1)
        assert np.mean(found) == pytest.approx(0.25)
        assert np.var(found) == pytest.approx(expected, rel=0.2)


def test_the_clients_of_a_round_are_drawn_anew():
    spec = FederatedSpec(clients=10, fraction=0.3, **ROUNDS)
    names = [str(n) for n in range(10)]
    rounds = [drawn(names, spec, number, 0) for number in range(40)]
    assert all(len(set(each)) == 3 and each == sorted(each) for each in rounds)
    assert rounds[0] == drawn(names, spec, 0, 0)
    assert {number for each in rounds for number in each} == set(range(10))
    assert drawn(names, FederatedSpec(clients=10, fraction=0.01, **ROUNDS), 0, 0) != []


def test_the_shares_of_classes_are_told():
    assert shares(np.array([0, 1, 3]), examples(), TASK) == {"a": 0.6667, "b": 0.3333}


@pytest.mark.parametrize(
    ("number", "options", "message"),
    [
        (3, {"clients": 4}, "there are 3 training examples"),
        (6, {"clients": 6, "by": "dirichlet", "alpha": 0.01}, "Raise alpha"),
    ],
    ids=str,
)
def test_a_client_without_examples_is_refused(number, options, message):
    with pytest.raises(ConfigError, match=message):
        clients_of(number=number, **options)


def test_examples_without_groups_or_classes_are_refused():
    plain = [SimpleNamespace(label=None, group=None)] * 8
    for options, message in (({"by": "column"}, "federated.column=NAME"), (WAYS[1], "have no classes")):
        with pytest.raises(ConfigError, match=message):
            divided(FederatedSpec(**ROUNDS, **options), plain, TASK, None, 0)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "needs their number"),
        ({"clients": 2, "by": "column"}, "set clients=null"),
        ({"clients": 2, "alpha": 1.0}, "alpha=1 does nothing"),
        ({"clients": 2, "by": "dirichlet"}, "needs alpha"),
        ({"clients": 2, "column": "city"}, "column=city does nothing"),
        ({"clients": 2, "rounds": None}, "rounds=null"),
        ({"clients": 2, "local_steps": 3}, "local_epochs or local_steps"),
        ({"clients": 2, "only": 0}, "rounds and local_epochs would do nothing"),
    ],
    ids=str,
)
def test_a_setting_that_cannot_act_is_refused(options, message):
    with pytest.raises(ValueError, match=message):
        FederatedSpec(**{**ROUNDS, **options})

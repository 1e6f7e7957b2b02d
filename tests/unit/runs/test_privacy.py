from __future__ import annotations

from types import SimpleNamespace

import pytest

from peftlab.runs.privacy import composed, guarantee, together

SECTION = {
    "epsilon": 2.05,
    "delta": 1e-4,
    "noise_multiplier": 0.8,
    "max_grad_norm": 1.0,
    "sample_rate": 0.016,
    "steps": 189,
    "unit": "example",
    "accountant": "PRV, opacus 1.6.0",
}


def record(section=SECTION, train="a"):
    data = {"identity": {"data_sha256": {"train": train}}, "data": {"name": "tweets"}}
    return SimpleNamespace(data=data, extensions={} if section is None else {"privacy": section})


def test_divergences_are_those_of_opacus():
    rdp = pytest.importorskip("opacus.accountants").RDPAccountant()
    rdp.history = [(0.8, 0.016, 189)]
    assert composed([SECTION])[0] == pytest.approx(rdp.get_epsilon(1e-4, alphas=list(range(2, 64))), rel=1e-3)
    rdp.history = [(0.8, 0.016, 3 * 189)]
    assert composed([SECTION] * 3)[0] == pytest.approx(rdp.get_epsilon(1e-4, alphas=list(range(2, 64))), rel=1e-3)
    assert composed([SECTION])[0] > SECTION["epsilon"]


def test_runs_on_the_same_split_spend_together():
    (both,) = together([record(), record(), record(train="b")])
    assert "the 2 private trainings on tweets together spend epsilon" in both
    assert list(together([record(), record(None)])) == [
        "1 other trainings on tweets promise no privacy: whoever sees their models too has no bound."
    ]
    assert list(together([record(None), record(None)])) == []


def test_a_section_from_anybody_is_shown_only_if_it_is_one():
    assert guarantee(record()).startswith("epsilon 2.05 at delta 0.0001 for each example")
    for wrong in (None, [], {}, SECTION | {"epsilon": "8"}, SECTION | {"delta": 2}, SECTION | {"steps": float("nan")}):
        assert guarantee(record(wrong)) is None

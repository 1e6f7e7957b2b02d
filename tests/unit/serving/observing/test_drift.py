from __future__ import annotations

import json

import numpy as np
import pytest
from scipy.spatial.distance import jensenshannon

from peftlab.serving.observing import drift
from peftlab.serving.observing.drift import FEWEST, LEVEL, Reference, measures, reference_of
from peftlab.serving.observing.traits import CONFIDENCES, Traits


def inputs(generator: np.random.Generator, count: int, rare: float = 0.2, length: float = 20.0):
    """Inputs whose entities hang together: an input has several of one label, which are about as probable."""
    tokens = np.maximum(1, generator.gamma(4, length / 4, count)).astype(int)
    unknown = generator.binomial(tokens, 0.02)
    traits = []
    for _ in range(count):
        entities = int(generator.poisson(1.5))
        label = "PER" if generator.random() < rare else "LOC"
        sure = generator.beta(12, 1)
        traits.append(
            Traits((label,) * entities or ("none",), tuple(np.clip(sure + generator.normal(0, 0.01, entities), 0, 1)))
        )
    return tokens.tolist(), unknown.tolist(), traits


def counts(generator: np.random.Generator, count: int, **more: float) -> dict[str, dict[str, float]]:
    window = reference_of(*inputs(generator, count, **more))
    totals = window.counts.sum(0)
    return {name: dict(zip(bins, totals[window._places[name]], strict=True)) for name, bins in window.bins.items()}


def test_the_measures_are_those_of_others():
    generator = np.random.default_rng(0)
    p, q = generator.integers(1, 100, (2, 7))
    psi, js = measures(p, q)
    p, q = (p + 0.5) / (p + 0.5).sum(), (q + 0.5) / (q + 0.5).sum()
    assert js == pytest.approx(jensenshannon(p, q, base=2) ** 2)
    assert psi == pytest.approx(sum((a - b) * np.log(a / b) for a, b in zip(p, q, strict=True)))
    assert np.allclose(measures(p, p), 0)


def test_a_reference_has_what_each_input_adds_and_comes_back_from_json():
    reference = reference_of([3, 600], [1, 0], [Traits(("a", "a"), (0.4, 1.0)), Traits(("b",), (0.93,))])
    assert reference.bins["labels"] == ("a", "b", drift.UNSEEN)
    assert reference.bins["lengths"][0] == "4.0"
    lengths, unknown, labels, confidence = (reference.counts[:, reference._places[name]] for name in reference.bins)
    assert lengths[0].nonzero()[0].tolist() == [0]
    assert lengths[1].nonzero()[0].tolist() == [lengths.shape[1] - 1]
    assert unknown.tolist() == [[2, 1], [600, 0]]
    assert labels.tolist() == [[2, 0, 0], [0, 1, 0]]
    assert confidence[0].nonzero()[0].tolist() == [0, len(CONFIDENCES)]
    again = Reference.from_json(json.loads(json.dumps(reference.as_json())))
    assert again.bins == reference.bins
    assert (again.counts == reference.counts).all()
    with pytest.raises(ValueError, match="shape"):
        Reference.from_json(reference.as_json() | {"counts": [[1, 2]]})


@pytest.mark.slow
def test_the_same_inputs_are_rarely_called_different_and_others_are():
    """The level is `LEVEL`; experiments/serving/drift_error.py measures it on 2,000 windows of each size."""
    generator = np.random.default_rng(1)
    alarms = 0
    for _ in range(2):
        reference = reference_of(*inputs(generator, 800))
        for _ in range(45):
            alarms += any(one.beyond_chance for one in reference.differences(counts(generator, 300), 300))
    assert alarms <= 5  # of 90; 1 expected
    for change, of in (({"rare": 0.4}, "labels"), ({"length": 30.0}, "lengths")):
        found = [reference.differences(counts(generator, 300, **change), 300) for _ in range(10)]
        assert sum(one.beyond_chance for each in found for one in each if one.of == of) >= 8, change


def test_what_is_rare_is_not_drift_where_the_reference_has_none_of_it(monkeypatch):
    monkeypatch.setattr(drift, "_DRAWS", 1_000)
    generator = np.random.default_rng(5)
    tokens, nothing = [20] * 200, [Traits()] * 200
    alarms = 0
    for _ in range(20):
        reference = reference_of(tokens, generator.binomial(tokens, 2e-4).tolist(), nothing)  # of 4,000 about one
        for _ in range(20):
            unknown = int(generator.binomial(4_000, 2e-4))
            window = {"unknown": {"known": 4_000 - unknown, "unknown": unknown}}
            alarms += any(one.beyond_chance for one in reference.differences(window, 200))
    assert alarms <= 12  # of 400; a fourth of them, if an empty bin were an impossible one


@pytest.mark.slow
def test_a_label_that_was_never_seen_counts():
    generator = np.random.default_rng(2)
    reference = reference_of(*inputs(generator, 500))
    window = counts(generator, 300)
    window["labels"]["NEW"] = 60
    (labels,) = [one for one in reference.differences(window, 300) if one.of == "labels"]
    assert labels.beyond_chance


def test_a_window_that_is_too_small_says_nothing_and_a_thing_that_is_missing_is_left_out():
    generator = np.random.default_rng(3)
    reference = reference_of(*inputs(generator, 300))
    window = counts(generator, FEWEST)
    assert reference.differences(window, FEWEST - 1) == []
    del window["unknown"]
    assert {one.of for one in reference.differences(window, FEWEST)} == {"lengths", "labels", "confidence"}
    assert LEVEL == 0.01


@pytest.mark.slow
def test_limits_fall_with_the_size_of_the_window():
    reference = reference_of(*inputs(np.random.default_rng(4), 600))
    small, large = reference.limits(150), reference.limits(900)
    assert all(large[name][measure] < small[name][measure] for name in small for measure in (0, 1))

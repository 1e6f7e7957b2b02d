from __future__ import annotations

import numpy as np
import pytest
from prometheus_client import CollectorRegistry, Counter, Histogram

from peftlab.serving.observing.window import Snapshot, Window


def test_a_window_has_what_was_counted_in_it():
    registry = CollectorRegistry()
    counter = Counter("c", "A counter.", ["model", "status"], registry=registry)
    counter.labels("a", "200").inc(5)
    start = Snapshot.of(registry.collect(), 10.0)
    counter.labels("a", "200").inc(2)
    counter.labels("a", "500").inc()
    counter.labels("b", "200").inc(4)
    window = Window(start, Snapshot.of(registry.collect(), 25.0))
    assert window.seconds == 15
    assert window.by("c_total", "status") == {"200": 6, "500": 1}
    assert window.by("c_total", "status", model="a") == {"200": 2, "500": 1}
    assert window.by("c_total", "model", model=None, status="200") == {"a": 2, "b": 4}
    assert window.total("c_total") == 7
    assert window.total("unknown_total") == 0


def test_quantiles_of_a_histogram_are_near_those_of_the_values():
    registry = CollectorRegistry()
    ends = np.linspace(0.05, 2, 40)
    histogram = Histogram("h", "A histogram.", registry=registry, buckets=ends.tolist())
    histogram.observe(100)
    start = Snapshot.of(registry.collect(), 0.0)
    values = np.random.default_rng(0).gamma(2, 0.2, 2_000)
    for value in values:
        histogram.observe(value)
    window = Window(start, Snapshot.of(registry.collect(), 1.0))
    for share in (0.01, 0.5, 0.9, 0.99):
        assert window.quantile("h", share) == pytest.approx(np.quantile(values, share), abs=0.05)
    assert sum(window.bins("h").values()) == 2_000
    assert window.bins("h")["+Inf"] == (values > 2).sum()


def test_the_open_bin_counts_as_its_lower_end_and_an_empty_histogram_has_no_quantile():
    registry = CollectorRegistry()
    histogram = Histogram("h", "A histogram.", registry=registry, buckets=[1, 2])
    start = Snapshot.of(registry.collect(), 0.0)
    assert Window(start, start).quantile("h", 0.5) is None
    histogram.observe(50)
    assert Window(start, Snapshot.of(registry.collect(), 1.0)).quantile("h", 0.99) == 2

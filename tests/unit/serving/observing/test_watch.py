from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

from peftlab.serving.observing import metrics, watch
from peftlab.serving.observing.alerting import Alerting
from peftlab.serving.observing.drift import reference_of
from peftlab.serving.observing.metrics import Metrics, shared
from peftlab.serving.observing.rules import Drift, Queue
from peftlab.serving.observing.traits import Traits
from peftlab.serving.observing.watch import Snapshots, Watch
from peftlab.serving.observing.window import Snapshot

CARD = SimpleNamespace(name="m", run="3f9c2a", identity="ab12", task="classification", method="lora")


@pytest.mark.exhaustive
def test_old_snapshots_are_few_and_each_window_begins_about_where_it_should():
    snapshots = Snapshots(86_400)
    for moment in range(0, 200_000, 10):
        snapshots.add(Snapshot(float(moment), {}))
    assert len(snapshots._kept) < 250
    for seconds in (60, 300, 3_600, 86_400):
        length = snapshots.window(seconds).seconds
        assert seconds <= length <= 1.1 * seconds + 10
    assert snapshots._kept[0].time >= 200_000 - 10 - 86_400 * 1.1


def test_a_window_of_enough_is_the_shortest():
    snapshots = Snapshots(1_000)
    assert [snapshots.add(Snapshot(float(moment), {})) for moment in range(0, 100, 10)]
    assert snapshots.window_of(lambda window: window.seconds >= 35).seconds == 40
    assert snapshots.window_of(lambda window: False).seconds == 90


def answers(metrics: Metrics, generator: np.random.Generator, share: float, count: int = 400) -> None:
    for _ in range(count):
        label = "bad" if generator.random() < share else "good"
        answer = {"predicted": label, "probability": float(generator.uniform(0.5, 1))}
        metrics.predicted("m", ["x"], [answer], tokens=[int(generator.integers(3, 40))], unknown=[0])


@pytest.mark.slow
def test_drift_is_measured_over_all_processes_and_told(monkeypatch):
    generator = np.random.default_rng(0)
    traits = [
        Traits(("bad" if generator.random() < 0.3 else "good",), (float(generator.uniform(0.5, 1)),))
        for _ in range(800)
    ]
    reference = reference_of(generator.integers(3, 40, 800).tolist(), [0] * 800, traits)
    told: list[dict] = []
    monkeypatch.setattr(watch, "DRIFT_INPUTS", 400)
    rules = [Drift(name="drifted", above=0.1, cool_down=0), Queue(name="long", above=100)]
    with shared():
        served = Metrics([CARD])
        looking = Watch(metrics.collected, Alerting(rules), told.append, {"ab12": reference}.get)
        looking.look(0.0)
        answers(served, generator, 0.3)
        looking.look(10.0)
        assert told == []
        answers(served, generator, 0.8)
        looking.look(20.0)
        answers(served, generator, 0.3)
        looking.look(30.0)
        text = metrics.exposition().decode()
    assert [(one["state"], one["model"]) for one in told] == [("firing", "m"), ("resolved", "m")]
    assert told[0]["value"] > 0.5
    assert 'peftlab_drift{measure="psi",model="m",of="labels"}' in text
    assert 'peftlab_drift_limit{measure="js",model="m",of="lengths"}' in text
    assert 'peftlab_label_share{label="bad",model="m"}' in text
    assert 'peftlab_alert_firing{alert="drifted",model="m"} 0.0' in text


def test_a_failure_of_one_look_ends_nothing(monkeypatch, caplog):
    monkeypatch.setattr(watch, "EVERY", 0.0)
    looks: list[int] = []

    def collect() -> list:
        looks.append(1)
        if len(looks) == 1:
            raise OSError("gone")
        looking._ending.set()
        return []

    looking = Watch(collect, None, print, None)
    looking.start()
    looking._thread.join(30)
    assert len(looks) == 2
    assert "could not be looked at" in caplog.text

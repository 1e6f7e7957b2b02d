from __future__ import annotations

import re
from types import SimpleNamespace

import numpy as np
import pytest

from peftlab.serving.observing import metrics, watch
from peftlab.serving.observing.alerting import Alerting
from peftlab.serving.observing.drift import Reference, reference_of
from peftlab.serving.observing.metrics import Metrics, shared
from peftlab.serving.observing.rules import Drift, Queue
from peftlab.serving.observing.traits import Traits
from peftlab.serving.observing.watch import Snapshots, Watch
from peftlab.serving.observing.window import Snapshot

CARD = SimpleNamespace(name="m", run="3f9c2a", identity="ab12", task="classification", method="lora")
SUCCESSOR = SimpleNamespace(name="m", run="99aa00", identity="cd34", task="classification", method="lora")


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
    assert snapshots.window_of(lambda window: window.seconds >= 35, since=70.0).seconds == 20
    assert snapshots.window_of(lambda window: True, since=90.0) is None


def answers(metrics: Metrics, generator: np.random.Generator, share: float, count: int = 400) -> None:
    for _ in range(count):
        label = "bad" if generator.random() < share else "good"
        answer = {"predicted": label, "probability": float(generator.uniform(0.5, 1))}
        metrics.predicted("m", ["x"], [answer], tokens=[int(generator.integers(3, 40))], unknown=[0])


def reference(generator: np.random.Generator, share: float) -> Reference:
    traits = [
        Traits(("bad" if generator.random() < share else "good",), (float(generator.uniform(0.5, 1)),))
        for _ in range(800)
    ]
    return reference_of(generator.integers(3, 40, 800).tolist(), [0] * 800, traits)


@pytest.mark.slow
def test_drift_is_measured_over_all_processes_and_told(monkeypatch):
    generator = np.random.default_rng(0)
    told: list[dict] = []
    monkeypatch.setattr(watch, "DRIFT_INPUTS", 400)
    rules = [Drift(name="drifted", above=0.1, cool_down=0), Queue(name="long", above=100)]
    with shared():
        served = Metrics([CARD])
        looking = Watch(metrics.collected, Alerting(rules), told.append, {"ab12": reference(generator, 0.3)}.get)
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


@pytest.fixture
def watched():
    """A server of the model m, which is looked at, and whose rule about drift tells `told`; `shows` says of whom."""
    generator, told = np.random.default_rng(0), []
    references = {"ab12": reference(generator, 0.3), "cd34": reference(generator, 0.8)}
    rules = [Drift(name="drifted", above=0.1, lasting=20)]
    with shared():
        served = Metrics([CARD])
        looking = Watch(metrics.collected, Alerting(rules), told.append, references.get)
        looking.look(0.0)
        yield SimpleNamespace(
            served=served,
            look=looking.look,
            told=told,
            answers=lambda share, count=300: answers(served, generator, share, count),
            shows=lambda: sorted(set(re.findall(r"^(peftlab_\w+){.*measure", metrics.exposition().decode(), re.M))),
        )


BOTH = ["peftlab_drift", "peftlab_drift_limit"]


@pytest.mark.slow
def test_a_model_under_the_name_of_another_is_not_held_against_its_answers(watched):
    watched.answers(0.3)
    watched.look(10.0)
    assert watched.shows() == BOTH
    watched.served.loaded([SUCCESSOR])
    watched.answers(0.3)  # the last ones of the old model, before anybody has seen the new one
    watched.look(20.0)
    assert watched.shows() == []
    watched.answers(0.8)  # as the new one was validated
    for moment in (30.0, 40.0, 50.0, 60.0):
        watched.look(moment)
    assert watched.shows() == BOTH
    assert watched.told == []


@pytest.mark.slow
def test_while_a_name_stands_for_two_models_nothing_is_said(watched):
    watched.served.loaded([CARD, SUCCESSOR])  # as where a worker has not followed yet
    watched.answers(0.3)
    watched.look(10.0)
    assert watched.shows() == []
    watched.served.loaded([CARD])
    watched.look(20.0)
    assert watched.shows() == []
    watched.answers(0.3)
    watched.look(30.0)
    assert watched.shows() == BOTH


@pytest.mark.slow
def test_what_is_gone_or_was_asked_long_ago_drifts_no_more(watched):
    watched.answers(0.8)
    watched.look(10.0)
    assert watched.shows() == BOTH
    for hour in range(1, 30):
        watched.look(hour * 3600.0)
    assert [one["state"] for one in watched.told] == ["firing"]
    assert watched.shows() == []
    watched.answers(0.8)
    watched.look(30 * 3600.0)
    assert watched.shows() == BOTH
    watched.served.loaded([])
    watched.look(31 * 3600.0)
    assert watched.shows() == []
    assert "peftlab_label_share{" not in metrics.exposition().decode()


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

from __future__ import annotations

from dataclasses import dataclass, field

from peftlab.serving.observing.alerting import Alerting
from peftlab.serving.observing.rules import Queue, Silence
from peftlab.serving.observing.window import Snapshot, Window


@dataclass
class Told:
    """Follows one rule through values at moments a second apart."""

    rule: Queue
    now: float = 0.0
    alerting: Alerting = field(init=False)

    def __post_init__(self) -> None:
        self.alerting = Alerting([self.rule])

    def after(self, value: float | None, seconds: int = 1) -> list[str]:
        states = []
        for _ in range(seconds):
            self.now += 1
            values = {} if value is None else {"peftlab_queue_inputs": {frozenset(): value}}
            snapshot = Snapshot(self.now, values)
            states += [one["state"] for one in self.alerting.messages(self.rule, Window(snapshot, snapshot))]
        return states


def test_an_alert_is_told_once_when_it_has_lasted_and_once_when_it_is_over():
    told = Told(Queue(name="long", above=5, lasting=3, cool_down=0))
    assert told.after(9, 3) == []
    assert told.after(9, 10) == ["firing"]
    assert told.after(2, 10) == ["resolved"]
    assert told.after(9, 2) == []  # it has to last again
    assert told.after(2) == []
    assert told.after(9, 4) == ["firing"]


def test_a_rule_is_silent_after_an_alert_but_not_for_ever():
    told = Told(Queue(name="long", above=5, cool_down=20))
    assert told.after(9) == ["firing"]
    assert told.after(2) == ["resolved"]
    for _ in range(3):  # it flaps
        assert told.after(9) == []
        assert told.after(2) == []
    assert told.after(9, 30) == ["firing"]  # once the silence is over, as it still lasts


def test_a_model_that_is_no_longer_served_alerts_nobody():
    rule = Silence(name="quiet", window=10, model="ner", cool_down=0)
    window = Window(Snapshot(0.0, {}), Snapshot(10.0, {}))
    alerting = Alerting([rule])
    assert [one["state"] for one in alerting.messages(rule, window)] == ["firing"]
    (over,) = alerting.messages(rule, window, served=["tone"])
    assert (over["state"], over["value"], over["text"]) == ("resolved", None, "quiet: over, ner is no longer served")
    assert alerting.firing() == {("quiet", "ner"): False}
    assert alerting.messages(rule, window, served=["tone"]) == []
    assert [one["state"] for one in alerting.messages(rule, window, served=["ner"])] == ["firing"]


def test_a_message_says_what_where_and_how_much():
    rule = Queue(name="long", above=5)
    window = Window(*[Snapshot(100.0, {"peftlab_queue_inputs": {frozenset(): 9.0}})] * 2)
    alerting = Alerting([rule])
    (message,) = alerting.messages(rule, window)
    assert message == {
        "state": "firing",
        "alert": "long",
        "model": None,
        "value": 9.0,
        "limit": "above 5 inputs",
        "window_s": 300.0,
        "lasted_s": 0.0,
        "text": "long: queue is 9 inputs, above 5 inputs, over 300 s",
    }
    assert alerting.firing() == {("long", ""): True}
    assert alerting.longest_window == 300

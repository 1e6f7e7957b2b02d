from __future__ import annotations

import re

import pytest
from prometheus_client import CollectorRegistry, Counter, Gauge

from peftlab.errors import ConfigError
from peftlab.serving.events import Answered
from peftlab.serving.observing import rules
from peftlab.serving.observing.metrics import Metrics
from peftlab.serving.observing.rules import KINDS, read, write_default
from peftlab.serving.observing.window import Snapshot, Window


def test_the_default_rules_are_read_and_not_written_over(tmp_path):
    file = tmp_path / "alerts.yml"
    write_default(file)
    alerts = read(file)
    assert {type(rule) for rule in alerts.rules} >= {KINDS[kind] for kind in ("latency", "errors", "drift", "queue")}
    assert alerts.rules[0].window == 300
    assert alerts.rules[0].lasting == 60
    with pytest.raises(ConfigError, match="is there already"):
        write_default(file)


def test_what_the_default_file_has_as_comments_is_read_as_well(tmp_path):
    text = rules.DEFAULT.read_text(encoding="utf-8")
    head, rest = text.split("rules:\n")
    file = tmp_path / "alerts.yml"
    file.write_text(f"{head}rules:\n" + re.sub("^  # ?", "  ", rest, flags=re.MULTILINE), encoding="utf-8")
    alerts = read(file)
    assert {type(rule) for rule in alerts.rules} == set(KINDS.values())
    assert len(alerts.to) == 3


RULE = "rules:\n  - name: slow\n    kind: latency\n    above: 1\n{}to:\n  - file: alerts.jsonl\n"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (RULE.format("    windw: 5m\n"), ":5: there is no key 'windw'. Did you mean 'window'?"),
        (RULE.format("    window: soon\n"), ":5: window = 'soon': expected a time, such as 90s, 5m, 1h or 2d"),
        (RULE.format("    window: 1s\n"), ":5: window"),
        (RULE.format("").replace("latency", "latencies"), ":3: kind: 'latencies' is none. Did you mean 'latency'?"),
        (RULE.format("").replace("    kind: latency\n", ""), ":2: a rule has no `kind`. Allowed: latency, errors"),
        (RULE.format("").replace("    above: 1\n", ""), ":2: above is missing: give it a value, above: ..."),
        (RULE.format("  - {name: slow, kind: queue, above: 3}\n"), ":5: there is a rule 'slow' above already"),
        (RULE.format("  - {name: s, kind: drift, measure: psy}\n"), ":5: measure = 'psy': should be one of psi, js"),
        (RULE.format("  - {name: s, kind: label_share, label: x}\n"), ":5: expected `above` or `below`, or both"),
        (RULE.format("  - {name: s, kind: errors, above: 0.1, statuses: [6xx]}\n"), ":5: statuses"),
        (RULE.format("  - {name: s, kind: errors, above: 2}\n"), ":5: above = 2"),
        (RULE.format("").replace("file: alerts.jsonl", "webhook: ftp://x"), ":6: webhook"),
        (RULE.format("").replace("file: alerts.jsonl", "timeout: 3"), ":6: expected `webhook`"),
        (RULE.format("") + "too: 3\n", ":7: there is no key 'too'. Did you mean 'to'?"),
        (RULE.format("").partition("to:")[0], ":1: `to` must be a list"),
        ("rules: []\nto: []\n", ":1: `rules` must be a list of at least one"),
        ("- a\n", ":1: expected the keys `rules` and `to`"),
        ("rules: [\n", "cannot be read"),
        ("rules: !!python/name:os.system\n", "makes an object"),
    ],
)
def test_a_bad_file_is_refused_with_the_line_and_what_is_allowed(text, said, tmp_path):
    file = tmp_path / "alerts.yml"
    file.write_text(text, encoding="utf-8")
    with pytest.raises(ConfigError) as refused:
        read(file)
    assert f"{file}{said}" in str(refused.value) or (said[0] != ":" and said in str(refused.value))


def request(**more) -> Answered:
    return Answered(**{"request_id": "r", "route": "/v1/predict", "status": 200, "seconds": 0.04, "model": "m", **more})


def window_of(registry: CollectorRegistry, happen, seconds: float = 300.0) -> Window:
    start = Snapshot.of(registry.collect(), 0.0)
    happen()
    return Window(start, Snapshot.of(registry.collect(), seconds))


def test_each_kind_of_rule_reads_its_value():
    metrics = Metrics()

    def happen() -> None:
        for number in range(100):
            metrics.answered(request(status=500 if number < 3 else 200, inputs=2, refused=number < 10))
            metrics.answered(request(status=429, model=None, seconds=2.5))
            metrics.answered(request(route="/readyz", model=None))
            label = "bad" if number < 70 else "good"
            metrics.predicted("m", ["x"], [{"predicted": label, "probability": 0.9}])
        metrics.queued(7)

    window = window_of(metrics.registry, happen)
    for rule, values in (
        (rules.Errors(name="n", above=0), {"": 3 / 200}),
        (rules.Errors(name="n", above=0, model="m"), {"m": 3 / 100}),
        (rules.Errors(name="n", above=0, statuses=["429", "5xx"]), {"": 103 / 200}),
        (rules.Errors(name="n", above=0, at_least=201), {}),
        (rules.Refused(name="n", above=0), {"": 10 / 200}),
        (rules.LabelShare(name="n", label="bad", above=0.5), {"m": 0.7}),
        (rules.LabelShare(name="n", label="bad", above=0.5, at_least=101), {}),
        (rules.Queue(name="n", above=5), {"": 7}),
        (rules.Silence(name="n", below=1), {"": 200}),
        (rules.Silence(name="n", below=1, model="m"), {"m": 100}),
        (rules.Silence(name="n", below=1, window=600), {}),
        (rules.Drift(name="n"), {}),
    ):
        assert rule.values(window) == pytest.approx(values), rule
    (value,) = rules.Latency(name="n", above=1, percentile=40).values(window).values()
    assert 0.03 <= value <= 0.05
    (value,) = rules.Latency(name="n", above=1, percentile=90).values(window).values()
    assert 2 <= value <= 5
    assert rules.Latency(name="n", above=1, route="/other").values(window) == {}


def test_limits_are_kept_to():
    assert rules.Queue(name="n", above=5).is_broken(6)
    assert not rules.Queue(name="n", above=5).is_broken(5)
    share = rules.LabelShare(name="n", label="x", above=0.6, below=0.1)
    assert [share.is_broken(value) for value in (0.05, 0.1, 0.6, 0.7)] == [True, False, False, True]
    assert share.limit == "above 0.6 or below 0.1"
    assert [rules.Silence(name="n", below=2).is_broken(value) for value in (1, 2)] == [True, False]


def test_drift_is_what_chance_does_not_explain():
    registry = CollectorRegistry()
    names = ("model", "of", "measure")
    drift, limit = (
        Gauge(name, "A gauge.", names, registry=registry) for name in ("peftlab_drift", "peftlab_drift_limit")
    )
    Counter("other", "A counter.", registry=registry)

    def happen() -> None:
        for model, of, psi, js in (("a", "labels", 0.3, 0.2), ("a", "lengths", 0.9, 0.05), ("b", "labels", 0.4, 0.05)):
            for measure, value in (("psi", psi), ("js", js)):
                drift.labels(model, of, measure).set(value)
                limit.labels(model, of, measure).set(0.1)

    window = window_of(registry, happen)
    assert rules.Drift(name="n").values(window) == {"a": 0.3, "b": 0.0}
    assert rules.Drift(name="n", measure="js").values(window) == {"a": 0.2, "b": 0.0}
    assert rules.Drift(name="n", of="lengths").values(window) == {"a": 0.0}
    assert rules.Drift(name="n", model="b").values(window) == {"b": 0.0}

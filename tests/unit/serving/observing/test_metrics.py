from __future__ import annotations

import os
import subprocess
import sys
from types import SimpleNamespace

import pytest
from prometheus_client import CollectorRegistry, Gauge
from prometheus_client.parser import text_string_to_metric_families

from peftlab.serving.events import Answered, Computed
from peftlab.serving.observing import metrics
from peftlab.serving.observing.metrics import OTHER, Metrics

CARD = SimpleNamespace(name="ner", run="3f9c2a", identity="ab12", task="ner", method="lora")


def samples(text: bytes) -> dict[tuple[str, tuple[str, ...]], float]:
    """The values by name, and by the values of the labels in the order of the labels' names."""
    families = text_string_to_metric_families(text.decode())
    return {
        (s.name, tuple(value for _, value in sorted(s.labels.items()))): s.value
        for family in families
        for s in family.samples
    }


def request(**more) -> Answered:
    return Answered(**{"request_id": "r", "route": "/v1/predict", "status": 200, "seconds": 0.04, **more})


def happen(observer: Metrics) -> None:
    observer.answered(request(model="ner", caller="alice", inputs=2, refused=1, tokens=9))
    observer.answered(request(status=429, error="overloaded"))
    observer.computed(Computed(models=("ner", "ner"), tokens=9, seconds=0.02, waited=(0.001, 0.002)))
    entity = {"type": "LOC", "probability": 0.9}
    observer.predicted("ner", ["x"], [{"entities": [entity]}], tokens=[9], unknown=[1])
    observer.queued(3)


def test_what_happens_is_counted_in_a_form_that_prometheus_reads():
    observer = Metrics([CARD])
    happen(observer)
    values = samples(observer.exposition())
    for name, labels, value in (
        ("peftlab_requests_total", ("alice", "ner", "/v1/predict", "200"), 1),
        ("peftlab_requests_total", ("none", "none", "/v1/predict", "429"), 1),
        ("peftlab_request_seconds_bucket", ("0.05", "ner", "/v1/predict"), 1),
        ("peftlab_request_seconds_bucket", ("0.03", "ner", "/v1/predict"), 0),
        ("peftlab_inputs_total", ("ner",), 2),
        ("peftlab_inputs_refused_total", ("ner",), 1),
        ("peftlab_errors_total", ("overloaded",), 1),
        ("peftlab_queue_inputs", (), 3),
        ("peftlab_batch_tokens_sum", (), 9),
        ("peftlab_batch_inputs_sum", (), 2),
        ("peftlab_wait_seconds_count", (), 2),
        ("peftlab_answers_total", ("LOC", "ner"), 1),
        ("peftlab_confidence_bucket", ("0.9", "ner"), 1),
        ("peftlab_confidence_bucket", ("0.8", "ner"), 0),
        ("peftlab_input_tokens_sum", ("ner",), 9),
        ("peftlab_unknown_tokens_total", ("ner",), 1),
        ("peftlab_model_info", ("ab12", "lora", "ner", "3f9c2a", "ner"), 1),
    ):
        assert values[name, labels] == value, (name, labels)
    helped = {line.split()[2] for line in observer.exposition().decode().splitlines() if line.startswith("# HELP")}
    typed = {line.split()[2] for line in observer.exposition().decode().splitlines() if line.startswith("# TYPE")}
    assert typed
    assert helped == typed


def test_a_model_that_has_left_is_no_longer_in_memory():
    observer = Metrics([CARD])
    observer.loaded([])
    assert samples(observer.exposition())["peftlab_model_info", ("ab12", "lora", "ner", "3f9c2a", "ner")] == 0


def test_a_number_is_in_a_range_of_the_run_that_has_the_name_now():
    def card(identity: str) -> SimpleNamespace:
        return SimpleNamespace(name="price", run=identity, identity=identity, task="regression", method="lora")

    observer = Metrics([card("first")], {"first": (0.5,), "second": (7.0,)}.get)
    for identity in ("first", "second", "unknown"):
        observer.loaded([card(identity)])
        observer.predicted("price", ["x"], [{"predicted": 0.75}])
    values = samples(observer.exposition())
    shown = {labels[0]: value for (name, labels), value in values.items() if name == "peftlab_answers_total"}
    assert shown == {"from 0.5": 1, "below 7": 1}


def test_strangers_cannot_make_the_labels_many(monkeypatch):
    for name, most in (("MOST_CALLERS", 5), ("MOST_MODELS", 7), ("MOST_LABELS", 9)):
        monkeypatch.setattr(metrics, name, most)
    observer = Metrics([CARD])
    for number in range(metrics.MOST_CALLERS + 50):
        observer.answered(request(caller=f"c{number}", route=f"/{number}"))
    for number in range(metrics.MOST_MODELS + 50):
        observer.answered(request(model=f"m{number}"))
    for number in range(metrics.MOST_LABELS + 50):
        observer.predicted("ner", ["x"], [{"predicted": f"l{number}", "probability": 0.5}])
    values = samples(observer.exposition())
    labels = [{labels[place] for name, labels in values if name == "peftlab_requests_total"} for place in (2, 1, 0)]
    assert [len(one) for one in labels] == [
        metrics.MOST_CALLERS + 1,
        metrics.MOST_MODELS - 1 + 2,  # one is the card
        metrics.MOST_CALLERS + 2,
    ]  # with `OTHER`, and with nobody
    assert values["peftlab_answers_total", (OTHER, "ner")] == 50


def test_a_gauge_that_is_gone_is_shown_no_more():
    with metrics.shared():
        gauge = Gauge("peftlab_x", "x", ["of"], registry=CollectorRegistry(), multiprocess_mode="livemostrecent")
        gauge.labels("a").set(1)
        gauge.labels("b").set(2)
        gauge.labels("a").set(metrics.GONE)
        assert samples(metrics.exposition()) == {("peftlab_x", ("b",)): 2}
        gauge.labels("a").set(3)
        assert samples(metrics.exposition())["peftlab_x", ("a",)] == 3


WORKER = """
import sys
from peftlab.serving.events import Answered
from peftlab.serving.observing.metrics import Metrics

one = Metrics()
one.answered(Answered(request_id="r", route="/v1/predict", status=200, seconds=0.04, model="ner", inputs=2))
one.queued(3)
print(flush=True)
sys.stdin.read(1)
"""


@pytest.mark.slow
def test_processes_count_together_and_a_dead_one_leaves_its_counters_but_not_its_gauges():
    with metrics.shared() as folder:
        workers = [subprocess.Popen([sys.executable, "-c", WORKER], stdin=-1, stdout=-1) for _ in range(2)]
        for worker in workers:
            worker.stdout.readline()
        happen(Metrics([CARD]))
        values = samples(metrics.exposition())
        assert values["peftlab_inputs_total", ("ner",)] == 6
        assert values["peftlab_queue_inputs", ()] == 9
        assert values["peftlab_request_seconds_count", ("ner", "/v1/predict")] == 3
        for worker in workers:
            worker.kill()
            worker.communicate()
        values = samples(metrics.exposition())
        assert values["peftlab_inputs_total", ("ner",)] == 6
        assert values["peftlab_queue_inputs", ()] == 3
        assert len(list(folder.glob("gauge_live*"))) == 2  # of this process
    assert not folder.exists()
    assert metrics.FOLDER not in os.environ

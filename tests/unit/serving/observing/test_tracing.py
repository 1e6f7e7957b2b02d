from __future__ import annotations

import time

import pytest
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode

from peftlab.serving.events import Answered, Computed
from peftlab.serving.observing import tracing
from peftlab.serving.observing.tracing import Tracing, otlp, trace_id

TRACE, SPAN = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
PARENT = f"00-{TRACE}-{SPAN}-01"


def request(**more) -> Answered:
    return Answered(**{"request_id": "r", "route": "/v1/predict", "status": 200, "seconds": 0.5, **more})


@pytest.fixture
def exporter():
    return InMemorySpanExporter()


def test_a_request_its_waiting_and_its_batches_are_spans_of_the_callers_trace(exporter):
    observer = Tracing(exporter, at_once=True)
    before = time.time_ns()
    observer.computed(
        Computed(
            models=("a", "a", "a"), tokens=30, seconds=0.1, waited=(0.02, 0.05, 0.3), request_ids=("r", "r", "other")
        )
    )
    observer.answered(request(model="a", caller="alice", inputs=2, tokens=20, traceparent=PARENT))
    wait, compute, span = exporter.get_finished_spans()
    assert (wait.name, compute.name, span.name) == ("wait", "compute", "request /v1/predict")
    assert span.context.trace_id == int(TRACE, 16)
    assert span.parent.span_id == int(SPAN, 16)
    assert span.kind == SpanKind.SERVER
    assert wait.parent.span_id == compute.parent.span_id == span.context.span_id
    assert span.end_time - span.start_time == 500_000_000
    assert compute.end_time - compute.start_time == 100_000_000
    assert wait.end_time - wait.start_time == 50_000_000  # the longest of the request's inputs
    assert wait.end_time == compute.start_time
    assert before <= compute.end_time <= span.end_time
    assert dict(compute.attributes) == {"peftlab.batch.inputs": 3, "peftlab.batch.tokens": 30}
    assert dict(span.attributes) == {
        "http.route": "/v1/predict",
        "http.response.status_code": 200,
        "peftlab.request_id": "r",
        "peftlab.caller": "alice",
        "peftlab.model": "a",
        "peftlab.inputs": 2,
        "peftlab.refused": 0,
        "peftlab.tokens": 20,
    }
    assert span.resource.attributes["service.name"] == "peftlab"
    observer.close()


def test_a_header_that_is_none_begins_a_new_trace_and_failures_are_errors(exporter):
    observer = Tracing(exporter, at_once=True)
    for header in (None, "", "00-x", PARENT.upper(), f"ff-{TRACE}-{SPAN}-01", f"00-{'0' * 32}-{SPAN}-01", "0" * 9_000):
        assert trace_id(header) is None
        observer.answered(request(status=503, error="draining", traceparent=header))
    spans = exporter.get_finished_spans()
    assert len({span.context.trace_id for span in spans}) == 7
    assert all(span.parent is None and span.status.status_code == StatusCode.ERROR for span in spans)
    assert spans[0].attributes["error.type"] == "draining"
    assert trace_id(PARENT) == TRACE
    observer.close()


def test_no_text_is_in_a_span(exporter):
    observer = Tracing(exporter, at_once=True)
    observer.predicted("a", ["Ann met Bob"], [{"entities": [{"text": "Ann"}]}], request_id="r")
    observer.answered(request())
    assert "Ann" not in "".join(span.to_json() for span in exporter.get_finished_spans())
    observer.close()


def test_requests_that_never_end_are_forgotten(exporter, monkeypatch):
    monkeypatch.setattr(tracing, "MOST_REQUESTS", 3)
    observer = Tracing(exporter, at_once=True)
    for number in range(9):
        observer.computed(Computed(models=("a",), tokens=1, seconds=0, waited=(0.0,), request_ids=(str(number),)))
    assert list(observer._batches) == ["6", "7", "8"]
    observer.close()


def test_a_collector_is_named_with_or_without_its_path():
    for address in ("http://127.0.0.1:4318", "http://127.0.0.1:4318/", "http://127.0.0.1:4318/v1/traces"):
        observer = otlp(address)
        (processor,) = observer._provider._active_span_processor._span_processors
        assert processor.span_exporter._endpoint == "http://127.0.0.1:4318/v1/traces"
        observer.close()

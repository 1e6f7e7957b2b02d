"""Spans of OpenTelemetry: a request, how long its inputs waited, and the batches that they were computed in.

They are made when a request has ended, of what was told on the way, so that the server does no work for them before
its answer is sent. A caller's ``traceparent`` makes the request a part of the caller's trace (W3C Trace Context). No
attribute has a text of an input.
"""

from __future__ import annotations

import re
import time
from collections import OrderedDict
from typing import TYPE_CHECKING

from typing_extensions import override

from peftlab.serving.events import Answered, Computed, Observer

if TYPE_CHECKING:
    from opentelemetry.sdk.trace.export import SpanExporter

_TRACEPARENT = re.compile(r"(?!ff)[0-9a-f]{2}-(?!0{32})([0-9a-f]{32})-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}(-.{0,200})?")

MOST_REQUESTS = 10_000
"""Requests whose batches are remembered until they end."""

_MOST_BATCHES = 32
"""Batches of one request that get spans; an input of which nobody knows how many there are has no bound otherwise."""


def trace_id(traceparent: str | None) -> str | None:
    """Return the trace in a header ``traceparent``; None if it is none."""
    match = _TRACEPARENT.fullmatch(traceparent) if traceparent else None
    return match[1] if match else None


class Tracing(Observer):
    """Sends the spans of each request.

    Args:
        exporter: takes them.
        at_once: whether it takes each at once, rather than many from a thread of its own.
    """

    def __init__(self, exporter: SpanExporter, at_once: bool = False) -> None:
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor, SimpleSpanProcessor

        self._provider = TracerProvider(resource=Resource.create({"service.name": "peftlab"}), shutdown_on_exit=False)
        self._provider.add_span_processor((SimpleSpanProcessor if at_once else BatchSpanProcessor)(exporter))
        self._tracer = self._provider.get_tracer("peftlab.serving")
        self._batches: OrderedDict[str, list[tuple[int, float, Computed]]] = OrderedDict()

    @override
    def computed(self, batch: Computed) -> None:
        now = time.time_ns()
        longest: dict[str, float] = {}
        for request, waited in zip(batch.request_ids, batch.waited, strict=False):
            longest[request] = max(waited, longest.get(request, 0.0))
        for request, waited in longest.items():
            of_request = self._batches.setdefault(request, [])
            if len(of_request) < _MOST_BATCHES:
                of_request.append((now, waited, batch))
        while len(self._batches) > MOST_REQUESTS:
            self._batches.popitem(last=False)

    @override
    def answered(self, request: Answered) -> None:
        from opentelemetry.trace import SpanKind, Status, StatusCode, set_span_in_context
        from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

        batches = self._batches.pop(request.request_id, [])
        known = trace_id(request.traceparent) is not None
        caller = TraceContextTextMapPropagator().extract({"traceparent": request.traceparent} if known else {})
        end = time.time_ns()
        attributes: dict[str, str | int | None] = {
            "http.route": request.route,
            "http.response.status_code": request.status,
            "error.type": request.error,
            "peftlab.request_id": request.request_id,
            "peftlab.caller": request.caller,
            "peftlab.model": request.model,
            "peftlab.inputs": request.inputs,
            "peftlab.refused": request.refused,
            "peftlab.tokens": request.tokens,
        }
        span = self._tracer.start_span(
            f"request {request.route}",
            caller,
            SpanKind.SERVER,
            {key: value for key, value in attributes.items() if value is not None},
            start_time=end - _nanoseconds(request.seconds),
        )
        if request.status >= 500:
            span.set_status(Status(StatusCode.ERROR))
        inside = set_span_in_context(span)
        for done, waited, batch in batches:
            begun = done - _nanoseconds(batch.seconds)
            wait = self._tracer.start_span("wait", inside, start_time=begun - _nanoseconds(waited))
            wait.end(begun)
            of_batch = {"peftlab.batch.inputs": len(batch.models), "peftlab.batch.tokens": batch.tokens}
            compute = self._tracer.start_span("compute", inside, attributes=of_batch, start_time=begun)
            compute.end(done)
        span.end(end)

    @override
    def close(self) -> None:
        self._provider.force_flush(5_000)
        self._provider.shutdown()


def otlp(address: str) -> Tracing:
    """Return the observer that sends spans to a collector, by OTLP over HTTP.

    Args:
        address: such as ``http://127.0.0.1:4318``; without a path, ``/v1/traces`` is taken.
    """
    from urllib.parse import urlsplit

    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter

    path = urlsplit(address).path
    return Tracing(OTLPSpanExporter(address if path.strip("/") else f"{address.rstrip('/')}/v1/traces"))


def _nanoseconds(seconds: float) -> int:
    return round(seconds * 1e9)

"""What a server counts, for Prometheus and for its own alerts; of all its processes together.

Each process writes its numbers into files of one folder (prometheus-client's multiprocess mode), and any process adds
them up. A counter of a process that has died stays in the sum, as it must never fall; a gauge goes with its process,
or when it is set to `GONE`, as nothing can be taken out of these files.
Labels come from a bounded set: a further model, caller or label counts as ``other``.
"""

from __future__ import annotations

import math
import os
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.metrics_core import Metric
from prometheus_client.multiprocess import MultiProcessCollector, mark_process_dead
from prometheus_client.registry import Collector
from typing_extensions import override

from peftlab.seams.prometheus import FOLDER, values_in_files
from peftlab.serving.events import Answered, Computed, Observer
from peftlab.serving.observing.traits import CONFIDENCES, LENGTHS, traits

if TYPE_CHECKING:
    from peftlab.serving.models.models import ModelCard

CONTENT_TYPE = CONTENT_TYPE_LATEST

MOST_CALLERS, MOST_MODELS, MOST_LABELS = 100, 300, 200
"""The most values of a label: a process of the server counts all further ones as `OTHER`."""

OTHER, NOBODY = "other", "none"

GONE = math.nan
"""The value of a gauge that is shown no more."""

_SECONDS = (0.005, 0.01, 0.02, 0.03, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.5, 0.75, 1, 2, 5, 10, 30)
_WAITS = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 30)
_BATCH_TOKENS = (32, 64, 128, 256, 512, 1024, 2048, 4096, 8192, 16384)
_BATCH_INPUTS = (1, 2, 4, 8, 16, 32, 64, 128, 256)


class Bounded:
    """The values that a label may have: the first few that come."""

    def __init__(self, most: int, known: Iterable[str] = ()) -> None:
        self._most, self._known = most, set(known)

    def __call__(self, value: str | None) -> str:
        """Return `value`, or `OTHER` if there are too many already."""
        if value is None:
            return NOBODY
        if value not in self._known:
            if len(self._known) >= self._most:
                return OTHER
            self._known.add(value)
        return value


class Metrics(Observer):
    """Counts what happens in one process.

    Args:
        cards: the models that there are at the start; others may come.
        ranges: returns the bounds of the ranges of predicted numbers by the identity of a run; None: there are none.
    """

    def __init__(
        self,
        cards: Sequence[ModelCard] = (),
        ranges: Callable[[str], Sequence[float] | None] = lambda identity: None,
    ) -> None:
        self.registry = registry = CollectorRegistry()
        self._callers, self._routes = Bounded(MOST_CALLERS), Bounded(MOST_CALLERS)
        self._models = Bounded(MOST_MODELS, [card.name for card in cards])
        self._labels: dict[str, Bounded] = {}
        self._ranges_of = cache(ranges)
        self._ranges: dict[str, Sequence[float]] = {}
        """By the name of a model: of the run that has it now."""
        self._loaded: set[tuple[str, ...]] = set()

        def counter(name: str, text: str, *labels: str) -> Counter:
            return Counter(name, text, labels, registry=registry)

        def histogram(name: str, text: str, ends: Sequence[float], *labels: str) -> Histogram:
            return Histogram(name, text, labels, registry=registry, buckets=ends)

        self._requests = counter("peftlab_requests", "Requests that have ended.", "route", "status", "model", "caller")
        self._seconds = histogram(
            "peftlab_request_seconds", "From a request's first byte to its response's last.", _SECONDS, "route", "model"
        )
        self._inputs = counter("peftlab_inputs", "Inputs that came, answered or not.", "model")
        self._refused = counter("peftlab_inputs_refused", "Inputs that got no answer.", "model")
        self._errors = counter("peftlab_errors", "Requests that ended with an error, by its code.", "code")
        self._queue = Gauge("peftlab_queue_inputs", "Inputs that wait.", registry=registry, multiprocess_mode="livesum")
        self._batches = histogram("peftlab_batch_tokens", "Tokens of a batch.", _BATCH_TOKENS)
        self._batch_inputs = histogram("peftlab_batch_inputs", "Inputs of a batch.", _BATCH_INPUTS)
        self._computing = histogram("peftlab_batch_seconds", "Time to compute a batch.", _SECONDS)
        self._waiting = histogram("peftlab_wait_seconds", "How long an input waited for its batch.", _WAITS)
        self._answers = counter(
            "peftlab_answers", "Labels in answers: classes, entity types, intents, ranges.", "model", "label"
        )
        self._confidence = histogram("peftlab_confidence", "Probability of each label.", CONFIDENCES, "model")
        self._lengths = histogram("peftlab_input_tokens", "Tokens of an input that was answered.", LENGTHS, "model")
        self._unknown = counter("peftlab_unknown_tokens", "Tokens that the vocabulary lacks.", "model")
        self._info = Gauge(
            "peftlab_model_info",
            "The models in memory have a 1, those that were there a 0.",
            ("model", "run", "identity", "task", "method"),
            registry=registry,
            multiprocess_mode="livemax",
        )
        self.loaded(cards)

    @override
    def loaded(self, cards: Sequence[ModelCard]) -> None:
        now: set[tuple[str, ...]] = {
            (self._models(card.name), card.run, card.identity, card.task, card.method) for card in cards
        }
        for of_card in now | self._loaded:
            self._info.labels(*of_card).set(of_card in now)
        self._loaded = now
        self._ranges = {card.name: self._ranges_of(card.identity) or () for card in cards}

    @override
    def answered(self, request: Answered) -> None:
        route, model = self._routes(request.route), self._models(request.model)
        self._requests.labels(route, str(request.status), model, self._callers(request.caller)).inc()
        self._seconds.labels(route, model).observe(request.seconds)
        if request.inputs:
            self._inputs.labels(model).inc(request.inputs)
            self._refused.labels(model).inc(request.refused)
        if request.error is not None:
            self._errors.labels(self._routes(request.error)).inc()

    @override
    def computed(self, batch: Computed) -> None:
        self._batches.observe(batch.tokens)
        self._batch_inputs.observe(len(batch.models))
        self._computing.observe(batch.seconds)
        for seconds in batch.waited:
            self._waiting.observe(seconds)

    @override
    def predicted(
        self,
        model: str,
        inputs: Sequence[Any],
        answers: Sequence[dict[str, Any]],
        *,
        request_id: str | None = None,
        tokens: Sequence[int] = (),
        unknown: Sequence[int] = (),
    ) -> None:
        name = self._models(model)
        labels = self._labels.setdefault(name, Bounded(MOST_LABELS))
        for answer in answers:
            of_answer = traits(answer, self._ranges.get(model, ()))
            for label in of_answer.labels:
                self._answers.labels(name, labels(label)).inc()
            for confidence in of_answer.confidences:
                self._confidence.labels(name).observe(confidence)
        for count in tokens:
            self._lengths.labels(name).observe(count)
        if unknown:
            self._unknown.labels(name).inc(sum(unknown))

    @override
    def queued(self, inputs: int) -> None:
        self._queue.set(inputs)

    def exposition(self) -> bytes:
        """Return the numbers of all processes in Prometheus's text format; outside `shared`, of this one."""
        return exposition() if os.environ.get(FOLDER) else generate_latest(self.registry)


@contextmanager
def shared() -> Iterator[Path]:
    """In the block, keep the numbers of this process, and of those that it starts, in files of one folder."""
    with tempfile.TemporaryDirectory(prefix="peftlab-metrics-") as folder, values_in_files(Path(folder)):
        yield Path(folder)


def exposition() -> bytes:
    """Return the numbers of all processes inside `shared`, in Prometheus's text format."""
    return generate_latest(_of_all())


def collected() -> Iterable[Metric]:
    """Return the numbers of all processes inside `shared`."""
    return _of_all().collect()


def _of_all() -> CollectorRegistry:
    folder = Path(os.environ[FOLDER])
    for process in {int(file.stem.rpartition("_")[2]) for file in folder.glob("gauge_live*_*.db")}:
        if not _lives(process):
            with suppress(FileNotFoundError):  # another process has done it
                mark_process_dead(process, str(folder))  # type: ignore[no-untyped-call]
    registry = CollectorRegistry()
    registry.register(_Present(MultiProcessCollector(None, path=str(folder))))  # type: ignore[no-untyped-call]
    return registry


class _Present(Collector):
    """What is not `GONE` of all that is collected."""

    def __init__(self, collector: Collector) -> None:
        self._collector = collector

    @override
    def collect(self) -> Iterator[Metric]:
        for metric in self._collector.collect():
            metric.samples = [sample for sample in metric.samples if not math.isnan(sample.value)]
            yield metric


def _lives(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return True

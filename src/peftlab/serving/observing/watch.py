"""Looks at the numbers of a server again and again: how far its models drift, and which alerts follow."""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from datetime import UTC, datetime
from itertools import pairwise
from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry, Gauge

from peftlab.serving.observing.alerting import Alerting, Message
from peftlab.serving.observing.drift import FEWEST, Reference
from peftlab.serving.observing.metrics import GONE
from peftlab.serving.observing.window import Snapshot, Window

if TYPE_CHECKING:
    from prometheus_client.metrics_core import Metric

log = logging.getLogger("peftlab")

EVERY = 10.0
"""Seconds from one look to the next."""

DRIFT_INPUTS, DRIFT_SECONDS = 1_000, 24 * 3600.0
"""Drift is measured on the last thousand inputs or a few more, and on none from longer ago than a day."""

_COARSENESS = 20
"""Snapshots are as far apart as a twentieth of their age: there are few, and each window begins about where it should.
"""


class Snapshots:
    """The numbers at moments of the past, ever further apart."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._kept: deque[Snapshot] = deque()

    def add(self, snapshot: Snapshot) -> None:
        """Keep `snapshot`, the newest, and forget those that are too old, and those of long ago that others stand for.

        One that is older than the longest window stays, where that window begins.
        """
        self._kept.append(snapshot)
        thinned: deque[Snapshot] = deque()
        for one, following in pairwise(self._kept):
            is_covered = bool(thinned) and following.time - thinned[-1].time <= (snapshot.time - one.time) / _COARSENESS
            if not is_covered and snapshot.time - following.time < self._seconds:
                thinned.append(one)
        self._kept = thinned + deque([snapshot])

    @property
    def newest(self) -> Snapshot:
        """The last one."""
        return self._kept[-1]

    def replace_newest(self, snapshot: Snapshot) -> None:
        """Keep `snapshot` in place of the last one."""
        self._kept[-1] = snapshot

    def window(self, seconds: float) -> Window:
        """Return the window of the last `seconds`; a shorter one if there is no more."""
        newest = self._kept[-1]
        old = [one for one in self._kept if newest.time - one.time >= seconds - 1e-6]
        return Window(old[-1] if old else self._kept[0], newest)

    def window_of(self, enough: Callable[[Window], bool], since: float = float("-inf")) -> Window | None:
        """Return the shortest window that is `enough`; the longest, if none is; None where there is none at all.

        Args:
            enough: says so of a window.
            since: the time that no window begins before.
        """
        *earlier, newest = self._kept
        windows = [Window(one, newest) for one in earlier if one.time >= since]
        return next(filter(enough, reversed(windows)), windows[0] if windows else None)


class Watch:
    """Measures drift and follows the rules of alerts.

    Args:
        collect: returns the server's numbers.
        alerting: the rules; None: there are none.
        send: takes each message.
        reference: returns the reference of the run with an identity, None if there is none; None: no drift is measured.
    """

    def __init__(
        self,
        collect: Callable[[], Iterable[Metric]],
        alerting: Alerting | None,
        send: Callable[[Message], None],
        reference: Callable[[str], Reference | None] | None,
    ) -> None:
        self._collect, self._send, self._reference = collect, send, reference
        self._alerting = alerting or Alerting(())
        self._references: dict[str, Reference] = {}
        self._begun: dict[str, tuple[str, float]] = {}
        """By name of a model the identity of its run, and the time that it was first seen under this name."""
        self._shown: set[tuple[Gauge, tuple[str, ...]]] = set()
        """The gauges that are shown, each with its labels."""
        longest = max(self._alerting.longest_window, DRIFT_SECONDS if reference else 0.0)
        self._snapshots = Snapshots(longest)
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._work, daemon=True, name="peftlab-watch")
        registry = CollectorRegistry()

        def gauge(name: str, text: str, *labels: str) -> Gauge:
            return Gauge(name, text, labels, registry=registry, multiprocess_mode="livemostrecent")

        self._drift = gauge(
            "peftlab_drift", "How far the last inputs are from the validation split.", "model", "of", "measure"
        )
        self._limit = gauge("peftlab_drift_limit", "What chance alone stays below.", "model", "of", "measure")
        self._share = gauge("peftlab_label_share", "The share of a label among the last ones.", "model", "label")
        self._alert = gauge("peftlab_alert_firing", "Whether an alert is firing.", "alert", "model")

    def start(self) -> None:
        """Begin to look, every `EVERY` seconds, in a thread."""
        self._thread.start()

    def stop(self) -> None:
        """Look no more."""
        self._ending.set()
        self._thread.join(30)

    def look(self, now: float) -> None:
        """Look once, at the time `now` of a clock that never goes back."""
        self._snapshots.add(Snapshot.of(self._collect(), now))
        if self._reference is not None and self._measure_drift():
            self._snapshots.replace_newest(Snapshot.of(self._collect(), now))
        served = _identities(self._snapshots.newest).keys() or None
        for rule in self._alerting.rules:
            for message in self._alerting.messages(rule, self._snapshots.window(rule.window), served):
                log.warning("alert %s: %s", message["state"], message["text"])
                self._send({**message, "time": datetime.now(UTC).isoformat(timespec="seconds")})
        for (name, subject), firing in self._alerting.firing().items():
            self._alert.labels(name, subject).set(firing)

    def _work(self) -> None:
        while not self._ending.is_set():
            begun = time.monotonic()
            try:
                self.look(begun)
            except Exception:
                log.exception("the server's numbers could not be looked at; they are again in %g s", EVERY)
            self._ending.wait(max(1.0, EVERY - (time.monotonic() - begun)))

    def _measure_drift(self) -> bool:
        """Set the gauges of drift, and return whether there are any, or were."""
        values = dict(self._drifts())
        for gauge, labels in self._shown | values.keys():
            gauge.labels(*labels).set(values.get((gauge, labels), GONE))
        any_changed = bool(self._shown or values)
        self._shown = set(values)
        return any_changed

    def _drifts(self) -> Iterator[tuple[tuple[Gauge, tuple[str, ...]], float]]:
        """Yield the gauges that there are inputs enough for, each with its labels, and their values."""
        for model, identity, begun in self._models():
            if (reference := self._known(identity)) is None:
                continue
            since = max(begun, self._snapshots.newest.time - DRIFT_SECONDS)
            window = self._snapshots.window_of(
                lambda window, model=model: _inputs(window, model) >= DRIFT_INPUTS,  # type: ignore[misc]
                since,
            )
            if window is None or (inputs := _inputs(window, model)) < FEWEST:
                continue
            for difference in reference.differences(_counts(window, model), inputs):
                for measure in ("psi", "js"):
                    of = (model, difference.of, measure)
                    yield (self._drift, of), getattr(difference, measure)
                    yield (self._limit, of), getattr(difference, f"{measure}_limit")
            labels = window.by("peftlab_answers_total", "label", model=model)
            for label, count in labels.items():
                yield (self._share, (model, label)), count / max(1.0, sum(labels.values()))

    def _models(self) -> Iterator[tuple[str, str, float]]:
        """Yield name and identity of each model in memory, and since when the name stands for it.

        Counters go by name: of another run's answers under the same name none must count. While workers differ in what
        the name stands for, it stands for none.
        """
        newest = self._snapshots.newest
        for model, identities in _identities(newest).items():
            if len(identities) > 1:
                self._begun.pop(model, None)
                continue
            if self._begun.get(model, ("", 0.0))[0] != identities[0]:
                self._begun[model] = (identities[0], newest.time)
            yield model, *self._begun[model]

    def _known(self, identity: str) -> Reference | None:
        assert self._reference is not None
        if identity not in self._references and (reference := self._reference(identity)) is not None:
            self._references[identity] = reference
        return self._references.get(identity)


def _identities(snapshot: Snapshot) -> dict[str, list[str]]:
    """Return the identities of each model in memory by its name: several while one takes another's place."""
    identities: dict[str, list[str]] = {}
    for labels, loaded in snapshot.values.get("peftlab_model_info", {}).items():
        if loaded:
            info = dict(labels)
            identities.setdefault(info["model"], []).append(info["identity"])
    return identities


def _inputs(window: Window, model: str) -> int:
    return round(window.total("peftlab_input_tokens_count", model=model))


def _counts(window: Window, model: str) -> dict[str, dict[str, float]]:
    tokens = window.total("peftlab_input_tokens_sum", model=model)
    unknown = window.total("peftlab_unknown_tokens_total", model=model)
    return {
        "lengths": window.bins("peftlab_input_tokens", model=model),
        "unknown": {"known": tokens - unknown, "unknown": unknown},
        "labels": window.by("peftlab_answers_total", "label", model=model),
        "confidence": window.bins("peftlab_confidence", model=model),
    }

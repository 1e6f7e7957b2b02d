"""What a server has counted between two moments."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from prometheus_client.metrics_core import Metric

Labels = frozenset[tuple[str, str]]


@dataclass(frozen=True)
class Snapshot:
    """All numbers at one moment.

    Args:
        time: in seconds, of a clock that never goes back.
        values: by the name of the sample, such as ``peftlab_requests_total``, and its labels.
    """

    time: float
    values: Mapping[str, Mapping[Labels, float]]

    @classmethod
    def of(cls, metrics: Iterable[Metric], time: float) -> Snapshot:
        """Return the numbers of `metrics` at `time`."""
        values: dict[str, dict[Labels, float]] = defaultdict(dict)
        for metric in metrics:
            for sample in metric.samples:
                values[sample.name][_labels(frozenset(sample.labels.items()))] = sample.value
        return cls(time, values)

    def by(self, name: str, label: str, /, **only: str | None) -> dict[str, float]:
        """Return the sums of a sample by the values of a label, of those whose other labels are as in `only`.

        A label that is None in `only` may have any value.
        """
        sums: dict[str, float] = defaultdict(float)
        asked = {item for item in only.items() if item[1] is not None}
        for labels, value in self.values.get(name, {}).items():
            if asked <= labels:
                sums[dict(labels).get(label, "")] += value
        return dict(sums)


@cache
def _labels(labels: Labels) -> Labels:
    """Return `labels` as one object, which many snapshots share."""
    return labels


@dataclass(frozen=True)
class Window:
    """What happened from one moment to a later one."""

    start: Snapshot
    end: Snapshot

    @property
    def seconds(self) -> float:
        """How long it is."""
        return self.end.time - self.start.time

    def by(self, name: str, label: str, /, **only: str | None) -> dict[str, float]:
        """Return by how much counters have grown, see `Snapshot.by`."""
        before = self.start.by(name, label, **only)
        return {value: now - before.get(value, 0.0) for value, now in self.end.by(name, label, **only).items()}

    def total(self, name: str, /, **only: str | None) -> float:
        """Return by how much the sum of counters has grown."""
        return sum(self.by(name, "", **only).values())

    def bins(self, name: str, /, **only: str | None) -> dict[str, float]:
        """Return how many values a histogram took in each bin, by the bin's upper end, in ascending order."""
        reached = {end: count for end, count in self.by(f"{name}_bucket", "le", **only).items() if end}
        ends = sorted(reached, key=float)
        return {
            end: reached[end] - before
            for before, end in zip((0.0, *(reached[end] for end in ends)), ends, strict=False)
        }

    def quantile(self, name: str, share: float, /, **only: str | None) -> float | None:
        """Return a quantile of a histogram, even within its bin; None if it took no value.

        Within the last bin, which is open, it is the bin's lower end, as in Prometheus.
        """
        bins = self.bins(name, **only)
        rank = share * sum(bins.values())
        if rank <= 0:
            return None
        below = 0.0
        for written, count in bins.items():
            end = float(written)
            if end == float("inf") or (count and rank <= count):
                return below if end == float("inf") else below + (end - below) * rank / count
            rank, below = rank - count, end
        return below

"""The story of a watch: rows are counted in windows, windows close and are judged, and alerts open and close.

All that a later call needs is in the folder. What a call finds depends on the rows and their order alone, not on how
many calls they came in.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from peftlab.errors import ConfigError, DataError
from peftlab.opinion.alerts import closed, opened
from peftlab.opinion.chart import Chart, chart_of, estimate
from peftlab.opinion.intake import Intake, text_hash
from peftlab.opinion.monitor import Monitor
from peftlab.opinion.questions import Question
from peftlab.opinion.series import Asked, Values, values_of
from peftlab.opinion.settings import Settings
from peftlab.opinion.shares import Shares
from peftlab.opinion.sinks import Alert
from peftlab.opinion.stream import Place, Row, Stream
from peftlab.opinion.times import Clock, moment
from peftlab.opinion.windows import Clocked, OpenWindow, Window
from peftlab.storage.atomic import replacing

STATE = "state.json"
_FAULTS = 20
"""Rows that could not be read whose reasons are kept."""


@dataclass
class Counts:
    """What became of the rows of all calls."""

    rows: int = 0
    repeats: int = 0
    faults: int = 0
    reasons: list[str] = field(default_factory=list)
    """Of the first faults."""


class Watch:
    """A watch in a folder, which goes on where it stopped.

    Args:
        folder: of the watch.
        settings: of the watch.
        own: what else it must be the same as at the last call, such as the runs.
        questions: those that runs answer first, then the columns.
        kinds: of series.

    Raises:
        ConfigError: the folder is of another watch, or what is in it cannot be read.
    """

    def __init__(
        self,
        folder: Path,
        settings: Settings,
        own: Mapping[str, Any],
        questions: Sequence[Question],
        kinds: Sequence[Asked],
    ) -> None:
        self.folder, self.settings, self.questions, self.kinds = folder, settings, questions, kinds
        self.own = json.loads(json.dumps(own))
        self.clock = Clock(settings.window, settings.zone)
        self.clocked = Clocked(settings.window, settings.lateness, settings.jump)
        self.counts = Counts()
        self.first: int | None = None
        """The number of the first window that has closed."""
        self.windows: list[Window] = []
        """Those that have closed, one after the other."""
        self.open: dict[int, OpenWindow] = {}
        self.places: dict[str, Place] = {}
        self.unfinished = False
        """Whether the stream ended, at this call, within a line, which waits."""
        self.chart: Chart | None = None
        self.monitor: Monitor | None = None
        self.alerts: list[Alert] = []
        self.running: dict[str, str] = {}
        """The ids of the open alerts, by series."""
        file = folder / STATE
        if file.is_file():
            try:
                document = json.loads(file.read_text(encoding="utf-8"))
                changed = [name for name, value in self.own.items() if document["own"].get(name) != value]
            except (OSError, ValueError, KeyError, AttributeError) as error:
                raise ConfigError(f"{file}: cannot be read ({error}). Begin again in another folder (--out)") from None
            if changed:
                raise ConfigError(
                    f"{folder}: was begun with other {', '.join(changed)}. A watch stays as it began: what is normal "
                    "depends on it. Begin another in a folder of its own (--out)"
                )
            self._go_on(document)

    @property
    def base(self) -> slice:
        """The windows of the baseline, among those that have closed."""
        begin, end = self.settings.period
        if isinstance(self.settings.baseline, int):
            return slice(0, self.settings.baseline)
        first = self.first or 0
        inside = [n for n in range(len(self.windows)) if begin <= self.clock.start(first + n).timestamp() < end]
        return slice(inside[0], inside[-1] + 1) if inside else slice(0, 0)

    def read(self, stream: Stream, intake: Intake) -> None:
        """Take in the rows of a stream, and close and judge the windows that are over."""
        for block in stream.blocks():
            self._take([number for number, _ in block], [row for _, row in block], stream, intake)
            self._close(
                lambda end: self.clocked.newest is not None and end <= self.clocked.newest - self.settings.lateness
            )
        self.counts.faults += len(stream.faults)
        self.counts.reasons = (self.counts.reasons + stream.faults)[:_FAULTS]
        self.unfinished = stream.unfinished
        if stream.place is not None:
            self.places[stream.name] = stream.place

    def finish(self) -> None:
        """Close and judge all windows: nothing more comes for them."""
        self._close(lambda end: True)

    def _take(self, numbers: Sequence[int], rows: Sequence[Row], stream: Stream, intake: Intake) -> None:
        """Count rows in their windows."""
        columns, zone = intake.columns, self.settings.zone
        timed: list[tuple[float, int]] = []
        in_windows: list[int] = []
        for place, row in enumerate(rows):
            try:
                time = moment(row[columns.time], zone)
                in_windows.append(self.clock.window(time))
                timed.append((time, place))
            except (ValueError, OverflowError) as error:
                stream.fault(numbers[place], str(error))
        self.counts.rows += len(rows)
        done = None if self.first is None else self.first + len(self.windows)
        ends = {  # one that `finish` has closed is over, whatever the clock says
            window: self.clock.end(window) if done is None or window >= done else float("-inf")
            for window in set(in_windows)
        }
        kept, windows, hashes = [], [], []
        once = self.settings.repeats == "once"
        for n in self.clocked.kept([time for time, _ in timed], [ends[window] for window in in_windows]):
            place, window = timed[n][1], in_windows[n]
            text = columns.text_of(rows[place])
            number = text_hash(text) if text else numbers[place]
            seen = self.open.setdefault(window, OpenWindow()).seen
            if once and text:
                if number in seen:
                    self.counts.repeats += 1
                    continue
                seen.add(number)
            kept.append(place)
            windows.append(window)
            hashes.append(number)
        if not kept:
            return
        counted = intake.rows(
            [rows[place] for place in kept],
            windows,
            hashes,
            lambda place, what: stream.fault(numbers[kept[place]], what),
        )
        pairs = [kind.questions for kind in self.kinds] if columns.text is not None else []
        for window in np.unique(counted.windows).tolist():
            self.open[window].add(counted.of(np.flatnonzero(counted.windows == window)), pairs)

    def _close(self, is_over: Any) -> None:
        """Close the windows that are over, in their order, and those without rows between them."""
        while self.open:
            number = min(self.open) if self.first is None else self.first + len(self.windows)
            if not is_over(self.clock.end(number)):
                return
            over = self.open.pop(number, None) or OpenWindow()
            window = over.counts
            if over.probabilities:
                estimate(window, self.kinds, self.questions, over.probabilities, over.cells)
            self.first = number if self.first is None else self.first
            self.windows.append(window)
            if self.chart is None:
                self._begin(number)
            else:
                self._judge(over)

    def _phase(self, window: int) -> int:
        """Return the phase of a window, by its place among those that have closed."""
        return window % self.settings.season

    def _begin(self, number: int) -> None:
        """Make the chart once the baseline is complete.

        Raises:
            DataError: the baseline has too little.
        """
        over = self.clock.end(number) >= self.settings.period[1] or len(self.windows) == self.settings.baseline
        if not over:
            return
        base = self.base
        windows = self.windows[base]
        if len(windows) < 5:
            raise DataError(
                f"baseline: {self.settings.baseline} has {len(windows)} windows of the stream; expected 5 or more"
            )
        phases = np.asarray([self._phase(n) for n in range(base.start, base.stop)])
        self.chart = chart_of(self.settings, self.questions, self.kinds, windows, phases)
        self.monitor = self.chart.monitor(self.settings)

    def values(self, windows: Sequence[Window]) -> Values:
        """Return the values of the series that are watched in windows."""
        assert self.chart is not None
        return values_of(self.chart.series, self.questions, windows, self.settings.correction == "adjusted")

    def _judge(self, over: OpenWindow) -> None:
        """Judge the window that has closed last."""
        assert self.chart is not None
        assert self.monitor is not None
        chart, monitor = self.chart, self.monitor
        values = self.values(self.windows[-1:])[0]
        z = chart.normal.standardised(values, self._phase(len(self.windows) - 1))
        z[~(values.n >= self.settings.min_count)] = np.nan
        sides = monitor.open.copy()
        step = monitor.step(z, chart.normal.k)
        for column in np.flatnonzero(step.opened).tolist():
            self.alerts.append(opened(self, column, float(step.p[column]), over.best))
            self.running[chart.series[column].name] = self.alerts[-1]["id"]
        for column in np.flatnonzero(step.closed).tolist():
            self.alerts.append(closed(self, column, int(sides[column])))
            del self.running[chart.series[column].name]

    @cached_property
    def shares(self) -> Shares:
        """What estimates shares with their intervals."""
        settings = self.settings
        return Shares(self.questions, settings.correction == "adjusted", settings.level, settings.seed)

    def save(self) -> None:
        """Keep the state in the folder, at once or not at all."""
        document = {
            "own": self.own,
            "labels": [question.labels for question in self.questions],
            "clock": [self.clocked.newest, self.clocked.late, self.clocked.ahead],
            "counts": vars(self.counts),
            "first": self.first,
            "windows": [window.as_json() for window in self.windows],
            "open": {str(number): window.as_json() for number, window in self.open.items()},
            "places": {name: place.as_json() for name, place in self.places.items()},
            "chart": None if self.chart is None else self.chart.as_json(),
            "monitor": None if self.monitor is None else self.monitor.as_json(),
            "alerts": self.alerts,
            "running": self.running,
        }
        with replacing(self.folder / STATE) as temporary:
            temporary.write_text(json.dumps(document, ensure_ascii=False), encoding="utf-8")

    def _go_on(self, document: Mapping[str, Any]) -> None:
        """Take the state of the last call."""
        for question, labels in zip(self.questions, document["labels"], strict=True):
            for label in labels:
                question.number(label)
        self.clocked.newest, self.clocked.late, self.clocked.ahead = document["clock"]
        self.counts = Counts(**document["counts"])
        self.first = document["first"]
        self.windows = [Window.of_json(one) for one in document["windows"]]
        self.open = {int(number): OpenWindow.of_json(one) for number, one in document["open"].items()}
        self.places = {name: Place(**place) for name, place in document["places"].items()}
        if document["chart"] is not None:
            self.chart = Chart.of_json(document["chart"], self.questions)
            self.monitor = self.chart.monitor(self.settings)
            self.monitor.go_on(document["monitor"])
        self.alerts, self.running = document["alerts"], document["running"]

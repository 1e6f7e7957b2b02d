"""Windows of a stream: rows are counted in them until they close, and what closed ones hold is kept as counts."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

Cell = tuple[int, ...]
"""The number of the answer to each question."""

TEXTS = 10
"""Texts that are kept of each label of a window, while it is open."""
SCALE = 1_000_000
"""Measures are kept in millionths, as whole numbers: their sums are the same in whatever parts the rows come."""


@dataclass
class Rows:
    """Some rows of a stream, in its order, with what is known of each.

    Attributes:
        windows: the window of each row, shape (rows,).
        cells: the answers, shape (rows, questions); -1: there is none, and the row counts nowhere.
        certainty: the probability of each answer, shape (rows, questions); 1 where it is not known.
        measures: of each text, by name, shape (rows,); NaN where there is none.
        hashes: of the texts in their normal form.
        texts: as they are.
        probabilities: of all labels, by question, shape (rows, labels), where they are needed.
    """

    windows: np.ndarray
    cells: np.ndarray
    certainty: np.ndarray
    measures: Mapping[str, np.ndarray]
    hashes: list[int]
    texts: list[str]
    probabilities: Mapping[int, np.ndarray] = field(default_factory=dict)

    def of(self, kept: np.ndarray) -> Rows:
        """Return some of the rows, by their places."""
        return Rows(
            self.windows[kept],
            self.cells[kept],
            self.certainty[kept],
            {name: values[kept] for name, values in self.measures.items()},
            [self.hashes[n] for n in kept],
            [self.texts[n] for n in kept],
            {number: values[kept] for number, values in self.probabilities.items()},
        )


LEAST = "confidence"
"""How the names of measures begin of which the least is worth a look, not the most."""

Best = list[tuple[float, int, str]]
"""Texts with their probability and hash, the best first."""


@dataclass
class Window:
    """What a window holds.

    Attributes:
        cells: how often each combination of answers occurs.
        measures: for each measure the number of texts, and the sums of values and of squares, in millionths.
        estimates: shares that need the probabilities of single texts, by the names of their series: the number of
            texts, the share, and the variance for a single text.
    """

    cells: Counter[Cell] = field(default_factory=Counter)
    measures: dict[str, list[int]] = field(default_factory=dict)
    estimates: dict[str, tuple[int, float, float]] = field(default_factory=dict)

    def as_json(self) -> dict[str, Any]:
        """Return it as JSON values."""
        cells = [[*cell, count] for cell, count in sorted(self.cells.items())]
        return {"cells": cells, "measures": self.measures, "estimates": self.estimates}

    @classmethod
    def of_json(cls, document: Mapping[str, Any]) -> Window:
        """Return the window in JSON values."""
        cells = Counter({tuple(cell): count for *cell, count in document["cells"]})
        estimates = {name: tuple(values) for name, values in document["estimates"].items()}
        return cls(cells, dict(document["measures"]), estimates)


@dataclass
class OpenWindow:
    """A window that rows may still come for.

    Attributes:
        seen: the hashes of its texts; empty where repeats count.
        best: the texts that are surest to have an answer, by question and answer, maybe with a second pair of them;
            and those with the most of a measure, by its name.
        probabilities: of all texts, by question.
    """

    counts: Window = field(default_factory=Window)
    seen: set[int] = field(default_factory=set)
    best: dict[tuple[Any, ...], Best] = field(default_factory=dict)
    probabilities: dict[int, list[list[float]]] = field(default_factory=dict)
    cells: list[list[int]] = field(default_factory=list)
    """Of all texts, beside `probabilities`."""

    def add(self, rows: Rows, pairs: Sequence[tuple[int, ...]]) -> None:
        """Count rows.

        Args:
            rows: all of this window.
            pairs: the questions, alone or with a second one, whose texts are kept.
        """
        distinct, counts = np.unique(rows.cells, axis=0, return_counts=True)
        for cell, count in zip(distinct.tolist(), counts.tolist(), strict=True):
            self.counts.cells[tuple(cell)] += count
        for name, values in rows.measures.items():
            known = np.round(values[~np.isnan(values)] * SCALE).astype(np.int64)
            sums = self.counts.measures.setdefault(name, [0, 0, 0])
            for place, value in enumerate((len(known), int(known.sum()), int((known * known // SCALE).sum()))):
                sums[place] += value
            self._keep_extreme(rows, name, values)
        for questions in pairs:
            self._keep(rows, questions)
        for number, values in rows.probabilities.items():
            self.probabilities.setdefault(number, []).extend(np.round(values, 6).tolist())
        if rows.probabilities:
            self.cells.extend(rows.cells.tolist())

    def _keep(self, rows: Rows, questions: tuple[int, ...]) -> None:
        """Keep the surest texts of each answer to the first of `questions`."""
        sureness = np.round(rows.certainty[:, questions[0]], 6)
        answers = rows.cells[:, questions]
        order = np.lexsort((np.asarray(rows.hashes, np.uint64), -sureness, *answers.T[::-1]))
        changes = np.flatnonzero(np.any(np.diff(answers[order], axis=0), axis=1)) + 1
        for group in np.split(order, changes):
            key = tuple(part for pair in zip(questions, answers[group[0]].tolist(), strict=True) for part in pair)
            mine = self._first(group, rows, sureness)
            self.best[key] = best([*self.best.get(key, ()), *mine])

    def _keep_extreme(self, rows: Rows, name: str, values: np.ndarray) -> None:
        """Keep the texts with the most of a measure; of confidence, with the least."""
        known = np.flatnonzero(~np.isnan(values))
        extreme = np.round(1 - values if name.startswith(LEAST) else values, 6)
        order = known[np.lexsort((np.asarray(rows.hashes, np.uint64)[known], -extreme[known]))]
        mine = self._first(order, rows, extreme)
        self.best[(name,)] = best([*self.best.get((name,), ()), *mine])

    @staticmethod
    def _first(order: np.ndarray, rows: Rows, sureness: np.ndarray) -> Best:
        """Return the first rows in an order: all with one of the first different texts."""
        mine: Best = []
        distinct: set[int] = set()
        for n in order.tolist():
            distinct.add(rows.hashes[n])
            if len(distinct) > TEXTS:
                break
            mine.append((float(sureness[n]), rows.hashes[n], rows.texts[n]))
        return mine

    def as_json(self) -> dict[str, Any]:
        """Return it as JSON values."""
        return {
            "counts": self.counts.as_json(),
            "seen": sorted(self.seen),
            "best": [[list(key), texts] for key, texts in self.best.items()],
            "probabilities": {str(number): values for number, values in self.probabilities.items()},
            "cells": self.cells,
        }

    @classmethod
    def of_json(cls, document: Mapping[str, Any]) -> OpenWindow:
        """Return the window in JSON values."""
        return cls(
            Window.of_json(document["counts"]),
            set(document["seen"]),
            {tuple(key): [tuple(text) for text in texts] for key, texts in document["best"]},
            {int(number): values for number, values in document["probabilities"].items()},
            document["cells"],
        )


def best(texts: Iterable[tuple[float, int, str]]) -> Best:
    """Return the surest texts, each once, in an order that does not depend on when they came."""
    once = {text[1]: text for text in sorted(texts)}
    return sorted(once.values(), key=lambda one: (-one[0], one[1]))[:TEXTS]


@dataclass
class Clocked:
    """Which rows still count: the clock is the newest time, and a window is closed once that is `lateness` past it.

    Attributes:
        newest: the newest time; None before the first row.
        late: rows that came after their window had closed.
        ahead: rows that were set aside because their time is far ahead of the newest.
    """

    width: float
    lateness: float
    jump: int
    newest: float | None = None
    late: int = 0
    ahead: int = 0

    def kept(self, times: Sequence[float], ends: Sequence[float]) -> Iterator[int]:
        """Yield the places of the rows that count, and move the clock.

        Args:
            times: of rows, in the order of the stream.
            ends: of their windows.
        """
        for place, (time, end) in enumerate(zip(times, ends, strict=True)):
            if self.newest is not None and end <= self.newest - self.lateness:
                self.late += 1
                continue
            if self.newest is not None and time > self.newest + self.jump * self.width:
                self.ahead += 1
                continue
            self.newest = time if self.newest is None else max(self.newest, time)
            yield place

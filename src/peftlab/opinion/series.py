"""The series of a stream: shares of labels, shares within other labels, and measures of the texts themselves."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from peftlab.errors import ConfigError, did_you_mean
from peftlab.opinion.questions import Question
from peftlab.opinion.windows import SCALE, Window

WITHIN = " in "


@dataclass(frozen=True)
class Asked:
    """A kind of series: the shares of the answers to a question, maybe within each answer to another."""

    question: int
    within: int | None = None

    @property
    def questions(self) -> tuple[int, ...]:
        """Both, or the one."""
        return (self.question,) if self.within is None else (self.question, self.within)


@dataclass(frozen=True)
class Series:
    """Something that has a value in each window.

    Attributes:
        name: such as ``opinion=negative in topic=sports``, or ``unknown words``.
        cell: the question and its answer, and maybe a second pair, within which the share is taken; empty: a measure.
        asked: the name of the question; labels may have any words in them, so that it cannot be read from `name`.
        where: the end of the name that says within what, such as `` in topic=sports``.
    """

    name: str
    cell: tuple[int, ...] = ()
    asked: str = ""
    where: str = ""

    @property
    def group(self) -> str:
        """The name of all series whose shares sum to one with this; of a measure its own."""
        return self.asked + self.where if self.cell else self.name

    @property
    def short(self) -> str:
        """The name of it among those of its `group`."""
        return self.name.removesuffix(self.where)


def asked(wanted: Sequence[str] | None, names: Sequence[str], answered: int) -> list[Asked]:
    """Return the kinds of series that are watched.

    Args:
        wanted: names, alone or as ``NAME in NAME``; None: each alone, and the last of the runs' in each of the others.
        names: of the questions, those that runs answer first.
        answered: how many of them these are.

    Raises:
        ConfigError: a name is none.
    """
    if wanted is None:
        last = answered - 1
        return [Asked(n) for n in range(len(names))] + [Asked(last, n) for n in range(len(names)) if n != last]
    kinds = []
    for text in wanted:
        parts = text.split(WITHIN)
        for name in parts:
            if name not in names:
                raise ConfigError(
                    f"series: '{text}': there is no '{name}'.{did_you_mean(name, names)} Names: {', '.join(names)}"
                )
        if len(parts) > 2 or len(set(parts)) < len(parts):
            raise ConfigError(f"series: '{text}': expected a name, or one within another, such as opinion in topic")
        kinds.append(Asked(*map(names.index, parts)))
    return kinds


def series_of(
    kinds: Sequence[Asked], questions: Sequence[Question], windows: Sequence[Window], most: int
) -> list[Series]:
    """Return the series of some windows, at most `most` answers of a question whose answers are not fixed.

    Measures come last.
    """
    cells = sum((window.cells for window in windows), Counter[tuple[int, ...]]())
    answers: list[list[int]] = []
    for number, question in enumerate(questions):
        counts = Counter[int]()
        for cell, count in cells.items():
            counts[cell[number]] += count
        frequent = sorted(counts, key=lambda one: (-counts[one], one))[:most]
        answers.append(sorted(frequent) if question.grows else list(range(len(question.labels))))
    made = []
    for kind in kinds:
        for value in [None] if kind.within is None else answers[kind.within]:
            for label in answers[kind.question]:
                made.append(named(kind, label, value, questions))
    return made + [Series(name) for name in sorted({name for window in windows for name in window.measures})]


def named(kind: Asked, label: int, value: int | None, questions: Sequence[Question]) -> Series:
    """Return the series of a label, within a value of another question where there is one."""
    question, where = questions[kind.question], ""
    cell: tuple[int, ...] = (kind.question, label)
    if kind.within is not None and value is not None:
        other = questions[kind.within]
        where, cell = f"{WITHIN}{other.name}={other.labels[value]}", (*cell, kind.within, value)
    return Series(f"{question.name}={question.labels[label]}{where}", cell, question.name, where)


def of_cell(name: str, cell: Sequence[int], questions: Sequence[Question]) -> Series:
    """Return the series of a cell, or without one the measure of that name."""
    if not cell:
        return Series(name)
    return named(Asked(*cell[::2]), cell[1], cell[3] if len(cell) > 2 else None, questions)


@dataclass(frozen=True)
class Design:
    """How the values of series follow from counts of cells: ``counts @ adds / counts @ counted``.

    Attributes:
        cells: shape (cells, questions).
        adds: what a text of a cell adds to a share, shape (cells, series); of a corrected share it may be any number.
        counted: whether it is one of those that the share is of, shape (cells, series).
    """

    cells: np.ndarray
    adds: np.ndarray
    counted: np.ndarray

    @classmethod
    def of(cls, series: Sequence[Series], questions: Sequence[Question], cells: np.ndarray, adjust: bool) -> Design:
        """Return the design of shares, corrected by the confusion of the questions if `adjust`."""
        adds, counted = (np.zeros((len(cells), len(series))) for _ in range(2))
        for column, one in enumerate(series):
            number, label = one.cell[:2]
            counted[:, column] = 1.0 if len(one.cell) == 2 else cells[:, one.cell[2]] == one.cell[3]
            confusion = questions[number].confusion if adjust else None
            own = cells[:, number]
            adds[:, column] = (own == label if confusion is None else confusion.inverse[label, own]) * counted[
                :, column
            ]
        return cls(cells, adds, counted)

    def values(self, counts: np.ndarray) -> Values:
        """Return the values of windows with these counts, shape (..., cells)."""
        n = counts @ self.counted
        x = _over(counts @ self.adds, n)
        return Values(x, n, np.maximum(_over(counts @ self.adds**2, n) - x * x, 0.0))

    @property
    def ranges(self) -> np.ndarray:
        """How far apart a text can move each share, shape (series,)."""
        return np.ptp(self.adds, axis=0)


@dataclass(frozen=True)
class Values:
    """Values of series in windows, each array of shape (windows, ..., series).

    Attributes:
        x: the values; NaN where there is no text.
        n: of how many texts.
        u: the variance for a single text.
    """

    x: np.ndarray
    n: np.ndarray
    u: np.ndarray

    def beside(self, other: Values) -> Values:
        """Return these series and further ones."""
        return Values(*(np.concatenate(pair, -1) for pair in zip(self.parts, other.parts, strict=True)))

    @property
    def parts(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """All three."""
        return self.x, self.n, self.u

    def __getitem__(self, places: Any) -> Values:
        """Return some windows."""
        return Values(*(part[places] for part in self.parts))


def cells_of(windows: Sequence[Window]) -> tuple[np.ndarray, np.ndarray]:
    """Return the distinct cells of windows, shape (cells, questions), and their counts, shape (windows, cells)."""
    distinct = sorted({cell for window in windows for cell in window.cells})
    place = {cell: number for number, cell in enumerate(distinct)}
    counts = np.zeros((len(windows), len(distinct)))
    for row, window in enumerate(windows):
        for cell, count in window.cells.items():
            counts[row, place[cell]] = count
    return np.asarray(distinct, np.int64).reshape(len(distinct), len(distinct[0]) if distinct else 0), counts


def values_of(
    series: Sequence[Series], questions: Sequence[Question], windows: Sequence[Window], adjust: bool
) -> Values:
    """Return the values of series in windows; measures and estimates as the windows have them."""
    cells, counts = cells_of(windows)
    shares = [one for one in series if one.cell]
    values = Design.of(shares, questions, cells.reshape(-1, len(questions)), adjust).values(counts)
    for column, one in enumerate(shares):
        for row, window in enumerate(windows):
            if one.name in window.estimates:
                for part, value in zip((values.n, values.x, values.u), window.estimates[one.name], strict=True):
                    part[row, column] = value
    measures = [one for one in series if not one.cell]
    if not measures:
        return values
    sums = np.asarray([[window.measures.get(one.name, (0, 0, 0)) for one in measures] for window in windows], float)
    sums = sums.reshape(len(windows), len(measures), 3)
    n = sums[..., 0]
    x = _over(sums[..., 1], n) / SCALE
    return values.beside(Values(x, n, np.maximum(_over(sums[..., 2], n) / SCALE - x * x, 0.0)))


def _over(numerator: np.ndarray, denominator: np.ndarray) -> np.ndarray:
    return np.divide(numerator, denominator, out=np.full(numerator.shape, np.nan), where=denominator > 0)

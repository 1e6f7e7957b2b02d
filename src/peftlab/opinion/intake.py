"""From the rows of a stream to what is counted: times, normal forms of texts, and answers."""

from __future__ import annotations

import hashlib
import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from peftlab.data.rows.cells import NO_GROUP
from peftlab.errors import DataError
from peftlab.opinion.questions import Question, unknown_share
from peftlab.opinion.stream import Row
from peftlab.opinion.windows import LEAST, Rows

Answers = Callable[[Sequence[str]], list[Mapping[str, Any] | None]]
"""Returns the answer of a run to each text, as `peftlab predict` does; None where there is none."""

UNKNOWN, CONFIDENCE, OUT_OF_SCOPE = "unknown words", f"{LEAST} of ", "out of scope of "
"""The names of the measures of texts."""

_ADDRESS = re.compile(r"https?://\S+|(?<!\w)@\w+:?|^rt\b:?")


@dataclass(frozen=True)
class Columns:
    """Which columns of a row are what."""

    time: str
    text: str | None
    by: tuple[str, ...] = ()
    scored: tuple[str, ...] = ()
    """Those with labels, beside which ``NAME_probability`` may stand; empty: runs answer."""

    @property
    def needed(self) -> list[str]:
        """Those that each row must have; labels may stand in other places, see `scored_answer`."""
        return [name for name in (self.time, self.text, *self.by) if name is not None]

    def text_of(self, row: Row) -> str:
        """Return the text of a row; empty if there is none."""
        value = None if self.text is None else row[self.text]
        return "" if value is None else str(value)


def normal_form(text: str) -> str:
    """Return a text without case, addresses, mentions, a leading ``RT`` and repeated white space; if that is empty, the
    text itself."""
    return " ".join(_ADDRESS.sub(" ", text.casefold()).split()) or text


def text_hash(text: str) -> int:
    """Return a number that stands for the normal form of a text."""
    return int.from_bytes(hashlib.blake2b(normal_form(text).encode(errors="replace"), digest_size=7).digest())


def scored_answer(row: Row, name: str, alone: bool) -> Mapping[str, Any] | None:
    """Return the answer in a row: under its name, as an object or a label with ``NAME_probability`` beside it, or, of a
    question `alone`, under the keys that `peftlab predict --jsonl` writes. None: there is none."""
    value = row.get(name)
    if value is None and alone and "predicted" in row:
        return row
    if isinstance(value, Mapping):
        return value
    if isinstance(value, bool) or not isinstance(value, str | int) or value == "":
        return None
    return {"predicted": str(value), "probability": row.get(f"{name}_probability")}


def _label(cell: Any) -> str:
    """Return the label in a cell of a column; an empty one says none."""
    return label if cell is not None and (label := str(cell)).strip() else NO_GROUP


@dataclass
class Intake:
    """Makes rows of a stream countable.

    Attributes:
        questions: those with an answer of a run first, then the columns.
        columns: of the stream.
        runs: the answers of each run; empty with scores.
        all_probabilities: whether those of all labels are needed.
    """

    questions: Sequence[Question]
    columns: Columns
    runs: Sequence[Answers] = ()
    all_probabilities: bool = False
    words: frozenset[str] = field(init=False)

    def __post_init__(self) -> None:
        """Join the words that the runs were tested on."""
        self.words = frozenset().union(*(question.words for question in self.questions))

    def rows(
        self, rows: Sequence[Row], windows: Sequence[int], hashes: Sequence[int], fault: Callable[[int, str], None]
    ) -> Rows:
        """Return rows with their answers, without those that have none.

        Args:
            rows: of the stream.
            windows: of each.
            hashes: of the text of each.
            fault: is told the place of a row without an answer, and why.
        """
        answered = len(self.questions) - len(self.columns.by)
        texts = list(map(self.columns.text_of, rows))
        cells = np.full((len(rows), len(self.questions)), -1, np.int64)
        certainty = np.ones((len(rows), len(self.questions)))
        measures = {
            f"{CONFIDENCE}{question.name}": np.full(len(rows), np.nan) for question in self.questions[:answered]
        }
        probabilities: dict[int, np.ndarray] = {}
        for number, question in enumerate(self.questions[:answered]):
            answers = (
                self.runs[number](texts)
                if self.runs
                else [scored_answer(row, question.name, answered == 1) for row in rows]
            )
            for place, answer in enumerate(answers):
                if answer is None or not isinstance(answer.get("predicted"), str):
                    fault(place, f"has no answer to '{question.name}'")
                    continue
                cells[place, number] = label = question.number(answer["predicted"])
                if label < 0:
                    fault(place, f"'{answer['predicted']}' is no label of the run of '{question.name}'")
                if (probability := _probability(answer.get("probability"))) is not None:
                    certainty[place, number] = measures[f"{CONFIDENCE}{question.name}"][place] = probability
                if (in_scope := answer.get("in_scope")) is not None:
                    values = measures.setdefault(f"{OUT_OF_SCOPE}{question.name}", np.full(len(rows), np.nan))
                    values[place] = not in_scope
            if self.all_probabilities and not question.grows:
                probabilities[number] = self._all(question, answers, cells[:, number], fault)
        for number, question in enumerate(self.questions[answered:], start=answered):
            cells[:, number] = [question.number(_label(row[question.name])) for row in rows]
        if self.words and self.columns.text is not None:
            measures[UNKNOWN] = np.asarray([unknown_share(text, self.words) for text in texts])
        measures = {name: values for name, values in measures.items() if not np.isnan(values).all()}
        whole = Rows(np.asarray(windows, np.int64), cells, certainty, measures, list(hashes), texts, probabilities)
        return whole.of(np.flatnonzero((cells >= 0).all(1)))

    @staticmethod
    def _all(
        question: Question,
        answers: Sequence[Mapping[str, Any] | None],
        cells: np.ndarray,
        fault: Callable[[int, str], None],
    ) -> np.ndarray:
        """Return the probabilities of all labels, (rows, labels); a row without them gets the cell -1."""
        values = np.full((len(answers), len(question.labels)), 1 / len(question.labels))
        for place, answer in enumerate(answers):
            named = (answer or {}).get("probabilities")
            try:
                own = np.asarray([float(named[label]) for label in question.labels])  # type: ignore[index]
                if not (np.isfinite(own).all() and own.min() >= 0 and own.max() > 0):
                    raise ValueError("no share follows from them")
                values[place] = own
            except (TypeError, KeyError, ValueError, OverflowError):
                if cells[place] >= 0:
                    cells[place] = -1
                    fault(
                        place,
                        f"has no `probabilities`, numbers from 0 to 1, of all labels of '{question.name}', which "
                        "correction: em needs",
                    )
        return values


def _probability(value: Any) -> float | None:
    try:
        number = float(value)
    except (TypeError, ValueError, OverflowError):  # of 400 digits
        return None
    return number if math.isfinite(number) and 0 <= number <= 1 else None


def answers_of(run: Any) -> Answers:
    """Return what answers texts with the model of a finished run."""
    from peftlab.use.predictor import Refused

    def answers(texts: Sequence[str]) -> list[Mapping[str, Any] | None]:
        objects = ({"text": text} if text.strip() else DataError("there is no text") for text in texts)
        return [None if isinstance(one, Refused) else one for one in run.answers(objects)]

    return answers

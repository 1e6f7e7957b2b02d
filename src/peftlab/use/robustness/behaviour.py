"""Behaviour tests of a classifier (Ribeiro et al. 2020, CheckList): which texts must have which answers.

A suite is a file of JSON Lines. Each line is a case of a ``test``, with its ``type`` and ``texts``:

- MFT, a minimum functionality test: the text must have the ``label``, or one of several.
- INV, an invariance test: the label of the first text must be that of all others.
- DIR, a directional test: from the first text to each other, a probability must not move against ``expect``, see
  `Expectation`, by more than `TOLERANCE`.

Labels are the run's own names, or in the suite on sentiment that the paper came with 0 for negative, 1 for neutral and
2 for positive.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

from peftlab.errors import DataError, UserError, did_you_mean, escaped
from peftlab.use.inputs import objects
from peftlab.use.predictor import Predictor, Refused

Kind = Literal["MFT", "INV", "DIR"]
Expectation = Literal["up", "down", "surer", "less sure"]
"""What may happen to a text that is changed: its sentiment, ``P(positive) - P(negative)``, does not fall (up) or rise
(down); the probability of its first label does not fall (surer) or rise (less sure), unless that is neutral."""

TOLERANCE = 0.1
"""How far a probability may move against the expectation, as in CheckList."""

SENTIMENTS = ("negative", "neutral", "positive")
"""The meaning of the labels 0, 1 and 2."""

_EXPECTED: Mapping[str, Expectation] = {
    "intensifiers": "surer",
    "reducers": "less sure",
    '"used to" should reduce': "less sure",
    "add positive phrases": "up",
    "add negative phrases": "down",
}
"""The expectations of directional tests in the suite on sentiment, whose cases do not state them."""

_NOT_NEGATIVE = ("not negative", "should be neutral or positive", "should be positive or neutral")
"""The ends of the names of tests in that suite whose cases have no label: any but negative."""

_SHOWN = 3
"""Failures of a test that are kept as examples."""


@dataclass(frozen=True)
class Case:
    """A case of a test."""

    test: str
    kind: Kind
    capability: str
    texts: list[str]
    """The text, and for INV and DIR its changed forms after it; empty: the file has lost them."""
    allowed: frozenset[str] = frozenset()
    """The labels that a MFT allows; empty if the run has none of them."""
    expect: Expectation | None = None
    """The expectation of a DIR; None: it cannot be tested, because the run lacks a label that it needs."""

    @property
    def testable(self) -> bool:
        """Whether it has texts, and the run the labels that it needs."""
        if not self.texts:
            return False
        return bool(self.allowed) if self.kind == "MFT" else self.kind == "INV" or self.expect is not None


@dataclass
class Behaviour:
    """The result of one test."""

    test: str
    type: Kind
    capability: str
    cases: int = 0
    """Cases that were tested."""
    failed: int = 0
    """Cases in which at least one text fails."""
    left_out: int = 0
    """Cases without texts, those that need a label that the run does not have, and those of which the expectation does
    not speak."""
    failures: list[list[str]] = field(default_factory=list)
    """The first failures: the texts that fail, each after the text that it was made of."""

    @property
    def failure_rate(self) -> float | None:
        """The share of the tested cases that fail; None if none was tested."""
        return self.failed / self.cases if self.cases else None


def sentiments(labels: Sequence[str], names: Sequence[str] = ()) -> list[str | None]:
    """Return the run's labels for negative, neutral and positive; None for one that it does not have.

    Args:
        labels: the labels of the run.
        names: the three labels as the user gives them, ``-`` for none; empty: the labels that begin with neg, neu and
            pos, in any case.

    Raises:
        UserError: the user names no label of the run, or not three.
    """
    if not names:
        return [next((one for one in labels if one.casefold().startswith(s[:3])), None) for s in SENTIMENTS]
    if len(names) != len(SENTIMENTS):
        raise UserError(
            f"--sentiments {','.join(names)}: name the run's labels for {', '.join(SENTIMENTS)}; - for none"
        )
    for name in names:
        if name != "-" and name not in labels:
            raise UserError(
                f"--sentiments: '{escaped(name)}' is no label of the run.{did_you_mean(name, labels)} "
                f"They are {', '.join(labels)}"
            )
    return [None if name == "-" else name for name in names]


def read_suite(file: str, labels: Sequence[str], roles: Sequence[str | None]) -> list[Case]:
    """Return the cases in a file of JSON Lines.

    Args:
        file: the file; ``-`` is stdin.
        labels: the labels of the run.
        roles: its labels for negative, neutral and positive, see `sentiments`.

    Raises:
        DataError: a line is not a case; names it, and says what is expected.
    """
    cases = []
    for number, line in enumerate(objects(file), start=1):
        if isinstance(line, DataError):
            raise line
        try:
            cases.append(_case(line, labels, roles))
        except ValueError as error:
            raise DataError(f"{file}:{number}: {error}") from error
    if not cases:
        raise DataError(f"{file}: holds no case; expected a JSON object a line, with test, type and texts")
    return cases


def behaviours(predictor: Predictor, cases: Sequence[Case], roles: Sequence[str | None]) -> list[Behaviour]:
    """Return the result of each test, in the order of their first cases.

    Args:
        predictor: a classifier of single texts.
        cases: those of all tests.
        roles: its labels for negative, neutral and positive.

    Raises:
        DataError: the model cannot answer a text.
    """
    tested = [case for case in cases if case.testable]
    texts = list(dict.fromkeys(text for case in tested for text in case.texts))
    answers: dict[str, Mapping[str, Any]] = {}
    for text, answer in zip(texts, predictor.answers(texts), strict=True):
        if isinstance(answer, Refused):
            raise answer.reason
        answers[text] = answer
    results: dict[str, Behaviour] = {}
    for case in cases:
        result = results.setdefault(case.test, Behaviour(case.test, case.kind, case.capability))
        failures = _failures(case, answers, roles) if case.testable else None
        if failures is None:
            result.left_out += 1
            continue
        result.cases += 1
        result.failed += bool(failures)
        if failures and len(result.failures) < _SHOWN:
            result.failures.append([*case.texts[: case.kind != "MFT"], *failures])
    return list(results.values())


def _failures(case: Case, answers: Mapping[str, Mapping[str, Any]], roles: Sequence[str | None]) -> list[str] | None:
    """Return the texts that fail; None if the expectation says nothing about the case."""
    if case.kind == "MFT":
        return [text for text in case.texts if answers[text]["predicted"] not in case.allowed]
    first, *others = case.texts
    before = answers[first]
    if case.kind == "INV":
        return [text for text in others if answers[text]["predicted"] != before["predicted"]]
    if case.expect in ("up", "down"):
        sign = 1 if case.expect == "up" else -1

        def measure(answer: Mapping[str, Any]) -> float:
            return sum(
                factor * answer["probabilities"][role]
                for factor, role in ((1, roles[2]), (-1, roles[0]))
                if role is not None
            )

    else:
        if before["predicted"] == roles[1]:
            return None
        sign = 1 if case.expect == "surer" else -1

        def measure(answer: Mapping[str, Any]) -> float:
            return float(answer["probabilities"][before["predicted"]])

    return [text for text in others if sign * (measure(answers[text]) - measure(before)) < -TOLERANCE]


def _case(line: Mapping[str, Any], labels: Sequence[str], roles: Sequence[str | None]) -> Case:
    """Return the case in an object.

    Raises:
        ValueError: it is none; says why.
    """
    test = line.get("test")
    kind: Kind | None = next((one for one in get_args(Kind) if one == line.get("type")), None)
    if not isinstance(test, str) or kind is None:
        raise ValueError(f"expected `test`, a name, and `type`, one of {', '.join(get_args(Kind))}")
    texts = line.get("texts", "")
    texts = [] if texts is None else [texts] if isinstance(texts, str) else texts
    if not isinstance(texts, list) or "texts" not in line or not all(isinstance(text, str) for text in texts):
        raise ValueError("expected `texts`, a string or several, or null")
    if kind != "MFT" and len(texts) == 1:
        raise ValueError(f"a case of {kind} has at least two `texts`: the first, and what it becomes")
    expect: Expectation | None = None
    if kind == "DIR":
        expect = line.get("expect", _EXPECTED.get(test))
        if expect not in get_args(Expectation):
            raise ValueError(f"a case of DIR needs `expect`, one of {', '.join(get_args(Expectation))}")
        if expect in ("up", "down") and None in (roles[0], roles[2]):
            expect = None
    allowed = frozenset(_allowed(test, line.get("label"), labels, roles)) if kind == "MFT" else frozenset[str]()
    return Case(test, kind, str(line.get("capability", "")), texts, allowed, expect)


def _allowed(test: str, label: Any, labels: Sequence[str], roles: Sequence[str | None]) -> Iterable[str]:
    """Yield the labels of the run that a MFT allows."""
    if label is None and test.rstrip(")").endswith(_NOT_NEGATIVE):
        label = [1, 2]
    for one in label if isinstance(label, list) else [label]:
        if isinstance(one, str) and one in labels:
            yield one
        elif type(one) is int and 0 <= one < len(SENTIMENTS):
            if (role := roles[one]) is not None:
                yield role
        else:
            raise ValueError(
                f"a case of MFT needs `label`: labels of the run ({', '.join(labels)}), or "
                f"{', '.join(f'{n} for {name}' for n, name in enumerate(SENTIMENTS))}"
            )

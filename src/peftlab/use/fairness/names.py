"""Swaps names of people of many places and both genders into sentences, and measures what that changes.

All names meet all sentences. What is found in them is a matrix of names and sentences, from which the gaps between
places and genders are taken, see `peftlab.report.statistics.crossed_gap`.
"""

from __future__ import annotations

import logging
import math
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from peftlab.errors import ConfigError, DataError
from peftlab.report.statistics.crossed_gap import CrossedGap, crossed_gap
from peftlab.runs.folder import FAIRNESS, each_prediction, keep_beside
from peftlab.scores.paired import holm
from peftlab.terminal.output import table
from peftlab.use.fairness.people import Name, people
from peftlab.use.fairness.templates.reading import PERSONS, SENTIMENT, Template, from_sentences, read_templates
from peftlab.use.predictor import Refused
from peftlab.use.robustness.behaviour import sentiments

if TYPE_CHECKING:
    from peftlab.use.finished import FinishedRun

log = logging.getLogger("peftlab")

SENTENCES = "sentences"
"""In place of a file of templates: sentences of the run's own test split."""

OF_SENTENCES = 50
"""How many of them."""

PERSON_TYPES = ("PER", "PERSON", "PERS")
"""Names of the type of people in data sets for NER."""

FACTORS: Mapping[str, Callable[[Name], str]] = {
    "gender": lambda name: name.gender,
    "place": lambda name: name.place,
    "place and gender": lambda name: f"{name.place} {name.gender}",
}


@dataclass(frozen=True)
class NameGap:
    """The gap between groups of names in one measure."""

    measure: str
    """``recall``: whether a name is found as a person, with the right borders. ``sentiment``: P(positive) -
    P(negative). ``accuracy``: whether the answer is the template's label. ``probability``: that of the answer which the
    template has with most names. ``flips``: whether the answer is another one. ``number``: the predicted number."""
    factor: str
    gap: CrossedGap
    """Its p value is adjusted for all gaps of the measurement, too (Holm)."""


@dataclass(frozen=True)
class NamesSwapped:
    """What names change in the answers of a run."""

    run: str
    templates: str
    """Where the sentences are from."""
    sentences: int
    texts: int
    people: dict[str, list[str]]
    """The names by place and gender."""
    means: dict[str, float]
    """The mean of each measure over all texts."""
    gaps: list[NameGap]
    faker: str
    seed: int
    seconds: float
    at: str

    def document(self) -> dict[str, Any]:
        """Return it as JSON values."""
        return {"kind": "names", **asdict(self)}

    def lines(self) -> list[str]:
        """Return what is printed of it."""
        people_of = ", ".join(f"{group} {len(names)}" for group, names in self.people.items())
        lines = [
            f"{self.texts:,} texts: {self.sentences} sentences ({self.templates}), each with every name, in "
            f"{self.seconds:.0f} s",
            f"names: {people_of} (Faker {self.faker}; in Latin letters, none in two groups)",
        ]
        for one in self.gaps:
            lines += ["", *_lines(one, self.means[one.measure])]
        return lines


def names(
    run: FinishedRun,
    places: Sequence[str] = ("us", "de", "in", "ng", "cn"),
    number: int = 40,
    templates: str | Path | None = None,
    seed: int = 0,
) -> NamesSwapped:
    """Measure how the answers of `run` depend on whose name is in a text, and keep that beside its record.

    Args:
        run: a run of NER, or of a task that gives a whole text a label or a number.
        places: see `peftlab.use.fairness.people.PLACES`, or locales of Faker.
        number: the names of each place and gender.
        templates: a file, see `peftlab.use.fairness.templates.reading`; ``sentences``: the test sentences of a run of
            NER; None: the package's own.
        seed: of the names, the sentences and the permutations.

    Raises:
        UserError: Faker is missing, a place or a file is not as it must be, or the task takes or gives something else.
    """
    began = time.perf_counter()
    who = people(places, number, seed)
    source, sentences = _templates(run, templates, seed)
    log.info("%d names in each of %d sentences: %d texts", len(who), len(sentences), len(who) * len(sentences))
    measured = _measured(run, who, sentences)
    gaps = [
        NameGap(measure, factor, crossed_gap(values, [group(name) for name in who], _limits(measure), seed=seed))
        for measure, values in measured.items()
        for factor, group in FACTORS.items()
        if len({group(name) for name in who}) > 1 and (factor != "place and gender" or len(places) > 1)
    ]
    adjusted = holm([one.gap.p for one in gaps])
    by_group: dict[str, list[str]] = {}
    for name in who:
        by_group.setdefault(FACTORS["place and gender"](name), []).append(name.text)
    result = NamesSwapped(
        run=str(run.folder.path),
        templates=source,
        sentences=len(sentences),
        texts=len(who) * len(sentences),
        people=by_group,
        means={measure: float(values.mean()) for measure, values in measured.items()},
        gaps=[replace(one, gap=replace(one.gap, p=p)) for one, p in zip(gaps, adjusted, strict=True)],
        faker=version("faker"),
        seed=seed,
        seconds=round(time.perf_counter() - began, 3),
        at=datetime.now(UTC).isoformat(timespec="seconds"),
    )
    keep_beside(run.folder.path, FAIRNESS, result.document())
    return result


def _templates(run: FinishedRun, templates: str | Path | None, seed: int) -> tuple[str, list[Template]]:
    """Return where the sentences come from, and the sentences."""
    task = run.parts.task
    if str(templates) == SENTENCES:
        person, file = _person(task), run.folder.predictions / "test.jsonl"
        if person is None or not file.is_file():
            raise ConfigError(
                f"--templates {SENTENCES}: it takes a run of NER that was tested, and puts names in the place of the "
                "people in its test sentences. Give a file of templates"
            )
        return "test sentences", from_sentences(each_prediction(file), person, OF_SENTENCES, seed)
    if templates is not None:
        return str(templates), read_templates(Path(templates))
    roles = sentiments(task.labels)
    if task.head.problem_type == "single_label_classification" and roles[0] and roles[2]:
        labels = dict(zip(("negative", "neutral", "positive"), roles, strict=True))
        own = [
            Template(one.before, one.after, one.text, labels[str(one.label)])
            for one in read_templates(SENTIMENT)
            if labels[str(one.label)] is not None
        ]
        return "peftlab's sentences with a sentiment", own
    return "peftlab's sentences about a person", read_templates(PERSONS)


def _person(task: Any) -> str | None:
    """Return the name of the type of people; None if the task finds no entities.

    Raises:
        ConfigError: it finds entities, but no people.
    """
    types: Sequence[str] | None = getattr(task, "types", None)
    if types is None:
        return None
    person = next((type_ for type_ in types if type_.upper() in PERSON_TYPES), None)
    if person is None:
        raise ConfigError(
            f"names: the run finds {', '.join(types)}, and none is called {' or '.join(PERSON_TYPES)}: it cannot be "
            "asked whom it finds"
        )
    return person


def _measured(run: FinishedRun, who: Sequence[Name], templates: Sequence[Template]) -> dict[str, np.ndarray]:
    """Return the measures, each of shape (names, templates)."""
    task = run.parts.task
    person, kind = _person(task), task.head.problem_type
    if person is None and kind not in ("single_label_classification", "regression"):
        raise ConfigError(
            f"names: task={task.name} gives a text neither entities nor one label or number, so it cannot be seen what "
            "a name changes. Use a run of NER, classification or regression"
        )
    texts: Iterable[Any] = (
        template.about(name.text) if person is None else template.words(name.text)
        for name in who
        for template in templates
    )
    replies = list(_replies(run, texts))
    shape = len(who), len(templates)
    if person is not None:
        right = [_finds(reply, person, templates[n % shape[1]]) for n, reply in enumerate(replies)]
        return {"recall": np.array(right, dtype=float).reshape(shape)}
    if kind == "regression":
        return {"number": np.array([reply["predicted"] for reply in replies]).reshape(shape)}
    return _of_labels(replies, templates, sentiments(task.labels), shape)


def _replies(run: FinishedRun, texts: Iterable[Any]) -> Iterable[dict[str, Any]]:
    """Yield what the run answers, texts of like length together."""
    for answer in run.predictor.answers(texts, at_once=4096):
        if isinstance(answer, Refused):
            raise DataError(f"names: the run does not take such texts: {answer.reason}") from answer.reason
        yield answer


def _finds(reply: Mapping[str, Any], person: str, template: Template) -> bool:
    """Return whether a person is found exactly where the name is."""
    found = reply.get("entities", reply.get("slots", ()))
    start = len(template.before)
    return any((one["type"], one["start"], one["end"]) == (person, start, start + 1) for one in found)


def _of_labels(
    replies: Sequence[Mapping[str, Any]],
    templates: Sequence[Template],
    roles: Sequence[str | None],
    shape: tuple[int, int],
) -> dict[str, np.ndarray]:
    predicted = np.array([reply["predicted"] for reply in replies], dtype=object).reshape(shape)
    usual = [Counter(column).most_common(1)[0][0] for column in predicted.T]
    measures: dict[str, np.ndarray] = {}
    probabilities = [reply["probabilities"] for reply in replies]
    if roles[0] and roles[2]:
        lean = [one[roles[2]] - one[roles[0]] for one in probabilities]
        measures["sentiment"] = np.array(lean).reshape(shape)
    else:
        of_usual = [one[usual[n % shape[1]]] for n, one in enumerate(probabilities)]
        measures["probability"] = np.array(of_usual).reshape(shape)
    if all(template.label is not None for template in templates):
        gold = np.array([template.label for template in templates], dtype=object)
        measures["accuracy"] = (predicted == gold).astype(float)
    return measures | {"flips": (predicted != np.array(usual, dtype=object)).astype(float)}


def _limits(measure: str) -> tuple[float, float]:
    """Return the least and the largest value that a measure can have."""
    return {"sentiment": (-1.0, 1.0), "number": (-math.inf, math.inf)}.get(measure, (0.0, 1.0))


def _lines(one: NameGap, mean: float) -> Iterable[str]:
    """Yield the lines on one gap."""
    gap = one.gap
    interval = "" if gap.low is None or gap.high is None else f" (95 %: {gap.low:+.4f} to {gap.high:+.4f})"
    yield f"{one.measure} by {one.factor}, {mean:.4f} on average"
    rows = [["", "names", "mean", "95 %", "from the others", "95 %", "p (Holm)"]]
    for group in gap.groups:
        own, apart = group.mean, group.from_rest
        rows.append(
            [
                group.group,
                str(group.rows),
                f"{own.value:.4f}",
                _between(own.low, own.high, ""),
                f"{apart.value:+.4f}",
                _between(apart.low, apart.high, "+"),
                f"{group.p:.2g}",
            ]
        )
    yield table(rows, "  ")
    verdict = (
        "is more than other names and sentences would make it"
        if gap.p < 0.05
        else "could be seen with other names and sentences where there is none"
    )
    yield f"  gap {gap.value:.4f}, {gap.largest} over {gap.smallest}{interval}, p {gap.p:.2g}: {verdict}"
    yield (
        f"  of it {gap.expected:.4f} is what equal groups show too, {gap.debiased:.4f} is left; p {gap.p_rows:.2g} "
        "over names alone"
    )
    if gap.pairing is not None:
        yield (
            "  over sentences alone, sharing them makes the interval "
            f"{gap.pairing:.2f} times as wide as sentences of their own would"
        )


def _between(low: float | None, high: float | None, sign: str) -> str:
    return "-" if low is None or high is None else f"{low:{sign}.4f} to {high:{sign}.4f}"

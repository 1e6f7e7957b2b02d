"""Measures how far groups of examples are apart with a finished run's model, from the predictions that the run kept."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

import numpy as np

from peftlab.errors import UserError
from peftlab.report.statistics.gaps import DRAWS, Gap, gap, large_enough
from peftlab.report.statistics.measures import Measure
from peftlab.report.study import Run
from peftlab.runs.folder import FAIRNESS, RunFolder, keep_beside
from peftlab.runs.record import RunRecord
from peftlab.scores.entity_scores import EntityScores
from peftlab.scores.paired import holm
from peftlab.use.fairness.groups import Attribute, are_files, crossed, kind_of, of_column, of_terms
from peftlab.use.fairness.outcomes import measures_of, of_spans

Correction = Literal["holm", "none"]
Says = Literal["differs", "smaller than could be seen with these sizes", "not shown", "not tested"]

_PER_TEST = 40
"""Divisions for each test, without which the smallest p value, adjusted, could not be small."""


@dataclass(frozen=True)
class Settings:
    """What the user decides about a measurement."""

    groups: tuple[str, ...]
    """``column=NAME``, ``terms=THEME`` or ``entities=THEME`` each."""
    metrics: tuple[str, ...] | None = None
    """Names of `peftlab.use.fairness.outcomes.METRICS`; None: all that the answers allow."""
    labels: tuple[str, ...] | None = None
    """The labels whose rates are measured; None: all, of two the last."""
    intersect: bool = False
    """Whether the groups are crossed, in place of each attribute for itself."""
    min_group: int = 20
    """Groups with fewer examples that count are left out."""
    correction: Correction = "holm"
    split: Literal["validation", "test"] = "test"
    attributes: Path | None = None
    """A file of rows with the columns of ``column=NAME``, see `peftlab.use.fairness.groups.of_column`."""
    level: float = 0.95
    seed: int = 0


@dataclass(frozen=True)
class Divided:
    """Rows of answers, what is measured of them, and their groups."""

    attribute: Attribute
    measures: list[Measure]
    clusters: np.ndarray
    """The cluster of each row: 0, 1, ..."""


@dataclass(frozen=True)
class Found:
    """The gap of a metric between the groups of an attribute."""

    attribute: str
    gap: Gap
    p: float | None
    """Adjusted for all gaps of the measurement."""
    says: Says


@dataclass(frozen=True)
class Fairness:
    """How far groups of examples are apart with a run's model."""

    run: str
    split: str
    examples: int
    clusters: int
    units: str
    """What is independent: ``groups`` of examples, such as documents, or ``examples``."""
    scorer: str
    found: tuple[Found, ...]
    equalised_odds: tuple[dict[str, Any], ...]
    """For each attribute and label the larger gap of ``fnr`` and ``fpr``, and the smaller one of their p values, which
    Holm's method has adjusted."""
    left_out: dict[str, dict[str, int]]
    """By attribute the groups with too few examples, and how many they have."""
    not_measured: tuple[str, ...]
    """Metrics for which fewer than two groups have enough examples that count, and a value."""
    settings: dict[str, Any]
    at: str

    def document(self) -> dict[str, Any]:
        """Return it as JSON values."""
        return {"kind": "groups", **asdict(self)}


def fairness(folder: str | Path, settings: Settings, allow: Sequence[str] = ()) -> Fairness:
    """Measure how far groups of a run's examples are apart, and keep that beside its record.

    Args:
        folder: the run's.
        settings: the groups and what is measured of them.
        allow: your own packages whose classes its configuration may name.

    Raises:
        UserError: the run kept no predictions, its answers cannot be judged, or there are no such groups or metrics.
    """
    run = Run(RunRecord.load(Path(folder)), str(folder))
    answers = answers_of(run, settings.split)
    parts = list(divided(run, answers, settings, allow))
    tests = [
        (part, measure, groups, names, small, large_enough(measure, groups, len(names), settings.min_group))
        for part in parts
        for groups, names, small in [part.attribute.divided(settings.min_group)]
        for measure in part.measures
    ]
    family = sum(possible for *_, possible in tests)
    if not family:
        few = {part.attribute.name: part.attribute.divided(settings.min_group)[2] for part in parts}
        raise UserError(
            f"--groups: fewer than two groups have {settings.min_group} examples or more. Too small: "
            f"{_listed(few) or 'none, all examples are of one group'}. Choose other groups, or lower --min-group"
        )
    made = [
        (
            part.attribute.name,
            measure.name,
            gap(
                measure,
                groups,
                names,
                part.clusters,
                fewest=settings.min_group,
                level=settings.level,
                family=family if settings.correction == "holm" else 1,
                draws=max(DRAWS, _PER_TEST * family),
                seed=settings.seed,
            ),
        )
        for part, measure, groups, names, *_ in tests
    ]
    found = tuple(_judged([(attribute, one) for attribute, _, one in made if one is not None], settings))
    result = Fairness(
        run=str(folder),
        split=settings.split,
        examples=len(answers),
        clusters=int(clusters_of(answers)[0].max()) + 1,
        units=clusters_of(answers)[1],
        scorer="" if run.scorer is None else run.scorer.name,
        found=found,
        equalised_odds=tuple(_equalised_odds(found)),
        left_out={part.attribute.name: small for part, _, _, _, small, _ in tests if small},
        not_measured=tuple(f"{attribute}: {metric}" for attribute, metric, one in made if one is None),
        settings={**asdict(settings), "attributes": settings.attributes and str(settings.attributes)},
        at=datetime.now(UTC).isoformat(timespec="seconds"),
    )
    keep_beside(Path(folder), FAIRNESS, result.document())
    return result


def answers_of(run: Run, split: str) -> list[dict[str, Any]]:
    """Return the answers of a run that have gold.

    Raises:
        UserError: there are none, or nothing is known about what is right.
    """
    answers = run.answers(split)
    if answers is None:
        raise UserError(f"{run.place}: it kept no predictions of the {split} split, predictions/{split}.jsonl")
    if run.scorer is None:
        raise UserError(f"{run.place}: its scores are not of a scorer of this package, so that no answer can be judged")
    if not (judged := [answer for answer in answers if answer["gold"] is not None]):
        raise UserError(f"{run.place}: no example of the {split} split has gold, so that no answer is right or wrong")
    return judged


def clusters_of(answers: Sequence[Mapping[str, Any]]) -> tuple[np.ndarray, str]:
    """Return the number of each answer's cluster, and their kind: ``groups``, or ``examples`` if any has no group."""
    groups = [answer.get("group") for answer in answers]
    if None in groups:
        return np.arange(len(answers)), "examples"
    return np.unique(list(map(str, groups)), return_inverse=True)[1], "groups"


def divided(
    run: Run, answers: Sequence[Mapping[str, Any]], settings: Settings, allow: Sequence[str] = ()
) -> Iterator[Divided]:
    """Yield what is measured, and the groups, for every attribute; for one, if they are crossed.

    Raises:
        UserError: there are no such groups or metrics, or attributes of different things are crossed.
    """
    assert run.scorer is not None
    specs = [(spec, *kind_of(spec)) for spec in settings.groups]
    clusters, _ = clusters_of(answers)
    attributes = []
    for spec, kind, name in specs:
        if kind == "entities":
            yield _of_entities(run, answers, spec, name, clusters, settings)
        elif kind == "terms":
            if are_files(inputs := [answer["input"] for answer in answers]):
                raise UserError(f"--groups {spec}: the run's inputs are files, and have no words. Use column=NAME")
            attributes.append(of_terms(spec, name, inputs))
        else:
            folder = RunFolder(run.record, allow=allow)
            attributes.append(of_column(spec, name, folder, answers, settings.attributes))
    if settings.intersect and len(attributes) < len(specs):
        raise UserError("--intersect crosses groups of examples; those of entities are not groups of examples")
    if settings.intersect and len(attributes) > 1:
        attributes = [crossed(attributes)]
    if attributes:
        measures = measures_of(answers, run.scorer, run.metric, settings.metrics, settings.labels)
        yield from (Divided(attribute, measures, clusters) for attribute in attributes)


def _of_entities(
    run: Run,
    answers: Sequence[Mapping[str, Any]],
    spec: str,
    theme: str,
    clusters: np.ndarray,
    settings: Settings,
) -> Divided:
    if not isinstance(run.scorer, EntityScores):
        raise UserError(f"--groups {spec}: only a run of named entities has entities. Use terms={theme}")
    if settings.metrics is not None and "fnr" not in settings.metrics:
        raise UserError(f"--groups {spec}: of gold entities only their miss rate is measured, --metrics fnr")
    measures, words, places = of_spans(answers, run.scorer, settings.labels)
    return Divided(of_terms(spec, theme, words), measures, np.unique(clusters[places], return_inverse=True)[1])


def _judged(gaps: Sequence[tuple[str, Gap]], settings: Settings) -> Iterator[Found]:
    p_values = [one.p for _, one in gaps if one.p is not None]
    adjusted = iter(holm(p_values) if settings.correction == "holm" else p_values)
    for attribute, one in gaps:
        if one.p is None:
            yield Found(attribute, one, None, "not tested")
            continue
        p = next(adjusted)
        factor = p / one.p
        pairs = tuple(pair if pair.p is None else replace(pair, p=min(1.0, factor * pair.p)) for pair in one.pairs)
        yield Found(attribute, replace(one, pairs=pairs), p, _said(one, p, 1 - settings.level))


def _said(one: Gap, p: float, risk: float) -> Says:
    if p <= risk:
        return "differs"
    seen = one.detectable is None or one.value >= one.detectable
    return "not shown" if seen else "smaller than could be seen with these sizes"


def _equalised_odds(found: Sequence[Found]) -> Iterator[dict[str, Any]]:
    by_name = {(one.attribute, one.gap.metric): one for one in found}
    for (attribute, metric), one in by_name.items():
        kind, _, label = metric.partition("/")
        other = by_name.get((attribute, f"fpr/{label}"))
        if kind == "fnr" and label and other is not None:
            p_values = [each.p for each in (one, other) if each.p is not None]
            value = max(one.gap.value, other.gap.value)
            yield {"attribute": attribute, "label": label, "value": value, "p": min(p_values, default=None)}


def _listed(few: Mapping[str, Mapping[str, int]]) -> str:
    return "; ".join(f"{name}: {', '.join(f'{key} {n}' for key, n in own.items())}" for name, own in few.items() if own)

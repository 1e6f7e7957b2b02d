"""Measures a finished run on slices of a split, each against the rest, or several runs slice by slice."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np

from peftlab.errors import UserError, did_you_mean
from peftlab.reading.json_form import finite
from peftlab.report.numbers import limits
from peftlab.report.statistics.bootstrap import ScoreInterval, bootstrap, jackknife_interval, paired_bootstrap
from peftlab.report.statistics.gaps import DRAWS, gap
from peftlab.report.statistics.measured import Score, pseudo_values, score_of
from peftlab.report.statistics.measures import Sums
from peftlab.report.statistics.significance import approximate_randomisation
from peftlab.report.study import Run
from peftlab.runs.folder import SLICES, RunFolder, keep_beside
from peftlab.runs.record import RunRecord
from peftlab.scores.paired import holm_of_known
from peftlab.use.fairness.measure import answers_of, clusters_of
from peftlab.use.slices import by
from peftlab.use.slices.subject import Slice, Subject, UnsuitedError

Says = Literal["differs", "smaller than could be seen with these sizes", "not shown", "not tested"]

RESAMPLES = 2000
_PER_TEST = 40
"""Draws for each test, without which the smallest p value, adjusted, could not be small."""


@dataclass(frozen=True)
class Settings:
    """What the user decides about a measurement."""

    by: tuple[str, ...] | None = None
    """Names of `slicers`, and ``column:NAME``; None: all that suit the run."""
    metric: str | None = None
    """A score of the run's scorer; None: the one that selected its checkpoint."""
    split: Literal["validation", "test"] = "test"
    min_slice: int = 20
    """Slices with fewer examples or gold entities are listed, and not measured."""
    level: float = 0.95
    seed: int = 0


@dataclass(frozen=True)
class Interval:
    """A number, and where it lies with the stated probability; None where that is not known.

    A score may have no value, such as the correlation with numbers that are all equal.
    """

    value: float | None
    low: float | None
    high: float | None


@dataclass(frozen=True)
class Found:
    """A slice, and the rest of the split."""

    slicer: str
    name: str
    unit: str
    size: int
    clusters: int
    """Documents, or examples where the data names none, that have a part in it."""
    scores: dict[str, float]
    """All scores of the slice."""
    score: Interval
    rest: float | None
    """The same score of all that is not in the slice; None where that is nothing."""
    difference: Interval | None
    """The slice minus the rest."""
    p: float | None
    """Adjusted for all slices of the measurement."""
    detectable: float | None
    """The smallest true difference that the test, alone among these slices, finds with probability .8."""
    says: Says


@dataclass(frozen=True)
class Compared:
    """Another run on the same slice."""

    run: str
    slicer: str
    name: str
    difference: Interval
    """The other run's score minus that of the first run, on the same examples."""
    p: float | None
    """Of swapping their answers, document by document; adjusted for all slices and runs. None: a score has no value."""
    says: Says


@dataclass(frozen=True)
class Slices:
    """How a run does on slices of a split."""

    run: str
    split: str
    metric: str
    scorer: str
    examples: int
    clusters: int
    units: str
    """What is independent: ``groups`` of examples, such as documents, or ``examples``."""
    whole: dict[str, float]
    """The scores of the whole split."""
    found: tuple[Found, ...]
    small: dict[str, int]
    """Slices that are too small, and how many examples or gold entities they have."""
    left_out: dict[str, str]
    """Slicers that do not suit the run, and why."""
    compared: tuple[Compared, ...]
    settings: dict[str, Any]
    at: str

    def document(self) -> dict[str, Any]:
        """Return it as JSON values, with null for scores that have none."""
        document: dict[str, Any] = finite(asdict(self))
        return document


def slicers() -> list[str]:
    """Return the names of the slicers; ``column`` is called with the name of a column, ``column:NAME``."""
    return sorted(module.name for module in pkgutil.iter_modules(by.__path__))


def slices(folders: Sequence[str | Path], settings: Settings, allow: Sequence[str] = ()) -> Slices:
    """Measure the first run on each slice of a split, compare the other runs with it there, and keep that beside it.

    Args:
        folders: those of the runs; all were scored on the same examples.
        settings: which slices, and how.
        allow: your own packages whose classes their configurations may name.

    Raises:
        UserError: a run kept no predictions, or has others; no slicer suits; there is no such slicer or score.
    """
    runs = [Run(RunRecord.load(Path(folder)), str(folder)) for folder in folders]
    subjects = [_subject(run, settings.split, allow) for run in runs]
    first, *others = (_aligned(subject, subjects[0], run) for subject, run in zip(subjects, runs, strict=True))
    metric = _metric(runs[0], first, settings.metric)
    parts, left_out = _divided(first, settings.by)
    small = {f"{slicer}: {one.name}": one.size for slicer, one in parts if one.size < settings.min_slice}
    large = [(slicer, one) for slicer, one in parts if one.size >= settings.min_slice]
    clusters, units = clusters_of(first.answers)
    score = score_of(first.scorer, metric)
    measured = [_found(slicer, one, first, clusters, metric, settings, len(large)) for slicer, one in large]
    result = Slices(
        run=str(folders[0]),
        split=settings.split,
        metric=metric,
        scorer=first.scorer.name,
        examples=len(first.answers),
        clusters=int(clusters.max()) + 1,
        units=units,
        whole=first.scorer.scores(first.counts.sum(axis=0)),
        found=tuple(_judged(measured, 1 - settings.level)),
        small=small,
        left_out=left_out,
        compared=tuple(_compared(large, others, folders[1:], clusters, score, settings)),
        settings=asdict(settings),
        at=datetime.now(UTC).isoformat(timespec="seconds"),
    )
    keep_beside(Path(folders[0]), SLICES, result.document())
    return result


def _subject(run: Run, split: str, allow: Sequence[str]) -> Subject:
    answers = answers_of(run, split)
    assert run.scorer is not None
    return Subject(RunFolder(run.record, allow=allow), answers, run.scorer)


def _aligned(subject: Subject, first: Subject, run: Run) -> Subject:
    """Return the answers of a run in the order of those of the first."""
    if subject is first:
        return subject
    by_id = {answer["id"]: answer for answer in subject.answers}
    own = [by_id.get(answer["id"]) for answer in first.answers]
    same = len(by_id) == len(own) and subject.scorer.name == first.scorer.name
    if not same or any(
        one is None or one["gold"] != other["gold"] or one["input"] != other["input"]
        for one, other in zip(own, first.answers, strict=True)
    ):
        raise UserError(
            f"{run.place}: it was not scored on the same examples by the same scorer as the first run, so that their "
            "slices differ. Name runs of one data set and one task"
        )
    return first.of_another([one for one in own if one is not None])


def _metric(run: Run, subject: Subject, asked: str | None) -> str:
    directions = subject.scorer.directions
    if asked is not None and asked not in directions:
        raise UserError(
            f"--metric {asked}: there is no such score.{did_you_mean(asked, directions)} Allowed for this run: "
            f"{', '.join(directions)}"
        )
    chosen = asked or run.metric
    return chosen if chosen is not None and chosen in directions else next(iter(directions))


def _slicer(name: str) -> Callable[[Subject], Iterator[Slice]]:
    kind, _, column = name.partition(":")
    if kind not in (known := slicers()) or (kind == "column") != bool(column):
        shown = ", ".join(f"{one}:NAME" if one == "column" else one for one in known)
        raise UserError(f"--by {name}: there is no such slicer.{did_you_mean(name, known)} Allowed: {shown}")
    slicer = importlib.import_module(f"{by.__name__}.{kind}").slices
    return partial(slicer, name=column) if column else slicer


def _divided(subject: Subject, names: Sequence[str] | None) -> tuple[list[tuple[str, Slice]], dict[str, str]]:
    """Return the slices by their slicers, and the slicers that do not suit with the reason."""
    made = {name: _slicer(name) for name in names or slicers() if names or name != "column"}
    parts: list[tuple[str, Slice]] = []
    left_out = {}
    for name, slicer in made.items():
        try:
            parts += [(name, one) for one in slicer(subject)]
        except UnsuitedError as error:
            left_out[name] = str(error)
        except UserError as error:
            if names is not None:
                raise
            left_out[name] = str(error)
    if not parts:
        raise UserError(f"no slicer suits the run. {'; '.join(f'{name}: {why}' for name, why in left_out.items())}")
    return parts, left_out


def _found(
    slicer: str, one: Slice, subject: Subject, clusters: np.ndarray, metric: str, settings: Settings, family: int
) -> Found:
    score, is_share = score_of(subject.scorer, metric), limits(metric) == (0, 1)
    inside = _of_clusters(one.counts, clusters)
    rest = subject.counts - one.counts
    rows = np.concatenate([one.counts, rest])
    used = np.flatnonzero(rows.any(axis=1))
    groups = np.repeat([0, 1], len(subject.answers))[used]
    owners = np.unique(np.tile(clusters, 2)[used], return_inverse=True)[1]
    own = Found(
        slicer=slicer,
        name=one.name,
        unit=one.unit,
        size=one.size,
        clusters=len(inside),
        scores=subject.scorer.scores(one.counts.sum(axis=0)),
        score=_interval(inside, score, is_share, settings),
        rest=None,
        difference=None,
        p=None,
        detectable=None,
        says="not tested",
    )
    if not np.isfinite(score(np.stack([one.counts.sum(axis=0), rest.sum(axis=0)]))).all():
        return own  # without a value there is no difference
    measure = Sums(metric, *_occurring(rows[used], score), share=is_share)
    apart = gap(
        measure,
        groups,
        ["slice", "rest"],
        owners,
        fewest=1,
        level=settings.level,
        family=family,
        draws=max(DRAWS, _PER_TEST * family),
        seed=settings.seed,
    )
    if apart is None:
        return own
    (pair,) = apart.pairs
    return replace(
        own,
        rest=float(score(rest.sum(axis=0)[None])[0]),
        difference=Interval(pair.difference, pair.low, pair.high),
        p=pair.p,
        detectable=pair.detectable,
    )


def _occurring(counts: np.ndarray, score: Score) -> tuple[np.ndarray, Score]:
    """Return the columns of `counts` that are not empty, and the score of their sums; of many classes, few are not."""
    columns = np.flatnonzero(counts.any(axis=0))

    def of_sums(totals: np.ndarray) -> np.ndarray:
        whole = np.zeros((len(totals), counts.shape[1]), totals.dtype)
        whole[:, columns] = totals
        return score(whole)

    return counts[:, columns], of_sums


def _interval(counts: np.ndarray, score: Score, is_share: bool, settings: Settings) -> Interval:
    """Return a score with its bootstrap interval over clusters; where they do not differ, Wilson's of a share."""
    if not np.isfinite(score(counts.sum(axis=0)[None])[0]):
        return Interval(None, None, None)
    over: ScoreInterval = bootstrap(counts, score, RESAMPLES, settings.level, settings.seed)
    if over.low is not None and over.low == over.high:
        if not is_share:
            return Interval(over.value, None, None)
        over = jackknife_interval(pseudo_values(counts, score), settings.level, bounded=True)
    return Interval(over.value, over.low, over.high)


def _of_clusters(counts: np.ndarray, clusters: np.ndarray) -> np.ndarray:
    """Return the counts of the clusters that have any, shape (clusters, width)."""
    summed = np.zeros((int(clusters.max()) + 1, counts.shape[1]), counts.dtype)
    np.add.at(summed, clusters, counts)
    return summed[summed.any(axis=1)]


def _judged(found: Sequence[Found], risk: float) -> Iterator[Found]:
    for one, p in zip(found, holm_of_known([one.p for one in found]), strict=True):
        if p is None or one.difference is None or one.difference.value is None:
            yield one
            continue
        seen = one.detectable is None or abs(one.difference.value) >= one.detectable
        unseen: Says = "not shown" if seen else "smaller than could be seen with these sizes"
        yield replace(one, p=p, says="differs" if p <= risk else unseen)


def _compared(
    parts: Sequence[tuple[str, Slice]],
    others: Sequence[Subject],
    names: Sequence[str | Path],
    clusters: np.ndarray,
    score: Score,
    settings: Settings,
) -> Iterator[Compared]:
    """Yield each other run on each slice, whose p values are adjusted together."""
    made = []
    draws = max(RESAMPLES, _PER_TEST * len(parts) * len(others))
    for subject, run in zip(others, names, strict=True):
        own = {(slicer, one.name): one for slicer, one in _divided(subject, settings.by)[0]}
        for slicer, one in parts:
            if (same := own.get((slicer, one.name))) is None:
                continue
            both = _of_clusters(np.concatenate([same.counts, one.counts], axis=1), clusters)
            pair = (both[:, : one.counts.shape[1]], both[:, one.counts.shape[1] :])
            gained, p = Interval(None, None, None), None
            if np.isfinite(score(np.stack([each.sum(axis=0) for each in pair]))).all():
                over = paired_bootstrap(*pair, score, RESAMPLES, settings.level, settings.seed)
                gained = Interval(over.value, over.low, over.high)
                p = approximate_randomisation(*pair, score, draws, settings.seed).p
            made.append(Compared(str(run), slicer, one.name, gained, p, "not tested"))
    for each, p in zip(made, holm_of_known([each.p for each in made]), strict=True):
        if p is None:
            yield each
        else:
            yield replace(each, p=p, says="differs" if p <= 1 - settings.level else "not shown")

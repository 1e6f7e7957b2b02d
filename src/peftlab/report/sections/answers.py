"""What the answers themselves show: scores by class, confusions, and whether probabilities can be trusted."""

from __future__ import annotations

import math
import operator
from collections.abc import Iterator, Mapping, Sequence
from functools import reduce
from typing import TYPE_CHECKING, Any

import numpy as np

from peftlab.errors import UserError
from peftlab.report.analysis.results import Result, Row
from peftlab.report.document import Block, Cell, Column, Figure, Paragraph, Section, Table, link_names
from peftlab.report.numbers import listed, plural
from peftlab.report.sections.scores import axis
from peftlab.report.statistics.bootstrap import jackknife_interval
from peftlab.report.statistics.calibration import Calibration, calibration
from peftlab.report.statistics.measured import pseudo_values
from peftlab.report.study import Run
from peftlab.scores.confusion import Confusion

if TYPE_CHECKING:
    from scipy.sparse import csr_array

MOST_CLASSES = 20
"""Classes that a figure has room for; of more, the most frequent."""


_CLOSE = 0.01
"""Confidence and accuracy that differ by less count as equal."""


def section(result: Result) -> Section | None:
    """Return what the predictions of the best group and of the baseline show; None without predictions."""
    rows = _shown(result)
    if not rows:
        return None
    name = result.comparison.name
    blocks: list[Block] = []
    if series := [one for row in rows if (one := _by_class(row, result)) is not None]:
        data = {"x": axis("f1", "test F1"), "series": series}
        units = "groups of examples" if result.units == "groups" else "examples"
        caption = f"Test F1 by class, all seeds together, with intervals over test sets ({units})."
        blocks.append(Figure(f"{name}-classes", "per_type", data, caption))
    links = link_names(row.name for row in rows)
    blocks += [figure for row in rows if (figure := _confusion(row, f"{name}-confusion-{links[row.name]}")) is not None]
    blocks += _calibration(rows, result)
    return Section(f"{name}-answers", "Errors and calibration", tuple(blocks)) if blocks else None


def _shown(result: Result) -> list[Row]:
    """Return the best row and the baseline's, where they have predictions."""
    with_counts = [row for row in result.ranked if row.counted]
    baseline = result.comparison.baseline
    return [
        row
        for place, row in enumerate(with_counts)
        if place == 0 or (baseline is not None and row.name == baseline.name)
    ]


def _classes(row: Row) -> tuple[Confusion, np.ndarray] | None:
    """Return the scorer and the summed confusion matrix of all seeds, shape (rows, columns)."""
    counted = list(row.counted.values())
    scorer = counted[0].scorer
    if not isinstance(scorer, Confusion):
        return None
    return scorer, scorer.matrix(np.sum([one.counts.sum(axis=0) for one in counted], axis=0))


def _most_frequent(matrix: np.ndarray, classes: Sequence[str]) -> list[int]:
    order = sorted(range(len(classes)), key=lambda place: (-int(matrix[place].sum()), classes[place]))
    return sorted(order[:MOST_CLASSES], key=lambda place: classes[place])


def _by_class(row: Row, result: Result) -> dict[str, Any] | None:
    if (summed := _classes(row)) is None:
        return None
    scorer, matrix = summed
    counts = reduce(operator.add, (one.counts for one in row.counted.values()))
    level = result.comparison.options.level
    types = [
        {"type": scorer.classes[place], "score": f1_of_class(counts, place, level)}
        for place in _most_frequent(matrix, scorer.classes)
    ]
    return {"label": row.name, "types": types}


def f1_of_class(counts: np.ndarray | csr_array, place: int, level: float) -> dict[str, float | None]:
    """Return the F1 of a class, and its interval over the clusters in which it is gold or predicted.

    The others say nothing of it: with them, a perfect score of a rare class would seem as sure as that of a frequent
    one. There is no interval over fewer than two.

    Args:
        counts: the confusion matrix of each cluster, shape (clusters, rows x columns).
        place: of the class.
        level: probability of the interval.
    """
    side = math.isqrt(counts.shape[1])
    start = side * place
    right = counts[:, start + place : start + place + 1].sum(axis=1)
    either = counts[:, start : start + side].sum(axis=1) + counts[:, place::side].sum(axis=1)

    def f1(totals: np.ndarray) -> np.ndarray:
        right, either = totals.T
        return 2 * right / np.maximum(either, 1)

    own = np.stack([right, either], axis=1)[either > 0]
    if len(own) < 2:
        return {"value": float(f1(own.sum(axis=0)[None])[0]), "low": None, "high": None}
    bounds = jackknife_interval(pseudo_values(own, f1), level, bounded=True)
    return {"value": bounds.value, "low": bounds.low, "high": bounds.high}


def _confusion(row: Row, name: str) -> Figure | None:
    if (summed := _classes(row)) is None:
        return None
    scorer, matrix = summed
    if len(scorer.classes) > MOST_CLASSES:
        return None
    order = sorted(range(len(scorer.classes)), key=scorer.classes.__getitem__)
    labels = [scorer.classes[place] for place in order]
    outside = ""
    if scorer.OUTSIDE is not None:
        order.append(len(scorer.classes))
        labels.append("(none)")
        outside = (
            f" “(none)” is no class: its row holds what is {scorer.OUTSIDE[0]}, its column what is {scorer.OUTSIDE[1]}."
        )
    counts = [[int(matrix[i, j]) for j in order] for i in order]
    seeds = plural(len(row.counted), "seed")
    caption = f"Gold classes (rows) and what {row.name} predicts (columns), {seeds} together.{outside}"
    return Figure(name, "confusion", {"labels": labels, "counts": counts}, caption)


def _calibration(rows: Sequence[Row], result: Result) -> list[Block]:
    measured = [(row, one) for row in rows if (one := calibration_of(row)) is not None]
    if not measured:
        return []
    name = result.comparison.name
    series = [
        {
            "label": row.name,
            "ece": one.ece,
            "bins": [
                {
                    "low": part.low,
                    "high": part.high,
                    "number": part.number,
                    "confidence": part.confidence,
                    "accuracy": part.accuracy,
                }
                for part in one.bins
            ],
        }
        for row, one in measured
    ]
    caption = (
        "How often the most probable label is right, by its probability (confidence): on the diagonal as often as it "
        "says, below it less often. "
        f"Shown {'is' if len(measured) == 1 else 'are'} {listed([row.name for row, _ in measured])}."
    )
    columns = (
        Column("group"),
        Column("ECE (%)", True, "expected calibration error, 15 bins"),
        Column("Brier", True),
        Column("NLL", True, "mean negative log-likelihood"),
        Column("decisions", True, "words or texts, all seeds"),
    )
    table = tuple(
        (
            Cell(row.name),
            Cell(f"{100 * one.ece:.2f}", one.ece),
            Cell(f"{one.brier:.4f}", one.brier),
            Cell(f"{one.nll:.4f}", one.nll),
            Cell(f"{one.number:,}", one.number),
        )
        for row, one in measured
    )
    return [
        Paragraph(" ".join(_trusted(row.name, one) for row, one in measured)),
        Figure(f"{name}-reliability", "reliability", {"series": series}, caption),
        Table(f"{name}-calibration-table", columns, table, "Calibration on the test split"),
    ]


def _trusted(name: str, one: Calibration) -> str:
    """Say whether a group is more or less confident than it is right."""
    bins = [part for part in one.bins if part.confidence is not None and part.accuracy is not None]
    number = sum(part.number for part in bins)
    confidence = sum(part.number * (part.confidence or 0.0) for part in bins) / max(number, 1)
    accuracy = sum(part.number * (part.accuracy or 0.0) for part in bins) / max(number, 1)
    if abs(confidence - accuracy) < _CLOSE:
        how = "on average as confident as it is right"
    else:
        how = "overconfident" if confidence > accuracy else "underconfident"
    right = f"right in {100 * accuracy:.1f} % of its answers"
    return f"{name} is {how}: {right}, at a mean confidence of {100 * confidence:.1f} %."


def calibration_of(row: Row) -> Calibration | None:
    """Return the calibration of all seeds of a row together, see `calibration_of_runs`."""
    return calibration_of_runs(row.group.final)


def calibration_of_runs(runs: Sequence[Run], sharpness: float = 1.0) -> Calibration | None:
    """Return the calibration of the test answers of `runs` together; None unless every label has its probability.

    Args:
        runs: tested runs with the same labels.
        sharpness: the power of the probabilities: a temperature gives those of before its logits were divided by it.
    """
    labels = runs[0].record.data["data"]["labels"]
    place = {label: number for number, label in enumerate(labels)}
    probabilities: list[list[float]] = []
    gold: list[int] = []
    try:
        for run in runs:
            for right, of_all in _decisions(run.answers("test") or [], labels):
                gold.append(place[right])
                probabilities.append([of_all.get(label, 0.0) for label in labels])
                if len(of_all) != len(labels):
                    return None
        powers = np.asarray(probabilities, np.float64) ** sharpness
        whole = powers if sharpness == 1 else powers / powers.sum(-1, keepdims=True)
        return calibration(whole, np.asarray(gold)) if gold else None
    except (UserError, LookupError, TypeError, AttributeError, ValueError):  # damaged: the checks name the run
        return None


def _decisions(
    answers: Sequence[Mapping[str, Any]], labels: Sequence[str]
) -> Iterator[tuple[str, Mapping[str, float]]]:
    """Yield the gold label and the probabilities by label of each decision: a text, or a word."""
    for answer in answers:
        gold, of_all = answer["gold"], answer["probabilities"]
        if isinstance(gold, str):
            yield gold, of_all if isinstance(of_all, Mapping) else dict(zip(labels, of_all, strict=True))
        else:
            yield from zip(gold, of_all, strict=True)

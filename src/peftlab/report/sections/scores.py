"""The scores of every group, with what they would vary by: seeds, test sets, and both."""

from __future__ import annotations

import statistics
from collections.abc import Mapping

from peftlab.report.analysis.results import Result, Row
from peftlab.report.document import Block, Cell, Column, Figure, Paragraph, Section, Table
from peftlab.report.numbers import called, count, interval, is_share, level, listed, score, unit
from peftlab.report.statistics.comparison import FEWEST_SEEDS
from peftlab.scores.scorer import Direction

MOST_LINES = 30
"""Rows of a figure that can be read."""
BESIDE, FEW = "†", "‡"
"""The marks of a group that is not told apart from the best, and of one with too few seeds for a verdict."""
_APART = 0.05
"""Precision and recall that differ by more are worth a sentence."""
MOST_METRICS = 8
"""Further scores that a table has room for."""


def section(result: Result) -> Section | None:
    """Return the scores of the tested runs; None if there are none."""
    if not result.rows:
        return None
    comparison = result.comparison
    blocks: list[Block] = [Paragraph(_explained(result)), _table(result)]
    if further := _further(result):
        blocks.append(further)
    if text := _precision_and_recall(result):
        blocks.append(Paragraph(text))
    blocks.append(_seeds(result))
    blocks += _variances(result)
    return Section(f"{comparison.name}-scores", "Scores", tuple(blocks))


def _explained(result: Result) -> str:
    comparison = result.comparison
    scorers = sorted({one["scorer"] for run in comparison.runs for one in run.record.scores("test", comparison.metric)})
    best = "highest" if comparison.direction == "max" else "lowest"
    text = (
        f"The score is {called(comparison.metric)} on the test split, computed by: {'; '.join(scorers)}. "
        f"The {best} mean comes first. All intervals are {level(comparison.options.level)} intervals. "
        "“Over seeds” says what other seeds would give on this test split (Student's t)"
    )
    if result.units is None:
        why = "; ".join(reason for reason, _ in result.notes) or "the predictions are not kept"
        text += f". No test-set interval can be given: {why}."
    else:
        units = _units(result)
        text += (
            f"; “over test sets”, what these very runs would score on other test sets, of which {units} are a sample "
            "(delta method); “over both”, what other seeds would give on other test sets (crossed random effects), "
            "taken no narrower than “over seeds”. "
        )
        text += (
            "Examples of one group, such as the sentences of a document, are drawn together."
            if result.units == "groups"
            else "Examples are taken as independent of one another, as not all of them have a group, such as a "
            "document; if they depend on each other, the interval over test sets is too narrow."
        )
    if result.units is not None and result.notes:
        notes = (f"{reason} ({listed(runs)})" for reason, runs in result.notes)
        text += f" Left out of that: {'; '.join(notes)}."
    return f"{text} {_bold(result)}"


def _units(result: Result) -> str:
    return f"the {count(result.clusters)} {'groups of ' if result.units == 'groups' else ''}" + (
        f"the {count(result.examples)} examples" if result.units == "groups" else "examples"
    )


def _bold(result: Result) -> str:
    few = [row.name for row in result.rows if len(row.measured.seeds) < FEWEST_SEEDS]
    if len(result.rows) == 1:
        return ""
    if len(few) == len(result.rows):
        return f"Nothing is in bold: with fewer than {FEWEST_SEEDS} seeds, no ranking can be claimed."
    if len(result.beside_the_best) == 1:
        return "The best is in bold: it is told apart from every other group."
    return "Nothing is in bold, as the best cannot be told apart from others; those are marked."


def _table(result: Result) -> Table:
    comparison = result.comparison
    percent = f" ({unit(comparison.metric)})" if unit(comparison.metric) else ""
    columns = [
        Column(", ".join(comparison.keys)),
        Column("seeds", True),
        Column(f"mean{percent}", True),
        Column("SD", True, "over seeds"),
        Column("over seeds", note="interval of the mean"),
    ]
    if result.units is not None:
        columns += [Column("over test sets"), Column("over both")]
    columns.append(Column("validation", True, "mean of the selected checkpoints"))
    marked = any(_mark(result, row) for row in result.ranked)
    if marked:
        columns.append(Column("mark"))
    alone = len(result.beside_the_best) == 1 and len(result.rows) > 1
    rows = []
    for row in result.ranked:
        strong = alone and row.name in result.beside_the_best
        cells = [
            Cell(row.name, strong=strong),
            Cell(str(len(row.measured.seeds)), len(row.measured.seeds)),
            Cell(score(row.value, comparison.metric), row.value, strong),
            Cell(score(row.seeds.sd, comparison.metric), row.seeds.sd),
            _interval(row.seeds.low, row.seeds.high, result),
        ]
        if result.units is not None:
            over_both = (row.whole.low, row.whole.high) if row.test_set else (None, None)
            cells.append(_interval(*((row.test_set.low, row.test_set.high) if row.test_set else (None, None)), result))
            cells.append(_interval(*over_both, result))
        validation = validation_of(result, row)
        cells.append(Cell(score(validation, comparison.metric), validation))
        if marked:
            cells.append(Cell(_mark(result, row)))
        rows.append(tuple(cells))
    caption = f"Test {called(comparison.metric)} by {', '.join(comparison.keys)}{_marks(result)}"
    return Table(f"{comparison.name}-scores-table", tuple(columns), tuple(rows), caption)


def _interval(low: float | None, high: float | None, result: Result) -> Cell:
    return Cell(interval(low, high, result.comparison.metric), low)


def _mark(result: Result, row: Row) -> str:
    if len(row.measured.seeds) < FEWEST_SEEDS:
        return FEW
    if len(result.beside_the_best) == 1 or row.name not in result.beside_the_best:
        return ""
    return "best" if row is result.ranked[0] else BESIDE


def _marks(result: Result) -> str:
    """Return what a caption says of the marks that are in its table."""
    marks = {_mark(result, row) for row in result.ranked}
    said = {BESIDE: "not told apart from the best mean", FEW: f"fewer than {FEWEST_SEEDS} seeds, no verdict"}
    return "".join(f"; {mark} {meaning}" for mark, meaning in said.items() if mark in marks)


def validation_of(result: Result, row: Row) -> float | None:
    """Return the mean validation score of the runs behind a row."""
    values = [result.comparison.score(run, "validation") for run in row.group.final]
    there = [value for value in values if value is not None]
    return statistics.fmean(there) if there else None


def _further(result: Result) -> Table | None:
    """Return the mean and SD of the other overall test scores."""
    comparison = result.comparison
    names = dict.fromkeys(score["name"] for run in comparison.runs for score in run.record.scores("test"))
    others = [name for name in names if "/" not in name and name != comparison.metric][:MOST_METRICS]
    if not others:
        return None
    columns = [Column(", ".join(comparison.keys))]
    columns += [Column(f"{called(name)}{' (%)' if is_share(name) else ''}", True, "mean ± SD") for name in others]
    rows = []
    for row in result.ranked:
        cells = [Cell(row.name)]
        for name in others:
            values = [value for run in row.group.final if (value := run.score("test", name)) is not None]
            mean = statistics.fmean(values) if values else None
            sd = f" ± {score(statistics.stdev(values), name)}" if len(values) > 1 else ""
            cells.append(Cell(f"{score(mean, name)}{sd}", mean))
        rows.append(tuple(cells))
    return Table(f"{comparison.name}-further-table", tuple(columns), tuple(rows), "The other test scores")


def _precision_and_recall(result: Result) -> str:
    """Say whether the best group predicts too much or too little, where precision and recall are known."""
    best = result.ranked[0]
    for kind in ("entity_", "macro_", ""):
        means = []
        for name in (f"{kind}precision", f"{kind}recall"):
            values = [value for run in best.group.final if (value := run.score("test", name)) is not None]
            means.append(statistics.fmean(values) if values else None)
        precision, recall = means
        if precision is None or recall is None:
            continue
        if abs(precision - recall) < _APART:
            return ""
        does = "predicts more than there is" if recall > precision else "misses more than it invents"
        shown = f"recall {100 * recall:.1f} %, precision {100 * precision:.1f} %"
        return f"{best.name} {does}: {shown}."
    return ""


def axis(metric: str, label: str | None = None) -> dict[str, object]:
    """Return the axis of a score in a figure."""
    name = label or called(metric)
    return {"label": name[0].upper() + name[1:], "unit": "percent" if is_share(metric) else "plain", "log": False}


def change_of(drop: Mapping[str, float | None], direction: Direction) -> dict[str, float | None]:
    """Return the change of a score and its interval: a drop with the opposite sign, and for losses the drop itself."""
    sign = -1 if direction == "max" else 1
    value, *limits = (None if end is None else sign * end for end in (drop["value"], drop["low"], drop["high"]))
    ends = sorted(end for end in limits if end is not None)
    low, high = ends if len(ends) == 2 else (None, None)
    return {"value": value, "low": low, "high": high}


def in_figures(result: Result) -> tuple[Row, ...]:
    """Return the rows that a figure with a line for each has room for: the best, and the baseline."""
    baseline = result.comparison.baseline
    first = result.ranked[:MOST_LINES]
    rest = result.ranked[MOST_LINES:]
    return (*first, *(row for row in rest if baseline is not None and row.name == baseline.name))


def only_some(result: Result) -> str:
    """Return what a caption says of rows that are not in its figure."""
    left = len(result.rows) > len(in_figures(result))
    return f" The {MOST_LINES} best of {len(result.rows)} groups, with the baseline." if left else ""


def _seeds(result: Result) -> Figure:
    comparison = result.comparison
    groups = []
    for row in in_figures(result):
        seeds = [
            {"seed": seed, "value": float(value)}
            for seed, value in zip(row.measured.seeds, row.measured.scores, strict=True)
        ]
        mean = {"value": row.value, "low": row.seeds.low, "high": row.seeds.high}
        groups.append({"label": row.name, "seeds": seeds, "mean": mean})
    data = {"x": axis(comparison.metric, f"test {called(comparison.metric)}"), "groups": groups}
    caption = f"Test {called(comparison.metric)} of every seed, and the mean with its interval over seeds."
    caption += only_some(result)
    return Figure(f"{comparison.name}-seeds", "seeds", data, caption)


def _variances(result: Result) -> list[Block]:
    split = [row for row in in_figures(result) if row.split is not None]
    if not split:
        return []
    name, unit = result.comparison.name, "group" if result.units == "groups" else "example"
    bars = []
    for row in split:
        assert row.split is not None
        of_mean = row.split.shares()
        bars.append({"label": row.name, "seed": of_mean.seed, "cluster": of_mean.cluster, "rest": of_mean.rest})
    caption = (
        f"Where the uncertainty of each mean comes from: seeds, which {unit}s the test set has, and the two together. "
        "More seeds lessen the first and the last; a larger test set, the second and the last. With so few seeds the "
        f"shares are rough, and one of 0 % only means that it is too small to be seen.{only_some(result)}"
    )
    return [Figure(f"{name}-variance", "variance", {"unit": f"{unit}s", "rows": bars}, caption)]

"""How far groups of test examples are apart with the models, as `peftlab fairness` measured it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from peftlab.reading.json_form import Form
from peftlab.report.analysis.groups import Group
from peftlab.report.analysis.results import Result
from peftlab.report.document import Block, Cell, Column, Figure, Paragraph, Section, Table, link_name
from peftlab.report.numbers import UNKNOWN, limits, p_value
from peftlab.report.study import Run
from peftlab.runs.folder import FAIRNESS

_FORM: Form = {
    "kind": "text",
    "split": "text",
    "found": [
        {
            "attribute": "text",
            "says": "text",
            "p": "number?",
            "gap": {
                "metric": "text",
                "value": "number?",
                "expected": "number?",
                "debiased": "number?",
                "low": "number?",
                "high": "number?",
                "detectable": "number?",
                "groups": [
                    {"name": "text", "size": "count", "value": "number?", "low": "number?", "high": "number?"},
                ],
            },
        }
    ],
}
"""What is shown of a measurement of gaps between groups of examples."""
_OF_NAMES: Form = {
    "kind": "text",
    "templates": "text",
    "texts": "count",
    "gaps": [
        {
            "measure": "text",
            "factor": "text",
            "gap": {
                "value": "number?",
                "largest": "text",
                "smallest": "text",
                "low": "number?",
                "high": "number?",
                "expected": "number?",
                "debiased": "number?",
                "p": "number?",
            },
        }
    ],
}
"""What is shown of a measurement of names swapped in."""

_SHARES = ("fnr", "fpr", "selection_rate", "ece", "bpsn_auc", "bnsp_auc")
"""Metrics that are shares beside the scores whose `limits` say so. A figure of shares has no place for others."""
_MOST_ROWS = 24
"""Metrics that a figure has room for."""

Measured = tuple[Group, Run, dict[str, Any]]
"""A method, its run, and what was measured of it."""


def section(result: Result) -> Section | None:
    """Return the gaps of the tested runs; None if they were not measured."""
    name = result.comparison.name
    runs = [(group, run) for group in result.comparison.groups for run in group.runs]
    measured = [(group, run, one) for group, run in runs if (one := newest(run))]
    named = [(group, run, one) for group, run in runs if (one := newest_of_names(run))]
    blocks = [*_of_groups(measured, name)] if measured else []
    if named:
        blocks.append(_table_of_names(named, name))
    return Section(f"{name}-fairness", "Fairness", tuple(blocks)) if blocks else None


def _of_groups(measured: list[Measured], name: str) -> Iterator[Block]:
    explained = (
        "The gap is the largest value of a group minus the smallest; “if equal” is the mean gap of groups of these "
        "sizes that are equal, and “detectable” the smallest gap that would have been found with probability .8. "
        "P values are those of permutations, adjusted by Holm's method for all gaps of one measurement; intervals are "
        "not."
    )
    yield Paragraph(explained)
    yield _table(measured, name)
    yield from _figures(measured, name)


def newest(run: Run) -> dict[str, Any] | None:
    """Return the newest measurement of gaps on a run's test split; None if there is none that can be read.

    For attributes that an earlier one had beside, those of that one are in it.
    """
    measured = run.readable(FAIRNESS, _FORM, lambda one: one["kind"] == "groups" and one["split"] == "test")
    if not measured:
        return None
    found, seen = list[dict[str, Any]](), set[str]()
    for one in measured:
        found += [gap for gap in one["found"] if gap["attribute"] not in seen]
        seen |= {gap["attribute"] for gap in one["found"]}
    return {**measured[0], "found": found}


def newest_of_names(run: Run) -> dict[str, Any] | None:
    """Return the newest measurement of names swapped in; None if there is none that can be read."""
    return run.newest(FAIRNESS, _OF_NAMES, lambda one: one["kind"] == "names")


def _table(measured: list[Measured], name: str) -> Table:
    columns = (
        Column("method"),
        Column("seed", True),
        Column("groups"),
        Column("metric"),
        Column("gap", True),
        Column("interval", note="of the gap"),
        Column("if equal", True),
        Column("debiased", True),
        Column("p", True),
        Column("detectable", True),
        Column("verdict"),
    )
    rows = []
    for group, run, one in measured:
        for found in one["found"]:
            gap = found["gap"]
            rows.append(
                (
                    Cell(group.name),
                    Cell(str(run.seed), run.seed),
                    Cell(found["attribute"]),
                    Cell(gap["metric"]),
                    _number(gap["value"]),
                    _limits(gap),
                    _number(gap["expected"]),
                    _number(gap["debiased"]),
                    Cell(p_value(found["p"]), found["p"]),
                    _number(gap["detectable"]),
                    Cell(found["says"], strong=found["says"] == "differs"),
                )
            )
    return Table(f"{name}-fairness-table", columns, tuple(rows), "Gaps between groups of examples")


def _table_of_names(named: list[Measured], name: str) -> Table:
    columns = (
        Column("method"),
        Column("seed", True),
        Column("sentences"),
        Column("texts", True),
        Column("measure"),
        Column("names by"),
        Column("largest"),
        Column("smallest"),
        Column("gap", True),
        Column("interval", note="over names and sentences, of all pairs of groups at once"),
        Column("if equal", True),
        Column("debiased", True),
        Column("p", True),
    )
    rows = [
        (
            Cell(group.name),
            Cell(str(run.seed), run.seed),
            Cell(one["templates"]),
            Cell(f"{one['texts']:,}", one["texts"]),
            Cell(each["measure"]),
            Cell(each["factor"]),
            Cell(each["gap"]["largest"]),
            Cell(each["gap"]["smallest"]),
            _number(each["gap"]["value"]),
            _limits(each["gap"]),
            _number(each["gap"]["expected"]),
            _number(each["gap"]["debiased"]),
            Cell(p_value(each["gap"]["p"]), each["gap"]["p"]),
        )
        for group, run, one in named
        for each in one["gaps"]
    ]
    return Table(f"{name}-names-table", columns, tuple(rows), "Gaps between groups of names in the same sentences")


def _limits(gap: dict[str, Any]) -> Cell:
    known = gap["low"] is not None and gap["high"] is not None
    return Cell(f"{gap['low']:.3f} to {gap['high']:.3f}" if known else UNKNOWN, gap["low"])


def _figures(measured: list[Measured], name: str) -> Iterator[Block]:
    """Yield a figure for each attribute and method, of its first run."""
    drawn = set()
    for group, run, one in measured:
        for attribute in dict.fromkeys(found["attribute"] for found in one["found"]):
            if (group.name, attribute) in drawn:
                continue
            drawn.add((group.name, attribute))
            gaps = [found["gap"] for found in one["found"] if found["attribute"] == attribute]
            data = _drawn([gap for gap in gaps if _is_share(gap["metric"])][:_MOST_ROWS])
            if data:
                caption = f"{group.name}, seed {run.seed}, {attribute}: each group with its own interval."
                figure = f"{name}-fairness-{link_name(f'{group.name} {attribute}')}"
                yield Figure(figure, "fairness", {"x": {"label": "Value", "unit": "percent"}, "groups": data}, caption)


def _drawn(gaps: list[dict[str, Any]]) -> list[dict[str, Any]]:
    groups: dict[str, list[dict[str, Any]]] = {}
    for gap in gaps:
        for one in gap["groups"]:
            if one["value"] is not None:
                value = {key: one[key] for key in ("value", "low", "high")}
                groups.setdefault(one["name"], []).append({"metric": gap["metric"], "value": value})
    return [{"label": label, "metrics": metrics} for label, metrics in groups.items()]


def _is_share(metric: str) -> bool:
    kind = metric.partition("/")[0]
    return kind in _SHARES or limits(kind) == (0, 1)


def _number(value: float | None) -> Cell:
    return Cell(UNKNOWN if value is None else f"{value:.3f}", value)

"""On which parts of the test split the models fail, as `peftlab slices` measured it."""

from __future__ import annotations

from typing import Any

from peftlab.reading.json_form import Form
from peftlab.report.analysis.groups import Group
from peftlab.report.analysis.results import Result
from peftlab.report.document import Block, Cell, Column, Paragraph, Section, Table
from peftlab.report.numbers import UNKNOWN, interval, listed, p_value, score
from peftlab.report.study import Run
from peftlab.runs.folder import SLICES

_BOUNDED: Form = {"value": "number?", "low": "number?", "high": "number?"}
_FORM: Form = {
    "metric": "text",
    "split": "text",
    "units": "text",
    "settings": {"min_slice": "count"},
    "found": [
        {
            "slicer": "text",
            "name": "text",
            "unit": "text",
            "size": "count",
            "score": _BOUNDED,
            "rest": "number?",
            "p": "number?",
            "detectable": "number?",
            "says": "text",
        }
    ],
    "small": {"*": "count"},
}
"""What is shown of a measurement."""


def section(result: Result) -> Section | None:
    """Return the slices of the tested runs; None if they were not measured."""
    name = result.comparison.name
    measured = [(group, run, one) for group in result.comparison.groups for run in group.runs if (one := newest(run))]
    if not measured:
        return None
    blocks: list[Block] = [_table(measured, name)]
    if small := list(dict.fromkeys(slice for *_, one in measured for slice in one["small"])):
        fewest = min(one["settings"]["min_slice"] for *_, one in measured)
        blocks.append(Paragraph(f"Not measured, as they have fewer than {fewest}: {listed(small)}."))
    return Section(f"{name}-slices", "Slices", tuple(blocks))


def newest(run: Run) -> dict[str, Any] | None:
    """Return the newest measurement of a run's test split; None if there is none that can be read."""
    return run.newest(SLICES, _FORM, lambda one: one["split"] == "test")


def _table(measured: list[tuple[Group, Run, dict[str, Any]]], name: str) -> Table:
    columns = (
        Column("group"),
        Column("seed", True),
        Column("slice"),
        Column("size", True),
        Column("score", True),
        Column("interval", note="bootstrap over documents, or examples where the data names none"),
        Column("rest", True),
        Column("p", True, "of no difference from the rest, adjusted for all slices by Holm's method"),
        Column("detectable", True, "the smallest difference found with probability .8"),
        Column("verdict"),
    )
    rows = []
    for group, run, one in measured:
        metric = one["metric"]
        for each in one["found"]:
            own = each["score"]
            rows.append(
                (
                    Cell(group.name),
                    Cell(str(run.seed), run.seed),
                    Cell(f"{each['slicer']}: {each['name']}"),
                    Cell(f"{each['size']:,} {each['unit']}", each["size"]),
                    Cell(score(own["value"], metric), own["value"]),
                    Cell(interval(own["low"], own["high"], metric), own["low"]),
                    Cell(score(each["rest"], metric), each["rest"]),
                    Cell(UNKNOWN if each["p"] is None else p_value(each["p"]), each["p"]),
                    Cell(score(each["detectable"], metric), each["detectable"]),
                    Cell(each["says"], strong=each["says"] == "differs"),
                )
            )
    return Table(f"{name}-slices-table", columns, tuple(rows), "Scores on parts of the test split")

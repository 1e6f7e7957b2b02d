"""What the runs tell of their training examples, as `peftlab audit` measured it."""

from __future__ import annotations

from typing import Any

from peftlab.reading.json_form import Form
from peftlab.report.analysis.groups import Group
from peftlab.report.analysis.results import Result
from peftlab.report.document import Block, Cell, Column, Figure, Paragraph, Section, Table
from peftlab.report.numbers import UNKNOWN
from peftlab.report.study import Run
from peftlab.runs.folder import AUDIT

_BOUNDED: Form = {"value": "number?", "low": "number?", "high": "number?"}
_FORM: Form = {
    "members": "count",
    "others": "count",
    "source": "text",
    "verdict": "text",
    "epsilon": "number?",
    "delta": "number?",
    "warnings": ["text"],
    "attacks": [
        {
            "name": "text",
            "of": "text",
            "auc": _BOUNDED,
            "rates": [{"allowed": "number?", "tpr": _BOUNDED, "others": "count"}],
            "curve": [["number?"]],
        }
    ],
}
"""What is shown of an audit."""

Audited = tuple[Group, Run, dict[str, Any]]

_READING = (
    "An attack says whether an example was trained on; .5 is the area of one that guesses. What counts is the share of "
    "training examples that it recognises at few false alarms: an area near .5 may hide some that are known for "
    "certain (Carlini et al. 2022). Epsilon is a lower limit that the attacks prove, with 95 % for all of a run; "
    "stronger ones may prove more. An attack on a recipe is the mean over shadow models, which learnt from "
    "half of the examples."
)


def section(result: Result) -> Section | None:
    """Return the audits of the tested runs; None if there are none."""
    name = result.comparison.name
    audited = [(group, run, one) for group in result.comparison.groups for run in group.runs if (one := newest(run))]
    if not audited:
        return None
    blocks: list[Block] = [Paragraph(_READING), _table(audited, name), _verdicts(audited, name)]
    blocks += [Paragraph(f"{_named(group, run)}: {text}.") for group, run, one in audited for text in one["warnings"]]
    lines = [
        {"label": f"{_named(group, run)}, {attack['name']}", "x": list(x), "y": list(y)}
        for group, run, one in audited
        for attack in one["attacks"]
        if attack["curve"] and (points := [point for point in attack["curve"] if None not in point])
        for x, y in [zip(*points, strict=True)]
    ]
    if lines:
        caption = "Training examples recognised by how many others are taken for one; the line of guesses is dashed."
        blocks.append(Figure(f"{name}-audit-figure", "roc", {"series": lines}, caption))
    return Section(f"{name}-audit", "Audit", tuple(blocks))


def newest(run: Run) -> dict[str, Any] | None:
    """Return the newest audit of a run; None if there is none that can be read."""
    return run.newest(AUDIT, _FORM, lambda one: all(len(point) == 2 for a in one["attacks"] for point in a["curve"]))


def _named(group: Group, run: Run) -> str:
    return f"{group.name}, seed {run.seed}"


def _table(audited: list[Audited], name: str) -> Table:
    columns = (
        Column("group"),
        Column("seed", True),
        Column("attack"),
        Column("on"),
        Column("area", True, "under the ROC curve"),
        Column("interval", note="over examples, or groups of them"),
        Column("false alarms", True, "the share that is allowed"),
        Column("recognised", True, "the share of the training examples"),
        Column("interval", note="Clopper and Pearson; of a recipe, over the attacked models"),
    )
    rows = []
    for group, run, one in audited:
        for attack in one["attacks"]:
            area = attack["auc"]
            for rate in attack["rates"]:
                enough = None not in (rate["allowed"], rate["others"]) and rate["others"] * rate["allowed"] >= 1
                rows.append(
                    (
                        Cell(group.name),
                        Cell(str(run.seed), run.seed),
                        Cell(attack["name"]),
                        Cell(attack["of"]),
                        _number(area["value"], ".3f", area["low"] is not None and area["low"] > 0.5),
                        _between(area, ".3f"),
                        Cell("none" if not enough else f"{rate['allowed']:.1%}", rate["allowed"]),
                        _number(rate["tpr"]["value"], ".1%"),
                        _between(rate["tpr"], ".1%"),
                    )
                )
    return Table(f"{name}-audit-table", columns, tuple(rows), "Whether training examples can be told from others")


def _verdicts(audited: list[Audited], name: str) -> Table:
    columns = (
        Column("group"),
        Column("seed", True),
        Column("training examples", True),
        Column("others", True),
        Column("others from"),
        Column("epsilon at least", True),
        Column("delta", True),
        Column("claimed", True),
        Column("verdict"),
    )
    rows = []
    for group, run, one in audited:
        claimed = (run.record.data.get("privacy") or {}).get("epsilon")
        rows.append(
            (
                Cell(group.name),
                Cell(str(run.seed), run.seed),
                Cell(f"{one['members']:,}", one["members"]),
                Cell(f"{one['others']:,}", one["others"]),
                Cell(one["source"]),
                _number(one["epsilon"], ".2f"),
                _number(one["delta"], ".1e"),
                _number(claimed, ".2f"),
                Cell(one["verdict"], strong=one["verdict"] in ("contradicted", "in doubt")),
            )
        )
    return Table(f"{name}-epsilon-table", columns, tuple(rows), "What the attacks prove about privacy")


def _number(value: float | None, form: str, strong: bool = False) -> Cell:
    return Cell(UNKNOWN if value is None else format(value, form), value, strong)


def _between(one: dict[str, Any], form: str) -> Cell:
    low, high = one["low"], one["high"]
    return Cell(UNKNOWN if low is None or high is None else f"{low:{form}} to {high:{form}}", low)

"""What perturbed inputs cost the models, as `peftlab robustness` measured it."""

from __future__ import annotations

from typing import Any

from peftlab.reading.json_form import Form
from peftlab.report.analysis.groups import Group
from peftlab.report.analysis.results import Result
from peftlab.report.document import Block, Cell, Column, Figure, Section, Table
from peftlab.report.likeness import seed_of
from peftlab.report.numbers import UNKNOWN, called, interval, p_value, score
from peftlab.report.sections.scores import axis, change_of
from peftlab.report.study import Run
from peftlab.runs.folder import ROBUSTNESS

_FORM: Form = {
    "split": "text",
    "units?": "text",
    "metric": "text",
    "examples": "count",
    "clean": {"*": "number?"},
    "outcomes": [
        {
            "perturbation": "text",
            "scores": {"*": "number?"},
            "drop": {"value": "number?", "low": "number?", "high": "number?"},
            "broken": "count",
            "mended": "count",
            "p": "number?",
        }
    ],
}
"""What is shown of a measurement."""

Measured = tuple[Group, Run, dict[str, Any]]
"""A method, its run, and what was measured of it."""


def section(result: Result) -> Section | None:
    """Return the robustness of the tested runs; None if it was not measured."""
    name = result.comparison.name
    measured = [(group, run, one) for group in result.comparison.groups for run in group.runs if (one := newest(run))]
    if not measured:
        return None
    blocks: list[Block] = [_table(measured, name)]
    series = []
    for group, run, one in measured:
        if one["metric"] == result.comparison.metric:
            own = [other for of, other, _ in measured if of.name == group.name]
            label = f"{group.name}, {seed_of(run, own)}" if len(own) > 1 else group.name
            slices = [
                {"slice": outcome["perturbation"], "change": change_of(outcome["drop"], result.comparison.direction)}
                for outcome in one["outcomes"]
                if outcome["drop"]["value"] is not None
            ]
            series.append({"label": label, "slices": slices})
    if series:
        metric = result.comparison.metric
        data = {"x": axis(metric, f"change of {called(metric)}"), "series": series}
        caption = f"What each perturbation changes, with the interval of a {_bootstrap(measured)}."
        blocks.append(Figure(f"{name}-robustness-figure", "robustness", data, caption))
    return Section(f"{name}-robustness", "Robustness", tuple(blocks))


def newest(run: Run) -> dict[str, Any] | None:
    """Return the newest measurement of perturbations on a run's test split; None if there is none that can be read."""
    return run.newest(ROBUSTNESS, _FORM, lambda one: one["outcomes"] and one["split"] == "test")


def _units(one: dict[str, Any]) -> str:
    """Return what the interval of a measurement is over; earlier versions drew examples and do not say so."""
    return "groups of examples" if one.get("units") == "groups" else "examples"


def _bootstrap(measured: list[Measured]) -> str:
    return f"paired bootstrap over {' or '.join(sorted({_units(one) for *_, one in measured}))}"


def _table(measured: list[Measured], name: str) -> Table:
    tested = "McNemar's test, or approximate randomisation where no answer flips"
    if any(one.get("units") == "groups" for *_, one in measured):
        tested += " or examples are grouped"
    columns = (
        Column("group"),
        Column("seed", True),
        Column("perturbation"),
        Column("examples", True),
        Column("clean", True),
        Column("perturbed", True),
        Column("drop", True),
        Column("interval", note=_bootstrap(measured)),
        Column("broken", True),
        Column("mended", True),
        Column("p", True, f"{tested}, adjusted by Holm's method"),
    )
    rows = []
    for group, run, one in measured:
        metric = one["metric"]
        for outcome in one["outcomes"]:
            drop, clean, perturbed = outcome["drop"], one["clean"].get(metric), outcome["scores"].get(metric)
            rows.append(
                (
                    Cell(group.name),
                    Cell(str(run.seed), run.seed),
                    Cell(str(outcome["perturbation"])),
                    Cell(f"{one['examples']:,}", one["examples"]),
                    Cell(score(clean, metric), clean),
                    Cell(score(perturbed, metric), perturbed),
                    Cell(score(drop["value"], metric, True), drop["value"]),
                    Cell(interval(drop["low"], drop["high"], metric, True), drop["low"]),
                    Cell(f"{outcome['broken']:,}", outcome["broken"]),
                    Cell(f"{outcome['mended']:,}", outcome["mended"]),
                    Cell(UNKNOWN if outcome["p"] is None else p_value(outcome["p"]), outcome["p"]),
                )
            )
    return Table(f"{name}-robustness-table", columns, tuple(rows), "What perturbed inputs cost")

"""What ensembles gain over the runs that they were computed from, and what they cost, as `peftlab ensemble` found."""

from __future__ import annotations

import statistics
from typing import Any

from peftlab.reading.json_form import Form, has_form
from peftlab.report.analysis.groups import Group
from peftlab.report.analysis.results import Result
from peftlab.report.document import Cell, Column, Paragraph, Section, Table
from peftlab.report.numbers import UNKNOWN, called, duration, interval, plural, score
from peftlab.report.study import Run
from peftlab.runs.folder import ENSEMBLE

_MODEL: Form = {
    "id": "text",
    "method": "text",
    "seed": "count?",
    "validation": "number?",
    "test": "number?",
    "ece": "number?",
    "parameters": "count",
    "seconds": "number?",
}
_GAIN: Form = {"value": "number?", "low": "number?", "high": "number?"}
_FORM: Form = {"metric": "text", "ensemble": _MODEL, "members": [_MODEL], "best": "text", "mean": "number?"}
"""What is shown of a comparison."""


def section(result: Result) -> Section | None:
    """Return what the ensembles among the tested runs gain and cost; None if there is none."""
    name = result.comparison.name
    found = [(group, one) for group in result.comparison.groups for run in group.runs if (one := newest(run))]
    if not found:
        return None
    text = (
        "Each is held against its own members on the same test examples. The best member is the one with the best "
        "validation score, as one would choose without the ensemble; the mean is that of one member taken at random."
    )
    return Section(f"{name}-ensembles", "Ensembles", (Paragraph(text), _gains(found, name), _members(found, name)))


def newest(run: Run) -> dict[str, Any] | None:
    """Return the newest comparison of an ensemble with its members; None if there is none that can be read."""
    return run.newest(ENSEMBLE, _FORM, _is_comparison)


def _is_comparison(document: dict[str, Any]) -> bool:
    gains = [document[name] for name in ("over_best", "over_mean") if document.get(name) is not None]
    return bool(document["members"]) and all(has_form(gain, _GAIN) for gain in gains)


def _gains(found: list[tuple[Group, dict[str, Any]]], name: str) -> Table:
    columns = (
        Column("group"),
        Column("members", True),
        Column("score", True),
        Column("over the best", True),
        Column("interval", note="95 %, paired bootstrap over test sets"),
        Column("over the mean", True),
        Column("interval ", note="the same"),
        Column("ECE (%)", True, "and the members' mean"),
        Column("time", True, "of an answer, as a multiple of a member's"),
        Column("training", True, "of all members, device time"),
    )
    rows = []
    for group, one in found:
        metric, own, members = one["metric"], one["ensemble"], one["members"]
        slower = _ratio(own["seconds"], [member["seconds"] for member in members])
        trained = one.get("device_seconds")
        rows.append(
            (
                Cell(group.name),
                Cell(str(len(members)), len(members)),
                Cell(score(own["test"], metric), own["test"]),
                *_gain(one.get("over_best"), metric),
                *_gain(one.get("over_mean"), metric),
                _calibrated(own["ece"], [member["ece"] for member in members]),
                Cell(UNKNOWN if slower is None else f"{slower:.2f}", slower),
                Cell(duration(trained), trained),
            )
        )
    metrics = {called(one["metric"]) for _, one in found}
    caption = f"What ensembles gain, in {', '.join(sorted(metrics))} of the test split, and cost"
    return Table(f"{name}-ensembles-table", columns, tuple(rows), caption)


def _members(found: list[tuple[Group, dict[str, Any]]], name: str) -> Table:
    columns = (
        Column("group"),
        Column("member"),
        Column("method"),
        Column("seed", True),
        Column("validation", True),
        Column("test", True),
        Column("seconds", True, "for 1,000 examples"),
    )
    rows = []
    for group, one in found:
        metric = one["metric"]
        for member in one["members"]:
            best = ", the best" if member["id"] == one["best"] else ""
            seconds = member["seconds"]
            rows.append(
                (
                    Cell(group.name),
                    Cell(f"{member['id']}{best}"),
                    Cell(member["method"]),
                    Cell(UNKNOWN if member["seed"] is None else str(member["seed"]), member["seed"]),
                    Cell(score(member["validation"], metric), member["validation"]),
                    Cell(score(member["test"], metric), member["test"]),
                    Cell(UNKNOWN if seconds is None else f"{seconds:.2f}", seconds),
                )
            )
    return Table(f"{name}-members-table", columns, tuple(rows), f"The {plural(len(rows), 'member')} of ensembles")


def _gain(gain: dict[str, Any] | None, metric: str) -> tuple[Cell, Cell]:
    if gain is None:
        return Cell(UNKNOWN), Cell(UNKNOWN)
    limits = Cell(interval(gain["low"], gain["high"], metric, True), gain["low"])
    return Cell(score(gain["value"], metric, True), gain["value"]), limits


def _calibrated(own: float | None, of_members: list[float | None]) -> Cell:
    known = [value for value in of_members if value is not None]
    if own is None or not known:
        return Cell(UNKNOWN)
    return Cell(f"{100 * own:.2f} ({100 * statistics.fmean(known):.2f})", own)


def _ratio(own: float | None, of_members: list[float | None]) -> float | None:
    known = [value for value in of_members if value]
    return own / statistics.fmean(known) if own is not None and known else None

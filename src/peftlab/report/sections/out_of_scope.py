"""What the models say of texts that are none of their classes, and what becomes of all texts."""

from __future__ import annotations

from typing import Any

from peftlab.reading.json_form import Form, has_form
from peftlab.report.analysis.groups import Group
from peftlab.report.analysis.results import Result
from peftlab.report.document import Block, Cell, Column, Figure, Paragraph, Section, Table
from peftlab.report.study import Run
from peftlab.runs.decisions import SCOPE

_SHARES: dict[str, Form] = {"answered": "number", "asked": "number", "escalated": "number", "wrong_answers?": "number?"}
_FORM: Form = {
    "learnt": {"score": "text", "threshold": "number"},
    "texts": {"*": "count"},
    "test": {"accepted": "number", "accuracy": "number", "accuracy_of_accepted": "number?"},
    "outside": {"*": {"rejected": "number", "auroc": "number", "fpr95": "number", "aupr": "number", "share": "number"}},
    "actions": _SHARES,
    "curve": [{"threshold": "number", **_SHARES}],
}
"""What is shown of the section of a record."""
_SETS: Form = {
    "alpha": "number",
    "coverage": "number",
    "interval": ["number"],
    "mean_size": "number",
    "slack": "number",
}

_READING = (
    "The threshold was chosen on the validation split. AUROC, FPR95 and AUPR tell texts in scope from those out of it; "
    "FPR95 is the share of texts out of scope that are accepted where 95 % of those in scope are. AUPR depends on the "
    "share of texts out of scope. Labels that were held out (near) are harder than texts of another kind (far)."
)


def section(result: Result) -> Section | None:
    """Return what the tested runs have learnt of their scope; None if none has."""
    name = result.comparison.name
    learnt = [(group, run, one) for group in result.comparison.groups for run in group.runs if (one := _of(run))]
    if not learnt:
        return None
    blocks: list[Block] = [Paragraph(_READING), _table(learnt, name)]
    covered = [(group, run, one["conformal"]) for group, run, one in learnt if has_form(one.get("conformal"), _SETS)]
    if covered:
        blocks.append(_coverage(covered, name))
    shown: set[str] = set()
    for group, run, one in learnt:
        if group.name not in shown:
            shown.add(group.name)
            keys = ("threshold", "answered", "asked", "escalated", "wrong_answers")
            points = [{key: point.get(key) for key in keys} for point in one["curve"]]
            data = {"x": {"label": f"Threshold of the score {one['learnt']['score']}"}, "points": points}
            caption = f"What becomes of the test texts by the threshold: {group.name}, seed {run.seed}."
            chosen = {"chosen": one["learnt"]["threshold"]}
            blocks.append(Figure(f"{name}-abstention-{len(shown)}", "abstention", data | chosen, caption))
    return Section(f"{name}-out-of-scope", "Out of scope", tuple(blocks))


def _of(run: Run) -> dict[str, Any] | None:
    section = run.record.extensions.get(SCOPE)
    return section if has_form(section, _FORM) else None


def _table(learnt: list[tuple[Group, Run, dict[str, Any]]], name: str) -> Table:
    columns = (
        Column("group"),
        Column("seed", True),
        Column("score"),
        Column("accuracy", True, "in scope, whether accepted or not"),
        Column("accepted", True, "of the texts in scope"),
        Column("set"),
        Column("texts", True),
        Column("rejected", True),
        Column("AUROC", True),
        Column("FPR95", True),
        Column("AUPR", True),
    )
    rows = []
    for group, run, one in learnt:
        for of, outside in one["outside"].items() or [("-", {})]:
            number = one["texts"].get(of, 0)
            rows.append(
                (
                    Cell(group.name),
                    Cell(str(run.seed), run.seed),
                    Cell(str(one["learnt"]["score"])),
                    _share(one["test"]["accuracy"]),
                    _share(one["test"]["accepted"]),
                    Cell(str(of)),
                    Cell(f"{number:,}", number),
                    *(_share(outside.get(key)) for key in ("rejected", "auroc", "fpr95", "aupr")),
                )
            )
    return Table(f"{name}-out-of-scope-table", columns, tuple(rows), "Texts out of scope.")


def _coverage(covered: list[tuple[Group, Run, dict[str, Any]]], name: str) -> Table:
    columns = (
        Column("group"),
        Column("seed", True),
        Column("asked for", True),
        Column("coverage", True),
        Column("interval", note="Clopper and Pearson, 95 %"),
        Column("mean size", True),
        Column("slack", True, "what choosing the checkpoint on the same split may cost, see docs/out_of_scope.md"),
    )
    rows = tuple(
        (
            Cell(group.name),
            Cell(str(run.seed), run.seed),
            _share(1 - one["alpha"]),
            _share(one["coverage"]),
            Cell(" to ".join(f"{end:.4f}" for end in one["interval"])),
            _share(one["mean_size"]),
            _share(one["slack"]),
        )
        for group, run, one in covered
    )
    return Table(f"{name}-conformal-table", columns, rows, "Conformal sets on the test split.")


def _share(value: float | None) -> Cell:
    return Cell("-") if value is None else Cell(f"{value:.4f}", value)

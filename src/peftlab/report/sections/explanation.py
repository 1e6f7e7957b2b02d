"""Whether the runs' explanations can be believed, as `peftlab explain --faithfulness` measured it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from peftlab.reading.json_form import Form
from peftlab.report.analysis.groups import Group
from peftlab.report.analysis.results import Result
from peftlab.report.document import Block, Cell, Column, Figure, Paragraph, Section, Table
from peftlab.report.likeness import seed_of
from peftlab.report.numbers import UNKNOWN
from peftlab.report.study import Run
from peftlab.runs.folder import EXPLANATION

_DIFFERENCE: Form = {"value": "number?", "low": "number?", "high": "number?"}
_FORM: Form = {
    "split": "text",
    "examples": "count",
    "baseline": "text",
    "outcomes": [
        {
            "how": "text",
            "comprehensiveness": "number?",
            "sufficiency": "number?",
            "above_random": _DIFFERENCE,
            "complete": "number?",
        }
    ],
    "stability": [{"how": "text", "seeds": ["count"], "correlation": _DIFFERENCE}],
}
"""What is shown of a measurement."""

Explained = tuple[Group, Run, dict[str, Any]]

_READING = (
    "Words are taken away one by one in the order of an explanation. Comprehensiveness (more is better) and "
    "sufficiency (less is better) say where the mean loss of the logit lies between the least and the largest that "
    "any order of the same words has in the same model (NAOPC): without that, such areas must not be compared across "
    "models. An explainer whose interval does not lie above 0 was not shown to say more about the model than a random "
    "order. Attention is scored as the others are, and is no explanation by itself."
)


def section(result: Result) -> Section | None:
    """Return how the explainers do on the tested runs; None if that was not measured."""
    name = result.comparison.name
    explained = [(group, run, one) for group in result.comparison.groups for run in group.runs if (one := newest(run))]
    if not explained:
        return None
    blocks: list[Block] = [Paragraph(_READING), _table(explained, name)]
    series = []
    for group, run, one in explained:
        own = [other for of, other, _ in explained if of.name == group.name]
        series.append({"label": f"{group.name}, {seed_of(run, own)}", "explainers": list(_drawn(one))})
    data = {"x": {"label": "faithfulness above that of random orders"}, "series": series}
    caption = "By how much explanations are better than random orders, with the interval of a bootstrap."
    blocks.append(Figure(f"{name}-explanation-figure", "explanation", data, caption))
    if any(one["stability"] for *_, one in explained):
        blocks.append(_stability(explained, name))
    return Section(f"{name}-explanation", "Explanation", tuple(blocks))


def newest(run: Run) -> dict[str, Any] | None:
    """Return the newest measurement of explanations of a run's test split; None if there is none that can be read."""
    return run.newest(EXPLANATION, _FORM, lambda one: one["split"] == "test")


def _drawn(one: dict[str, Any]) -> Iterator[dict[str, Any]]:
    for outcome in one["outcomes"]:
        above = {key: outcome["above_random"][key] for key in ("value", "low", "high")}
        if None not in above.values():
            yield {"explainer": outcome["how"], "above": above}


def _table(explained: list[Explained], name: str) -> Table:
    columns = (
        Column("group"),
        Column("seed", True),
        Column("explainer"),
        Column("examples", True),
        Column("baseline"),
        Column("comprehensiveness", True),
        Column("sufficiency", True),
        Column("above random", True, "comprehensiveness less sufficiency, minus that of random orders"),
        Column("interval", note="bootstrap over groups of examples"),
        Column("complete", True, "share of examples whose values sum to the difference of the logits up to 1 %"),
    )
    rows = []
    for group, run, one in explained:
        for outcome in one["outcomes"]:
            above = outcome["above_random"]
            rows.append(
                (
                    Cell(group.name),
                    Cell(str(run.seed), run.seed),
                    Cell(str(outcome["how"])),
                    Cell(f"{one['examples']:,}", one["examples"]),
                    Cell(str(one["baseline"])),
                    _number(outcome["comprehensiveness"]),
                    _number(outcome["sufficiency"]),
                    _number(above["value"], ".3f", above["low"] is not None and above["low"] > 0),
                    _between(above),
                    _number(outcome["complete"], ".1%"),
                )
            )
    return Table(f"{name}-explanation-table", columns, tuple(rows), "Whether explanations say what the models do")


def _stability(explained: list[Explained], name: str) -> Table:
    columns = (
        Column("group"),
        Column("explainer"),
        Column("seeds"),
        Column("rank correlation", True, "of the words' values between the runs, in the mean over examples"),
        Column("interval", note="bootstrap over groups of examples"),
    )
    rows = [
        (
            Cell(group.name),
            Cell(str(stable["how"])),
            Cell(", ".join(map(str, stable["seeds"]))),
            _number(stable["correlation"]["value"]),
            _between(stable["correlation"]),
        )
        for group, _, one in explained
        for stable in one["stability"]
    ]
    return Table(f"{name}-stability-table", columns, tuple(rows), "Whether the runs of other seeds are explained alike")


def _number(value: float | None, form: str = ".3f", strong: bool = False) -> Cell:
    return Cell(UNKNOWN if value is None else format(value, form), value, strong)


def _between(difference: dict[str, Any]) -> Cell:
    low, high = difference["low"], difference["high"]
    return Cell(UNKNOWN if low is None or high is None else f"{low:.3f} to {high:.3f}", low)

"""What smaller and faster models lose, and what they take, as `peftlab compress` measured it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from peftlab.reading.json_form import Form
from peftlab.report.analysis.results import Result
from peftlab.report.document import Block, Cell, Column, Figure, Paragraph, Section, Table
from peftlab.report.numbers import UNKNOWN, called, interval, score, share, size
from peftlab.report.sections.scores import axis, change_of
from peftlab.report.study import Run
from peftlab.runs.folder import COMPRESSION

_FORM: Form = {
    "step": "text",
    "verdict": "text",
    "metric": "text",
    "score": "number?",
    "drop": {"value": "number?", "low": "number?", "high": "number?"},
    "agreement": "number?",
    "measured": {
        "timing": {"cpu_seconds": "number", "milliseconds": {"*": {"p50": "number", "p95": "number"}}},
        "weight_bytes": "count",
        "threads": "count",
        "isa": "text",
    },
}
"""What is shown of a measurement."""

_EXPLAINED = (
    "Each model was made of the one before it. Drops are against the model that the ladder began with, on the same "
    "test examples, with the interval of a paired bootstrap over clusters; “agree” is the share of equal answers. CPU "
    "seconds are those of forward passes of 1,000 examples, on this machine: trust the ratios of one ladder."
)

Measured = tuple[Run, dict[str, Any]]


def section(result: Result) -> Section | None:
    """Return the ladders of the compared runs; None if none was measured."""
    name, runs = result.comparison.name, [run for group in result.comparison.groups for run in group.runs]
    measured = [(run, one) for run in runs if (one := newest(run))]
    if not measured:
        return None
    blocks: list[Block] = [Paragraph(_EXPLAINED), _table(measured, name)]
    same = [(run, one) for run, one in measured if one["metric"] == result.comparison.metric]
    prices: tuple[tuple[str, str, str, Callable[[dict[str, Any]], float]], ...] = (
        ("time", "CPU seconds for 1,000 examples", "seconds", lambda of: of["timing"]["cpu_seconds"]),
        ("bytes", "weights", "bytes", lambda of: of["weight_bytes"]),
    )
    for key, label, unit, price in prices if len(same) > 1 else ():
        points = [
            {
                "label": one["step"],
                "x": float(price(one["measured"])),
                "y": change_of(one["drop"], result.comparison.direction),
            }
            for _, one in same
            if one["drop"]["value"] is not None
        ]
        metric = result.comparison.metric
        data = {"x": {"label": label, "unit": unit}, "y": axis(metric, f"change of {called(metric)}"), "points": points}
        caption = f"What is lost against what is taken ({label}); intervals are paired with the original."
        blocks.append(Figure(f"{name}-compression-{key}", "pareto", data, caption))
    return Section(f"{name}-compression", "Compression", tuple(blocks))


def newest(run: Run) -> dict[str, Any] | None:
    """Return the newest measurement of a run; None if there is none that can be read."""
    return run.newest(COMPRESSION, _FORM, lambda one: {"1", "32"} <= one["measured"]["timing"]["milliseconds"].keys())


def _table(measured: list[Measured], name: str) -> Table:
    columns = (
        Column("step"),
        Column("run"),
        Column("score", True),
        Column("drop", True),
        Column("interval", note="paired bootstrap over clusters"),
        Column("agree", True, "share of test examples with the same answer"),
        Column("CPU s", True, "of 1,000 examples"),
        Column("ms at 1", True, "median latency of one example"),
        Column("ms at 32", True, "median latency of a batch of 32"),
        Column("weights", True),
        Column("threads", True),
        Column("instructions"),
        Column("verdict"),
    )
    rows = []
    for run, one in measured:
        metric, drop, of = one["metric"], one["drop"], one["measured"]
        cpu, latency = of["timing"]["cpu_seconds"], of["timing"]["milliseconds"]
        agree = one["agreement"]
        rows.append(
            (
                Cell(str(one["step"])),
                Cell(run.id),
                Cell(score(one["score"], metric), one["score"]),
                Cell(score(drop["value"], metric, True), drop["value"]),
                Cell(interval(drop["low"], drop["high"], metric, True), drop["low"]),
                Cell(UNKNOWN if agree is None else share(agree), agree),
                Cell(f"{cpu:.3g}", cpu),
                *(Cell(f"{latency[key]['p50']:.3g}", latency[key]["p50"]) for key in ("1", "32")),
                Cell(size(of["weight_bytes"]), of["weight_bytes"]),
                Cell(str(of["threads"]), of["threads"]),
                Cell(str(of["isa"])),
                Cell(str(one["verdict"])),
            )
        )
    return Table(f"{name}-compression-table", columns, tuple(rows), "What smaller models lose and take")

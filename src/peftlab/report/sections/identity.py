"""Of what every result is made: digests of data, weights, configuration and packages, and the code."""

from __future__ import annotations

from collections.abc import Iterable

from peftlab.report.analysis.results import Analysis
from peftlab.report.document import Cell, Column, Paragraph, Section, Table
from peftlab.report.numbers import UNKNOWN, listed, plural
from peftlab.report.study import Run

_MOST_RUNS = 100


def section(analysis: Analysis) -> Section:
    """Return what identifies the runs."""
    facts = [
        ("code", {_code(run) for run in analysis.runs}),
        ("pretrained weights", {_digest(run.record.data["identity"]["weights_sha256"]) for run in analysis.runs}),
        ("packages", {_digest(run.record.data["environment"]["packages_sha256"]) for run in analysis.runs}),
    ]
    splits = sorted({split for run in analysis.runs for split in run.record.data["identity"]["data_sha256"]})
    for split in splits:
        digests = {_digest(run.record.data["identity"]["data_sha256"].get(split)) for run in analysis.runs}
        facts.append((f"data, {split}", digests))
    rows = tuple((Cell(what), Cell(f"{len(values)}", len(values)), Cell(_shown(values))) for what, values in facts)
    columns = (Column("what"), Column("different", True), Column("which", note="start of the sha256, or the commit"))
    table = Table("identity-table", columns, rows, "What the runs are made of")
    whole = sorted(analysis.runs, key=lambda run: run.id)[:_MOST_RUNS]
    first = f"the first {_MOST_RUNS}; report.json has all" if len(analysis.runs) > _MOST_RUNS else "all"
    runs = tuple(
        (
            Cell(run.id),
            Cell(str(run.value("peft") or UNKNOWN)),
            Cell(UNKNOWN if run.seed is None else str(run.seed), run.seed),
            Cell(run.status),
            Cell(_digest(run.record.data["identity"]["config_sha256"])),
            Cell(_digest(run.record.data["selection"].get("sha256"))),
        )
        for run in whole
    )
    of_a_run = (
        Column("run"),
        Column("method"),
        Column("seed", True),
        Column("status"),
        Column("configuration"),
        Column("tested weights"),
    )
    text = (
        "A run is named by the start of the digest of its configuration, data and pretrained weights: the same name "
        "means the same run. Digests are sha256, shortened here; the records have them whole."
    )
    every = Table("runs-table", of_a_run, runs, f"{plural(len(analysis.runs), 'run')}: {first}")
    return Section("identity", "Provenance", (Paragraph(text), table, every))


def _code(run: Run) -> str:
    code = run.record.data["code"]
    commit = str(code["commit"])[:12] if code["commit"] else f"version {code['version'] or 'unknown'}"
    return f"{commit} with changes {_digest(code['diff_sha256'])}" if code["dirty"] else commit


def _digest(value: str | None) -> str:
    return "none" if value is None else str(value)[:12]


def _shown(values: Iterable[str]) -> str:
    return listed(sorted(values), 6)

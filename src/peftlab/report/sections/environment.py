"""Where the runs ran."""

from __future__ import annotations

from collections import Counter
from typing import Any

from peftlab.report.analysis.results import Analysis
from peftlab.report.document import Cell, Column, Paragraph, Section, Table
from peftlab.report.numbers import listed, plural

_FACTS = {
    "python": "Python",
    "platform": "platform",
    "cpu": "CPU",
    "isa": "instruction set",
    "threads": "threads",
    "accelerators": "accelerators",
    "world_size": "processes",
    "strategy": "strategy",
    "precision": "precision",
    "deterministic": "deterministic",
    "nondeterministic_parts": "not deterministic",
}


def section(analysis: Analysis) -> Section:
    """Return machines, versions and precision, each value with the number of runs that have it."""
    rows = []
    for key, called in _FACTS.items():
        counts = Counter(_text(run.record.data["environment"].get(key)) for run in analysis.runs)
        several = len(counts) > 1
        values = [f"{value} ({plural(number, 'run')})" if several else value for value, number in counts.most_common()]
        rows.append((Cell(called), Cell(listed(values, 8))))
    versions = Counter(str(run.record.data["code"]["version"]) for run in analysis.runs)
    rows.append((Cell("peftlab"), Cell(listed([version for version, _ in versions.most_common()]))))
    table = Table("environment-table", (Column("what"), Column("value")), tuple(rows), "Machines and software")
    text = (
        "The same seed is meant to give the same bits on the same kind of machine with the same number of threads and "
        "the same packages. The exact versions are in packages.txt of every run folder."
    )
    return Section("environment", "Environment", (Paragraph(text), table))


def _text(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list):
        return ", ".join(f"{number} x {name}" for name, number in Counter(map(str, value)).items()) or "none"
    return "unknown" if value is None else str(value)

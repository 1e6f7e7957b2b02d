"""Whether runs came out again when they were trained again."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

from peftlab.errors import UserError
from peftlab.report.analysis.results import Analysis
from peftlab.report.document import Cell, Column, Paragraph, Section, Table
from peftlab.report.numbers import listed
from peftlab.report.study import Run
from peftlab.runs.folder import VERDICTS

MEANINGS = {
    "identical": "the same bits",
    "equivalent": "no further apart than seeds are",
    "different": "another result",
    "not comparable": "could not be repeated",
    "incomplete": "files are gone; nothing contradicts the record",
}


def section(analysis: Analysis) -> Section | None:
    """Return the verdicts of `peftlab reproduce`; None if no run was repeated."""
    judged = [(run, one) for run in analysis.runs if (one := newest(run)) is not None]
    if not judged:
        return None
    columns = (Column("run"), Column("verdict"), Column("trained again"), Column("because"), Column("causes"))
    rows = []
    for run, one in judged:
        causes = one.get("causes")
        kinds = (
            [str(cause.get("what")) for cause in causes if isinstance(cause, dict)] if isinstance(causes, list) else []
        )
        again = "yes" if one.get("again") else "no, only checked"
        because = str(one.get("because", ""))
        rows.append((Cell(run.id), Cell(str(one["verdict"])), Cell(again), Cell(because), Cell(listed(kinds, 4))))
    table = Table("reruns-table", columns, tuple(rows), "Verdicts on runs")
    return Section("reruns", "Reruns", (Paragraph(said(judged, len(analysis.runs))), table))


def newest(run: Run) -> dict[str, Any] | None:
    """Return the newest verdict on a run; None if there is none that can be read."""
    try:
        return next((one for one in reversed(run.beside(VERDICTS)) if isinstance(one.get("verdict"), str)), None)
    except UserError:
        return None


def said(judged: Sequence[tuple[Run, dict[str, Any]]], number: int) -> str:
    """Return the verdicts in a sentence."""
    again = [one for _, one in judged if one.get("again")]
    counts = Counter(one["verdict"] for one in again)
    parts = [f"{times} {verdict} ({MEANINGS.get(verdict, 'an unknown verdict')})" for verdict, times in counts.items()]
    text = f"Of {number:,} runs, {len(again)} were trained again: {listed(parts)}." if again else ""
    checked = len(judged) - len(again)
    return f"{text} {checked} were only checked against their records.".strip() if checked else text

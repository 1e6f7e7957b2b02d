"""What ended early, failed, or was resumed."""

from __future__ import annotations

from peftlab.report.analysis.results import Analysis
from peftlab.report.document import Block, Cell, Column, Paragraph, Section, Table
from peftlab.report.numbers import UNKNOWN, listed
from peftlab.report.study import Run

_MOST_CHARACTERS = 160


def section(analysis: Analysis) -> Section | None:
    """Return the runs that did not simply run to their end; None if all did, and every record could be read."""
    lost = [run for run in analysis.runs if run.status not in ("completed", "pruned")]
    resumed = [run for run in analysis.runs if run.record.events("resumed")]
    smaller = [run for run in analysis.runs if run.record.events("out of memory")]
    if not (lost or resumed or smaller or analysis.study.left_out):
        return None
    blocks: list[Block] = []
    parts = [
        f"{len(lost)} of {len(analysis.runs):,} runs failed, were interrupted, or still run",
        f"{len(resumed)} were interrupted and resumed",
        f"{len(smaller)} ran out of memory on the way and went on with smaller pieces of the same batches",
    ]
    blocks.append(Paragraph(f"{'; '.join(parts)}."))
    elsewhere = [run.id for run in resumed if any(event.get("elsewhere") for event in run.record.events("resumed"))]
    if elsewhere:
        blocks.append(
            Paragraph(f"Resumed where something differs, so that the last digits may too: {listed(elsewhere, 12)}.")
        )
    if lost:
        columns = (Column("run"), Column("status"), Column("step", True), Column("why"))
        rows = tuple(
            (Cell(run.id), Cell(run.status), _step(run), Cell(_why(run)))
            for run in sorted(lost, key=lambda run: (run.status, run.id))
        )
        blocks.append(Table("lost-table", columns, rows, "Runs without a result"))
    if analysis.study.left_out:
        places = tuple((Cell(one.place), Cell(one.reason)) for one in analysis.study.left_out)
        caption = "Left out, as it cannot be read"
        blocks.append(Table("left-out-table", (Column("where"), Column("why")), places, caption))
    return Section("interruptions", "Failed and resumed runs", tuple(blocks))


def _step(run: Run) -> Cell:
    step = run.record.data["cost"]["steps"]
    return Cell(UNKNOWN if step is None else f"{step:,}", step)


def _why(run: Run) -> str:
    error = run.record.data["error"]
    if not error:
        return ""
    text = " ".join(f"{error.get('type', '')}: {error.get('message', '')}".split())
    return text if len(text) <= _MOST_CHARACTERS else f"{text[:_MOST_CHARACTERS]}..."

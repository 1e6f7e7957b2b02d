"""Tables of many groups: the best of them where the reader is, all of them in the appendix."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from peftlab.report.analysis.results import Result
from peftlab.report.document import Block, Section, Table

MOST_ROWS = 15
"""Rows of a table that stays whole."""
SHOWN = 10
"""Groups that a shortened table shows, besides the baseline."""
TITLE = "Whole tables"


def shortened(part: Section, result: Result) -> tuple[Section, tuple[Table, ...]]:
    """Return a section of a comparison with its long tables shortened, and these tables as they were.

    A table is shortened if it has more than `MOST_ROWS` rows and each row belongs to a tested group. It keeps the rows
    of the groups with the best means and of the baseline, in their order.
    """
    shown = _shown(result)
    names = {row.name for row in result.rows}
    whole: list[Table] = []
    blocks: list[Block] = []
    for block in part.blocks:
        if isinstance(block, Table) and _is_long(block, names):
            whole.append(replace(block, name=f"{block.name}-whole"))
            blocks.append(_short(block, shown, len(names)))
        else:
            blocks.append(block)
    inner = [shortened(one, result) for one in part.sections]
    whole += [table for _, tables in inner for table in tables]
    return replace(part, blocks=tuple(blocks), sections=tuple(one for one, _ in inner)), tuple(whole)


def section(tables: Iterable[Table]) -> Section | None:
    """Return the part of the appendix with the tables that were shortened; None without any."""
    there = tuple(tables)
    return Section("whole-tables", TITLE, there) if there else None


def _shown(result: Result) -> set[str]:
    baseline = result.comparison.baseline
    best = {row.name for row in result.ranked[:SHOWN]}
    return best if baseline is None else best | {baseline.name}


def _is_long(table: Table, names: set[str]) -> bool:
    return len(table.rows) > MOST_ROWS and len(names) > SHOWN + 1 and all(row[0].text in names for row in table.rows)


def _short(table: Table, shown: set[str], number: int) -> Table:
    rows = tuple(row for row in table.rows if row[0].text in shown)
    caption = f"{table.caption}. The {SHOWN} best of {number} groups and the baseline; all are in “{TITLE}”"
    return replace(table, rows=rows, caption=caption)

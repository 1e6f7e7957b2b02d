"""The data that the runs were trained, selected and tested on."""

from __future__ import annotations

import json
from typing import Any

from peftlab.report.analysis.results import Analysis
from peftlab.report.document import Block, Cell, Column, Paragraph, Section, Table
from peftlab.report.numbers import UNKNOWN, count, listed
from peftlab.report.study import Run


def section(analysis: Analysis) -> Section:
    """Return a data card for every data set as the runs used it."""
    cards: dict[str, Run] = {}
    for run in analysis.runs:
        if run.record.data["data"]["name"] is not None:
            cards.setdefault(json.dumps(run.record.data["data"], sort_keys=True), run)
    blocks: list[Block] = []
    for number, run in enumerate(cards.values()):
        blocks += _card(run, number, len(cards))
    return Section("data", "Data", tuple(blocks) or (Paragraph("No run records its data."),))


def _card(run: Run, number: int, of: int) -> list[Block]:
    data = run.record.data["data"]
    labels = data["labels"]
    name = f"{data['name']} ({number + 1} of {of} uses)" if of > 1 else str(data["name"])
    overlap = data["train_test_overlap"]
    facts = [
        f"{name}, from {data['origin']}." if data.get("origin") else f"{name}; where it comes from is not recorded.",
        f"Licence: {data['licence'] or 'unknown'}.",
        f"Labels: {listed(labels, 30)}." if labels else "Labels: none are recorded.",
        "Whether test inputs occur in the training split is unknown."
        if overlap is None
        else "No test input occurs in the training split."
        if not overlap
        else f"{count(overlap)} test inputs also occur in the training split.",
    ]
    splits = data["splits"]
    counts = ("rows", "words", "truncated", "split_sentences", "emptied")
    names = [one for one in counts if any(isinstance(split.get(one), int) for split in splits.values())]
    columns = [Column("split"), Column("file"), *(Column(one.replace("_", " "), True) for one in names)]
    columns += [Column("dropped", note="rows, by reason"), Column("sha256")]
    rows = []
    for split, of_split in splits.items():
        dropped = of_split.get("dropped") or {}
        digest = run.record.data["identity"]["data_sha256"].get(split)
        rows.append(
            (
                Cell(split),
                Cell(str(of_split.get("file") or UNKNOWN)),
                *(Cell(count(value), value) for value in (_number(of_split.get(one)) for one in names)),
                Cell(listed([f"{reason}: {number}" for reason, number in dropped.items()])),
                Cell(str(digest)[:12] if digest else UNKNOWN),
            )
        )
    table = Table(f"data-table-{number + 1}", tuple(columns), tuple(rows), f"The splits of {name}")
    return [Paragraph(" ".join(facts)), table]


def _number(value: Any) -> int | None:
    """Return a count of a split; records hold more than their form says, so it may be anything."""
    return value if type(value) is int else None

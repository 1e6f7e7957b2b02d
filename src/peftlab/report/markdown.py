"""Writes a report as Markdown, as GitHub shows it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import singledispatch

from peftlab.report.document import (
    Block,
    Cell,
    Checklist,
    Document,
    Figure,
    Finding,
    Findings,
    Highlighted,
    Listing,
    Paragraph,
    Section,
    Table,
)
from peftlab.report.numbers import listed

_SPECIAL = re.compile(r"([\\`*\[\]<>|~$])|(?<![^\W_])(_)|(_)(?![^\W_])|&(?=#?\w+;)")
_AT_START = re.compile(r"^(\s*(?:\d+(?=[.)]))?)([#+=.)-])", re.MULTILINE)
_BREAK = re.compile(r"\s*\n\s*")
_UNSEEN = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029\u200e\u200f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")

MARKS = {"note": "Note", "warning": "Warning", "error": "Error"}


def page(document: Document) -> str:
    """Return the whole report."""
    lines = [f"# {text(unbroken(document.title))}", "", text(document.subtitle), ""]
    for section in document.sections:
        lines += _section(section, 2)
    return "\n".join(lines).rstrip("\n") + "\n"


def text(plain: str) -> str:
    """Return `plain` so that Markdown shows it as it is."""
    return _AT_START.sub(lambda match: f"{match[1]}\\{match[2]}", _inline(plain))


def visible(plain: str) -> str:
    """Return `plain` with a sign in place of each character that is not seen but changes how the rest is shown."""
    return _UNSEEN.sub("\ufffd", plain)


def unbroken(plain: str) -> str:
    """Return `plain` on one line, as a heading and a caption are: a break in a name, as of a prompt, would end them."""
    return _BREAK.sub(" ", plain)


def _section(section: Section, depth: int) -> Iterator[str]:
    yield f"{'#' * min(depth, 6)} {text(unbroken(section.title))}"
    yield ""
    for block in section.blocks:
        yield from _block(block)
        yield ""
    for inner in section.sections:
        yield from _section(inner, depth + 1)


@singledispatch
def _block(block: Block) -> Iterator[str]:
    raise TypeError(f"no block of a report: {block!r}")


@_block.register
def _(block: Paragraph) -> Iterator[str]:
    yield text(block.text)


@_block.register
def _(block: Listing) -> Iterator[str]:
    ticks = max((len(run) for line in block.lines for run in re.findall("`+", line)), default=0)
    fence = "`" * max(3, ticks + 1)
    yield f"{fence}text"
    for line in block.lines:
        yield visible(line).replace("\n", " ")
    yield fence


@_block.register
def _(block: Table) -> Iterator[str]:
    yield f"**{text(unbroken(block.caption))}**"
    yield ""
    yield f"| {' | '.join(_one_line(column.title) for column in block.columns)} |"
    yield f"|{'|'.join('--:' if column.numeric else '---' for column in block.columns)}|"
    for row in block.rows:
        yield f"| {' | '.join(map(_cell, row))} |"
    if block.notes:
        yield ""
        yield f"<sub>{text(unbroken(block.notes))}</sub>"


@_block.register
def _(block: Figure) -> Iterator[str]:
    yield f"![{_one_line(block.caption)}](figures/{block.name}.svg)"
    yield ""
    yield f"*{text(unbroken(block.caption))}*"


@_block.register
def _(block: Highlighted) -> Iterator[str]:
    yield " ".join(f"{_one_line(word.text)} ({_one_line(word.note)})" for word in block.words)
    yield ""
    yield f"*{text(unbroken(block.caption))}*"


@_block.register
def _(block: Findings) -> Iterator[str]:
    for finding in block.findings:
        yield f"- {_finding(finding)}"


@_block.register
def _(block: Checklist) -> Iterator[str]:
    yield f"<details><summary>{_one_line(block.source)}</summary>"
    yield ""
    yield "| question | answer | evidence |"
    yield "|---|---|---|"
    for item in block.items:
        yield f"| {_one_line(item.question)} | {item.answer} | {_one_line(item.evidence)} |"
    yield ""
    yield "</details>"


def _finding(finding: Finding) -> str:
    where = f" ({listed(finding.places, 8)})" if finding.places else ""
    return f"**{MARKS[finding.level]}:** {_one_line(finding.text + where)}"


def _cell(cell: Cell) -> str:
    shown = _one_line(cell.text)
    note = f" ({_one_line(cell.note)})" if cell.note else ""
    return f"**{shown}**{note}" if cell.strong and shown else f"{shown}{note}"


def _one_line(plain: str) -> str:
    return " ".join(_inline(plain).split())


def _inline(plain: str) -> str:
    return _SPECIAL.sub(lambda match: "&amp;" if match[0] == "&" else f"\\{match[0]}", visible(plain))

"""Writes a report as LaTeX with booktabs, whole, or to take single tables from."""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import singledispatch

from peftlab.report.document import (
    Block,
    Cell,
    Checklist,
    Column,
    Document,
    Figure,
    Findings,
    Listing,
    Paragraph,
    Section,
    Table,
)
from peftlab.report.markdown import MARKS
from peftlab.report.numbers import listed

_ESCAPES = {
    "\\": r"\textbackslash{}",
    "{": r"\{",
    "}": r"\}",
    "$": r"\$",
    "&": r"\&",
    "#": r"\#",
    "_": r"\_",
    "%": r"\%",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    '"': r"\textquotedbl{}",
    "\u00a0": "~",
    "\u2212": r"\(-\)",
    "\u2013": r"--",
    "±": r"\(\pm\)",
    "\u00d7": r"\(\times\)",
    "≤": r"\(\le\)",
    "≥": r"\(\ge\)",
    "≈": r"\(\approx\)",
    "·": r"\(\cdot\)",
    "[": r"{[}",
    "]": r"{]}",
}
_UNSEEN = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029\u200e\u200f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")
_HEADINGS = ("section", "subsection", "subsubsection", "paragraph")
_LONG_TABLE = 35
"""Rows from which a table may break over pages."""
_WIDE_TEXT = 42
"""Characters from which a column of text breaks its lines."""

_PREAMBLE = r"""% Compile with lualatex or xelatex, or with pdflatex where no name has letters that it lacks.
\documentclass[10pt]{article}
\usepackage{iftex}
\ifPDFTeX\usepackage[utf8]{inputenc}\usepackage[T1]{fontenc}\usepackage{textcomp}\else\usepackage{fontspec}\fi
\usepackage[margin=2.2cm]{geometry}
\usepackage{array,booktabs,longtable,graphicx,hyperref}
\setlength{\parindent}{0pt}\setlength{\parskip}{.5em}
"""


def page(document: Document) -> str:
    """Return the whole report."""
    lines = [f"{_PREAMBLE}\\title{{{text(document.title)}}}", r"\date{}\author{}"]
    lines += [r"\begin{document}", r"\maketitle", text(document.subtitle), ""]
    for section in document.sections:
        lines += _section(section, 0)
    return "\n".join([*lines, r"\end{document}", ""])


def text(plain: str) -> str:
    """Return `plain` so that LaTeX sets it as it is."""
    return "".join(_ESCAPES.get(letter, letter) for letter in _UNSEEN.sub("\ufffd", plain))


def _section(section: Section, depth: int) -> Iterator[str]:
    yield f"\\{_HEADINGS[min(depth, 3)]}{{{text(section.title)}}}\\label{{{section.name}}}"
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
    yield r"\begin{flushleft}\ttfamily\footnotesize"
    for line in block.lines:
        yield f"{text(line) or '~'}\\\\"
    yield r"\end{flushleft}"


@_block.register
def _(block: Table) -> Iterator[str]:
    head = f"{' & '.join(text(column.title) for column in block.columns)} \\\\"
    rows = [f"{' & '.join(map(_cell, row))} \\\\" for row in block.rows]
    columns = "".join(_alignment(column, [row[n] for row in block.rows]) for n, column in enumerate(block.columns))
    caption = f"\\caption{{{text(block.caption)}}}\\label{{tab:{block.name}}}"
    if len(rows) > _LONG_TABLE:
        yield rf"{{\small\begin{{longtable}}{{{columns}}}"
        yield rf"{caption}\\"
        yield from (r"\toprule", head, r"\midrule", r"\endfirsthead", r"\toprule", head, r"\midrule", r"\endhead")
        yield from (*rows, r"\bottomrule", r"\end{longtable}}")
        return
    yield r"\begin{table}[htbp]\centering\small"
    yield caption
    yield f"\\begin{{tabular}}{{{columns}}}"
    yield from (r"\toprule", head, r"\midrule", *rows, r"\bottomrule", r"\end{tabular}", r"\end{table}")


@_block.register
def _(block: Figure) -> Iterator[str]:
    yield r"\begin{figure}[htbp]\centering"
    yield rf"\includegraphics[width=\linewidth,height=.8\textheight,keepaspectratio]{{figures/{block.name}.pdf}}"
    yield rf"\caption{{{text(block.caption)}}}\label{{fig:{block.name}}}"
    yield r"\end{figure}"


@_block.register
def _(block: Findings) -> Iterator[str]:
    if not block.findings:
        return
    yield r"\begin{itemize}"
    for finding in block.findings:
        where = f" ({listed(finding.places, 8)})" if finding.places else ""
        yield rf"\item \textbf{{{MARKS[finding.level]}:}} {text(finding.text + where)}"
    yield r"\end{itemize}"


@_block.register
def _(block: Checklist) -> Iterator[str]:
    yield rf"\textbf{{{text(block.source)}}}\nopagebreak"
    yield r"{\small\begin{longtable}{p{.42\linewidth}lp{.38\linewidth}}"
    yield from (r"\toprule", r"question & answer & evidence \\", r"\midrule", r"\endhead")
    for item in block.items:
        yield f"{text(item.question)} & {item.answer} & {text(item.evidence)} \\\\"
    yield from (r"\bottomrule", r"\end{longtable}}")


def _cell(cell: Cell) -> str:
    shown = " ".join(text(cell.text).split())
    note = f" ({text(cell.note)})" if cell.note else ""
    return rf"\textbf{{{shown}}}{note}" if cell.strong else f"{shown}{note}"


def _alignment(column: Column, cells: list[Cell]) -> str:
    if column.numeric:
        return "r"
    longest = max((len(cell.text) + len(cell.note) for cell in cells), default=0)
    return r"p{.3\linewidth}" if longest > _WIDE_TEXT else "l"

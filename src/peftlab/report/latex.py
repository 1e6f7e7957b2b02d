"""Writes a report as LaTeX with booktabs, whole, or to take single tables from."""

from __future__ import annotations

import re
import textwrap
import unicodedata
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
    Highlighted,
    Listing,
    Paragraph,
    Section,
    Table,
)
from peftlab.report.markdown import MARKS, unbroken, visible
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
    "*": "{*}",  # after the end of a row, a bare one belongs to the command
    "`": r"\textasciigrave{}",
    "…": r"\ldots{}",
    "→": r"\(\to\)",
    "∞": r"\(\infty\)",
    "ε": r"\(\varepsilon\)",
    "θ": r"\(\theta\)",
    "\u03c3": r"\(\sigma\)",
}
_CODE = re.compile(r"`([^`\n]+)`")
_OF_PDFLATEX = frozenset("“”\u2018\u2019\u2013—•€" + "".join(map(chr, range(0x100, 0x180)))) - frozenset("ĦħĸĿŀŉŦŧſ")
"""Letters beyond Latin-1 that pdflatex has."""
_HEADINGS = ("section", "subsection", "subsubsection", "paragraph")
_LONG_TABLE = 35
"""Rows from which a table may break over pages."""
_WIDE_TEXT = 42
"""Characters from which a column of text breaks its lines."""
_LINE = 100
"""Characters of a line of a table in small letters, each column with two more for the space beside it."""

_PREAMBLE = r"""% Compile with pdflatex, lualatex or xelatex. pdflatex writes letters that it lacks without their
% accents, or as their code; the others write them if the font has them.
\documentclass[10pt]{article}
\usepackage{iftex}
\ifPDFTeX\usepackage[utf8]{inputenc}\usepackage[T1]{fontenc}\usepackage{textcomp}
\IfFileExists{lmodern.sty}{\usepackage{lmodern}}{}\else\usepackage{fontspec}\fi
\usepackage[margin=2.2cm]{geometry}
\usepackage{array,booktabs,longtable,graphicx,hyperref}
\setlength{\parindent}{0pt}\setlength{\parskip}{.5em}
"""
_NARROWED = r"\resizebox{\ifdim\width>\linewidth\linewidth\else\width\fi}{!}{"
"""Begins what is made as narrow as the page if it is wider."""


def page(document: Document) -> str:
    """Return the whole report."""
    lines = [f"\\title{{{text(unbroken(document.title))}}}", r"\date{}\author{}"]
    lines += [r"\begin{document}", r"\maketitle", text(document.subtitle), ""]
    for section in document.sections:
        lines += _section(section, 0)
    body = "\n".join([*lines, r"\end{document}", ""])
    return f"{_PREAMBLE}{_declared(body)}{body}"


def text(plain: str) -> str:
    """Return `plain` so that LaTeX sets it as it is; what stands between two backticks, as code."""
    parts = _CODE.split(visible(plain))
    return "".join(rf"\texttt{{{_code(part)}}}" if place % 2 else _escaped(part) for place, part in enumerate(parts))


def _escaped(plain: str) -> str:
    apart = (
        ("{}" if _is_ligature(plain, place) else "") + _ESCAPES.get(letter, letter)
        for place, letter in enumerate(plain)
    )
    return "".join(apart)


def _is_ligature(plain: str, place: int) -> bool:
    """Return whether LaTeX would make one sign of a letter and the one before it."""
    return place > 0 and plain[place] in "-',<>" and plain[place - 1] == plain[place]


def _code(plain: str) -> str:
    """Return `plain` for a font of typewriters, with straight quotes."""
    return _escaped(plain).replace("'", r"\textquotesingle{}")


def _declared(body: str) -> str:
    """Return what tells pdflatex how to write the letters that its fonts lack."""
    letters = sorted({letter for letter in body if ord(letter) > 0xFF and letter not in _OF_PDFLATEX})
    lines = [f"\\DeclareUnicodeCharacter{{{ord(letter):04X}}}{{{_written(letter)}}}" for letter in letters]
    return "\n".join([r"\ifPDFTeX", *lines, r"\fi", ""]) if lines else ""


def _written(letter: str) -> str:
    """Return a letter in ASCII: without its accents, or as its code."""
    plain = unicodedata.normalize("NFKD", letter).encode("ascii", "ignore").decode()
    if plain or unicodedata.combining(letter):
        return text(plain)
    return rf"\texttt{{U+{ord(letter):04X}}}"


def _section(section: Section, depth: int) -> Iterator[str]:
    yield f"\\{_HEADINGS[min(depth, 3)]}{{{text(unbroken(section.title))}}}\\label{{{section.name}}}"
    named = [
        rf"{kind}~\ref{{{prefix}:{block.name}}}"
        for shape, kind, prefix in ((Table, "Table", "tab"), (Figure, "Figure", "fig"))
        for block in section.blocks
        if isinstance(block, shape)
    ]
    if named:
        yield f"See {', '.join(named)}."
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
def _(block: Highlighted) -> Iterator[str]:
    yield " ".join(f"{text(word.text)} ({text(word.note)})" for word in block.words)
    yield ""
    yield text(block.caption)


@_block.register
def _(block: Listing) -> Iterator[str]:
    yield r"\begin{flushleft}\ttfamily\footnotesize"
    for line in block.lines:
        yield f"{_code(visible(line)) or '~'}\\\\"
    yield r"\end{flushleft}"


@_block.register
def _(block: Table) -> Iterator[str]:
    by_column = [[row[n] for row in block.rows] for n in range(len(block.columns))]
    head = f"{' & '.join(map(_heading, block.columns, by_column))} \\\\"
    rows = [f"{' & '.join(map(_cell, row))} \\\\" for row in block.rows]
    columns = "".join(map(_alignment, block.columns, by_column))
    caption = f"\\caption{{{text(unbroken(block.caption))}}}\\label{{tab:{block.name}}}"
    below = rf"\par\smallskip{{\footnotesize {text(block.notes)}\par}}"
    if len(rows) > _LONG_TABLE:
        across = sum(map(_characters, block.columns, by_column))
        yield rf"{{{_size(across)}\begin{{longtable}}{{{columns}}}"
        yield rf"{caption}\\"
        yield from (r"\toprule", head, r"\midrule", r"\endfirsthead", r"\toprule", head, r"\midrule", r"\endhead")
        yield from (*rows, r"\bottomrule", r"\end{longtable}}")
        if block.notes:
            yield below
        return
    yield r"\begin{table}[htbp]\centering\small"
    yield caption
    yield f"{_NARROWED}\\begin{{tabular}}{{{columns}}}"
    yield from (r"\toprule", head, r"\midrule", *rows, r"\bottomrule", r"\end{tabular}}")
    if block.notes:
        yield below
    yield r"\end{table}"


@_block.register
def _(block: Figure) -> Iterator[str]:
    yield r"\begin{figure}[htbp]\centering"
    yield rf"\includegraphics[width=\linewidth,height=.8\textheight,keepaspectratio]{{figures/{block.name}.pdf}}"
    yield rf"\caption{{{text(unbroken(block.caption))}}}\label{{fig:{block.name}}}"
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
    note = f" ({text(unbroken(cell.note))})" if cell.note else ""
    return rf"\textbf{{{shown}}}{note}" if cell.strong else f"{shown}{note}"


def _heading(column: Column, cells: list[Cell]) -> str:
    """Return the title of a column, in several lines where it is longer than the cells below."""
    words = column.title.split()
    room = max(map(len, [*words, *(_shown(cell) for cell in cells)]), default=0)
    lines = textwrap.wrap(column.title, max(room, 1), break_long_words=False, break_on_hyphens=False)
    if len(lines) < 2 or _breaks(column, cells):
        return text(column.title)
    return rf"\shortstack[{'r' if column.numeric else 'l'}]{{{(chr(92) * 2).join(map(text, lines))}}}"


def _shown(cell: Cell) -> str:
    return f"{cell.text} ({cell.note})" if cell.note else cell.text


def _breaks(column: Column, cells: list[Cell]) -> bool:
    """Return whether a column breaks its lines."""
    return not column.numeric and max((len(_shown(cell)) for cell in cells), default=0) > _WIDE_TEXT


def _characters(column: Column, cells: list[Cell]) -> int:
    """Return how many characters wide a column is, with the space beside it."""
    words = [*column.title.split(), *map(_shown, cells)]
    return 2 + (_LINE // 3 if _breaks(column, cells) else max(map(len, words), default=0))


def _size(characters: int) -> str:
    """Return the size of letters in which a table over several pages, which cannot be narrowed, fits on the page."""
    if characters <= _LINE:
        return r"\small"
    size = next(
        (name for name, times in ((r"\footnotesize", 1.15), (r"\scriptsize", 1.45)) if characters <= times * _LINE),
        r"\tiny",
    )
    return rf"{size}\setlength{{\tabcolsep}}{{3pt}}"


def _alignment(column: Column, cells: list[Cell]) -> str:
    if column.numeric:
        return "r"
    return r"p{.3\linewidth}" if _breaks(column, cells) else "l"

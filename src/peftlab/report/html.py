"""Write a report as one page: no network, light and dark, on paper and on a phone."""

from __future__ import annotations

import base64
import hashlib
import re
import unicodedata
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from peftlab.report.document import Block, Checklist, Document, Figure, Section, Table
from peftlab.report.drawing.drawn import Drawn, draw_all
from peftlab.report.drawing.palette import COLOURS
from peftlab.storage.atomic import replacing

if TYPE_CHECKING:
    from jinja2 import Environment

FILE_NAME = "report.html"
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
"""A name that can stand in a link."""

SHADES = 8
"""Steps of the colour of a word."""


def write(document: Document, folder: Path, drawn: Mapping[str, Drawn] | None = None) -> Path:
    """Write a document to ``report.html`` in a folder, and return the file.

    Args:
        document: the report.
        folder: where the file goes.
        drawn: the figures of the document by name; None: they are drawn now.
    """
    file = folder / FILE_NAME
    folder.mkdir(parents=True, exist_ok=True)
    with replacing(file) as temporary:
        temporary.write_text(page(document, draw_all(document) if drawn is None else drawn), encoding="utf-8")
    return file


def page(document: Document, drawn: Mapping[str, Drawn]) -> str:
    """Return a document as HTML.

    The page loads nothing: its policy allows only the style and the script that stand in it, by their digests. All
    texts are escaped, for names of runs and labels of data may come from strangers.

    Raises:
        ValueError: two parts of a kind have the same name, or a name cannot stand in a link.
    """
    check_names(document)
    environment = _environment()
    style = environment.get_template("page.css").render(colours=COLOURS, shades=SHADES)
    script, _, _ = environment.loader.get_source(environment, "page.js")  # type: ignore[union-attr]
    return environment.get_template("page.html").render(
        document=document, drawn=drawn, numbers=_numbers(document), style=style, script=script
    )


def _environment() -> Environment:
    """Return the templates of the page."""
    from jinja2 import Environment, PackageLoader, StrictUndefined, select_autoescape

    environment = Environment(
        loader=PackageLoader("peftlab.report", "page"),
        autoescape=select_autoescape(("html",)),
        undefined=StrictUndefined,
        finalize=_printable,
        trim_blocks=True,
    )
    environment.filters |= {"kind": _kind, "answers": _answers, "shade": _shade, "digest": _digest}
    return environment


def _printable(value: Any) -> Any:
    """Return a text without the control characters that HTML forbids or that turn the direction of writing."""
    if type(value) is str and any(unicodedata.category(letter) in ("Cc", "Cf", "Cs") for letter in value):
        return "".join(
            letter
            if letter in "\n\t\u200c\u200d" or unicodedata.category(letter) not in ("Cc", "Cf", "Cs")
            else "\ufffd"
            for letter in value
        )
    return value


def _kind(block: Block) -> str:
    """Return the name of the macro's block."""
    return type(block).__name__


def _answers(checklist: Checklist) -> str:
    """Return how often each answer is given, such as ``12 yes, 3 unknown``."""
    return ", ".join(f"{number} {answer}" for answer, number in Counter(i.answer for i in checklist.items).items())


def _shade(strength: float) -> str:
    """Return the classes of a word that is coloured so strongly: the policy allows no style of its own."""
    step = round(abs(strength) * SHADES)
    return f"{'for' if strength > 0 else 'against'} s{min(step, SHADES)}" if step else "plain"


def _digest(text: str) -> str:
    """Return the source that a content security policy allows a style or a script by."""
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


def _blocks(sections: Any) -> Iterator[Block | Section]:
    """Yield sections and their blocks, in the order of the page."""
    for section in sections:
        yield section
        yield from section.blocks
        yield from _blocks(section.sections)


def _numbers(document: Document) -> dict[str, int]:
    """Return the numbers of tables and of figures, by name."""
    blocks = list(_blocks(document.sections))
    return {
        block.name: number
        for kind in (Table, Figure)
        for number, block in enumerate((one for one in blocks if isinstance(one, kind)), 1)
    }


def check_names(document: Document) -> None:
    """Refuse names that cannot be links.

    Raises:
        ValueError: two parts of a kind have the same name, or a name cannot stand in a link.
    """
    blocks = list(_blocks(document.sections))
    for kind in (Section, Table, Figure):
        names = Counter(block.name for block in blocks if isinstance(block, kind))
        wrong = [name for name, number in names.items() if number > 1 or not NAME.fullmatch(name)]
        if wrong:
            raise ValueError(
                f"{kind.__name__.lower()}s of a report have a name each, of letters, digits and dashes: {wrong}"
            )

"""The files of a report, written together."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from peftlab.errors import UserError
from peftlab.report import html, latex, markdown
from peftlab.report.analysis.options import Options
from peftlab.report.analysis.results import analysed
from peftlab.report.contents import document_of
from peftlab.report.document import Document
from peftlab.report.drawing.drawn import draw_all
from peftlab.report.sections.summary import lines
from peftlab.report.study import Study, canonical
from peftlab.storage.atomic import replacing

REPORT = "report"
"""The folder of a report, in that of its sweep."""
FIGURES = "figures"
FILES = ("report.html", "report.md", "report.tex", "report.json")
_FORMATS = (".svg", ".pdf", ".png")
_SHOWS = FILES[1]
_FIGURE = re.compile(rf"^!\[.*\]\({FIGURES}/([^()/]+)\.svg\)$", re.MULTILINE)
"""A figure as the Markdown of a report shows it, whatever its caption says."""


@dataclass(frozen=True)
class Written:
    """A report that has been written."""

    folder: Path
    summary: tuple[str, ...]
    """Paragraphs in plain words."""
    document: Document

    @property
    def page(self) -> Path:
        """The file to open."""
        return self.folder / FILES[0]


def write(study: Study, options: Options, folder: Path) -> Written:
    """Write the report of a study into `folder`: the same bytes for the same records and options.

    Figures that only an earlier report there had are removed.

    Raises:
        UserError: an option names what is not there, or the folder cannot be written to.
        DiskError: a file cannot be written.
    """
    analysis = analysed(study, options)
    document = document_of(analysis)
    drawn = draw_all(document)
    try:
        (folder / FIGURES).mkdir(parents=True, exist_ok=True)
        for name in _shown_before(folder) - drawn.keys():
            for ending in _FORMATS:
                (folder / FIGURES / f"{name}{ending}").unlink(missing_ok=True)
    except OSError as error:
        raise UserError(f"{folder}: cannot be written to ({error.strerror}); name another folder, --out DIR") from error
    for figure in drawn.values():
        figure.write(folder / FIGURES)
    html.write(document, folder, drawn)
    _text(folder / "report.md", markdown.page(document))
    _text(folder / "report.tex", latex.page(document))
    _text(folder / "report.json", canonical(document.numbers))
    return Written(folder, tuple(lines(analysis)), document)


def _shown_before(folder: Path) -> set[str]:
    """Return the names of the figures that an earlier report in `folder` shows; others there are the user's own."""
    file = folder / _SHOWS
    return set(_FIGURE.findall(file.read_text(encoding="utf-8", errors="replace"))) if file.is_file() else set()


def _text(file: Path, text: str) -> None:
    data = text.encode()
    with replacing(file, needed=len(data)) as temporary:
        temporary.write_bytes(data)


def default_folder(paths: Sequence[str | Path]) -> Path:
    """Return where the report of `paths` goes by default: into the folder of a single sweep, else ``report``."""
    if len(paths) == 1 and (Path(paths[0]) / "sweep.json").is_file():
        return Path(paths[0]) / REPORT
    return Path(REPORT)

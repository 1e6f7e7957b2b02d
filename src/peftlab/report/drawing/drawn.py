"""Draw the figures of a report: each once, in every format."""

from __future__ import annotations

import importlib
import io
import pkgutil
import unicodedata
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from peftlab.errors import did_you_mean
from peftlab.report import figures
from peftlab.report.document import Document, Figure, Section
from peftlab.storage.atomic import replacing

if TYPE_CHECKING:
    from peftlab.report.drawing.picture import Picture

LONGEST_TEXT = 200
"""Characters of a text in a figure. Names come from records, which strangers may have written."""


@dataclass(frozen=True)
class Drawn:
    """A figure that is drawn. The bytes depend on its data and on the version of matplotlib alone."""

    name: str
    page: str
    """SVG for a page that defines the colours of `palette` as CSS variables."""
    svg: str
    """SVG for a file."""
    values: tuple[str, ...]
    """What its marks show, in the order of drawing."""
    picture: Picture = field(repr=False, compare=False)

    @property
    def pdf(self) -> bytes:
        """The figure as a PDF with embedded TrueType fonts, as publishers ask for."""
        return _saved(self.picture, "pdf", ("Creator", "Producer", "CreationDate"))

    @property
    def png(self) -> bytes:
        """The figure as a PNG of 200 dots an inch."""
        return _saved(self.picture, "png", ("Software",))

    def write(self, folder: Path) -> None:
        """Write the files for papers: NAME.svg, NAME.pdf and NAME.png."""
        folder.mkdir(parents=True, exist_ok=True)
        for ending, content in (("svg", self.svg.encode()), ("pdf", self.pdf), ("png", self.png)):
            with replacing(folder / f"{self.name}.{ending}") as file:
                file.write_bytes(content)


def draw_all(document: Document) -> dict[str, Drawn]:
    """Draw the figures of a document, by name."""
    return {figure.name: draw(figure) for figure in figures_of(document.sections)}


def figures_of(sections: Sequence[Section]) -> Iterator[Figure]:
    """Yield the figures of sections and of the sections in them, in order."""
    for section in sections:
        yield from (block for block in section.blocks if isinstance(block, Figure))
        yield from figures_of(section.sections)


def kinds() -> list[str]:
    """Return the kinds of figures: the modules of `peftlab.report.figures`."""
    return sorted(module.name for module in pkgutil.iter_modules(figures.__path__))


def draw(figure: Figure) -> Drawn:
    """Draw a figure.

    Raises:
        ValueError: there is no such kind, or the data are not what it draws.
    """
    from peftlab.report.drawing import svg
    from peftlab.report.drawing.picture import Picture

    kind = _module(figure)
    data = _checked(kind, figure)
    with _look():
        picture = Picture()
        kind.draw(data, picture)
        picture.lay_out()
    text = _saved(picture, "svg", ("Date", "Creator")).decode()
    values = tuple(text for texts in picture.marks.values() for text in texts)
    named = svg.Named(figure.name, _plain(figure.caption), " · ".join(values))
    root = svg.tidied(text, named, picture.marks)
    return Drawn(figure.name, svg.inline(root), svg.alone(root), values, picture)


def _module(figure: Figure) -> ModuleType:
    """Return the module that draws a figure."""
    if figure.kind not in kinds():
        raise ValueError(
            f"figure '{figure.name}': there is no kind '{figure.kind}'.{did_you_mean(figure.kind, kinds())} "
            f"Kinds: {', '.join(kinds())}"
        )
    return importlib.import_module(f"{figures.__name__}.{figure.kind}")


def _checked(kind: ModuleType, figure: Figure) -> Any:
    """Return the data of a figure as its module's `Data`."""
    from pydantic import TypeAdapter, ValidationError

    try:
        return TypeAdapter(kind.Data).validate_python(_plain(figure.data))
    except ValidationError as error:
        details = (f"{'.'.join(map(str, detail['loc']))}: {detail['msg']}" for detail in error.errors())
        raise ValueError(f"figure '{figure.name}' ({figure.kind}): {'; '.join(details)}") from error


def _plain(value: Any) -> Any:
    """Return JSON values whose texts have no control characters, and none that goes on for pages."""
    if isinstance(value, str):
        kept = "".join(" " if unicodedata.category(letter)[0] == "C" else letter for letter in value)
        return kept if len(kept) <= LONGEST_TEXT else f"{kept[: LONGEST_TEXT - 1]}…"
    if isinstance(value, Mapping):
        return {key: _plain(inner) for key, inner in value.items()}
    if isinstance(value, Sequence):
        return [_plain(inner) for inner in value]
    return value


@contextmanager
def _look() -> Iterator[None]:
    """Have matplotlib draw with our settings, whatever the user's are, and then restore these."""
    import matplotlib

    from peftlab.report.drawing.picture import LOOK

    settings: dict[Any, Any] = {**matplotlib.rcParamsDefault, **LOOK}
    with matplotlib.rc_context({key: value for key, value in settings.items() if "backend" not in key}):
        yield


def _saved(picture: Picture, ending: str, unsaid: Sequence[str]) -> bytes:
    """Return a picture as the bytes of a file, without the metadata that change from day to day."""
    stream = io.BytesIO()
    with _look(), warnings.catch_warnings():
        # a browser has the letters that the fonts of files lack
        warnings.filterwarnings("ignore", message="Glyph .* missing from")
        picture.figure.savefig(stream, format=ending, metadata=dict.fromkeys(unsaid))
    return stream.getvalue()

"""Draw the figures of a report: each once, in every format."""

from __future__ import annotations

import importlib
import io
import pkgutil
import unicodedata
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
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
    """A figure in every format. The bytes depend on its data and on the version of matplotlib alone."""

    name: str
    page: str
    """SVG for a page that defines the colours of `palette` as CSS variables."""
    svg: str
    pdf: bytes
    png: bytes
    values: tuple[str, ...]
    """What its marks show, in the order of drawing."""

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
    """Draw a figure in every format.

    Raises:
        ValueError: there is no such kind, or the data are not what it draws.
    """
    import matplotlib

    from peftlab.report.drawing.picture import LOOK, Picture

    kind = _module(figure)
    data = _checked(kind, figure)
    with warnings.catch_warnings(), matplotlib.rc_context():
        # a browser has the letters that the fonts for files lack
        warnings.filterwarnings("ignore", message="Glyph .* missing from")
        settings: dict[Any, Any] = {**matplotlib.rcParamsDefault, **LOOK}
        matplotlib.rcParams.update({key: value for key, value in settings.items() if "backend" not in key})
        picture = Picture()
        kind.draw(data, picture)
        return _formats(figure, picture)


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


def _formats(figure: Figure, picture: Picture) -> Drawn:
    """Write a picture in every format, from one layout."""
    from peftlab.report.drawing import svg

    picture.figure.draw_without_rendering()
    picture.figure.set_layout_engine("none")  # each format would lay it out again
    png = _saved(picture, "png", {"Software": None})
    pdf = _saved(picture, "pdf", {"Creator": None, "Producer": None, "CreationDate": None})
    text = _saved(picture, "svg", {"Date": None, "Creator": None}).decode()
    values = tuple(text for texts in picture.marks.values() for text in texts)
    named = svg.Named(figure.name, _plain(figure.caption), " · ".join(values))
    root = svg.tidied(text, named, picture.marks)
    return Drawn(figure.name, svg.inline(root), svg.alone(root), pdf, png, values)


def _saved(picture: Picture, ending: str, metadata: Mapping[str, None]) -> bytes:
    """Return a picture as the bytes of a file."""
    stream = io.BytesIO()
    picture.figure.savefig(stream, format=ending, metadata=dict(metadata))
    return stream.getvalue()

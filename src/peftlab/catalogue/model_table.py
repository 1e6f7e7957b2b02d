"""A table of the pretrained models in ``conf/model/``, from their options alone: nothing is fetched. No torch."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import yaml

from peftlab.composing.compose import conf_dir
from peftlab.errors import ConfigError, did_you_mean

_DESCRIPTION = r"(.+?) \(([^()]*\d{4})\)[^:]*: (.*?([\d.]+)M parameters.*?)(?:Kind: (.*?)\. )?Languages: (.*?)\."
"""The comment at the top of a file."""


@dataclass(frozen=True)
class Row:
    """A model as its file describes it."""

    name: str
    """The option, as in ``model=NAME``."""
    title: str
    paper: str
    """First author and year, e.g. ``Devlin et al. 2019``."""
    kind: str
    """``encoder``, ``decoder`` or ``encoder-decoder`` of texts, or ``vision``; it decides the tasks that it is for."""
    parameters: int
    """In millions, without a head."""
    languages: str
    """Their names or their number."""
    licence: str
    repository: str | None
    """The repository on the Hugging Face Hub; None: it comes from the Python package index or one's own files."""
    note: str
    """The rest of the description."""

    def document(self) -> dict[str, Any]:
        """Return the row as JSON values."""
        return asdict(self)


def model_names() -> list[str]:
    """Return the names of all models but `folder`, the user's own."""
    return sorted({path.stem for path in (conf_dir() / "model").glob("*.yaml")} - {"folder"})


def rows(names: Sequence[str] = ()) -> Iterator[Row]:
    """Yield a row for each model in `names`, by default all, small ones first.

    Raises:
        ConfigError: there is no such model, or its file does not describe it.
    """
    for name in names:
        if name not in model_names():
            raise ConfigError(
                f"there is no model '{name}'.{did_you_mean(name, model_names())} Allowed: {', '.join(model_names())}"
            )
    yield from sorted(map(_row, names or model_names()), key=lambda row: (row.parameters, row.name))


def _row(name: str) -> Row:
    path = conf_dir() / "model" / f"{name}.yaml"
    text = path.read_text(encoding="utf-8")
    comment = " ".join(line.removeprefix("#").strip() for line in text.splitlines() if line.startswith("#"))
    match = re.match(_DESCRIPTION, comment)
    if match is None:
        raise ConfigError(
            f"{path}: it does not begin with a description. Write one such as '# BERT base, cased (Devlin et al. "
            "2019): 12 layers, 108M parameters, Apache-2.0.' and a line '# Languages: English.'"
        )
    title, paper, note, millions, kind, languages = match.groups(default="encoder")
    source = yaml.safe_load(text)["source"]
    licence = source.get("licence") or "unknown"
    return Row(name, title, paper, kind, round(float(millions)), languages, licence, source.get("repo"), note.strip())


HEAD = ("model", "what it is", "paper", "kind", "parameters", "languages", "licence", "from")


def cells(row: Row) -> list[str]:
    """Return the cells of a row, see `HEAD`."""
    origin = row.repository or "package index"
    return [row.name, row.title, row.paper, row.kind, f"{row.parameters:,}M", row.languages, row.licence, origin]


def markdown(rows: Sequence[Row]) -> str:
    """Return a table in Markdown."""
    lines = [["`model=`", *HEAD[1:]], ["---"] * len(HEAD)]
    for row in rows:
        name, *others, origin = cells(row)
        link = f"[{origin}](https://huggingface.co/{origin})" if row.repository else origin
        lines.append([f"`{name}`", *others, link])
    return "\n".join(f"| {' | '.join(line)} |" for line in lines) + "\n"


def details(row: Row) -> dict[str, str]:
    """Return all facts about a model by their labels."""
    return dict(zip(HEAD, cells(row), strict=True)) | {"note": row.note, "train with": f"model={row.name}"}

"""Masks a file or a folder of files, each in its own format."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from peftlab.data.masked.delimited import masked_delimited
from peftlab.data.masked.json_files import masked_json, masked_json_lines
from peftlab.data.masked.plain import has_columns, in_columns, masked_columns, masked_text, masked_word_lines
from peftlab.data.masked.tables import masked_parquet
from peftlab.data.masked.tally import Collected, Counts, MaskedFile
from peftlab.errors import ConfigError
from peftlab.personal_data.masked import Mask
from peftlab.personal_data.masker import Masker
from peftlab.storage.atomic import replacing
from peftlab.storage.digests import files_below

FORMATS: Mapping[str, MaskedFile] = {
    "csv": masked_delimited,
    "json": masked_json,
    "jsonl": masked_json_lines,
    "columns": masked_columns,
    "words": masked_word_lines,
    "text": masked_text,
    "parquet": masked_parquet,
}
"""What masks a file, by the name of its format."""

_OF_SUFFIX = {
    **dict.fromkeys((".csv", ".tsv", ".tab"), "csv"),
    **dict.fromkeys((".jsonl", ".ndjson"), "jsonl"),
    **dict.fromkeys((".conll", ".bio", ".iob", ".iob2"), "columns"),
    **dict.fromkeys((".txt", ".text", ".md"), "text"),
    ".json": "json",
    ".parquet": "parquet",
}
_OF_NAME = {"seq.in": "words", "seq.out": "", "label": ""}
"""The format of files of parallel lines; those of tags and labels are copied."""


@dataclass
class Report:
    """What was found in files, and what was not read."""

    files: int = 0
    found: dict[str, dict[str, int]] = field(default_factory=dict)
    """By column, how often each kind was found."""
    left_out: list[str] = field(default_factory=list)
    """Files of an unknown format: they are not read, and not written."""

    @property
    def total(self) -> int:
        """How much was found."""
        return sum(sum(of_column.values()) for of_column in self.found.values())


def mask_files(
    source: Path, out: Path | None, masker: Masker, format: str | None = None, word_column: int = 0
) -> Report:
    """Mask a file, or every file of a folder and of those within it that is not hidden; links are followed.

    Args:
        source: the file or the folder.
        out: the file or the folder to write, of the same format; None: nothing is written.
        masker: masks the texts.
        format: the format of every file, one of `FORMATS`; None: as its name says.
        word_column: the column of the word in files of columns, from 0.

    Raises:
        ConfigError: nothing can be read, or `out` is the data itself or lies in it.
        DataError: a file is malformed, or holds personal data and is to be refused.
        DiskError: a file cannot be written.
        SourceError: a folder cannot be read.
    """
    if not source.exists():
        raise ConfigError(f"{source}: there is no such file or folder")
    if out is not None and (out.resolve() == source.resolve() or source.resolve() in out.resolve().parents):
        raise ConfigError(f"--out {out}: is the data itself, or lies in it; name another place")
    if out is not None and out.exists() and out.is_dir() != source.is_dir():
        kinds = ("a folder", "a file") if out.is_dir() else ("a file", "a folder")
        raise ConfigError(f"--out {out}: is {kinds[0]}, and {source} is {kinds[1]}; name {kinds[1]}")
    files = sorted(files_below(source)) if source.is_dir() else [source]
    formats = {file: format or _format_of(file) for file in files}
    if word_column and "columns" not in formats.values():
        raise ConfigError(f"--word-column {word_column}: no file is one of columns. Leave it out, or --format columns")
    counts = Counts(masker.mask)
    report = Report()
    for file, name in formats.items():
        if name is None:
            report.left_out.append(str(file))
            continue
        target = None if out is None else out / file.relative_to(source) if source.is_dir() else out
        if name == "":
            _write([file.read_bytes()], target)
            continue
        masked = in_columns(word_column) if name == "columns" else FORMATS[name]
        counts.mask = masker.mask if masker.names is None else _with_names(masker, masked, file)
        report.files += 1
        _write(masked(file, counts), target)
    if not report.files:
        raise ConfigError(f"{source}: no file has a known format. Name it: --format {' | '.join(FORMATS)}")
    report.found = {column: dict(sorted(kinds.items())) for column, kinds in sorted(counts.found.items())}
    return report


def _format_of(file: Path) -> str | None:
    """Return the format of a file by its name, and of a text file by its lines; empty: it is copied."""
    name = _OF_NAME.get(file.name, _OF_SUFFIX.get(file.suffix.lower()))
    return "columns" if name == "text" and has_columns(file) else name


def _with_names(masker: Masker, masked: MaskedFile, file: Path) -> Mask:
    """Return what masks the texts of a file, in all of which names have been looked for at once."""
    assert masker.names is not None
    collected = Collected()
    for _ in masked(file, collected):
        pass
    texts = list(collected.texts)
    names = dict(zip(texts, masker.names(texts), strict=True))
    return lambda text: masker.masked(text, names[text])


def _write(pieces: Iterator[bytes] | list[bytes], target: Path | None) -> None:
    if target is None:
        for _ in pieces:
            pass
        return
    with replacing(target, elsewhere="another --out") as temporary, temporary.open("wb") as file:
        file.writelines(pieces)

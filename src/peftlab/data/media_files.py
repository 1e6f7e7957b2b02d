"""Files as examples, of a folder for each class or of a table with their paths; each is read once for its digest."""

from __future__ import annotations

import hashlib
import logging
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

from pydantic import ConfigDict, Field
from pydantic.dataclasses import dataclass
from typing_extensions import override

from peftlab.data.examples import Examples
from peftlab.data.rows import cells
from peftlab.data.rows.row_files import RowFiles, files_of
from peftlab.data.rows.row_reader import Place, RowReader
from peftlab.errors import DataError
from peftlab.storage.digests import file_sha256, folder_sha256, sha256_of
from peftlab.storage.entries import oddity
from peftlab.tasks.inputs.media_files import MediaFile, UnreadableFilesError, read_file

log = logging.getLogger("peftlab")

_STRICT = ConfigDict(extra="forbid", arbitrary_types_allowed=True)


class Listed(Examples[MediaFile]):
    """The files of a split; `sha256` is the digest of all that was read: names, labels and contents."""

    sha256: str = ""


@dataclass(kw_only=True, frozen=True, config=_STRICT)
class MediaFolders:
    """How to read a folder of folders that are named by the labels. Hidden files are skipped; other skipped files are
    counted.

    A split is such a folder: the source's own, or those in it that are called train, validation (valid, val, dev) and
    test. A subclass names the kind of its examples.
    """

    example: ClassVar[type[MediaFile]]
    """The kind of examples."""
    takes_folders: ClassVar[bool] = True

    suffixes: list[str] = Field(min_length=1)
    """How the names of files end, in either case; other files are left out."""
    group: str | None = None
    """A separator: what stands before the first of it in a file's name is the file's group, which is held out as a
    whole, such as ``_`` for ``patient7_3.png``. None: files have no groups."""

    def read(self, files: Mapping[str, Path]) -> dict[str, Listed]:
        """Return the files of each split, sorted by label and name, with the ids ``split:0``, ``split:1``, ...

        Args:
            files: the folder of each split.

        Raises:
            DataError: a folder holds no example, or files cannot be read; the message lists them.
        """
        return {split: self._read_folder(split, path) for split, path in files.items()}

    def _read_folder(self, split: str, path: Path) -> Listed:
        if not path.is_dir():
            raise DataError(f"{path}: is not a folder; expected one that holds a folder for each class.")
        examples: list[MediaFile] = []
        left_out: Counter[str] = Counter()
        for folder in sorted(each for each in path.iterdir() if not each.name.startswith(".")):
            if not folder.is_dir():
                left_out[oddity(folder) or "a file beside the classes"] += 1
                continue
            for file in sorted(each for each in folder.iterdir() if not each.name.startswith(".")):
                if odd := self._unread(file):
                    left_out[odd] += 1
                    continue
                group = None if self.group is None else file.stem.partition(self.group)[0]
                name, id = f"{folder.name}/{file.name}", f"{split}:{len(examples)}"
                examples.append(self.example(id, name, "", folder.name, path=str(file), group=group))
        if not examples:
            raise DataError(
                f"{path}: empty split '{split}': no folder in it holds a file that ends with one of "
                f"{', '.join(self.suffixes)}. Expected a folder for each class; or set data.format.suffixes."
            )
        if left_out:
            log.info("%s: left out: %s", path, ", ".join(f"{n} x {what}" for what, n in sorted(left_out.items())))
        listed = Listed(_with_digests(examples), {"left_out": left_out.total()})
        listed.sha256 = folder_sha256(path, {one.name: one.sha256 for one in listed})
        return listed

    def _unread(self, path: Path) -> str | None:
        """Return a description of an entry in a class folder that is no example; None for one."""
        if odd := oddity(path):
            return odd
        if path.is_dir():
            return "a folder within a class"
        own = path.name.lower().endswith(tuple(suffix.lower() for suffix in self.suffixes))
        return None if own else f"a file not called *{', *'.join(self.suffixes)}"


@dataclass(kw_only=True, frozen=True, config=_STRICT)
class MediaRows(RowReader):
    """How to read rows with the path of a file, relative to the table, and its label. A subclass names the kind of its
    examples."""

    example: ClassVar[type[MediaFile]]

    path: str = "path"
    """The column of the path."""
    label: str = "label"
    """The column of the label, or of what is said."""
    group: str | None = None
    """The column of the file's group, such as a patient or a speaker: groups are held out whole."""
    weight: str | None = None
    """The column of the weight in the loss of the training split, a number above 0; rows without count as 1."""

    def example_of(self, row: Mapping[str, Any], id: str, place: Place) -> MediaFile:
        """Return the file that a row names, without its digest; raises DataError."""
        name = cells.text(row, self.path, "path", place)
        return self.example(
            id,
            name,
            "",
            cells.name(row, self.label, "label", place),
            path=str(Path(place.file).parent / name),
            file=place.file,
            line=place.line,
            group=None if self.group is None else cells.name(row, self.group, "group", place),
            weight=cells.weight(row, self.weight, place),
        )

    def asked(self, fields: Mapping[str, Any]) -> Mapping[str, Any]:
        """Return an object that is to be answered, with the data's own column of paths as ``path``."""
        return {**fields, "path": fields[self.path]} if self.path in fields else fields


@dataclass(kw_only=True, frozen=True, config=_STRICT)
class MediaTable(RowFiles):
    """How to read tables with the paths of files: JSON Lines, CSV, Parquet, see `RowFiles`."""

    rows: MediaRows
    """Makes the examples of rows."""

    @override
    def read(self, files: Mapping[str, Path]) -> dict[str, Sequence[Any]]:
        """Return the files of each split as `RowFiles.read` does, with their digests.

        Raises:
            DataError: as `RowFiles.read` raises it; or files that a table names cannot be read; the message lists them.
        """
        return {split: self._listed(members, files[split]) for split, members in super().read(files).items()}

    def digest(self, path: Path) -> str:
        """Return the digest of a table and of the files that it names."""
        return self._listed(super().read({"train": path})["train"], path).sha256

    def _listed(self, members: Sequence[MediaFile], path: Path) -> Listed:
        listed = Listed(_with_digests(members), getattr(members, "counts", {}))
        tables = {table.name: file_sha256(table) for table in files_of(path)}
        listed.sha256 = sha256_of([tables, sorted({(one.name, one.sha256) for one in listed})])
        return listed


def _with_digests(examples: Sequence[MediaFile]) -> list[MediaFile]:
    """Return `examples` with the digests of their files, each of which is read once.

    Raises:
        UnreadableFilesError: files cannot be read.
    """
    digests: dict[str, str] = {}
    reasons: list[str] = []
    made = []
    for example in examples:
        try:
            if example.path not in digests:
                digests[example.path] = hashlib.sha256(read_file(Path(example.path))).hexdigest()
            made.append(replace(example, sha256=digests[example.path]))
        except DataError as error:
            reasons.append(f"{example.place}: {error}")
    if reasons:
        raise UnreadableFilesError(reasons)
    return made

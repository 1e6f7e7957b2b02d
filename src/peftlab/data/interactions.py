"""Interactions of users with items, in a folder of delimited files: who did what with which item, and when."""

from __future__ import annotations

import logging
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass as plain_dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any, ClassVar

import numpy as np
from pydantic import ConfigDict, Field
from pydantic.dataclasses import dataclass

from peftlab.data.delimited_rows import ADVICE, Row, delimiter_of, rows_of
from peftlab.data.examples import Examples
from peftlab.data.separators import Separator
from peftlab.data.text_files import Encoding, read_text
from peftlab.errors import DataError, did_you_mean
from peftlab.recommending.interactions import LARGEST, Catalogue, Interaction
from peftlab.recommending.protocol import Division, Protocol, choose_cold, divide

log = logging.getLogger("peftlab")

Number = Annotated[float, Field(gt=0, allow_inf_nan=False)]


@plain_dataclass(frozen=True)
class Table:
    """A delimited file with a header."""

    path: Path
    rows: list[Row]
    columns: dict[str, int]

    def column(self, name: str, key: str) -> list[str]:
        """Return the cells of a column; `key` is the option that names it.

        Raises:
            DataError: there is no such column.
        """
        if name not in self.columns:
            raise DataError(
                f"{self.path}: there is no column '{name}'.{did_you_mean(name, list(self.columns))} Columns: "
                f"{', '.join(self.columns)}. Set data.format.{key} to one of them"
            )
        place = self.columns[name]
        return [row.fields[place].strip() for row in self.rows]

    def users(self, name: str) -> list[str]:
        """Return the user of each row.

        Raises:
            DataError: there is no such column, or a cell is empty.
        """
        users = self.column(name, "user")
        if "" in users:
            raise DataError(
                f"{self.path}:{self.rows[users.index('')].line}: there is no user, and all such rows would be one's. "
                "Fill in the cell, or remove the row; data.format.user=null takes each row for a user of its own"
            )
        return users

    def ids(self, name: str, key: str) -> list[str]:
        """Return the cells of a column in which each is an id of its own.

        Raises:
            DataError: there is no such column, or a cell is empty, or is there twice.
        """
        ids = self.column(name, key)
        first: dict[str, Row] = {}
        for id, row in zip(ids, self.rows, strict=True):
            if not id or first.setdefault(id, row) is not row:
                reason = f"the {key} '{id}' again, first in line {first[id].line}" if id else f"the {key} has no id"
                raise DataError(f"{self.path}:{row.line}: {reason}. Each {key} has one row")
        return ids

    def numbers(self, name: str, key: str) -> list[float]:
        """Return the numbers in a column, NaN for an empty cell."""
        return [_number(cell, self.path, row) for cell, row in zip(self.column(name, key), self.rows, strict=True)]


@dataclass(kw_only=True, frozen=True, config=ConfigDict(extra="forbid"))
class Interactions:
    """How to read interactions (user, item, time) and items, with optional columns of users: a folder of CSV files.

    Each interaction is an example with its user's earlier ones as history; later ones are predicted from earlier ones,
    see `Protocol`. Interactions at the same moment are in the order of their rows.
    """

    example: ClassVar[type] = Interaction
    takes_folders: ClassVar[bool] = True
    pair: ClassVar[None] = None
    task: ClassVar[str] = "retrieval"

    interactions: str = "interactions.csv"
    """The file of the interactions, in the folder."""
    items: str = "items.csv"
    """The file of the items."""
    users: str | None = None
    """The file of columns of users; null: there is none."""
    user: str | None = "user"
    """The column of the user's id; null: each row is a user of its own, as a question is."""
    item: str = "item"
    """The column of the item's id, in both files."""
    time: str | None = "time"
    """The column of the time, a number or an ISO 8601 date, of UTC if it names no zone; null: the order of rows."""
    query: str | None = None
    """The column of what the user has asked for, which then stands for the history."""
    label: str | None = None
    """The column of a rating, or of 1 for a click and 0 for none."""
    positive: Number = 1.0
    """The least label of an item that the user liked."""
    only_positive: bool = False
    """Whether interactions with a lower label are left out, from histories too."""
    title: str = "title"
    """The column of an item's title, which stands for it in the text of a history."""
    columns: list[str] = Field(default=[])
    """Further columns of items that are read as text, after the title."""
    numbers: list[str] = Field(default=[])
    """Columns of users or items that are numbers, for task=click."""
    protocol: Protocol = "leave_one_out"
    """Which interactions are predicted."""
    periods: Annotated[list[Number], Field(min_length=2, max_length=2)] = Field(default=[0.8, 0.9])
    """Under ``time``: where validation and test begin, as shares of all interactions by time, or as moments."""
    cold_items: Annotated[float, Field(gt=0, lt=1)] | Annotated[int, Field(ge=0)] = 0
    """Items that are kept out of training, a number or a share: how items are recommended that nobody has had yet.
    Under ``time``, those that nobody has had before validation begins are cold, too, but for answers to queries."""
    cold_seed: int = 0
    """Chooses them."""
    delimiter: Annotated[Separator, Field(min_length=1)] = "auto"
    """One character, or ``tab``; auto: a tab in files called .tsv or .tab, else a comma."""
    encoding: Encoding = "utf-8"
    """The encoding of the files."""

    def __post_init__(self) -> None:
        """Check the order of the periods, and that labels are there where they are needed."""
        if not self.periods[0] < self.periods[1]:
            raise ValueError(f"periods = {self.periods}: validation begins before the test")
        if self.only_positive and self.label is None:
            raise ValueError("only_positive leaves out interactions by their label: name its column, label=COLUMN")

    @property
    def histories(self) -> bool:
        """Whether an interaction is read in the histories of later ones."""
        return self.query is None

    def asked(self, fields: Mapping[str, Any]) -> Mapping[str, Any]:
        """Return an object that is to be answered, with the data's own columns as ``user``, ``item`` and ``query``."""
        own = {name: column for name in ("user", "item", "query") if (column := getattr(self, name)) in fields}
        return {**fields, **{name: fields[column] for name, column in own.items()}}

    def read(self, files: Mapping[str, Path]) -> dict[str, Sequence[Interaction]]:
        """Return the examples of each split of a folder, with the ids ``split:0``, ``split:1``, ...

        Args:
            files: the folder of each split, which may be the same.

        Raises:
            DataError: a file is missing or malformed, or an item is unknown; the message names the file and the line.
        """
        read = {path: self._splits(path) for path in dict.fromkeys(files.values())}
        return {split: read[path][split] for split, path in files.items()}

    def _splits(self, folder: Path) -> dict[str, Sequence[Interaction]]:
        if not folder.is_dir():
            raise DataError(f"{folder}: is not a folder; expected one with {self.interactions} and {self.items}")
        catalogue, of_item = self._catalogue(folder)
        table = self.table(folder / self.interactions)
        log_of = self._log(table, catalogue)
        occurring = np.unique(log_of.items)
        cold = choose_cold(len(catalogue.items), self.cold_items, self.cold_seed, occurring.tolist())
        is_cold = np.isin(log_of.items, sorted(cold))
        division = divide(log_of.users, log_of.times, is_cold, self.protocol, self._moments(log_of.times))
        if self.protocol == "time" and self.histories:  # an answer has mostly one question: all would be new
            cold |= {*np.setdiff1d(occurring, log_of.items[division.train]).tolist()}
        catalogue = Catalogue(catalogue.items, catalogue.titles, catalogue.texts, of_item, cold)
        return self._examples(table, log_of, division, catalogue, self._numbers_of_users(folder, log_of.names))

    def _catalogue(self, folder: Path) -> tuple[Catalogue, np.ndarray]:
        table = self.table(folder / self.items)
        ids = table.ids(self.item, "item")
        titles = table.column(self.title, "title")
        further = [table.column(name, "columns") for name in self.columns]
        texts = [". ".join(filter(None, parts)) for parts in zip(titles, *further, strict=True)]
        names = [name for name in self.numbers if name in table.columns]
        numbers = np.asarray([table.numbers(name, "numbers") for name in names], np.float64)
        return Catalogue(tuple(ids), tuple(titles), tuple(texts)), numbers.reshape(len(names), len(ids)).T

    def _log(self, table: Table, catalogue: Catalogue) -> _Log:
        number = range(len(table.rows))
        users = [str(n) for n in number] if self.user is None else table.users(self.user)
        places = catalogue.places
        items = []
        for id, row in zip(table.column(self.item, "item"), table.rows, strict=True):
            if id not in places:
                raise DataError(
                    f"{table.path}:{row.line}: the item '{id}' is not in {self.items}. Add it, or remove the row"
                )
            items.append(places[id])
        times = (
            [float(n) for n in number]
            if self.time is None
            else [
                _time(cell, table.path, row)
                for cell, row in zip(table.column(self.time, "time"), table.rows, strict=True)
            ]
        )
        labels = [math.nan] * len(items) if self.label is None else table.numbers(self.label, "label")
        kept = [n for n in number if not self.only_positive or labels[n] >= self.positive]
        names = {user: n for n, user in enumerate(dict.fromkeys(users[n] for n in kept))}
        order = sorted(kept, key=lambda n: (names[users[n]], times[n], n))
        return _Log(
            list(names),
            np.asarray(order, np.int64),
            np.asarray([names[users[n]] for n in order], np.int64),
            np.asarray([items[n] for n in order], np.int64),
            np.asarray([times[n] for n in order]),
            np.asarray([labels[n] for n in order]),
        )

    def _moments(self, times: np.ndarray) -> tuple[float, float]:
        """Return the moments at which validation and test begin."""
        ordered = np.sort(times)
        first, second = (
            float(ordered[min(int(p * len(ordered)), len(ordered) - 1)]) if p < 1 and len(ordered) else p
            for p in self.periods
        )
        return first, second

    def _numbers_of_users(self, folder: Path, users: Sequence[str]) -> list[tuple[float, ...]]:
        if self.users is None:
            missing = [name for name in self.numbers if name not in self.table(folder / self.items).columns]
            if missing:
                raise DataError(f"data.format.numbers: {self.items} has no column '{missing[0]}', and users=null")
            return [()] * len(users)
        if self.user is None:
            raise DataError(
                f"data.format.users={self.users}: with data.format.user=null each row is a user of its own, of which "
                "that file knows nothing. Leave one of them out"
            )
        table = self.table(folder / self.users)
        items = self.table(folder / self.items).columns
        names = [name for name in self.numbers if name not in items]
        ids = table.ids(self.user, "user")
        own = (
            dict(zip(ids, zip(*(table.numbers(name, "numbers") for name in names), strict=True), strict=True))
            if names
            else {}
        )
        return [own.get(user, (math.nan,) * len(names)) for user in users]

    def _examples(
        self, table: Table, of: _Log, division: Division, catalogue: Catalogue, numbers: Sequence[tuple[float, ...]]
    ) -> dict[str, Sequence[Interaction]]:
        queries = None if self.query is None else table.column(self.query, "query")
        whole, trained = _sequences(of, slice(None)), _sequences(of, division.train)
        parts = {
            "train": division.train,
            "validation": division.validation,
            "test": np.concatenate([division.test, division.cold]),
        }
        splits: dict[str, Sequence[Interaction]] = {}
        for split, places in parts.items():
            sequences = trained if split == "train" else whole
            examples: list[Interaction] = []
            for place in places.tolist():
                row, user = int(of.rows[place]), int(of.users[place])
                sequence, position = sequences.by_user[user], sequences.position[place]
                label = of.labels[place]
                examples.append(
                    Interaction(
                        f"{split}:{len(examples)}",
                        of.names[user],
                        int(of.items[place]),
                        catalogue,
                        sequence,
                        position,
                        None if queries is None else queries[row],
                        None if math.isnan(label) else bool(label >= self.positive),
                        numbers[user],
                        str(table.path),
                        table.rows[row].line,
                    )
                )
            splits[split] = Examples(examples, {"cold": sum(one.is_cold for one in examples)})
        return splits

    def table(self, path: Path) -> Table:
        """Return the rows of a CSV file under its header.

        Raises:
            DataError: the file cannot be read, or holds no row.
        """
        content = read_text(path, self.encoding, advice=ADVICE)
        delimiter = delimiter_of(path, content) if self.delimiter == "auto" else self.delimiter
        rows = list(rows_of(path, content, delimiter, quotes=delimiter == ","))
        if len(rows) < 2:
            raise DataError(f"{path}: holds no row below a header")
        for row in rows:
            if len(row.fields) != len(rows[0].fields):
                raise DataError(
                    f"{path}:{row.line}: expected {len(rows[0].fields)} columns as in line {rows[0].line}, found "
                    f"{len(row.fields)}. Mend the row, or set data.format.delimiter"
                )
        return Table(path, rows[1:], {name.strip(): n for n, name in enumerate(rows[0].fields)})


@plain_dataclass(frozen=True)
class _Log:
    """Interactions in order of users and then time."""

    names: list[str]
    rows: np.ndarray
    users: np.ndarray
    items: np.ndarray
    times: np.ndarray
    labels: np.ndarray


@plain_dataclass(frozen=True)
class _Sequences:
    """The items of each user in order, and where in them an interaction stands."""

    by_user: Mapping[int, tuple[int, ...]]
    position: Mapping[int, int]


def _sequences(of: _Log, chosen: np.ndarray | slice) -> _Sequences:
    places = np.arange(len(of.users))[chosen]
    by_user: dict[int, list[int]] = {}
    position = {}
    for place in places.tolist():
        own = by_user.setdefault(int(of.users[place]), [])
        position[place] = len(own)
        own.append(int(of.items[place]))
    return _Sequences({user: tuple(items) for user, items in by_user.items()}, position)


def _number(cell: str, path: Path, row: Row) -> float:
    try:
        number = float(cell) if cell else math.nan
    except ValueError:
        raise DataError(f"{path}:{row.line}: '{cell}' is no number. Mend it, or leave the cell empty") from None
    if abs(number) > LARGEST:
        raise DataError(f"{path}:{row.line}: '{cell}' is no number up to {LARGEST:g}. Mend it, or leave the cell empty")
    return number


def _time(cell: str, path: Path, row: Row) -> float:
    try:
        time = float(cell)
    except ValueError:
        try:
            date = datetime.fromisoformat(cell)
            time = (date if date.tzinfo else date.replace(tzinfo=UTC)).timestamp()
        except ValueError:
            time = math.nan
    if not math.isfinite(time):
        raise DataError(
            f"{path}:{row.line}: '{cell}' is no time: write seconds, or a date such as 2024-05-31T12:00:00Z"
        )
    return time


def read_history(path: Path, item: str, catalogue: Catalogue) -> Iterator[int]:
    """Yield the places of the items in a file, a column `item` of a CSV file, oldest first.

    Raises:
        DataError: an item is unknown.
    """
    table = Interactions(item=item).table(path)
    for id, row in zip(table.column(item, "item"), table.rows, strict=True):
        if id not in catalogue.places:
            near = did_you_mean(id, list(catalogue.items))
            raise DataError(f"{path}:{row.line}: the item '{id}' is not among those of the run.{near}")
        yield catalogue.places[id]

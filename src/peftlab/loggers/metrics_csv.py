"""``metrics.csv`` and ``tables/`` in the run folder."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Mapping, Sequence
from itertools import takewhile
from pathlib import Path
from typing import Any

from lightning.pytorch.loggers.logger import Logger

from peftlab.storage.atomic import append, replacing
from peftlab.storage.entries import is_plain_file, own_folder


class MetricsCsv(Logger):
    """``metrics.csv`` in the run folder: a row for every logged step, a column for every metric.

    Every row is written as soon as it is logged. Lightning's own CSV logger loses rows when it is killed while adding
    a column, and cannot continue a file.
    """

    def __init__(self, save_dir: str | Path) -> None:
        super().__init__()
        self.folder = Path(save_dir)
        self._columns: list[str] = []
        self._rows: list[dict[str, Any]] = []

    @property
    def name(self) -> str:
        """Empty: there is only one file."""
        return ""

    version = name

    @property
    def save_dir(self) -> str:
        """The run folder."""
        return str(self.folder)

    @property
    def path(self) -> Path:
        """The path of ``metrics.csv``."""
        return self.folder / "metrics.csv"

    def state_dict(self) -> dict[str, int]:
        """Return the number of rows."""
        return {"rows": len(self._rows)}

    def load_state_dict(self, state_dict: Mapping[str, int]) -> None:
        """Continue after the first rows of the existing file; later rows will be logged again.

        Raises:
            ValueError: the file lacks some of the first rows, as after a full disk; it goes on after those that it has.
        """
        text = self.path.read_bytes().decode(errors="replace") if is_plain_file(self.path) else ""
        whole = text[: text.rfind("\n") + 1]  # a row that was cut is without its end
        reader = csv.DictReader(io.StringIO(whole, newline=""))
        rows = takewhile(lambda row: None not in row and None not in row.values(), reader)
        self._rows = list(rows)[: state_dict["rows"]]
        self._columns = list(reader.fieldnames or [])
        self._rewrite()
        if len(self._rows) < state_dict["rows"]:
            raise ValueError(
                f"{self.path} has {len(self._rows)} of the {state_dict['rows']} rows that the run had logged before it "
                "was resumed: the others are lost, and later ones follow"
            )

    def log_metrics(self, metrics: Mapping[str, Any], step: int | None = None) -> None:
        """Add a row."""
        row = {**metrics, "step": step}
        self._rows.append(row)
        if row.keys() <= set(self._columns):
            append(self.path, self._text([row]), self._whole)
        else:
            self._columns = sorted({*self._columns, *row})
            self._rewrite()

    def log_hyperparams(self, *_: Any, **__: Any) -> None:
        """Write nothing: the configuration is in the run folder already."""

    def log_table(self, key: str, columns: Sequence[str], data: Sequence[Sequence[Any]]) -> None:
        """Write ``tables/<key>.csv``."""
        path = own_folder(self.folder / "tables") / f"{key}.csv"
        with replacing(path) as temporary, temporary.open("w", encoding="utf-8", newline="") as file:
            csv.writer(file).writerows([columns, *data])

    def _rewrite(self) -> None:
        with replacing(self.path) as temporary:
            temporary.write_text(self._whole(), encoding="utf-8", newline="")

    def _whole(self) -> str:
        header = dict(zip(self._columns, self._columns, strict=True))
        return self._text([header, *self._rows])

    def _text(self, rows: Iterable[Mapping[str, Any]]) -> str:
        text = io.StringIO()
        csv.DictWriter(text, self._columns).writerows(rows)
        return text.getvalue()

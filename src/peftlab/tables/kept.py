"""The model of a scorecard as it is kept and answers: a JSON file, beside the run that reads the texts."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np

from peftlab.errors import UserError
from peftlab.reading.json_form import parsed
from peftlab.storage.atomic import replacing
from peftlab.tables import calibrators
from peftlab.tables.columns import Columns
from peftlab.tables.models import MODELS, TableModel
from peftlab.tables.reasons import Reason, reasons

FILE = "model.json"
"""Its file."""

SCHEMA = 1
"""The version of its form."""

MOST_COMPARED = 100
"""Training rows that are kept with the model, encoded: reasons compare an application with them."""

_AT_ONCE = 64
"""Rows that are explained at once: more take more memory, and little less time."""


@dataclass(frozen=True)
class Decision:
    """What a scorecard says of an application."""

    probability: float
    """Of the label that is forecast, such as a default."""
    approved: bool
    reasons: tuple[Reason, ...]
    """What raised the odds most."""

    def as_json(self) -> dict[str, Any]:
        """Return it as JSON values."""
        return asdict(self) | {"decision": "approve" if self.approved else "refuse"}


@dataclass(frozen=True)
class Kept:
    """A model of columns and text, and all that its answers need besides the text's score."""

    positive: str
    """The label that it forecasts."""
    text: str
    """The column of the text."""
    run: dict[str, str]
    """The run that scores texts: its folder below the scorecard's, and its identity."""
    columns: Columns
    kind: str
    model: TableModel
    calibrator: calibrators.Sigmoid | calibrators.Steps
    cut_off: float
    """The probability from which on an application is refused."""
    background: np.ndarray
    """Encoded training rows, shape (rows, width)."""

    def decisions(self, rows: Sequence[Mapping[str, Any]], places: Sequence[str]) -> Iterator[Decision]:
        """Yield what it says of rows, each with the log odds of its text as `peftlab.tables.reasons.TEXT`.

        Raises:
            DataError: a column is missing, or a number is none.
        """
        matrix = self.columns.matrix(rows, places, self.model.keep_missing)
        probabilities = self.calibrator.probabilities(self.model.margin(matrix))
        blocks = np.split(matrix, range(_AT_ONCE, len(matrix), _AT_ONCE))
        parts = (self.model.contributions(block, self.background, self.columns.features) for block in blocks)
        for row, own, probability in zip(rows, chain.from_iterable(parts), probabilities.tolist(), strict=True):
            why = tuple(reasons(self.columns.names, own.tolist(), row))
            yield Decision(probability, probability < self.cut_off, why)

    def write(self, folder: Path) -> None:
        """Write it into the folder of the scorecard."""
        document = {
            "schema_version": SCHEMA,
            **{key: getattr(self, key) for key in ("positive", "text", "run", "kind", "cut_off")},
            "columns": self.columns.as_json(),
            "model": self.model.as_json(),
            "calibrator": asdict(self.calibrator),
            "background": [[None if np.isnan(one) else one for one in row] for row in self.background.tolist()],
        }
        with replacing(folder / FILE) as temporary:
            temporary.write_text(json.dumps(document, ensure_ascii=False, allow_nan=False) + "\n", encoding="utf-8")

    @classmethod
    def read(cls, folder: Path) -> Kept:
        """Read it from the folder of a scorecard.

        Raises:
            UserError: there is none, or the file is damaged.
        """
        file = folder / FILE
        if not file.is_file():
            raise UserError(f"{folder}: has no {FILE}; name the folder that `peftlab scorecard --out` has filled")
        try:
            document = parsed(file.read_text(encoding="utf-8"))
            if document["schema_version"] != SCHEMA:
                raise UserError(f"{file}: is of another version ({document['schema_version']}); build it again")
            columns = Columns.of_json(document["columns"])
            background = np.array(document["background"], np.float64)
            if background.shape[1:] != (columns.width,):
                raise ValueError(f"rows of shape {background.shape} do not fit {columns.width} columns")
            return cls(
                **{key: document[key] for key in ("positive", "text", "run", "kind", "cut_off")},
                columns=columns,
                model=MODELS[document["kind"]].of_json(document["model"], columns.width),
                calibrator=calibrators.of_json(document["calibrator"]),
                background=background,
            )
        except (OSError, KeyError, TypeError, ValueError, AttributeError, IndexError) as error:
            raise UserError(
                f"{file}: is damaged ({error}). Put back the file that was written, or build it again"
            ) from error

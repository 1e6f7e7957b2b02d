"""Models of the columns, of the text, and of both, fitted to the training rows; the validation rows choose."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from peftlab.scores.ordering import auc
from peftlab.tables.calibrators import Kind, Sigmoid, Steps, calibrated
from peftlab.tables.columns import Columns
from peftlab.tables.models import MODELS, TableModel
from peftlab.tables.reasons import TEXT

COLUMNS, BOTH, TEXTS = "columns", "columns + text", "text"
"""What the compared models read."""


@dataclass(frozen=True)
class Rows:
    """The rows of one split as the models see them."""

    cells: list[dict[str, Any]]
    """By column, the log odds of the text among them, as `TEXT`."""
    places: list[str]
    y: np.ndarray


@dataclass(frozen=True)
class Fitted:
    """A model with the meaning of its margins."""

    kind: str
    """A key of `MODELS`."""
    columns: Columns
    model: TableModel
    calibrator: Sigmoid | Steps
    validation_auc: float

    def matrix(self, rows: Rows) -> np.ndarray:
        """Return the rows as the model reads them."""
        return self.columns.matrix(rows.cells, rows.places, self.model.keep_missing)

    def margins(self, rows: Rows) -> np.ndarray:
        """Return the log odds of the rows, shape (rows,)."""
        return self.model.margin(self.matrix(rows))


def fitted(
    splits: Mapping[str, Rows], numeric: Sequence[str], categorical: Sequence[str], calibration: Kind
) -> dict[str, list[Fitted]]:
    """Return the models of each kind, by what they read.

    Raises:
        DataError: a row has something else than a number in a column of numbers.
    """
    reads = {COLUMNS: (numeric, categorical), BOTH: ([*numeric, TEXT], categorical), TEXTS: ([TEXT], [])}
    return {name: _of_kinds(splits, *columns, calibration) for name, columns in reads.items()}


def chosen(models: Sequence[Fitted]) -> Fitted:
    """Return the model with the largest AUC on the validation rows; the simplest of equal ones."""
    return max(models, key=lambda one: one.validation_auc)


def _of_kinds(
    splits: Mapping[str, Rows], numeric: Sequence[str], categorical: Sequence[str], calibration: Kind
) -> list[Fitted]:
    train, validation = splits["train"], splits["validation"]
    columns = Columns.learnt(train.cells, numeric, categorical, train.places)
    made = []
    for kind, cls in MODELS.items():
        seen, later = (columns.matrix(rows.cells, rows.places, cls.keep_missing) for rows in (train, validation))
        model = cls.fitted(seen, train.y)
        margins = model.margin(later)
        calibrator = calibrated(calibration, margins, validation.y)
        made.append(Fitted(kind, columns, model, calibrator, auc(margins, validation.y)))
    return made

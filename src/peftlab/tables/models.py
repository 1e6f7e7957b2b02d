"""Models of a table: logistic regression and boosted trees, kept as JSON, which numpy alone reads.

scikit-learn fits them. They are not pickled, for a pickle runs what it holds: what they have learnt is a few lists of
numbers, and the few lines that answer with them are tested to give scikit-learn's own answers.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Self

import numpy as np
from typing_extensions import override

from peftlab.seams.sklearn import NODE, boosted_trees
from peftlab.tables import trees
from peftlab.tables.columns import Feature


class TableModel(ABC):
    """A fitted model of a table with two outcomes."""

    keep_missing: ClassVar[bool] = False
    """Whether missing numbers reach it as NaN."""

    @classmethod
    @abstractmethod
    def fitted(cls, matrix: np.ndarray, y: np.ndarray) -> Self:
        """Fit the model to rows, shape (rows, width), and what happened, shape (rows,)."""

    @abstractmethod
    def margin(self, matrix: np.ndarray) -> np.ndarray:
        """Return the log odds of each row, shape (rows,)."""

    @abstractmethod
    def contributions(self, matrix: np.ndarray, background: np.ndarray, features: Sequence[Feature]) -> np.ndarray:
        """Return what each feature contributes to the log odds of each row, shape (rows, features).

        These are interventional Shapley values, exact for the background rows: what the log odds change by when the
        row's value takes the place of a background row's, on average over these and over the orders in which the
        features are put in (Štrumbelj & Kononenko 2014; Janzing, Minorics & Blöbaum 2020). Those of a row sum to its
        log odds less their mean over the background. They say what the model does, and not what would happen if an
        applicant changed.
        """

    @abstractmethod
    def as_json(self) -> dict[str, Any]:
        """Return what was learnt as JSON values."""

    @classmethod
    @abstractmethod
    def of_json(cls, document: Mapping[str, Any], width: int) -> Self:
        """Return the model that `as_json` wrote, of a matrix of so many columns.

        Raises:
            KeyError, TypeError, ValueError: it is none.
        """


@dataclass(frozen=True)
class Logistic(TableModel):
    """Logistic regression with scikit-learn's penalty, ||w||²/2 beside the summed loss."""

    weights: np.ndarray
    """Shape (width,)."""
    bias: float

    @override
    @classmethod
    def fitted(cls, matrix: np.ndarray, y: np.ndarray) -> Self:
        from sklearn.linear_model import LogisticRegression

        model = LogisticRegression(max_iter=2000, tol=1e-6).fit(matrix, y)
        return cls(model.coef_[0], float(model.intercept_[0]))

    @override
    def margin(self, matrix: np.ndarray) -> np.ndarray:
        return matrix @ self.weights + self.bias

    @override
    def contributions(self, matrix: np.ndarray, background: np.ndarray, features: Sequence[Feature]) -> np.ndarray:
        parts = (matrix - background.mean(axis=0)) * self.weights
        return np.stack([parts[:, one.start : one.stop].sum(axis=1) for one in features], axis=1)

    @override
    def as_json(self) -> dict[str, Any]:
        return {"weights": self.weights.tolist(), "bias": self.bias}

    @override
    @classmethod
    def of_json(cls, document: Mapping[str, Any], width: int) -> Self:
        weights = np.array(document["weights"], np.float64)
        if weights.shape != (width,):
            raise ValueError(f"{weights.shape} weights do not fit {width} columns")
        return cls(weights, float(document["bias"]))


@dataclass(frozen=True)
class Boosting(TableModel):
    """Gradient boosting of histograms, with scikit-learn's defaults: 100 trees of at most 31 leaves."""

    keep_missing: ClassVar[bool] = True

    baseline: float
    """The margin of no tree."""
    trees: Sequence[trees.Tree]
    """The nodes of each tree, the root first."""

    @override
    @classmethod
    def fitted(cls, matrix: np.ndarray, y: np.ndarray) -> Self:
        from sklearn.ensemble import HistGradientBoostingClassifier
        from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

        with threadpool_limits(1):  # the sums of its histograms depend on how many threads add
            model = HistGradientBoostingClassifier(early_stopping=False, random_state=0).fit(matrix, y)
        return cls(*boosted_trees(model))

    @override
    def margin(self, matrix: np.ndarray) -> np.ndarray:
        margins = np.full(len(matrix), self.baseline)
        for tree in self.trees:
            margins += trees.leaves(tree, matrix)
        return margins

    @override
    def contributions(self, matrix: np.ndarray, background: np.ndarray, features: Sequence[Feature]) -> np.ndarray:
        of_column = np.repeat(np.arange(len(features)), [one.stop - one.start for one in features])
        parts = [trees.contributions(tree, matrix, background, of_column, len(features)) for tree in self.trees]
        return np.sum(parts, axis=0)

    @override
    def as_json(self) -> dict[str, Any]:
        listed = [{key: values.tolist() for key, values in tree.items()} for tree in self.trees]
        return {"baseline": self.baseline, "trees": listed}

    @override
    @classmethod
    def of_json(cls, document: Mapping[str, Any], width: int) -> Self:
        arrays = ({key: np.array(tree[key]) for key in NODE} for tree in document["trees"])
        return cls(float(document["baseline"]), [trees.checked(tree, width) for tree in arrays])


MODELS: Mapping[str, type[TableModel]] = {"logistic": Logistic, "boosting": Boosting}
"""The kinds of models, simplest first: of two that are equally good, the first is chosen."""

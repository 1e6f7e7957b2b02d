"""How well does a text fit the classes of a model? One score a module; of all, the greater, the more it is in scope.

A module says what it reads of a model (`Score.READS`), which options it has, what it learns on the training split, and
the score. A new one is a file here and one in ``conf/out_of_scope/``.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Mapping
from typing import Any, Literal, Protocol, cast

import numpy as np

Statistics = Mapping[str, np.ndarray]
"""What a score has learnt on the training split, as named arrays."""


class Score(Protocol):
    """The interface of a module in this folder."""

    READS: Literal["logits", "features"]
    """What it reads of each text: the logits, (texts, classes), or the input of the layer that makes them, (texts,
    features)."""
    RANGE: tuple[float, float]
    """Every score is above the first and at most the second."""
    Options: type
    """Its options, a pydantic dataclass; the functions take them by name."""

    def learn(self, features: np.ndarray, classes: np.ndarray, **options: Any) -> dict[str, np.ndarray]:
        """Return the statistics of the training split, empty if the score needs none.

        Args:
            features: the features of its texts, (texts, features), in fp32.
            classes: the class of each, (texts,).
            options: the fields of `Options`.

        Raises:
            ConfigError: an option does not suit the data.
        """

    def score(self, values: np.ndarray, statistics: Statistics, **options: Any) -> np.ndarray:
        """Return the score of each text, (texts,), in double precision, of what the score `READS`."""


def score_names() -> list[str]:
    """Return the names of all scores."""
    return sorted(module.name for module in pkgutil.iter_modules(__path__))


def score_called(name: str) -> Score:
    """Return the score of this name, which is one of `score_names`."""
    return cast(Score, importlib.import_module(f"{__name__}.{name}"))

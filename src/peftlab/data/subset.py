"""A part of a data set: the examples with some of its labels, or with some values of a column."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any

import numpy as np
from pydantic import BeforeValidator, ConfigDict
from pydantic.dataclasses import dataclass

from peftlab.data.attributes import attribute
from peftlab.data.views import mapped
from peftlab.data.written import as_written
from peftlab.errors import ConfigError, DataError, did_you_mean
from peftlab.tasks.task import Task

Values = Annotated[list[str] | None, BeforeValidator(as_written)]
"""Labels, or values of a column; None: any."""


@dataclass(kw_only=True, config=ConfigDict(extra="forbid"))
class Subset:
    """Which examples of a data set are used, in every split.

    The data set is divided into splits before, so that an example is in the same split as without it.
    """

    labels: Values = None
    """Only the examples with these gold labels; for tasks whose examples have one label each."""
    column: str | None = None
    """Another column of the files, such as the domain of a text."""
    values: Values = None
    """Only the examples with these values in `column`."""

    def __post_init__(self) -> None:
        """Check that it chooses anything."""
        if (self.column is None) != (self.values is None):
            raise ValueError("column and values belong together: a column, and those of its values that are used")
        if not self.labels and not self.values:
            raise ValueError("it chooses nothing: give labels=[...], or column and values; null for the whole data set")

    def holds(self, examples: Sequence[Any], task: Task, format: Any) -> np.ndarray:
        """Return whether each of `examples` is in the subset, (examples,).

        Raises:
            ConfigError: the examples have not one label each, or the format reads no columns by their names.
            DataError: there is no such column.
        """
        inside = np.ones(len(examples), dtype=bool)
        if self.labels is not None:
            golds = mapped(examples, task.gold)
            if odd := [gold for gold in golds if not isinstance(gold, str | None)]:
                raise ConfigError(
                    f"data.subset.labels: an example of task={task.name} has not one label ({str(odd[0])[:60]}); "
                    "choose by column and values instead"
                )
            inside &= _is_among(golds, self.labels)
        if self.values is not None:
            assert self.column is not None
            inside &= _is_among(attribute(list(examples), self.column, format), self.values)
        return inside

    def check_found(self, examples: Sequence[Any], task: Task, format: Any) -> None:
        """Check that the training split has every label and every value.

        Raises:
            DataError: one of them never occurs; names the nearest.
        """
        asked: list[tuple[str, Values, Sequence[Any]]] = []
        if self.labels is not None:
            asked.append(("labels", self.labels, mapped(examples, task.gold)))
        if self.column is not None:
            asked.append(("values", self.values, attribute(list(examples), self.column, format)))
        for key, values, found in asked:
            occurring = {str(value) for value in found if value is not None}
            if missing := [value for value in values or () if value not in occurring]:
                raise DataError(
                    f"data.subset.{key}: no training example has '{missing[0]}'.{did_you_mean(missing[0], occurring)}"
                )


def _is_among(found: Sequence[Any], values: Sequence[str]) -> np.ndarray:
    wanted = set(values)
    return np.fromiter((value in wanted for value in found), dtype=bool, count=len(found))

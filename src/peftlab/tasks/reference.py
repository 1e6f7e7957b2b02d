"""The reference of a task: what the model that training starts from makes of each example, kept for the loss."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from torch import Tensor

from peftlab.tasks.answering import Answering
from peftlab.tasks.batch import Batch

if TYPE_CHECKING:
    from peftlab.tasks.task import Encoded

REFERENCE = "reference"
"""The array of an encoded split with the reference values of all its rows, shape (rows, ...)."""


class ComparesWithReference(Answering):
    """The part of a task whose loss compares the model with the one that training starts from.

    Switching an adapter off does not give that model back where anything else is trained, as in full fine-tuning, and
    costs a second pass in every step. So the values are computed once, before the method is applied, and stand among
    the arrays of the encoded examples, from where `Task.collate` puts them into the targets of a batch.
    """

    refers: ClassVar[bool] = False
    """Whether the task needs them."""

    def reference(self, outputs: Any, batch: Batch) -> Tensor:
        """Return what is kept of the reference model's `outputs` for each row of `batch`, shape (rows, ...).

        It depends on nothing else, as options of the task: the values are kept under a digest of the encoded examples
        and of the model.
        """
        raise NotImplementedError(f"{type(self).__name__} has `refers` without `reference`")

    def reference_by_example(self, model: Any, batch: Batch) -> list[np.ndarray]:
        """Return the values that the reference `model` gives each example of `batch`, shape (its rows, ...) each."""
        values = self.reference(self.outputs(model, batch), batch).float().cpu().numpy()
        return np.split(values, np.cumsum(np.bincount(batch.rows.cpu()))[:-1])


def with_reference(encoded: Encoded, values: Mapping[int, np.ndarray]) -> Encoded:
    """Return `encoded` with reference values, by the position of their example."""
    joined = np.concatenate([values[n] for n in range(len(values))])
    return replace(encoded, arrays={**encoded.arrays, REFERENCE: joined})

"""The shapes of a run's training passes, which follow from the plan of its batches before it begins."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

import numpy as np

from peftlab.data.module import DataModule
from peftlab.data.static_shapes import StaticShapes
from peftlab.tasks.batch import Part


def training_shapes(data: DataModule, epochs: int = 1) -> Counter[tuple[int, int]]:
    """Return the shapes (rows, tokens) of this rank's training passes, and how many passes have each.

    Where texts are augmented, these are the shapes of the unchanged texts.

    Args:
        data: the loaded data.
        epochs: the number of epochs, from the first one, whose passes are counted.
    """
    members, division = data.splits["train"], data.training_division
    padded = data.static is None or bool(data.task.collate(members.examples, members.encoded, [0]).padding)
    parts = (
        part
        for epoch in range(epochs)
        for batch in data.plan_of(epoch)
        for part in division.of_training_batch(batch, epoch)
    )
    return shapes_of(parts, members.encoded.lengths, members.encoded.rows, data.static, padded)


def evaluation_shapes(data: DataModule, split: str) -> Counter[tuple[int, int]]:
    """Return the same of this rank's passes over ``validation`` or ``test``."""
    members = data.splits[split]
    padded = bool(data.task.collate(members.examples, members.encoded, [0]).padding)
    parts = data.division.of_evaluation(data.evaluation_batches(split))
    return shapes_of(parts, members.encoded.lengths, members.encoded.rows, data.static, padded)


def shapes_of(
    parts: Iterable[Part],
    lengths: np.ndarray,
    rows: np.ndarray,
    static: StaticShapes | None = None,
    padded: bool = True,
) -> Counter[tuple[int, int]]:
    """Return the shapes (rows, tokens) of forward passes, and how many passes have each.

    Args:
        parts: the examples of each pass.
        lengths: tokens in each example's longest row, shape (examples,).
        rows: number of rows of each example, shape (examples,).
        static: pads and fills them; None: rows are as wide as the longest of their pass.
        padded: whether rows of the task are padded at all.
    """
    shapes: Counter[tuple[int, int]] = Counter()
    for part in parts:
        examples = part.examples or part.batch[:1]
        height, width = int(rows[examples].sum()), int(lengths[examples].max())
        if static is not None:
            width = static.width(width) if padded else width
            height = height if part.size is None else static.height(height, part.size)
        shapes[height, width] += 1
    return shapes

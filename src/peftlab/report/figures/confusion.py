"""What is taken for what: a cell for each pair of gold and predicted label, with its number."""

from __future__ import annotations

from matplotlib.patches import Rectangle
from pydantic.dataclasses import dataclass

from peftlab.report.drawing.palette import INK, PAPER, style
from peftlab.report.drawing.picture import WIDTH, Picture, shortened
from peftlab.report.drawing.quantities import STRICT, check_lengths

MOST_NUMBERS = 16
"""Labels: with more, numbers do not fit into the cells."""


@dataclass(frozen=True, kw_only=True, config=STRICT)
class Data:
    """Numbers of examples: rows are gold labels, columns are predicted ones, both in the order of `labels`."""

    labels: list[str]
    counts: list[list[int]]

    def __post_init__(self) -> None:
        check_lengths(labels=self.labels, counts=self.counts)
        for label, row in zip(self.labels, self.counts, strict=True):
            check_lengths(labels=self.labels, **{f"the counts of {label}": row})


def draw(data: Data, picture: Picture) -> None:
    """Draw the matrix; the darker a cell, the larger its share of the row."""
    size = len(data.labels)
    edge = max(size, 1) - 0.5
    height = min(WIDTH, 1.2 + 0.42 * max(size, 3)) if size <= MOST_NUMBERS else WIDTH
    axes = picture.axes(height)
    names = [shortened(label) for label in data.labels]
    axes.set_xticks(range(size), names, rotation=0 if max(map(len, names), default=0) * size < 60 else 60, ha="center")
    axes.set_yticks(range(size), names)
    axes.tick_params(length=0, labelcolor=INK.paper)
    axes.set_xlim(-0.5, edge)
    axes.set_ylim(edge, -0.5)
    axes.set_aspect("equal" if size > 6 else "auto")
    axes.grid(visible=False)
    for spine in axes.spines.values():
        spine.set_visible(False)
    for row, gold in enumerate(data.labels):
        total = sum(data.counts[row])
        for column, predicted in enumerate(data.labels):
            number = data.counts[row][column]
            share = number / total if total else 0.0
            cell = Rectangle(
                (column - 0.48, row - 0.46),
                0.96,
                0.92,
                facecolor=style(0).colour,
                alpha=0.04 + 0.96 * share,
                linewidth=0,
            )
            axes.add_patch(cell)
            picture.mark(cell, f"gold {gold}, predicted {predicted}: {number:,} ({100 * share:.1f} % of the row)")
            if size <= MOST_NUMBERS:
                colour = PAPER if share > 0.5 else INK
                axes.text(column, row, f"{number:,}", ha="center", va="center", color=colour.paper, fontsize=8)
    axes.set_xlabel("Predicted")
    axes.set_ylabel("Gold")

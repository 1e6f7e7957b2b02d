"""A picture while it is drawn: the canvas, its axes, and which mark shows which value."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from peftlab.report.drawing.palette import INK, MUTED, PAPER, RULE, Style, style
from peftlab.report.drawing.quantities import Axis, Interval
from peftlab.report.drawing.scales import fit, measure

WIDTH = 6.3
"""Inches: the text width of a page with one column."""
LONGEST_LABEL = 34
"""Characters of a name on an axis or in a legend; the mark shows all of them."""
LINE = 0.19
"""Inches of a line of the legend."""
MANY = 20
"""Rows: more of them stand closer."""
BESIDE = 7.0
"""Points between a mark and its name."""

LOOK: dict[str, Any] = {
    "font.family": ["DejaVu Sans"],
    "font.size": 8.5,
    "text.color": INK.paper,
    "text.parse_math": False,
    "axes.titlesize": 9,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.labelsize": 8.5,
    "axes.labelcolor": INK.paper,
    "axes.edgecolor": MUTED.paper,
    "axes.facecolor": PAPER.paper,
    "axes.linewidth": 0.7,
    "axes.axisbelow": True,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.unicode_minus": True,
    "grid.color": RULE.paper,
    "grid.linewidth": 0.6,
    "xtick.color": MUTED.paper,
    "ytick.color": MUTED.paper,
    "xtick.labelsize": 8,
    "ytick.labelsize": 8,
    "xtick.major.width": 0.7,
    "ytick.major.width": 0.7,
    "xtick.minor.visible": False,
    "ytick.minor.visible": False,
    "lines.linewidth": 1.5,
    "lines.markersize": 5,
    "legend.frameon": False,
    "legend.fontsize": 8,
    "figure.facecolor": PAPER.paper,
    "savefig.facecolor": PAPER.paper,
    "savefig.dpi": 200,
    "svg.fonttype": "none",
    "svg.hashsalt": "peftlab",
    "pdf.fonttype": 42,  # TrueType: publishers refuse Type 3
}
"""The settings of matplotlib that every picture is drawn with, whatever the user's own are."""


class Picture:
    """What a figure's module draws on.

    Attributes:
        figure: matplotlib's figure, `WIDTH` inches wide.
        marks: the names of the marked artists, each with what it shows: one text, or one a point.
    """

    def __init__(self) -> None:
        self.figure = Figure(figsize=(WIDTH, 3.5), layout="constrained")
        self.marks: dict[str, tuple[str, ...]] = {}

    def axes(self, height: float = 3.5) -> Axes:
        """Return the axes of a picture with a single plot, `height` inches high."""
        self.figure.set_size_inches(WIDTH, height)
        return self.figure.add_subplot()

    def rows(self, labels: Sequence[str], each: float = 0.3, around: float = 0.9) -> Axes:
        """Return axes with a row for each label, first at the top, `each` inches high and `around` for the rest."""
        each = each if len(labels) <= MANY else min(each, 0.22)
        axes = self.axes(around + each * max(len(labels), 2))
        axes.set_yticks(range(len(labels)), [shortened(label) for label in labels])
        axes.tick_params("y", length=0, labelcolor=INK.paper)
        axes.set_ylim(len(labels) - 0.4, -0.6)
        axes.grid(visible=False, axis="y")
        return axes

    def lay_out(self) -> None:
        """Make room for all texts, once: each format would otherwise do it again."""
        if engine := self.figure.get_layout_engine():
            engine.execute(self.figure)
            self.figure.set_layout_engine("none")

    def mark(self, artist: Artist, *texts: str) -> None:
        """Have an artist show a text where the pointer is near it; or each of its points its own, in their order."""
        name = f"mark-{len(self.marks) + 1}"
        artist.set_gid(name)
        self.marks[name] = texts

    def dots(
        self, axes: Axes, x: Sequence[float], y: Sequence[float], of: Style, texts: Sequence[str], **look: Any
    ) -> None:
        """Draw points in the style of a series, each with the text that it shows; points at None are left out."""
        kept = [point for point in zip(x, y, texts, strict=True) if point[0] is not None and point[1] is not None]
        if not kept:
            return
        options: dict[str, Any] = {
            "linestyle": "",
            "marker": of.marker,
            "color": of.colour,
            "clip_on": False,
            "zorder": 4,
        } | look
        options |= {"markeredgecolor": PAPER.paper, "markeredgewidth": 0.6 if options.get("markersize", 5) > 4 else 0}
        (points,) = axes.plot([point[0] for point in kept], [point[1] for point in kept], **options)
        self.mark(points, *(point[2] for point in kept))

    def legend(self, labels: Sequence[str], lines: bool = False) -> None:
        """Name the series above the plot, in their styles; a single one needs no name."""
        if len(labels) < 2:
            return
        handles = []
        for index, label in enumerate(labels):
            of = style(index)
            handles.append(
                Line2D(
                    [],
                    [],
                    color=of.colour,
                    marker=of.marker,
                    markeredgecolor=PAPER.paper,
                    label=shortened(label),
                    linestyle=of.dashes if lines else "",
                )
            )
        columns = _legend_columns(labels)
        width, height = self.figure.get_size_inches()
        self.figure.set_size_inches(width, height + LINE * legend_lines(labels))
        self.figure.legend(
            handles=handles,
            loc="outside upper left",
            ncols=columns,
            handlelength=2.4 if lines else 1.2,
            columnspacing=1.4,
            borderaxespad=0.2,
            labelcolor=INK.paper,
        )

    def interval(self, axes: Axes, row: float, value: Interval, of: Style, text: str) -> None:
        """Draw a value and its interval in a row."""
        axes.hlines(row, *value.ends, color=of.colour, linewidth=1.6, zorder=3)
        self.dots(axes, [value.value], [row], of, [text], markersize=6)

    def grouped(self, axis: Axis, series: Mapping[str, Mapping[str, Interval]]) -> Axes:
        """Draw a row for each key of `series`' values, in which the series stand under each other.

        Args:
            axis: what the values measure.
            series: for each series its values by row; the rows are in order of first appearance.
        """
        rows = list(dict.fromkeys(row for values in series.values() for row in values))
        axes = self.rows(rows, each=0.2 + 0.14 * len(series))
        step = 0.7 / max(len(series), 1)
        for index, (label, values) in enumerate(series.items()):
            for row, value in values.items():
                place = rows.index(row) + step * (index - (len(series) - 1) / 2)
                self.interval(axes, place, value, style(index), f"{label}, {row}: {value.written(axis)}")
        for between in range(1, len(rows)):
            axes.axhline(between - 0.5, color=RULE.paper, linewidth=0.6, zorder=1)
        shown = [value for values in series.values() for value in values.values()]
        measure(axes, "x", axis, [value.value for value in shown])
        fit(axes, "x", shown)
        self.legend(list(series))
        return axes

    def zero(self, axes: Axes) -> None:
        """Draw a line where nothing changes."""
        axes.axvline(0, color=MUTED.paper, linewidth=1, zorder=2)

    def beside(self, axes: Axes, points: Sequence[tuple[float, float, str]], needed: int) -> None:
        """Write names beside points (x, y, name), where they cover neither points nor other names.

        Args:
            axes: where the points are drawn.
            points: the most important first.
            needed: of so many the name is written even where there is no free place.

        The axes must have their final limits, and their titles.
        """
        self.lay_out()
        scale = 72 / self.figure.dpi
        right, top = self.figure.bbox.width * scale, self.figure.bbox.height * scale
        at = [scale * axes.transData.transform((x, y)) for x, y, _ in points]
        taken = [(x - BESIDE / 2, y - BESIDE / 2, x + BESIDE / 2, y + BESIDE / 2) for x, y in at]
        for number, ((left, bottom), (x, y, name)) in enumerate(zip(at, points, strict=True)):
            text = axes.annotate(
                shortened(name), (x, y), (0, 0), textcoords="offset points", fontsize=8, zorder=3.5,
                bbox={"facecolor": PAPER.paper, "edgecolor": "none", "pad": 0.6},
            )  # fmt: skip
            text.set_in_layout(False)
            size = text.get_window_extent()
            width, height = scale * size.width, scale * size.height
            places = _around(width, height)
            boxes = {(dx, dy): (left + dx, bottom + dy, left + dx + width, bottom + dy + height) for dx, dy in places}
            inside = [place for place, box in boxes.items() if min(box) >= 0 and box[2] <= right and box[3] <= top]
            covered = {place: sum(_overlap(boxes[place], other) for other in taken) for place in inside or boxes}
            best = min(covered, key=covered.__getitem__)
            if covered[best] > 0 and number >= needed:
                text.remove()
                continue
            text.set_position(best)
            taken.append(boxes[best])


Box = tuple[float, float, float, float]
"""Left, bottom, right and top."""


def _around(width: float, height: float) -> list[tuple[float, float]]:
    """Return where a name's lower left corner may stand, as seen from its point; the best places come first."""
    middle, near = -height / 2, BESIDE / 2
    sides = [(BESIDE, middle), (-BESIDE - width, middle), (-width / 2, BESIDE), (-width / 2, -BESIDE - height)]
    corners = [(x, y) for y in (near, -near - height) for x in (near, -near - width)]
    return [*sides, *corners, *((x, y + (height if y > 0 else -height)) for x, y in corners)]


def _overlap(first: Box, second: Box) -> float:
    """Return the area that two boxes share."""
    width = min(first[2], second[2]) - max(first[0], second[0])
    height = min(first[3], second[3]) - max(first[1], second[1])
    return max(width, 0.0) * max(height, 0.0)


def _legend_columns(labels: Sequence[str]) -> int:
    longest = max((len(shortened(label)) for label in labels), default=0)
    return max(1, min(len(labels), int(92 / (longest + 6))))


def legend_lines(labels: Sequence[str]) -> int:
    """Return how many lines a legend of `labels` has."""
    return -(-len(labels) // _legend_columns(labels))


def shortened(label: str) -> str:
    """Return a label that fits beside an axis."""
    return label if len(label) <= LONGEST_LABEL else f"{label[: LONGEST_LABEL - 1]}…"

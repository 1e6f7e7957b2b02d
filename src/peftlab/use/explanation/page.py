"""An explanation as one page: words coloured by how they count, and all values in tables. Loads nothing."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from peftlab.report import html
from peftlab.report.document import (
    Block,
    Cell,
    Column,
    Document,
    Highlight,
    Highlighted,
    Paragraph,
    Section,
    Table,
)
from peftlab.storage.atomic import replacing
from peftlab.use.explanation.explain import Explanation, Map
from peftlab.use.explanation.explainers import OF_THE_MODEL

TITLES = {
    "ig": "Integrated gradients",
    "occlusion": "Occlusion",
    "shapley": "Shapley values",
    "attention": "Attention of the last layer",
    "rollout": "Attention through all layers",
}
"""The explainers by name, as headings."""


def write(explanation: Explanation, file: Path) -> None:
    """Write an explanation to `file`, in a folder that exists, as HTML."""
    with replacing(file) as temporary:
        temporary.write_text(html.page(document(explanation), {}), encoding="utf-8")


def document(explanation: Explanation) -> Document:
    """Return an explanation as a document, a section for each map."""
    sections = [_section(explanation, one) for one in explanation.maps]
    notes = [*explanation.notes, *explanation.left_out.values()]
    sections.append(Section("notes", "How to read it", tuple(map(Paragraph, notes))))
    return Document(f"Why {explanation.target}?", f"Run: {explanation.run}. Made by peftlab.", sections)


def title(one: Map) -> str:
    """Return the heading of a map."""
    return TITLES[one.how] if one.how in OF_THE_MODEL else f"{TITLES[one.how]}, {one.baseline} baseline"


def summary(one: Map) -> str:
    """Return what can be said of a map as a whole, in sentences."""
    parts = [f"The logit is {one.full:.3f} with all words, and {one.empty:.3f} without any ({one.baseline})."]
    if one.gap is not None:
        parts.append(f"The values miss the difference by {abs(one.gap):.2g}.")
    if one.faithfulness is None:
        parts.append("All orders of the words are equal to the model: nothing can be said of faithfulness.")
    else:
        parts.append(
            f"Faithfulness: comprehensiveness {one.faithfulness.comprehensiveness:.3f} (more is better), sufficiency "
            f"{one.faithfulness.sufficiency:.3f} (less is better), each from 0 to 1; better than {one.beaten:.0%} of "
            f"{one.orders} random orders."
        )
    return " ".join(parts)


def _section(explanation: Explanation, one: Map) -> Section:
    name = f"{one.how}-{one.baseline}"
    largest = float(np.abs(one.values).max()) or 1.0
    unit = "the share of attention" if one.how in OF_THE_MODEL else "logits"
    words = tuple(
        Highlight(word.text, value / largest, f"{value:+.4f}")
        for word, value in zip(explanation.words, one.values, strict=True)
    )
    caption = f"Underlined: speaks for {explanation.target}. Dashed: speaks against it. The values are {unit}."
    columns = [Column("word"), Column("place", True), Column("value", True, unit)]
    errors = one.errors or []
    if errors:
        columns.append(Column("standard error", True))
    rows = []
    for n, word in enumerate(explanation.words):
        row = [Cell(word.text), Cell(str(word.index), word.index), Cell(f"{one.values[n]:+.4f}", one.values[n])]
        rows.append((*row, *([Cell(f"{errors[n]:.4f}", errors[n])] if errors else [])))
    blocks: tuple[Block, ...] = (
        Highlighted(words, caption),
        Paragraph(summary(one)),
        Table(name, tuple(columns), tuple(rows), f"{title(one)} for {explanation.target}"),
    )
    return Section(name, title(one), blocks)

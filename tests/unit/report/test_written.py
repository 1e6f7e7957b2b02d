"""The files of a report, and what is left of an earlier one and of others in their folder."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from peftlab.report import written
from peftlab.report.analysis.options import Options
from peftlab.report.document import Document, Figure, Section
from peftlab.report.study import Study


@pytest.fixture
def show(monkeypatch):
    """Write a report with figures of some names."""

    def shown(folder: Path, *names: str) -> None:
        def drawn(name: str) -> SimpleNamespace:
            files = [f"{name}{ending}" for ending in (".svg", ".pdf", ".png")]
            return SimpleNamespace(
                page="<svg/>", values=(), write=lambda place: [(place / file).write_text("new") for file in files]
            )

        figures = tuple(Figure(name, "bars", {}, "a ](figures/mine.svg) b") for name in names)
        document: Any = Document("Report", "Made by peftlab.", [Section("one", "One", figures)])
        made = {
            "analysed": None,
            "document_of": document,
            "lines": (),
            "draw_all": {name: drawn(name) for name in names},
        }
        for name, value in made.items():
            monkeypatch.setattr(written, name, lambda *_, value=value: value)
        written.write(Study(()), Options(), folder)

    return shown


def test_only_figures_of_an_earlier_report_are_removed(tmp_path, show):
    figures = tmp_path / "figures"
    figures.mkdir()
    for file in ("mine.pdf", "mine.png"):
        (figures / file).write_text("mine")
    show(tmp_path, "scores", "cost")
    show(tmp_path, "scores")
    assert sorted(file.name for file in figures.iterdir()) == [
        *("mine.pdf", "mine.png", "scores.pdf", "scores.png", "scores.svg")
    ]
    assert (figures / "mine.pdf").read_text() == "mine"
    assert (figures / "scores.svg").read_text() == "new"

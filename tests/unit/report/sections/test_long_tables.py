"""Reports of many groups show the best ten and the baseline first, and all in the appendix."""

from __future__ import annotations

import pytest
from tests.unit.report.sweeps import METHODS, planned

from peftlab.report.analysis.options import Options
from peftlab.report.analysis.results import analysed
from peftlab.report.contents import document_of
from peftlab.report.document import Table
from peftlab.report.study import reading

pytestmark = pytest.mark.slow


def tables_of(folder, baseline):
    with reading([folder]) as study:
        document = document_of(analysed(study, Options(baseline=baseline)))
    *parts, appendix = document.sections
    inner = [one for one in appendix.sections if one.name == "whole-tables"]
    first = {block.name: block for part in parts for block in part.blocks if isinstance(block, Table)}
    return first, {block.name: block for part in inner for block in part.blocks if isinstance(block, Table)}


def test_a_long_table_is_shortened_and_whole_in_the_appendix(tmp_path, monkeypatch):
    methods = tuple(f"m{number:02}" for number in range(16))
    for number, method in enumerate(methods):
        monkeypatch.setitem(METHODS, method, (0.6 if method == "m07" else 0.05, 1000 + number))
    sweep = planned(methods=methods, seeds=(0, 1, 2), examples=12)
    first, whole = tables_of(sweep.write(tmp_path / "sweep"), "m07")
    for name in ("overview-table", "scores-table"):
        ((key, short),) = [(key, table) for key, table in first.items() if key.endswith(name)]
        everything = whole[f"{key}-whole"]
        assert len(everything.rows) == 16
        assert short.rows == (*everything.rows[:10], *(row for row in everything.rows[10:] if row[0].text == "m07"))
        assert "10 best of 16 groups" in short.caption


def test_a_short_table_stays_whole(tmp_path):
    first, whole = tables_of(planned(methods=("full", "lora"), examples=12).write(tmp_path / "sweep"), None)
    assert first
    assert not whole

"""Ladders in a report: a row a model, and what is lost against what is taken."""

from __future__ import annotations

import json

import pytest
from tests.unit.report.sweeps import planned, run_folders

from peftlab.report.analysis.options import Options
from peftlab.report.analysis.results import analysed
from peftlab.report.document import Figure, Table
from peftlab.report.figures.pareto import Data
from peftlab.report.sections import compression
from peftlab.report.study import reading
from peftlab.validation import checked

pytestmark = pytest.mark.slow


def document(step, cpu, size, drop):
    latency = {"p50": cpu, "p95": 2 * cpu}
    timing = {"cpu_seconds": cpu, "milliseconds": {"1": latency, "32": latency}}
    measured = {"timing": timing, "weight_bytes": size, "threads": 1, "isa": "AVX2"}
    drops = {"value": drop, "low": drop - 0.01, "high": drop + 0.01}
    judged = {"verdict": "accepted", "score": 0.8, "drop": drops, "agreement": 0.97}
    return {"step": step, "metric": "entity_f1", "measured": measured, **judged}


def section_of(tmp_path, *documents):
    folder = planned(seeds=(0, 1)).write(tmp_path / "sweep")
    for run, one in zip(run_folders(folder), documents, strict=False):
        (run / "compression.json").write_text(json.dumps([one, {"step": "damaged"}]))
    with reading([folder]) as study:
        (result,) = analysed(study, Options()).results
        return compression.section(result)


def test_what_was_measured_is_shown(tmp_path):
    section = section_of(tmp_path, document("merge", 10.0, 90_000_000, 0.0), document("int8", 5.0, 23_000_000, 0.02))
    (table,) = (block for block in section.blocks if isinstance(block, Table))
    assert sorted(row[0].text for row in table.rows) == ["int8", "merge"]
    time, size = (block for block in section.blocks if isinstance(block, Figure))
    for figure, prices in ((time, {5.0, 10.0}), (size, {23_000_000, 90_000_000})):
        data = checked(Data, figure.data, "")
        assert {point.x for point in data.points} == prices
        lost = next(point.y for point in data.points if point.label == "int8")
        assert (lost.value, lost.low < lost.value < lost.high) == (-0.02, True)


def test_without_measurements_there_is_no_section(tmp_path):
    assert section_of(tmp_path) is None

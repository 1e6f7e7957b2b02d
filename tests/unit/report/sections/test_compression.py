"""The section on compression: what smaller models lose and take, as their folders tell it."""

from __future__ import annotations

import json

import pytest
from tests.unit.report.sweeps import planned

from peftlab.report.analysis.options import Options
from peftlab.report.analysis.results import analysed
from peftlab.report.document import Figure
from peftlab.report.sections import compression
from peftlab.report.study import reading

LATENCY = {"p50": 4.0, "p95": 6.0}
MEASURED = {"timing": {"cpu_seconds": 12.5, "milliseconds": {"1": LATENCY, "32": LATENCY}}}
MEASURED |= {"weight_bytes": 23_000_000, "threads": 1, "isa": "AVX2"}
DROP = {"value": 0.004, "low": 0.001, "high": 0.007}
RUNG = {"step": "int8", "verdict": "accepted", "score": 0.9, "drop": DROP, "agreement": 0.97, "measured": MEASURED}


def sections(folder):
    with reading([folder]) as study:
        return [(result, compression.section(result)) for result in analysed(study, Options()).results]


def test_rungs_are_those_of_the_newest_measurement_that_can_be_read(tmp_path):
    folder = planned(methods=("lora",), seeds=(0, 1)).write(tmp_path / "sweep")
    ((result, section),) = sections(folder)
    assert section is None
    rung = RUNG | {"metric": result.comparison.metric}
    first, second = sorted(file.parent for file in folder.glob("*/record.json"))
    (first / "compression.json").write_text(json.dumps([rung | {"step": "merge"}, rung, {"metric": 1}]))
    (second / "compression.json").write_text("[")
    ((_, section),) = sections(folder)
    _, table = section.blocks
    (row,) = table.rows
    values = {column.title: cell for column, cell in zip(table.columns, row, strict=True)}
    assert values["step"].text == "int8"
    assert (values["drop"].value, values["interval"].value) == (0.004, 0.001)
    assert values["CPU s"].value == 12.5

    # of two, a figure shows what is lost for what is saved: a drop is a change below 0
    (second / "compression.json").write_text(json.dumps([rung]))
    ((_, section),) = sections(folder)
    time, size = (block for block in section.blocks if isinstance(block, Figure))
    assert [point["x"] for point in time.data["points"]] == [12.5, 12.5]
    assert size.data["points"][0]["y"] == {
        key: pytest.approx(v) for key, v in zip(("value", "low", "high"), (-0.004, -0.007, -0.001), strict=True)
    }

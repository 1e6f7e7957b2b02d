"""The section on ensembles: what they gain, as their folders tell it."""

from __future__ import annotations

import json

from tests.unit.report.sweeps import planned

from peftlab.report.analysis.options import Options
from peftlab.report.analysis.results import analysed
from peftlab.report.sections import ensembles
from peftlab.report.study import reading

MODEL = {"id": "3f9c", "name": "ner", "method": "lora", "seed": 0, "validation": 0.9, "test": 0.88, "ece": 0.02}
MODEL |= {"parameters": 1000, "seconds": 2.0}
OTHER = MODEL | {"id": "81b0", "seed": 1, "test": 0.86, "ece": 0.04, "validation": None}
GAIN = {"value": 0.012, "low": 0.002, "high": 0.022, "p": 0.01}
FOUND = {"metric": "entity_f1", "ensemble": MODEL | {"seconds": 3.0, "ece": 0.01}, "members": [MODEL, OTHER]}
FOUND |= {"best": "3f9c", "mean": 0.87, "over_best": GAIN, "over_mean": None, "device_seconds": 90.0}


def sections(folder):
    with reading([folder]) as study:
        return [ensembles.section(result) for result in analysed(study, Options()).results]


def test_gains_and_cost_are_those_of_the_newest_comparison_that_can_be_read(tmp_path):
    folder = planned(methods=("lora",), seeds=(0, 1)).write(tmp_path / "sweep")
    assert sections(folder) == [None]
    run = min(file.parent for file in folder.glob("*/record.json"))
    (run / "ensemble.json").write_text(json.dumps([FOUND, {"metric": 1}]))
    (section,) = sections(folder)
    _, gains, members = section.blocks
    (row,) = gains.rows
    values = {column.title: cell for column, cell in zip(gains.columns, row, strict=True)}
    assert values["members"].value == 2
    assert values["over the best"].value == 0.012
    assert values["over the mean"].value is None
    assert values["ECE (%)"].text == "1.00 (3.00)"
    assert values["time"].text == "1.50"
    assert [cell.text for cell in members.rows[0]][1:4] == ["3f9c, the best", "lora", "0"]
    assert members.rows[1][4].text == ensembles.UNKNOWN

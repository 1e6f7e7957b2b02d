"""The commands of a report: what was trained is trained again, what was computed is computed again."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
from tests.unit.report.sweeps import planned

from peftlab.report.analysis.options import Options
from peftlab.report.analysis.results import analysed
from peftlab.report.document import Listing
from peftlab.report.sections import commands
from peftlab.report.study import reading


@pytest.mark.parametrize(
    ("by", "how", "line"),
    [
        ("ensemble", {"how": "soup", "weights": None}, "peftlab ensemble {} --how soup"),
        ("compress", {"drop_layers": 2}, "peftlab compress {} --steps drop_layers=2"),
        ("compress", {"merge": True}, "peftlab compress {} --steps merge"),
    ],
)
def test_a_computed_model_is_neither_trained_nor_reproduced(tmp_path, by, how, line):
    sweep = planned(methods=("lora",), seeds=(0, 1), examples=20)
    parents = [{"identity": "ab" * 32, "method": "lora"}]
    derived = {"by": by, "how": how, "parents": parents}
    sweep.runs[1].record = {"derived": derived, "command": ["peftlab", by], "overrides": []}
    with reading([sweep.write(tmp_path / "sweep")]) as study:
        trained, computed = sorted(study.runs, key=lambda run: run.computing is not None)
        blocks = commands.section(analysed(study, Options())).blocks
        lines = [line for block in blocks if isinstance(block, Listing) for line in block.lines]
    assert line.format("abababababab") in lines
    assert f"peftlab reproduce {trained.id}" in lines
    assert f"peftlab reproduce {computed.id}" not in lines
    assert f"peftlab {by}" not in lines


def test_commands_that_are_not_listed_are_counted():
    record = {"code": {"commit": None, "version": "1"}, "overrides": []}
    runs = [
        SimpleNamespace(computing=None, id=f"{n}", record=SimpleNamespace(data=record | {"command": ["train", f"{n}"]}))
        for n in range(35)
    ]
    said, listed, *_ = commands.section(SimpleNamespace(runs=runs, results=[])).blocks
    assert said.text.endswith(" The first 30 of 35.")
    assert len(listed.lines) == 30

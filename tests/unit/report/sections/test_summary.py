"""The summary offers what costs less without calling it as good, and tells how the runs were trained."""

from __future__ import annotations

import pytest
from tests.unit.report.sweeps import planned

from peftlab.report.analysis.options import Options
from peftlab.report.analysis.results import analysed
from peftlab.report.sections.summary import front_of, lines, setup_of
from peftlab.report.study import reading

pytestmark = pytest.mark.slow


def test_the_front_of_cost_among_those_not_told_apart(tmp_path):
    sweep = planned(methods=("full", "lora", "ia3", "head"), seeds=(0, 1, 2), examples=60)
    for run in sweep.finals:
        run.error_rate = {"full": 0.08, "lora": 0.11, "ia3": 0.11, "head": 0.7}[run.method]
    with reading([sweep.write(tmp_path / "sweep")]) as study:
        analysis = analysed(study, Options())
    (result,) = analysis.results
    front = front_of(result)
    assert front[0] is result.ranked[0]
    assert len(front) > 1
    trained = [row.group.final[0].record.data["method"]["trainable_parameters"] for row in front]
    assert trained == sorted(set(trained), reverse=True)
    assert {row.name for row in front} <= result.beside_the_best - {"head"}
    said = " ".join(lines(analysis))
    assert "does not show that they are equally good" in said
    assert "with the adjustment for 3 comparisons" in said
    assert "epoch" in setup_of(result)

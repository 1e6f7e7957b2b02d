"""What the groups cost: energy is shown as far as it was counted, and is never made up."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.unit.report.sweeps import PlannedRun, planned

from peftlab.report.analysis.options import Options
from peftlab.report.analysis.results import analysed
from peftlab.report.document import Paragraph, Table
from peftlab.report.numbers import UNKNOWN
from peftlab.report.sections import checklists, cost, limitations
from peftlab.report.study import reading


def said(folder: Path, joules: dict[str, float | None], title: str = "energy") -> tuple[str, dict[str, str], str, str]:
    """Return the explanation, a column of the table by method, the limitations and the checklists."""
    sweep = planned(methods=tuple(joules), seeds=(0, 1, 2), examples=30)
    for run in sweep.runs:
        write(run, joules[run.method])
    with reading([sweep.write(folder)]) as study:
        analysis = analysed(study, Options())
    section = cost.section(analysis.results[0])
    paragraph, table = section.blocks[:2]
    assert isinstance(paragraph, Paragraph)
    assert isinstance(table, Table)
    names = [column.title for column in table.columns]
    place = names.index(title) if title in names else None
    column = {} if place is None else {row[0].text: row[place].text for row in table.rows}
    return paragraph.text, column, str(limitations.section(analysis)), str(checklists.section(analysis))


def write(run: PlannedRun, joules: float | None) -> None:
    counted = [] if joules is None else ["GPU NVIDIA H200 (NVML)"]
    run.record = {"cost": {"energy_joules": joules, "energy_counted": counted}}


@pytest.mark.slow
def test_energy_that_was_counted_is_told_with_what_counted_it(tmp_path):
    text, column, limits, checks = said(tmp_path / "sweep", {"full": 7200.0, "head": 1800.0})
    assert "The energy of all runs, 7.5 Wh, is that of GPU NVIDIA H200 (NVML)" in text
    assert column == {"full": "2 Wh", "head": "0.5 Wh"}
    assert "Energy was not" not in limits
    assert "7.5 Wh of energy" in checks


@pytest.mark.slow
@pytest.mark.parametrize(("head", "told"), [(1800.0, "The energy of 3 of 6 runs, 1.5 Wh"), (None, "Energy was not")])
def test_energy_that_was_not_counted_stays_unknown(tmp_path, head, told):
    text, column, _, checks = said(tmp_path / "sweep", {"full": None, "head": head})
    assert told in text
    assert column == ({} if head is None else {"full": "\u2013", "head": "0.5 Wh"})
    assert "no energy" in checks


def test_a_model_computed_from_runs_costs_what_they_do(tmp_path):
    sweep = planned(methods=("lora", "head"), seeds=(0, 1), examples=30)
    for run in sweep.runs:
        run.record = {"cost": {"wall_seconds": 360.0}}
        if run.method == "head":
            parents = [{"identity": f"{run.seed}", "method": "lora", "device_seconds": 5400.0}]
            run.record["derived"] = {"by": "compress", "how": {"merge": True}, "parents": parents}
    with reading([sweep.write(tmp_path / "sweep")]) as study:
        groups = {group.name: group for group in analysed(study, Options()).results[0].comparison.groups}
    derived, trained = (cost.cost_of(groups[name], 2.0) for name in ("head merge of lora", "lora"))
    assert derived.money == pytest.approx(2 * (0.1 + 1.5))
    assert derived.all_money == pytest.approx(2 * 0.2)  # what the parents took is theirs
    assert (derived.train_seconds, derived.samples_per_second) == (None, None)
    assert trained.money == pytest.approx(2 * 0.1)
    assert trained.train_seconds is not None


@pytest.mark.slow
def test_what_clients_and_server_send_is_told_of_methods_that_were_federated(tmp_path, monkeypatch):
    def federated(run: PlannedRun, bytes_: float | None) -> None:
        run.record = {} if bytes_ is None else {"federated": {"bytes_up": bytes_, "bytes_down": 2 * bytes_}}

    monkeypatch.setitem(globals(), "write", federated)
    _, column, *_ = said(tmp_path / "sweep", {"full": 1e6, "head": None}, "sent")
    assert column == {"full": "3 MB", "head": UNKNOWN}
    assert said(tmp_path / "central", {"full": None, "head": None}, "sent")[1] == {}

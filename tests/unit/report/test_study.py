"""Reading the runs of a report."""

from __future__ import annotations

import pytest

from peftlab.errors import UserError
from peftlab.report.study import reading
from peftlab.runs.record import RunRecord


def begun(folder, run_id, seed=0):
    folder.mkdir(parents=True)
    record = RunRecord.start(
        folder,
        run_id=run_id,
        name="n",
        command=[],
        overrides=[],
        identity={"sha256": run_id * 4},
        method={"name": "lora"},
    )
    record.update(environment={"seeds": {"global": seed}}, selection={"metric": "f1", "mode": "max"})
    record.add_metric("f1", "test", 0.5, "best", "a scorer")
    record.finish("completed")
    (folder / "config.yaml").write_text(
        "regularizer: {sam: {}, fgm: {}, ema: null}\noptimizer: {lr: 1e-3}\npeft: {name: lora}\n"
    )
    return folder


def test_a_run_is_read_once_and_a_damaged_one_is_named(tmp_path):
    one = begun(tmp_path / "sweep" / "aaa", "aaa", seed=3)
    begun(tmp_path / "sweep" / "bbb", "bbb")
    (tmp_path / "sweep" / "bbb" / "record.json").write_text('{"schema_version"')
    with reading([tmp_path / "sweep", one]) as study:
        (run,) = study.runs
        (left_out,) = study.left_out
    assert (run.id, run.seed, run.is_tested, run.score(), run.direction) == ("aaa", 3, True, 0.5, "max")
    assert left_out.place == str(tmp_path / "sweep" / "bbb")
    assert "is not a run record" in left_out.reason


def test_a_value_of_a_key(tmp_path):
    with reading([begun(tmp_path / "aaa", "aaa")]) as study:
        (run,) = study.runs
    values = {key: run.value(key) for key in ("regularizer", "optimizer.lr", "peft", "optimizer.none", "data")}
    assert values == {
        "regularizer": "fgm+sam",
        "optimizer.lr": 1e-3,
        "peft": "lora",
        "optimizer.none": None,
        "data": None,
    }


def test_a_run_without_a_configuration_still_has_its_method(tmp_path):
    (begun(tmp_path / "aaa", "aaa") / "config.yaml").unlink()
    with reading([tmp_path]) as study:
        assert [run.value("peft") for run in study.runs] == ["lora"]


def test_an_empty_set_says_what_it_looked_for(tmp_path):
    with (
        pytest.raises(UserError, match=f"no run in {tmp_path}: a run is a folder with a record.json"),
        reading([tmp_path]),
    ):
        pass

"""Which runs an ensemble is made of."""

from __future__ import annotations

import pytest
from tests.unit.report.sweeps import planned

from peftlab.errors import UserError
from peftlab.use.ensembles.chosen import chosen


def values(records):
    return [record.data["selection"]["value"] for record in records]


def test_the_runs_of_a_folder_and_the_best_of_them(tmp_path):
    folder = planned(methods=("lora", "full"), seeds=(0, 1)).write(tmp_path / "sweep")
    everything = chosen([folder])
    assert len(everything) == 4
    assert len(chosen([folder, everything[0].folder])) == 4
    best = chosen([folder], best=3)
    assert values(best) == sorted(values(everything), reverse=True)[:3]
    assert values(chosen([best[1].folder, best[0].folder])) == values([best[1], best[0]])  # in the order of their names
    with pytest.raises(UserError, match="--best 5: there are 4 completed runs"):
        chosen([folder], best=5)
    with pytest.raises(UserError, match="no completed run lies in it"):
        chosen([tmp_path / "sweep" / "output" if (tmp_path / "sweep" / "output").is_dir() else tmp_path])


def test_trials_of_a_search_count_where_no_run_was_tested(tmp_path):
    sweep = planned(methods=("lora",), seeds=(0, 1), trials=3)
    assert len(chosen([sweep.write(tmp_path / "sweep")])) == 2
    sweep.runs = [run for run in sweep.runs if not run.is_tested]
    untested = chosen([sweep.write(tmp_path / "untested")])
    assert len(untested) == len(sweep.runs) > 0


def test_a_run_that_was_not_completed_has_no_rank(tmp_path):
    sweep = planned(methods=("lora",), seeds=(0,))
    sweep.runs[0].status = "failed"
    sweep.runs[0].record = {"selection": {"metric": None, "mode": None, "value": None}}
    (file,) = sweep.write(tmp_path / "sweep").glob("*/record.json")
    with pytest.raises(UserError, match="was not completed, and has no validation score"):
        chosen([file.parent], best=1)

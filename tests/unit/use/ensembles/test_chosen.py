"""Which runs an ensemble is made of."""

from __future__ import annotations

import pytest
from tests.unit.report.sweeps import planned

from peftlab.errors import UserError
from peftlab.use.ensembles.chosen import chosen


def test_the_runs_of_a_folder_and_the_best_of_them(tmp_path):
    folder = planned(methods=("lora", "full"), seeds=(0, 1)).write(tmp_path / "sweep")
    everything = chosen([folder])
    assert len(everything) == 4
    assert len(chosen([folder, everything[0].folder])) == 4
    values = [record.data["selection"]["value"] for record in chosen([folder], best=3)]
    assert values == sorted((record.data["selection"]["value"] for record in everything), reverse=True)[:3]
    with pytest.raises(UserError, match="--best 5: there are 4 completed runs"):
        chosen([folder], best=5)
    with pytest.raises(UserError, match="no completed run lies in it"):
        chosen([tmp_path / "sweep" / "output" if (tmp_path / "sweep" / "output").is_dir() else tmp_path])

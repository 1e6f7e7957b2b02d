"""The slots of a sweep's trials."""

from __future__ import annotations

import pytest

from peftlab.sweep import sweep
from peftlab.sweep.sweep import slots_of
from peftlab.sweep.worker import Machine


@pytest.mark.parametrize(
    ("accelerators", "gpus", "share", "is_told"),
    [
        ({"cpu"}, [], 0.5, True),
        ({"cpu"}, ["0", "1"], 2, True),
        ({"gpu"}, ["0", "1"], 2, False),
        ({"cpu"}, [], 1.0, False),
    ],
)
def test_shares_of_gpus_that_no_trial_has_are_told(monkeypatch, accelerators, gpus, share, is_told):
    from hydra_plugins.peftlab.launcher import LocalLauncher  # which Hydra may have loaded anew since the imports above

    told = []
    monkeypatch.setattr(sweep.log, "warning", lambda text, *values: told.append(text % values))
    slots_of(LocalLauncher(share), accelerators, Machine(gpus, 4))
    lines = [f"no effect: hydra.launcher.gpus_per_trial={share:g}: no trial has a GPU"] if is_told else []
    assert [line.partition(";")[0] for line in told] == lines

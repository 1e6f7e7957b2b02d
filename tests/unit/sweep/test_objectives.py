"""What a sweep optimises goes in the direction of the score that selects checkpoints."""

from __future__ import annotations

from dataclasses import replace

import pytest

from peftlab.errors import ConfigError
from peftlab.sweep.ledger import Cell
from peftlab.sweep.plan import Proposal
from peftlab.sweep.spec import SweepSpec
from peftlab.sweep.sweep import _objectives

F1 = Cell(Proposal(("a=1",)), {}, ["a=1"], "0" * 64, "f1", "max")
LOSS = replace(F1, metric="loss", mode="min")


@pytest.mark.parametrize(
    ("example", "asked", "objectives"),
    [
        (F1, None, {"selection.value": "max"}),
        (LOSS, None, {"selection.value": "min"}),
        (LOSS, {"selection.value": "min"}, {"selection.value": "min"}),
        (F1, {"cost.wall_seconds": "min"}, {"cost.wall_seconds": "min"}),
        (LOSS, {"selection.value": "min", "cost.steps": "max"}, {"selection.value": "min", "cost.steps": "max"}),
    ],
)
def test_it_follows_the_selection(example, asked, objectives):
    assert _objectives(SweepSpec(objectives=asked), example) == objectives


@pytest.mark.parametrize(
    ("example", "mode", "why"), [(F1, "min", "f1, of which more"), (LOSS, "max", "loss, of which less")]
)
def test_the_other_direction_is_refused(example, mode, why):
    with pytest.raises(ConfigError, match=rf"sweep.objectives.selection.value = '{mode}': that is the {why} is better"):
        _objectives(SweepSpec(objectives={"selection.value": mode, "cost.steps": "max"}), example)

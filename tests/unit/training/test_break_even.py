from __future__ import annotations

import functools

import pytest
from torch import nn

from peftlab.one_run import run
from peftlab.training.break_even import break_even


def test_the_steps_that_make_up_for_compiling():
    assert break_even(90.0, 0.012) == 7500
    assert break_even(90.0, 0.7) == 129
    assert break_even(0.0, 0.1) == 0
    assert break_even(90.0, 0.0) is None
    assert break_even(90.0, -0.1) is None


@pytest.mark.exhaustive
def test_the_record_of_a_compiled_run_says_whether_it_paid(compose_config, tiny_overrides, monkeypatch):
    """Compiled as far as to graphs: to machine code takes minutes."""
    monkeypatch.setattr(nn.Module, "compile", functools.partialmethod(nn.Module.compile, backend="eager"))
    overrides = [*tiny_overrides, "budget.max_steps=3", "trainer.compile=true"]
    cost = run(compose_config(*overrides, "run_dir=compiled")).data["cost"]
    compiling = cost["compile"]
    assert 0 < compiling["seconds"] < cost["wall_seconds"]
    assert compiling["break_even_steps"] == break_even(compiling["seconds"], compiling["saved_seconds_a_step"])

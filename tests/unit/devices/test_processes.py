from __future__ import annotations

from types import SimpleNamespace

import pytest

from peftlab import one_run
from peftlab.devices.processes import rank
from peftlab.devices.spec import TrainerSpec
from peftlab.errors import ConfigError


def test_a_process_that_is_none_of_the_runs_is_refused(monkeypatch):
    """It would train, and rank 0, which keeps what comes of it, is another process."""
    monkeypatch.setenv("LOCAL_RANK", "1")
    assert rank() == 1
    with pytest.raises(ConfigError, match=r"^LOCAL_RANK=1 .* the run has 1 \(trainer\.devices=1\)\. Unset LOCAL_RANK"):
        one_run.read({}, SimpleNamespace(trainer=TrainerSpec()))
    monkeypatch.setattr(one_run, "seed_everything", lambda spec: pytest.skip("it goes on"))
    with pytest.raises(pytest.skip.Exception):
        one_run.read({}, SimpleNamespace(trainer=TrainerSpec(devices=2)))


def test_a_rank_that_is_no_number(monkeypatch):
    monkeypatch.setenv("LOCAL_RANK", "first")
    with pytest.raises(ConfigError, match=r"^LOCAL_RANK in the environment is 'first'"):
        rank()

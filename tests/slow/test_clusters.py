"""Sweeps by Ray and submitit, on this machine."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from importlib.util import find_spec
from pathlib import Path

import pytest
from tests.slow.conftest import SweepCommand

pytestmark = pytest.mark.slow

FAILING = '''
import os
import signal

from lightning.pytorch.callbacks import Callback


class Failing(Callback):
    """Fail in training, with certain seeds, each in its way."""

    def __init__(self, **seeds: int):
        self.ways = {str(seed): way for way, seed in seeds.items()}

    def on_train_batch_end(self, trainer, *_):
        way = self.ways.get(os.environ["PL_GLOBAL_SEED"])
        if trainer.lightning_module is not None and way is not None:
            if way == "raise":
                raise ArithmeticError("it has failed")
            if way == "exit":
                raise SystemExit(3)
            os.kill(os.getpid(), signal.SIGKILL)
'''

WAITING = '''
import json
import time
from pathlib import Path

from lightning.pytorch.callbacks import Callback


class Waiting(Callback):
    """Take a tenth of a second more for every step of a run that nothing has interrupted."""

    def on_train_batch_end(self, trainer, *_):
        history = json.loads(Path(trainer.default_root_dir, "record.json").read_text())["history"]
        if "interrupted" not in [event["event"] for event in history]:
            time.sleep(0.1)
'''

LAUNCHERS = [
    pytest.param(name, marks=[pytest.mark.skipif(find_spec(package) is None, reason=f"wants {package}"), *more])
    for name, package, more in (("ray", "ray", []), ("submitit_local", "submitit", [pytest.mark.exhaustive]))
]


@pytest.fixture
def failing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "failing"
    folder.mkdir()
    (folder / "failing.py").write_text(FAILING)
    monkeypatch.setenv("PYTHONPATH", str(folder), prepend=os.pathsep)
    return folder


class Sweep(SweepCommand):
    """A command in the present folder, whose name has a space and a quote."""

    def __init__(self, launcher: str, tiny: list[str]) -> None:
        folder = Path("it's one/tiny").absolute()
        where = str(folder).replace("'", "\\'")
        options = ["logger=[csv]", "callbacks=[]", "name=tiny", f"sweep_dir='{where}'", f"hydra/launcher={launcher}"]
        super().__init__(folder, [*tiny, *options])


@pytest.fixture(params=LAUNCHERS)
def sweep(request: pytest.FixtureRequest, tiny_overrides: list[str]) -> Sweep:
    return Sweep(request.param, tiny_overrides)


@pytest.mark.skipif(find_spec("submitit") is None, reason="wants submitit")
def test_a_grid_is_run_kept_and_widened(tiny_overrides):
    """What is kept is no launcher's doing; that Ray's trials are, the next test sees too."""
    sweep = Sweep("submitit_local", tiny_overrides)
    assert "2 trials, 0 of them done; a batch for the launcher" in sweep.run("peft=lora,head", "seed=0").stdout
    first = sweep.records()
    assert [record["status"] for record in first.values()] == ["completed"] * 2
    assert sorted(record["overrides"][-1] for record in first.values()) == ["peft=head", "peft=lora"]
    assert "4 trials, 2 of them done" in sweep.run("peft=lora,head", "seed=0,1").stdout
    wider = sweep.records()
    assert len(wider) == 4
    assert {name: wider[name] for name in first} == first
    assert [row["state"] for row in sweep.rows()] == ["completed"] * 4
    assert not [path for path in Path.cwd().glob("sweeps/*") if path.name != ".submitit"]


@pytest.mark.exhaustive
@pytest.mark.usefixtures("failing")
def test_trials_that_fail_or_die_stop_no_other(sweep):
    # in the place of a callback that is no part of the identity
    fails = {"_target_": "failing.Failing", "raise": 1, "exit": 2, "kill": 3}
    more = ["allow=[failing]", *(f"+callbacks.progress.{key}={value}" for key, value in fails.items())]
    ended = sweep.run("seed=1,2,3,4", *more, code=1)
    assert "3 of 4 trials failed" in ended.stderr
    rows = {row["seed"]: row for row in sweep.rows()}
    assert [rows[seed]["state"] for seed in "1234"] == ["failed", "failed", "failed", "completed"]
    told = ["ArithmeticError: it has failed", "SystemExit", "ended by SIGKILL"]
    assert all(text in rows[seed]["error"] for seed, text in zip("123", told, strict=True))
    assert "4 trials, 1 of them done" in sweep.run("seed=1,2,3,4").stdout
    assert [record["status"] for record in sweep.records().values()] == ["completed"] * 4


@pytest.mark.exhaustive
@pytest.mark.new_interpreter
@pytest.mark.skipif(find_spec("submitit") is None, reason="wants submitit")
def test_a_job_that_is_told_that_its_time_is_over_goes_on_from_a_checkpoint(tiny_overrides, tmp_path, monkeypatch):
    """submitit's own signal reaches the trial, which ends with a checkpoint, and then submitit, which begins again."""
    (tmp_path / "waiting").mkdir()
    (tmp_path / "waiting" / "waiting.py").write_text(WAITING)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "waiting"), prepend=os.pathsep)
    sweep = Sweep("submitit_local", tiny_overrides)
    waits = ["allow=[waiting]", "+callbacks.waiting._target_=waiting.Waiting"]
    with subprocess.Popen([*sweep.command, "seed=5", "budget.max_steps=300", *waits], text=True) as process:
        while not [*sweep.folder.glob("*/checkpoints/*")]:  # it still begins to listen
            assert process.poll() is None
            time.sleep(0.1)
        for entry in Path("/proc").glob("[0-9]*"):
            words = (entry / "cmdline").read_bytes().split(b"\0") if (entry / "cmdline").exists() else []
            if b"submitit.core._submit" in words and (entry / "cwd").resolve() == Path.cwd():
                os.kill(int(entry.name), signal.SIGUSR2)
        assert process.wait() == 0
    (record,) = sweep.records().values()
    assert record["status"] == "completed"
    events = [event["event"] for event in record["history"]]
    assert events.index("interrupted") < events.index("resumed")

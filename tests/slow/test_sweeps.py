"""Sweeps as a user does them: one command, real processes."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.forks import fork_ours, start_interpreters
from tests.slow.conftest import SweepCommand

from peftlab.storage.locks import is_locked
from peftlab.sweep.worker import PATIENCE

pytestmark = pytest.mark.slow

GRID = ["peft=lora,head", "seed=0,1"]
AT_ONCE = [
    "hydra.launcher.trials_at_once=2",
    "sweep.probe_seconds=0",
    "sweep.report=false",
    "logger=[csv]",
    "callbacks=[]",
]


class Sweep(SweepCommand):
    """The command of a sweep in the present folder."""

    def __init__(self, tiny: list[str]) -> None:
        super().__init__(Path("sweeps/tiny"), [*tiny, *AT_ONCE, "name=tiny"])

    def start(self, *more: str, group: int | None = None) -> subprocess.Popen[str]:
        """Start it, in the process group `group` (0: one of its own)."""
        streams = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
        return subprocess.Popen([*self.command, *more], process_group=group, **streams)

    def statuses(self) -> list[str]:
        return sorted(record["status"] for record in self.records().values())

    def document(self) -> dict[str, Any]:
        return json.loads((self.folder / "sweep.json").read_text())

    def bits(self) -> dict[str, tuple[bytes, ...]]:
        """Return what each trial has left that has to be the same."""
        names = ("metrics.csv", "trail.jsonl", "checkpoints/best.safetensors")
        return {name: tuple((self.folder / name / file).read_bytes() for file in names) for name in self.records()}


@pytest.fixture
def sweep(tiny_overrides: list[str]) -> Sweep:
    return Sweep(tiny_overrides)


def until(holds: Callable[[], object], seconds: float = 120.0) -> None:
    end = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.05)


@pytest.mark.new_interpreter
def test_a_grid_is_run_kept_and_widened(sweep, tiny_overrides):
    for folder in (text.partition("=")[2] for text in tiny_overrides if ".path=" in text):
        for path in (Path(folder), *Path(folder).rglob("*")):
            os.utime(path, (1, 1))  # what has just been written is not sure to stay as it is
    ended = sweep.run(*GRID)
    assert "4 trials, 0 of them done; 2 at a time" in ended.stdout
    first = sweep.records()
    assert sweep.statuses() == ["completed"] * 4
    assert {(record["method"]["name"], record["environment"]["seeds"]["global"]) for record in first.values()} == {
        (method, seed) for method in ("lora", "head") for seed in (0, 1)
    }
    assert {record["environment"]["threads"] for record in first.values()} == {
        max(1, len(os.sched_getaffinity(0)) // 2)
    }
    assert [row["state"] for row in sweep.rows()] == ["completed"] * 4
    assert sweep.document()["status"] == "completed"

    fork_ours()
    assert "4 trials, 4 of them done" in sweep.run(*GRID).stdout
    assert sweep.records() == first

    assert "6 trials, 4 of them done" in sweep.run("peft=lora,head", "seed=0,1,2").stdout
    wider = sweep.records()
    assert len(wider) == 6
    assert {name: wider[name] for name in first} == first

    start_interpreters()
    Path("torch.py").write_text("raise SystemExit('a finished sweep has nothing to compute')")
    assert "6 trials, 6 of them done" in sweep.run("peft=lora,head", "seed=0,1,2").stdout


@pytest.mark.exhaustive
@pytest.mark.new_interpreter
def test_a_trial_alone_gives_the_bits_of_the_sweep(sweep):
    """A forked trial is the run that the same overrides give in a process of its own."""
    fork_ours()
    sweep.run("seed=0,1", "hydra.launcher.threads_per_trial=1")
    alone = [part for part in sweep.command if part != "-m" and not part.startswith(("hydra", "sweep"))][1:]
    command = [sys.executable, "-m", *alone, "seed=1", "trainer.threads=1", "run_dir=alone"]
    start_interpreters()
    subprocess.run(command, check=True, capture_output=True)
    (twin,) = [name for name, record in sweep.records().items() if record["environment"]["seeds"]["global"] == 1]
    for name in ("metrics.csv", "trail.jsonl", "checkpoints/best.safetensors", "predictions/test.jsonl"):
        assert Path("alone", name).read_bytes() == (sweep.folder / twin / name).read_bytes()


LEAK = """
import os
import sys

from lightning.pytorch.callbacks import Callback


class Leak(Callback):
    \"\"\"Tells its password in every way, and fails.\"\"\"

    def __init__(self, password: str):
        self.password = password

    def on_train_start(self, trainer, tuner):
        print(f"it is {self.password}")
        print(f"it is {self.password}", file=sys.stderr)
        sys.stdout.flush()
        os.write(1, f"it is {self.password} and hf_Xq7vLm2pXq7vLm2p\\n".encode())
        os.system(f"echo it is {self.password}")
        raise ValueError(f"{self.password} is refused, as is {os.environ['SOME_TOKEN']}")
"""


@pytest.mark.parametrize("sweeping", [True, False], ids=["sweep", "run"])
def test_what_processes_print_shows_no_secrets(sweep, tmp_path, monkeypatch, sweeping):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "leaking.py").write_text(LEAK)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "mine"), prepend=os.pathsep)
    monkeypatch.setenv("SOME_TOKEN", "abracadabra")
    own = ["allow=[leaking]", "+callbacks.own._target_=leaking.Leak", "+callbacks.own.password=opensesame"]
    command = [*sweep.command, "seed=0,1", *own]
    if not sweeping:
        command = [part for part in sweep.command if part != "-m" and not part.startswith(("hydra", "sweep"))]
        command = [sys.executable, "-m", *command[1:], *own]
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    outputs = [file.read_text() for file in sorted(tmp_path.glob("sweeps/*/output/*.txt"))]
    assert ended.returncode == 1
    assert len([text for text in outputs if "ValueError: **** is refused, as is ****" in text]) == 2 * sweeping
    assert sweeping or "ValueError: **** is refused, as is ****" in ended.stderr
    assert all(text.count("it is ****") == 4 for text in outputs if "ValueError" in text)
    written = [file for file in tmp_path.rglob("*") if file.is_file() and file.suffix not in (".py", ".pyc")]
    for text in [
        ended.stdout if sweeping else "",
        ended.stderr,
        *(file.read_text(errors="replace") for file in written),
    ]:
        assert "opensesame" not in text
        assert "abracadabra" not in text
        assert "Xq7v" not in text


def test_cells_that_cannot_be_are_all_told_before_anything_starts(sweep):
    ended = sweep.run("peft=lora,head", "optimizer.lr=1e-3,-1", "data.max_tokens=64,0", code=2)
    assert "6 of 8 trials cannot be run, and none was started" in ended.stderr
    assert "optimizer.lr" in ended.stderr
    assert "data.max_tokens" in ended.stderr
    assert not Path("sweeps").exists()


def test_a_dry_run_says_how_much_it_would_be_and_leaves_nothing(sweep):
    ended = sweep.run(*GRID, "regularizer=[sam]", "sweep.dry_run=true", "sweep.probe_seconds=1")
    assert "each (2 passes a step)" in ended.stdout
    assert "4 trials, 0 of them done" in ended.stdout
    assert "in all; on the disk" in ended.stdout
    assert not Path("sweeps").exists()


def test_an_equal_budget_can_be_one_of_compute(sweep):
    """R-Drop's two passes a step stand against twice the epochs without it."""
    passes = ["budget.max_epochs=null", "budget.max_steps=null", "budget.max_passes=2"]
    search = ["sweep=equal_budget", "sweep.budget.full_runs=2", "sweep.final_seeds=[1]"]
    sweep.run(*search, *passes, "peft=lora", "regularizer=[],[rdrop]", "model.dropout=0.1")
    assert sweep.statuses() == ["completed"] * 3
    steps = {}
    for record in sweep.records().values():
        if "budget.test=false" in record["overrides"]:  # of the search
            steps["rdrop" in record.get("regularizers", {})] = record["cost"]["steps"]
    assert steps[False] == 2 * steps[True] > 0


@pytest.fixture
def undisturbed(sweep, made_once, monkeypatch):
    """What the grid leaves when nothing happens: made once."""

    def fill(folder: Path) -> None:
        with monkeypatch.context() as patch:
            patch.chdir(folder)
            sweep.run(*GRID, *LONG)

    with monkeypatch.context() as patch:
        patch.chdir(made_once("undisturbed", fill))
        return sweep.bits()


LONG = ["budget.max_steps=80", "trainer.checkpoint_every=5"]


def test_ctrl_c_ends_with_checkpoints_and_the_same_command_goes_on(sweep, undisturbed):
    process = sweep.start(*GRID, *LONG)
    until(lambda: any(sweep.folder.glob("*/checkpoints/step-*")))
    process.send_signal(signal.SIGINT)
    out, _ = process.communicate(timeout=60)
    assert process.returncode == 130, out
    assert set(sweep.statuses()) <= {"interrupted", "completed"}
    assert "interrupted" in sweep.statuses()
    assert sweep.document()["status"] == "interrupted"
    sweep.run(*GRID, *LONG)
    assert sweep.statuses() == ["completed"] * 4
    assert sweep.bits() == undisturbed


def test_a_killed_controller_takes_its_trials_along_and_the_same_command_goes_on(sweep, undisturbed, peftlab_status):
    process = sweep.start(*GRID, *LONG)
    until(lambda: any(sweep.folder.glob("*/checkpoints/step-*")))
    process.kill()
    process.communicate()
    assert peftlab_status("tiny")["status"] == "gone"
    sweep.run(*GRID, *LONG)
    assert sweep.statuses() == ["completed"] * 4
    assert sweep.bits() == undisturbed
    assert peftlab_status("tiny")["status"] == "completed"


@pytest.fixture
def peftlab_status():
    def status(name: str) -> dict[str, Any]:
        command = [sys.executable, "-m", "peftlab", "status", name, "--json"]
        return json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)

    return status


def test_a_killed_trial_fails_alone_and_is_made_good_by_the_same_command(sweep, disturb):
    kill = [part.replace("callbacks.disturb", "callbacks.progress") for part in disturb(0, "SIGKILL")]
    # a callback in that place is no part of the identity: the trial that it kills is the one of the next command
    ended = sweep.run("seed=0,1", *kill, code=1)
    assert "2 of 2 trials failed" in ended.stderr
    assert {record["error"]["message"] for record in sweep.records().values()} == {"ended by SIGKILL: is memory short?"}
    sweep.run("seed=0,1")
    assert sweep.statuses() == ["completed"] * 2


def test_a_second_controller_is_kept_out(sweep):
    forever = [*GRID, "budget.max_steps=100000", "budget.max_epochs=100000"]
    process = sweep.start(*forever)
    until((sweep.folder / "sweep.json").exists)
    ended = sweep.run(*forever, code=2)
    assert f"process {process.pid} on" in ended.stderr
    assert "is writing this sweep" in ended.stderr
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=60)
    assert process.returncode == 143


def test_a_second_ctrl_c_ends_everything_at_once(sweep, tmp_path, monkeypatch):
    """Even trials that hear of both in one moment, as on a machine that has no time for them."""
    (tmp_path / "sleeping.py").write_text(SLEEPING)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path), prepend=os.pathsep)
    process = sweep.start(*GRID, "allow=[sleeping]", "+callbacks.progress._target_=sleeping.Sleeping")
    until(lambda: len(list(Path().glob("asleep-*"))) == 2)
    trials = [int(file.name.removeprefix("asleep-")) for file in Path().glob("asleep-*")]
    for trial in trials:
        os.kill(trial, signal.SIGSTOP)
    process.send_signal(signal.SIGINT)
    until(lambda: "interrupted" in (process.stdout.readline() if process.stdout else ""))
    process.send_signal(signal.SIGINT)
    assert process.wait(timeout=60) == -signal.SIGINT
    for trial in trials:
        os.kill(trial, signal.SIGCONT)
    process.communicate(timeout=PATIENCE / 2)
    until(lambda: not any(is_locked(folder.parent) for folder in sweep.folder.glob("*/record.json")), PATIENCE / 2)


SLEEPING = '''
import os
import time
from pathlib import Path

from lightning.pytorch.callbacks import Callback


class Sleeping(Callback):
    """Come to no end of the first step."""

    def on_train_batch_end(self, trainer, *_):
        Path(f"asleep-{os.getpid()}").touch()
        time.sleep(3600)
'''


@pytest.mark.exhaustive
def test_what_ends_the_whole_group_of_processes_ends_trials_with_checkpoints_too(sweep):
    """As ``timeout`` does, and a terminal that is closed."""
    forever = [*GRID, "budget.max_steps=100000", "budget.max_epochs=100000", "trainer.checkpoint_every=5"]
    process = sweep.start(*forever, group=0)
    until(lambda: len(list(sweep.folder.glob("*/checkpoints/step-*"))) > 1)
    os.killpg(process.pid, signal.SIGTERM)
    out, _ = process.communicate(timeout=60)
    assert process.returncode == 143, out
    assert set(sweep.statuses()) == {"interrupted"}


def test_hydras_own_sweeper_runs_through_the_launcher_too(sweep):
    sweep.run("hydra/sweeper=basic", *GRID)
    assert sweep.statuses() == ["completed"] * 4
    assert {tuple(trial["overrides"]) for trial in sweep.document()["trials"]} == {
        (f"peft={method}", f"seed={seed}") for method in ("lora", "head") for seed in (0, 1)
    }


@pytest.mark.exhaustive
def test_the_fork_server_has_done_nothing_that_a_child_would_miss():
    """What hangs the children is a parallel operation before the fork; what keeps them from GPUs, a look at CUDA."""
    code = (
        "import importlib.util, sys, torch\n"
        "asked = []\n"
        "for name in ('is_available', 'device_count', '_lazy_init'):\n"
        "    own = getattr(torch.cuda, name)\n"
        "    setattr(torch.cuda, name, lambda *args, name=name, own=own: asked.append(name) or own(*args))\n"
        "import peftlab.sweep.preload\n"
        "from peft.import_utils import is_bnb_available\n"
        "print(asked, 'wandb' in sys.modules, torch.get_num_threads() > 0)\n"
        "print(is_bnb_available() == bool(importlib.util.find_spec('bitsandbytes')), 'bitsandbytes' in sys.modules)"
    )
    ended = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert ended.stdout.split() == ["[]", "False", "True", "True", "False"]

"""Whole runs on the tiny model: one finished run that many tests read, and means to make more."""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from omegaconf import DictConfig

from peftlab import cli
from peftlab.one_run import run
from peftlab.reading import plain_yaml
from peftlab.runs import environment
from peftlab.runs.identity import identity
from peftlab.runs.record import RunRecord

packages = functools.cache(environment.installed_packages)


@functools.cache
def git(*arguments: Any, ask: Callable[..., bytes | None] = environment._git) -> bytes | None:
    return ask(*arguments)


@pytest.fixture(scope="module", autouse=True)
def _asked_once() -> Iterator[None]:
    """Neither the commit nor the packages change while tests run; to ask for them takes a tenth of a run's time."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(environment, "_git", git)
        patch.setattr(environment, "installed_packages", packages)
        yield


LEARNING = ["optimizer.lr=1e-2", "budget.max_steps=60", "callbacks=[]"]
"""Enough for LoRA to find some of the entities and miss others."""

RunTiny = Callable[..., RunRecord]


Command = Callable[..., Any]


@pytest.fixture(scope="session")
def run_tiny(compose_config: Callable[..., DictConfig], tiny_model: Path, tiny_data: Path) -> RunTiny:
    """Run the tiny model on the tiny data with further overrides, LoRA for 60 steps (10 epochs) by default."""

    def run_(*overrides: str) -> RunRecord:
        tiny = ["model=folder", f"model.path={tiny_model}", "data=files", f"data.path={tiny_data}"]
        tiny += ["data.batch_size=8", "trainer=cpu", "trainer.precision=32-true", "trainer.log_every=1", "budget=smoke"]
        return run(compose_config(*tiny, *LEARNING, *overrides), ["python", "-m", "train"], overrides)

    return run_


RunOnce = Callable[..., RunRecord]


@pytest.fixture(scope="session")
def run_once(run_tiny: RunTiny, made_once: Callable[[str, Callable[[Path], object]], Path]) -> RunOnce:
    """Return the run of a name, on the tiny model with further overrides, which is made once for all processes."""

    def once(name: str, *overrides: str) -> RunRecord:
        def fill(folder: Path) -> None:
            with pytest.MonkeyPatch.context() as patch:
                patch.setenv("PEFTLAB_CACHE", str(folder / "cache"))
                run_tiny(*overrides, f"run_dir={folder / 'run'}")

        return RunRecord.load(made_once(name, fill) / "run")

    return once


@pytest.fixture(scope="session")
def finished(run_once: RunOnce) -> RunRecord:
    """A finished run; tests only read it."""
    return run_once("finished")


@pytest.fixture(scope="session")
def finished_writer(run_once: RunOnce, language_model: Callable[[str], Path], tiny_headlines: Path) -> RunRecord:
    """A finished run of a decoder, which writes texts; tests only read it."""
    data = ["task=causal_lm", "data=conversations", f"data.path={tiny_headlines}", "budget.max_steps=6"]
    columns = ["data.format.rows.prompt=source", "data.format.rows.answer=target"]
    return run_once(
        "writer", f"model.path={language_model('llama')}", *data, *columns, "task.generate.max_new_tokens=8"
    )


@pytest.fixture(scope="session")
def seal() -> Callable[[Path], None]:
    """Have the record of the run in a folder tell of its configuration as that has been edited."""

    def seal_(folder: Path) -> None:
        record = RunRecord.load(folder)
        data, weights = (record.data["identity"][f"{part}_sha256"] for part in ("data", "weights"))
        record.data["identity"] = identity(plain_yaml.load((folder / "config.yaml").read_text()), data, weights)
        record.write()

    return seal_


@pytest.fixture
def command(command: Command, tiny_overrides: list[str], composed_quickly: None) -> Command:
    """Run ``python -m train TINY ARGUMENTS`` in this process; a failure is raised."""
    return lambda *arguments: command(*tiny_overrides, *arguments)


@pytest.fixture
def peftlab(capsys):
    """Run ``peftlab ARGUMENTS``; returns exit code, stdout and stderr."""

    def run(*arguments):
        try:
            code = cli.main([str(argument) for argument in arguments])
        except SystemExit as end:
            code = end.code
        return code, *capsys.readouterr()

    return run


CALLBACKS = '''
import os
from pathlib import Path

import torch
from lightning.pytorch.callbacks import Callback


class Fail(Callback):
    """Fail after a step."""

    def __init__(self, step: int):
        self.step = step

    def on_train_batch_end(self, trainer, *args):
        if trainer.global_step == self.step:
            raise ArithmeticError("the callback failed")


class LogToWandb(Callback):
    """Log something of one's own, as the documentation of Lightning's logger for W&B shows it."""

    def on_train_start(self, trainer, *args):
        trainer.logger.experiment.log({"mine": 42})


class Spoil(Callback):
    """Make the weights worse after a step."""

    def __init__(self, step: int):
        self.step = step

    def on_train_batch_end(self, trainer, tuner, *args):
        if trainer.global_step == self.step:
            with torch.no_grad():
                for weight in tuner.trained().values():
                    weight.mul_(-3)


class Lay(Callback):
    """Lay links to a file in the place of files of the run, after a step, and print something."""

    def __init__(self, folder: str, target: str, step: int):
        self.folder, self.target, self.step = Path(folder), Path(target).absolute(), step

    def on_train_batch_end(self, trainer, *args):
        print("step", trainer.global_step, flush=True)
        if trainer.global_step == self.step:
            for name in ("notes", "trail.jsonl", "metrics.csv", "wandb/latest-run", "adapter/adapter_config.json"):
                path = self.folder / name
                path.parent.mkdir(exist_ok=True)
                path.unlink(missing_ok=True)
                path.symlink_to(self.target)


class Signal(Callback):
    """Send this process a signal, once, when a hook is reached."""

    def __init__(self, number: int, hook: str, step: int = 0):
        def send(trainer, *args, **options):
            if trainer.global_step >= step:
                setattr(self, hook, lambda *args, **options: None)
                os.kill(os.getpid(), number)

        setattr(self, hook, send)
'''


@pytest.fixture
def users_callbacks(tmp_path_factory, monkeypatch) -> Iterator[Callable[..., list[str]]]:
    """A package `users_callbacks` on the path; returns the overrides that add one of its classes to a run."""
    folder = tmp_path_factory.mktemp("package")
    (folder / "users_callbacks.py").write_text(CALLBACKS)
    monkeypatch.syspath_prepend(folder)

    def overrides(name: str, **options: object) -> list[str]:
        given = [f"+callbacks.users.{key}={value}" for key, value in options.items()]
        return ["allow=[users_callbacks]", f"+callbacks.users._target_=users_callbacks.{name}", *given]

    yield overrides
    sys.modules.pop("users_callbacks", None)

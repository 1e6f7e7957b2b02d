"""What is kept of the checks of finished trials, and when it no longer holds."""

from __future__ import annotations

import json
import logging
import os
import time
from pathlib import Path

import pytest

from peftlab.sweep import checked
from peftlab.sweep.checked import Checked, surroundings
from peftlab.sweep.worker import Fact, Machine

CONFIG = {"seed": 1, "model": {"source": {"repo": "a/b", "revision": "0" * 40}}}
FACT = Fact("0" * 64, "f1", "max", "pack")
CPU = {"OMP_NUM_THREADS": "1"}


@pytest.fixture
def kept(tmp_path: Path) -> Path:
    """The file that holds one fact, found out from a file of data."""
    data = tmp_path / "data.txt"
    data.write_text("a")
    state = data.stat()
    files = {str(data): (state.st_size, state.st_mtime_ns, state.st_ino)}
    file = tmp_path / "checked" / "0.json"
    Checked(file).keep([(CONFIG, FACT)], CPU, files, Machine(["0"], 4))
    return file


def test_a_fact_holds_for_its_configuration_environment_and_files(kept):
    again = Checked(kept)
    assert again.machine == Machine(["0"], 4)
    assert again.fact(CONFIG, CPU) == FACT
    assert again.knows(CONFIG)
    assert again.fact(CONFIG, {"OMP_NUM_THREADS": "2"}) is None
    assert again.fact(CONFIG | {"seed": 2}, CPU) is None
    assert not again.knows(CONFIG | {"seed": 2})
    (kept.parent.parent / "data.txt").write_text("bc")
    assert Checked(kept).fact(CONFIG, CPU) is None


def test_the_latest_fact_holds_and_others_stay(kept):
    again = Checked(kept)
    other = Fact("1" * 64, "f1", "max")
    again.keep([(CONFIG, other)], CPU, {}, Machine([], 2))
    again.keep([(CONFIG | {"seed": 2}, FACT)], {}, {}, Machine([], 2))
    for one in (again, Checked(kept)):
        assert one.fact(CONFIG, CPU) == other
        assert one.fact(CONFIG | {"seed": 2}, {}) == FACT
        assert one.machine == Machine([], 2)
    assert len(json.loads(kept.read_text())["groups"]) == 2  # the first fact is superseded, and its group gone


@pytest.mark.parametrize(
    "config",
    [
        {"allow": ["mine"]},  # code that may change
        {"model": {"source": {"repo": "a/b", "revision": None}}},  # a branch, which may move
        {"augment": [{"model": {"repo": "a/b", "revision": "main"}}]},
        {"lr": float("nan")},
    ],
)
def test_nothing_is_kept_that_files_and_surroundings_do_not_decide(config, kept):
    again = Checked(kept)
    again.keep([(config, FACT)], CPU, {}, Machine([], 1))
    assert again.fact(config, CPU) is None
    assert Checked(kept).machine == Machine(["0"], 4)  # nothing was written


@pytest.mark.parametrize("text", ["", "{", "[]", '{"machine": {"gpus": [], "cores": 1}}'])
def test_a_damaged_file_holds_nothing(kept, text):
    kept.write_text(text)
    assert Checked(kept).fact(CONFIG, CPU) is None
    assert Checked(kept).machine is None


def test_the_facts_of_other_surroundings_are_kept_for_a_month(kept):
    ages = {"1.json": 29, "2.json": 31}
    for name, days in ages.items():
        (kept.parent / name).write_text("{}")
        os.utime(kept.parent / name, (time.time() - days * 86400,) * 2)
    Checked(kept).keep([(CONFIG, FACT)], {}, {}, Machine([], 1))
    assert {file.name for file in kept.parent.glob("*.json")} == {"0.json", "1.json"}


def test_a_cache_that_cannot_be_written_costs_nothing_else(kept, monkeypatch, caplog):
    monkeypatch.setattr(logging.getLogger("peftlab"), "propagate", True)

    def refuse(*_):
        raise OSError("read-only")

    monkeypatch.setattr(checked, "replacing", refuse)
    Checked(kept).keep([(CONFIG, FACT)], {}, {}, Machine([], 1))
    assert "check its trials again: read-only" in caplog.text


@pytest.mark.slow
def test_surroundings_are_where_and_with_what_a_command_runs(monkeypatch):
    here = surroundings()
    assert surroundings() == here
    assert json.loads(json.dumps(here)) == here
    monkeypatch.setenv("UNRELATED", "1")
    assert surroundings() == here
    for change in (
        lambda: monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "7"),
        lambda: monkeypatch.chdir("/"),
        lambda: monkeypatch.setattr(checked, "_code", lambda: [("other.py", 1, 2)]),
        lambda: monkeypatch.setattr(checked, "packages_text", lambda: "torch==0"),
    ):
        before = surroundings()
        change()
        assert surroundings() != before

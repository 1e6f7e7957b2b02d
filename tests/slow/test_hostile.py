"""The harness of ``experiments/reliability/hostile.py``: nothing gets through, and it notices what would."""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

RELIABILITY = Path(__file__).parents[2] / "experiments" / "reliability"
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def tried(made_once: Callable[[str, Callable[[Path], object]], Path]) -> Path:
    """The folder of a small campaign, of one case of each kind."""

    def try_(out: Path) -> None:
        command = [sys.executable, str(RELIABILITY / "hostile.py"), "--count", "1", "--out", str(out)]
        ended = subprocess.run(command, capture_output=True, text=True, check=False)
        (out / "said").write_text(ended.stdout + ended.stderr)

    return made_once("hostile", try_)


@pytest.fixture
def harness(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Any]:
    monkeypatch.syspath_prepend(str(RELIABILITY))
    return importlib.import_module


@pytest.fixture
def jail(harness, tried: Path, tmp_path: Path) -> Any:
    return harness("jail").Jail(tmp_path / "case", tried / "base")


@pytest.fixture
def outside(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file that could be, in a folder that no jail has to do with."""
    return tmp_path_factory.mktemp("outside") / "file"


def outcomes(out: Path) -> list[dict[str, Any]]:
    rows = []
    for line in (out / "outcomes.jsonl").read_text().splitlines():
        with contextlib.suppress(ValueError):
            rows.append(json.loads(line))
    return rows


def test_nothing_gets_through(tried: Path):
    rows = outcomes(tried)
    kinds = {"configurations", "models", "runs", "archives", "data", "secrets", "innocent"}
    assert {(row["kind"], row["number"]) for row in rows} == {(kind, 0) for kind in kinds}
    assert all(row["commands"] for row in rows)
    assert [row for row in rows if row["faults"]] == []


@pytest.mark.exhaustive
def test_a_campaign_goes_on_and_its_cases_are_drawn_again_as_they_were(tried: Path, tmp_path: Path):
    shutil.copytree(tried / "base", tmp_path / "base")
    command = [
        sys.executable,
        str(RELIABILITY / "hostile.py"),
        "--only",
        "data",
        "--count",
        "2",
        "--out",
        str(tmp_path),
    ]

    def go_on() -> tuple[str, dict[int, str]]:
        said = subprocess.run(command, capture_output=True, text=True, check=False).stdout
        return said, {row["number"]: row["what"] for row in outcomes(tmp_path)}

    said, first = go_on()
    assert "2 cases in" in said
    lines = (tmp_path / "outcomes.jsonl").read_text().splitlines()
    (tmp_path / "outcomes.jsonl").write_text("\n".join(lines[:-1]) + "\n" + lines[-1][:50])
    said, second = go_on()
    assert "1 cases in" in said
    assert second == first


def _write(path: Path) -> Callable[[], object]:
    return lambda: path.write_text("x")


@pytest.mark.parametrize(
    ("kind", "work"),
    [
        ("code run", lambda jail: _write(jail.canary / "x")),
        pytest.param(
            "code run",
            lambda jail: lambda: subprocess.run(["touch", "/dev/null"], check=False),
            marks=pytest.mark.exhaustive,
        ),
        pytest.param("code run", lambda jail: lambda: os.system("true"), marks=pytest.mark.exhaustive),
        ("written elsewhere", lambda jail: _write(jail.elsewhere / "notes.txt")),
        pytest.param("written elsewhere", lambda jail: _write(jail.here / "evil.py"), marks=pytest.mark.exhaustive),
        pytest.param(
            "written elsewhere", lambda jail: _write(jail.root / "home" / ".bashrc"), marks=pytest.mark.exhaustive
        ),
        pytest.param("written elsewhere", lambda jail: jail.outside.touch, marks=pytest.mark.exhaustive),
        pytest.param(
            "written elsewhere", lambda jail: (jail.elsewhere / "metrics.csv").unlink, marks=pytest.mark.exhaustive
        ),
        pytest.param(
            "written elsewhere",
            lambda jail: lambda: os.rename(jail.elsewhere / "notes.txt", jail.root / "tmp" / "x"),
            marks=pytest.mark.exhaustive,
        ),
        ("hang", lambda jail: lambda: time.sleep(20)),
        ("traceback", lambda jail: lambda: 1 / 0),
        pytest.param("traceback", lambda jail: lambda: sys.exit(3), marks=pytest.mark.exhaustive),
        pytest.param(
            "traceback", lambda jail: lambda: os.kill(os.getpid(), signal.SIGSEGV), marks=pytest.mark.exhaustive
        ),
        (None, lambda jail: lambda: print("fine")),
        pytest.param(None, lambda jail: lambda: sys.exit(2), marks=pytest.mark.exhaustive),
        pytest.param(None, lambda jail: (jail.here / "runs").mkdir, marks=pytest.mark.exhaustive),
    ],
)
def test_the_jail_notices(jail: Any, outside: Path, harness, monkeypatch, kind, work):
    monkeypatch.setattr(harness("jail"), "LIMIT", 1.0 if kind == "hang" else 60.0)
    jail.outside = outside
    jail.run("work", work(jail))
    assert {fault for fault, _ in jail.faults} == ({kind} if kind else set())


def test_another_result_under_one_identity_is_noticed(jail: Any, harness):
    models = harness("hostile_models")
    models._compare(jail, ("id", "a"), ("id", "a"), "the same")
    models._compare(jail, ("id", "a"), ("other", "b"), "another identity")
    models._compare(jail, ("id", "a"), None, "refused")
    assert jail.faults == []
    models._compare(jail, ("id", "a"), ("id", "b"), "changed")
    assert jail.faults == [("results changed under one identity", "changed")]


def test_another_answer_is_noticed(jail: Any, harness):
    runs, ended = harness("hostile_runs"), harness("jail").Ended
    answers = (jail.base / "answers.jsonl").read_text()
    runs._check_answers(ended("peftlab predict", 0, answers), jail, "sound")
    runs._check_answers(ended("peftlab predict", 2, ""), jail, "refused")
    assert jail.faults == []
    runs._check_answers(ended("peftlab predict", 0, answers.replace("ada", "eve")), jail, "spoilt")
    assert [kind for kind, _ in jail.faults] == ["results changed under one identity"]


@pytest.mark.parametrize(("said", "accepted"), [("identical: ...", True), ("different: ...", False)])
def test_a_record_that_is_believed_is_noticed(jail: Any, harness, monkeypatch, said: str, accepted: bool):
    runs, module = harness("hostile_runs"), harness("jail")
    monkeypatch.setattr(module.Jail, "peftlab", lambda self, *given: module.Ended("reproduce", 0, said))
    draw = random.Random(1)
    monkeypatch.setattr(draw, "random", iter([0.9, *[0.3] * 1000]).__next__)  # finished, and contradicting itself
    runs.case(draw, jail)
    assert [kind for kind, _ in jail.faults] == ["tampered record accepted"] * accepted


def test_a_secret_is_noticed_wherever_it_is(jail: Any, harness):
    secrets = harness("hostile_secrets")
    secret = "hf_" + "x1" * 17
    (jail.here / "runs").mkdir()
    secrets._look_for(secret, "nothing", jail, "")
    assert jail.faults == []
    secrets._look_for(secret, f"says {secret}", jail, "said")
    (jail.here / "runs" / "log.txt").write_text(secret)
    secrets._look_for(secret, "nothing", jail, "left")
    (jail.here / "runs" / "log.txt").unlink()
    (jail.here / "runs" / secret).mkdir()
    secrets._look_for(secret, "nothing", jail, "named")
    assert [kind for kind, _ in jail.faults] == ["secret leaked"] * 3


def test_an_innocent_value_that_is_masked_is_noticed(jail: Any, harness, monkeypatch):
    module, secrets = harness("jail"), harness("hostile_secrets")

    def train(self: Any, *arguments: str) -> None:
        run = self.here / "runs" / "x"
        run.mkdir(parents=True)
        given = (self.here / "own_conf" / "experiment" / "x.yaml").read_text().splitlines()[1:]
        (run / "config.yaml").write_text("\n".join(line.replace("monthly", "'****'") for line in given))
        (run / "record.json").write_text("{}")
        (run / "log.txt").write_text((self.here / "text.txt").read_text())

    monkeypatch.setattr(module.Jail, "train", train)
    monkeypatch.setattr(secrets, "_draw_innocent", lambda draw: (f"cookie{draw.random()}", "monthly"))
    secrets.innocent(random.Random(0), jail)
    assert {kind for kind, _ in jail.faults} == {"innocent value masked"}

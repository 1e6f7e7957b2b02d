"""The example of credit risk: its planted texts, and the commands of its README on a made-up table."""

from __future__ import annotations

import csv
import json
import re
import runpy
import shlex
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from tests.examples.joins import sweep_and_report

from peftlab import cli
from peftlab.composing.compose import conf_dir
from peftlab.sources import Fetched, IndexSource

pytestmark = pytest.mark.slow

EXAMPLE = conf_dir().parent / "examples/credit_risk"
COMMANDS = [
    line
    for block in re.findall(r"```bash\n(.*?)```", (EXAMPLE / "README.md").read_text(encoding="utf-8"), re.DOTALL)
    for line in block.splitlines()
]
CODES = {
    "status": ["A11", "A12", "A13", "A14"],
    "savings": ["A61", "A62", "A63", "A64", "A65"],
    "employment": ["A71", "A72", "A73", "A74", "A75"],
    "purpose": ["A40", "A41"],
}


@pytest.fixture
def plant(tmp_path, monkeypatch):
    """Run the script on a made-up table in the form of the German one, without a network."""
    random = np.random.default_rng(0)
    rows = []
    for _ in range(300):
        chosen = {name: random.choice(codes) for name, codes in CODES.items()}
        bad = random.random() < (0.7 if chosen["status"] == "A11" else 0.25)
        one_hot = {f"{name}_{code}": int(chosen[name] == code) for name, codes in CODES.items() for code in codes}
        sex = int(random.integers(0, 2))
        rows.append(
            {"month": int(random.integers(6, 48)), "sex": sex, "credit-label": int(bad), "sex-age": 0, **one_hot}
        )
    with (tmp_path / "german.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    monkeypatch.setattr(IndexSource, "fetch", lambda self: Fetched(folder=tmp_path, origin="made up"))

    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["plant.py", *arguments])
        runpy.run_path(str(EXAMPLE / "plant.py"), run_name="__main__")
        with Path(arguments[1]).open(newline="") as file:
            return list(csv.DictReader(file))

    return run


def test_planted_texts_say_what_was_withheld_and_null_texts_are_those_of_others(plant):
    planted, null = plant("german", "planted.csv"), plant("german", "null.csv", "--null")
    assert set(planted[0]) == {"applied", "month", "purpose", "sex", "label", "text"}
    bad = {
        told: np.mean([row["label"] == "bad" for row in planted if ("overdrawn" in row["text"]) == told])
        for told in (0, 1)
    }
    assert bad[1] > bad[0] + 0.2
    assert Counter(row["text"] for row in planted) == Counter(row["text"] for row in null)
    apart = ["applied", "month", "purpose", "sex", "label"]
    assert [[row[name] for name in apart] for row in planted] == [[row[name] for name in apart] for row in null]
    assert plant("german", "again.csv") == planted
    assert len(plant("german", "few.csv", "--rows", "50")) == 50


def test_the_commands_of_the_readme_work(plant, tiny_model, capsys):
    plant("german", "applications.csv")
    tiny = ["model=folder", f"model.path={tiny_model}", "trainer=cpu", "data.max_tokens=64"]
    tiny += ["budget.max_steps=2"]
    building, predicting = (shlex.split(line)[1:] for line in COMMANDS)
    assert cli.main([*building, *tiny, "--folds", "2"]) == 0
    assert cli.main([*predicting, "--json"]) == 0
    out = capsys.readouterr().out
    assert len(json.loads(out[out.index("\n[") if "\n[" in out else 0 :])) == 300
    compared = sweep_and_report(EXAMPLE, tiny)
    assert (compared["metric"], compared["baseline"]) == ("loss", "head")

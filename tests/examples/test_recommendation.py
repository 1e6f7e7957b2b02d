"""The example of recommendation: every command of its README, on a tiny model."""

from __future__ import annotations

import json
import re
import shlex
import shutil
from pathlib import Path

import pytest
from tests.examples.joins import response, sweep_and_report

from peftlab import cli
from peftlab.composing.compose import conf_dir
from peftlab.runs.record import RunRecord

pytestmark = pytest.mark.slow

EXAMPLE = conf_dir().parent / "examples" / "recommendation"
(COMMANDS,) = re.findall(r"```bash\n(.*?)```", (EXAMPLE / "README.md").read_text(encoding="utf-8"), re.DOTALL)


def test_every_command_of_its_readme_runs(tiny_model, tmp_path, monkeypatch, capsys):
    shutil.copytree(EXAMPLE, tmp_path / "recommendation")
    monkeypatch.chdir(tmp_path / "recommendation")
    tiny = ["model=folder", f"model.path={tiny_model}", "trainer=cpu", "trainer.precision=32-true", "logger=[]"]
    for line in COMMANDS.splitlines():
        words = shlex.split(line)[1:]
        cli.main([*words, *{"train": [*tiny, "budget.max_epochs=4", "data.max_tokens=32"]}.get(words[0], [])])
    out = capsys.readouterr().out
    assert "recent_knn" in out
    assert "items kept out of training" in out
    record = RunRecord.load(Path("runs/shop"))
    assert record.score("test", "hit@10") > record.score("test", "chance@10")
    (answer,) = json.loads(response(EXAMPLE, Path("runs/shop"), monkeypatch))["answers"]
    assert not {"p000", "p004"} & set(answer["items"])
    compared = sweep_and_report(EXAMPLE, [*tiny, "budget.max_epochs=null", "budget.max_steps=1", "data.max_tokens=32"])
    assert (compared["metric"], compared["baseline"]) == ("hit@10", "items=ids")

"""The example of opinion monitoring: every command of its README, on a tiny model."""

from __future__ import annotations

import json
import re
import runpy
import shlex
import shutil
import sys
from pathlib import Path

import pytest
from tests.examples.joins import sweep_and_report

from peftlab import cli
from peftlab.composing.compose import conf_dir

pytestmark = pytest.mark.slow

EXAMPLE = conf_dir().parent / "examples" / "opinion_monitoring"
(COMMANDS,) = re.findall(r"```bash\n(.*?)```", (EXAMPLE / "README.md").read_text(encoding="utf-8"), re.DOTALL)


def test_every_command_of_its_readme_runs(tiny_model, tiny_texts, tmp_path, monkeypatch, capsys):
    shutil.copytree(EXAMPLE, tmp_path / "example")
    monkeypatch.chdir(tmp_path / "example")
    tiny = [
        "model=folder",
        f"model.path={tiny_model}",
        "data=csv",
        f"data.path={tiny_texts}",
        "trainer=cpu",
        "logger=[]",
    ]
    tiny += [
        "trainer.precision=32-true",
        "budget=smoke",
        "budget.max_epochs=null",
        "budget.max_steps=120",
        "optimizer.lr=5e-3",
        "callbacks=[]",
    ]
    settings = Path("watch.yaml")  # 16 texts do not show how five labels are confused, and come again and again
    settings.write_text(settings.read_text() + "correction: none\nmin_count: 5\nrepeats: all\n")
    for line in COMMANDS.splitlines():
        program, *words = shlex.split(line)
        if program == "python":
            few = ["--days", "40", "--a-day", "60", "--shift-on", "32", "--label", "hire", "--points", "0.7"]
            monkeypatch.setattr(sys, "argv", [*words, *few])
            runpy.run_path(words[0], run_name="__main__")
        else:
            cli.main([*words, *(["data.batch_size=8", "model.dropout=0", *tiny] if words[0] == "train" else [])])
    assert (EXAMPLE / "run.sh").read_text().endswith(COMMANDS)
    assert "40 windows of 2,400 rows" in capsys.readouterr().out
    alerts = [json.loads(line) for line in Path("watch/alerts.jsonl").read_text().splitlines()]
    assert len(list(Path("watch/mail").iterdir())) == len(alerts) > 0
    assert Path("watch/report.html").is_file()
    compared = sweep_and_report(EXAMPLE, [*tiny, "budget.max_steps=1"])
    assert (compared["metric"], compared["baseline"]) == ("accuracy", "head")

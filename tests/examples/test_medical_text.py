"""The example of medical text: every command of its README, on a tiny model; its notes, and their slices."""

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
from peftlab.data.pubtator import PubTator
from peftlab.runs.record import RunRecord
from peftlab.use.slices.short_forms import pairs

EXAMPLE = conf_dir().parent / "examples" / "medical_text"
(COMMANDS,) = re.findall(r"```bash\n(.*?)```", (EXAMPLE / "README.md").read_text(encoding="utf-8"), re.DOTALL)


@pytest.mark.slow
def test_every_command_of_its_readme_runs(tiny_model, tmp_path, monkeypatch, capsys):
    shutil.copytree(EXAMPLE, tmp_path / "medical_text")
    monkeypatch.chdir(tmp_path / "medical_text")
    tiny = ["model=folder", f"model.path={tiny_model}", "trainer=cpu", "trainer.precision=32-true", "logger=[]"]
    tiny += ["budget=smoke", "budget.max_steps=60", "optimizer.lr=1e-2", "callbacks=[]", "data.max_tokens=64"]
    for line in COMMANDS.splitlines():
        words = shlex.split(line)[1:]
        cli.main([*words, *{"train": tiny, "slices": ["--min-slice", "3"]}.get(words[0], [])])
    out = capsys.readouterr().out
    assert "> **Notice**: not for clinical use" in out
    assert "**Errors by slice**: entity" in out
    record = RunRecord.load(Path("runs/notes")).data
    assert record["status"] == "completed"
    (found,) = json.loads(Path("runs/notes/slices.json").read_text())
    assert found["units"] == "groups"
    assert {one["slicer"] for one in found["found"]} == {"abbreviation", "negation", "seen"}
    assert "negation: negated" not in found["small"]
    assert "x-notice: not for clinical use" in response(EXAMPLE, Path("runs/notes"), monkeypatch)
    compared = sweep_and_report(EXAMPLE, [*tiny, "budget.max_steps=1"])
    assert (compared["baseline"], compared["units"]) == ("head", "groups")


def test_its_notes_hold_what_they_are_for():
    read = PubTator().read({"train": EXAMPLE / "data/notes.txt"})["train"]
    assert read.counts["documents"] == 60
    assert not {"split_words", "across_sentences", "overlapping"} & read.counts.keys()
    assert sum(bool(pairs(sentence.text)) for sentence in read) == 60

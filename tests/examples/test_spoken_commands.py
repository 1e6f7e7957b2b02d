"""The example of spoken commands: every command of its README, on a tiny model and tones in place of voices."""

from __future__ import annotations

import json
import re
import runpy
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import soundfile
from tests.examples.joins import response, sweep_and_report
from tests.sound_models import RATE, tone

from peftlab import cli
from peftlab.composing.compose import conf_dir

EXAMPLE = conf_dir().parent / "examples" / "spoken_commands"
(COMMANDS,) = re.findall(r"```bash\n(.*?)```", (EXAMPLE / "README.md").read_text(encoding="utf-8"), re.DOTALL)


def spoken(command: list[str], check: bool) -> None:
    """Write a tone in the place of espeak-ng's voice: its pitch is that of the word, up to the voice."""
    program, *options, file, words = command
    assert (program, check) == ("espeak-ng", True)
    voice = int(options[options.index("-p") + 1])
    soundfile.write(file, tone(200 + 150 * (len(words) % 5) + voice, 0.3), RATE)


@pytest.mark.slow
def test_every_command_of_its_readme_runs(language_model, tmp_path, monkeypatch, capsys):
    shutil.copytree(EXAMPLE, tmp_path / "example")
    monkeypatch.chdir(tmp_path / "example")
    tiny = ["model=folder", f"model.path={language_model('whisper')}", "trainer=cpu", "trainer.precision=32-true"]
    tiny += ["budget.max_epochs=null", "budget.max_steps=4", "logger=[]", "callbacks=[]", "task.max_seconds=0.4"]
    for line in COMMANDS.splitlines():
        program, *words = shlex.split(line)
        if program == "python":
            with monkeypatch.context() as patch:
                patch.setattr(sys, "argv", words)
                patch.setattr(subprocess, "run", spoken)
                runpy.run_path(words[0], run_name="__main__")
        else:
            code = cli.main([*words, *(tiny if words[0] == "train" else [])])
            assert not code
    assert "{'train': 240, 'validation': 60, 'test': 100}" in capsys.readouterr().out
    record = json.loads(Path("run/record.json").read_text())
    assert record["data"]["splits"]["test"]["rows"] == 100
    kept = [json.loads(line) for line in Path("run/predictions/test.jsonl").read_text().splitlines()]
    tables = [Path(f"commands/{split}.csv").read_text().splitlines()[1:] for split in ("train", "validation", "test")]
    speakers = [{row.rpartition(",")[2] for row in rows} for rows in tables]
    assert [len(each) for each in speakers] == [24, 6, 10]
    assert len(set().union(*speakers)) == 40
    assert {answer["group"] for answer in kept} == speakers[2]
    assert list(Path("report").iterdir())
    (answer,) = json.loads(response(EXAMPLE, Path("run"), monkeypatch))["answers"]
    assert answer["predicted"] in record["data"]["labels"]
    compared = sweep_and_report(EXAMPLE, [*tiny, "budget.max_steps=1"])
    assert (compared["baseline"], compared["clusters"]) == ("head", 10)
    assert (EXAMPLE / "run.sh").read_text().endswith(COMMANDS)


def test_sentences_differ_between_the_splits():
    made = runpy.run_path(str(EXAMPLE / "make_recordings.py"))
    texts: dict[str, set[str]] = {}
    for split, _, words in made["spoken"]("sentences", 15):
        texts.setdefault(split, set()).add(words)
    assert [len(texts[split]) for split in made["SPLITS"]] == [360, 90, 150]
    assert len(set().union(*texts.values())) == 600

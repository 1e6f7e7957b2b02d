"""The commands of examples/textile_images, on a tiny model and tiny pictures."""

from __future__ import annotations

import json
import re
import shlex
import shutil
from pathlib import Path

import pytest
from tests.examples.joins import response, sweep_and_report

import peftlab
from peftlab.composing.compose import conf_dir

EXAMPLE = conf_dir().parent / "examples" / "textile_images"
README = EXAMPLE / "README.md"
COMMANDS = re.findall(r"^peftlab train (?!-m)(.*)", README.read_text(encoding="utf-8"), re.MULTILINE)


@pytest.mark.slow
@pytest.mark.parametrize("line", COMMANDS)
def test_a_command_of_the_readme(line, language_model, tiny_pictures):
    given = [
        word.replace("my_pictures", str(tiny_pictures)) for word in shlex.split(line) if word != "name=my_pictures"
    ]
    tiny = ["model=folder", f"model.path={language_model('vit')}", "task.size=16", "trainer=cpu", "budget=smoke"]
    tiny += ["budget.max_steps=2", "data.batch_size=4", "logger=[]", "run_dir=run"]
    tiny += [] if any(word.startswith("data=") for word in given) else ["data=pictures", f"data.path={tiny_pictures}"]
    assert peftlab.run(*given, *tiny).data["status"] == "completed"
    (answer,) = peftlab.load("run").predict([{"path": str(tiny_pictures / "test" / "red" / "0.png")}])
    assert answer["predicted"] in ("green", "red")


@pytest.mark.slow
def test_a_server_is_asked_and_sizes_are_swept(language_model, tiny_pictures, monkeypatch):
    tiny = ["model=folder", f"model.path={language_model('vit')}", "data=pictures", f"data.path={tiny_pictures}"]
    tiny += ["budget=smoke", "budget.max_steps=1", "data.batch_size=4", "task.size=16,32"]
    compared = sweep_and_report(EXAMPLE, tiny)
    assert (compared["metric"], compared["by"]) == ("macro_f1", ["task.size"])
    shutil.copy(tiny_pictures / "test" / "red" / "0.png", "photo.jpg")
    run, *_ = Path("sweeps/textile_lora").glob("*/")
    (answer,) = json.loads(response(EXAMPLE, run, monkeypatch))["answers"]
    assert answer["predicted"] in ("green", "red")


def test_there_are_commands():
    assert len(COMMANDS) == 2

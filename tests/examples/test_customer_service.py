"""The commands of the README, small: a tiny model, a few questions with made-up intents."""

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

pytestmark = pytest.mark.slow

EXAMPLE = conf_dir().parent / "examples" / "customer_service"
VERBS = ["lost", "broke", "want", "see", "pay", "change", "close", "move"]


def commands() -> list[list[str]]:
    """Return the commands of the README's first block; the last one serves until it is ended."""
    block, *_ = re.findall(r"```text\n(.*?)```", (EXAMPLE / "README.md").read_text(encoding="utf-8"), re.DOTALL)
    lines = [shlex.split(line)[1:] for line in block.splitlines()]
    assert lines[-1][0] == "serve"
    return lines


def small(words: list[str], model: Path) -> list[str]:
    """Return a command as a reader with a tiny model gives it."""
    words = [word.replace("DATA", "data") for word in words]
    if words[0] == "train":
        words += [
            "model=folder",
            f"model.path={model}",
            "budget.max_epochs=2",
            "out_of_scope.held_out=2",
            "trainer=cpu",
        ]
    return ["service" if word == "minilm" else "--run" if word == "--model" else word for word in words]


def test_the_readmes_commands(tiny_model, capsys, tmp_path, monkeypatch):
    shutil.copytree(EXAMPLE, tmp_path, dirs_exist_ok=True)
    (tmp_path / "data").mkdir()
    for name, each in {"train": 12, "test": 3}.items():
        rows = [f"I {verb} my card {n} {name},{verb}_card" for verb in VERBS for n in range(each)]
        (tmp_path / "data" / f"{name}.csv").write_text("\n".join(["text,category", *rows]) + "\n", encoding="utf-8")
    shown = []
    for words in commands()[:-1]:
        assert cli.main(small(words, tiny_model)) in (0, None)
        shown.append(capsys.readouterr().out)
    section = json.loads(Path("service/record.json").read_text(encoding="utf-8"))["out_of_scope"]
    assert section["texts"]["far"] == 40
    assert section["texts"]["near"] == 2 * 3
    assert section["cheapest"]["threshold"] is not None
    assert re.search(r"recall@3 +0\.\d|recall@3 +1", shown[2])
    assert "in scope" in shown[3]
    answers = json.loads(response(EXAMPLE, Path("service"), monkeypatch))["answers"]
    assert [answer["action"] in ("answered", "asked", "escalated") for answer in answers] == [True, True]
    tiny = ["model=folder", f"model.path={tiny_model}", "data.path=data", "budget.max_epochs=1"]
    curve = sweep_and_report(EXAMPLE, [*tiny, "budget.train_examples=24,48,null"])
    assert (curve["metric"], curve["by"]) == ("accuracy", ["budget.train_examples"])

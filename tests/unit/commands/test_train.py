"""``peftlab train``: exactly what ``python -m train`` does, by a ``train.py`` that no other file can stand in for."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from peftlab import cli
from peftlab.sweep.arguments import command as sweep_command


@pytest.fixture
def peftlab(monkeypatch, capsys):
    """Run ``peftlab ARGUMENTS`` in this process; returns exit code, stdout and stderr."""

    def run(*arguments: str):
        monkeypatch.setattr(sys, "argv", list(sys.argv))
        code = 0
        try:
            cli.main(arguments)
        except SystemExit as end:
            code = end.code or 0
        return code, *capsys.readouterr()

    return run


@pytest.mark.slow
@pytest.mark.parametrize(
    "arguments",
    [
        ["--help"],
        ["--cfg", "job", "+experiment=ner_lora", "seed=7"],
        ["--cfg", "job", "-m", "+experiment=ner_lora", "peft=lora,head", "seed=1,2"],
        ["peft=lorra"],
        ["optimizer.lr=fast"],
        ["--experimental-rerun=x"],
        ["--config-dir", "nowhere"],
    ],
    ids=" ".join,
)
def test_it_says_what_python_m_train_says(peftlab, command, tmp_path, arguments):
    assert peftlab("train", *arguments) == tuple(command(*arguments))
    assert list(tmp_path.iterdir()) == []


def test_a_file_called_train_in_the_current_folder_is_another(peftlab, monkeypatch):
    Path("train.py").write_text("raise RuntimeError('not this one')")
    monkeypatch.syspath_prepend(Path.cwd())
    code, out, _ = peftlab("train", "--cfg", "job", "seed=7")
    assert (code, "seed: 7" in out) == (0, True)


@pytest.mark.slow
def test_what_was_typed_is_kept(peftlab, monkeypatch):
    monkeypatch.setattr("peftlab.commands.train.run_composed", lambda config: print(*sweep_command()))
    assert peftlab("train", "seed=1")[1] == "peftlab train seed=1\n"
    monkeypatch.setattr(sys, "argv", ["/somewhere/train.py", "seed=1"])
    assert sweep_command() == ["python", "-m", "train", "seed=1"]


OWN = ["+callbacks.mine._target_=mine.Mine", "budget.max_steps=2"]


def write_modules(folder: Path) -> None:
    """Write a module of the user's, and some with names that are imported, which would say so."""
    for name in ("train", "yaml", "torch", "tqdm", "multiprocessing", "sitecustomize"):
        (folder / f"{name}.py").write_text(f"print('{name} is imported')\n")
    own = "from lightning.pytorch.callbacks import Callback\nclass Mine(Callback):\n    pass\n"
    (folder / "mine.py").write_text(own)


def ended(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run ``peftlab train ARGUMENTS`` in a process of its own, by such a script as pip makes."""
    here = str(Path.cwd())
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(entry for entry in sys.path if entry not in ("", here))}
    script = Path("bin", "peftlab")
    script.parent.mkdir(exist_ok=True)
    script.write_text("import sys\nfrom peftlab.cli import main\nif __name__ == '__main__':\n    sys.exit(main())\n")
    words = [sys.executable, str(script), "train", *arguments]
    return subprocess.run(words, capture_output=True, text=True, check=False, env=environment)


@pytest.mark.exhaustive
def test_nothing_is_imported_from_the_current_folder_but_what_is_allowed(tmp_path, tiny_overrides):
    write_modules(tmp_path)
    refused = ended(*tiny_overrides, *OWN, "run_dir=run")
    assert (refused.returncode, "add a package of your own" in refused.stderr) == (2, True)
    allowed = ended(*tiny_overrides, *OWN, "run_dir=run", "allow=[mine]")
    assert allowed.returncode == 0, allowed.stderr
    assert "is imported" not in allowed.stdout + allowed.stderr
    assert json.loads((tmp_path / "run" / "record.json").read_text())["command"][:2] == ["peftlab", "train"]


@pytest.mark.exhaustive
def test_trials_and_ranks_find_what_is_allowed_and_nothing_else(tmp_path, tiny_overrides):
    """The fork server of a sweep, its children, and the processes of a run on two devices."""
    write_modules(tmp_path)
    swept = ended(
        "-m",
        *tiny_overrides,
        *OWN,
        "allow=[mine]",
        "seed=0,1",
        "sweep.probe_seconds=0",
        "sweep.report=false",
        "sweep_dir=sweep",
    )
    assert swept.returncode == 0, swept.stderr
    records = [json.loads(file.read_text()) for file in (tmp_path / "sweep").glob("*/record.json")]
    assert [record["status"] for record in records] == ["completed"] * 2
    assert {tuple(record["command"][:3]) for record in records} == {("peftlab", "train", "-m")}
    several = ended(*tiny_overrides, *OWN, "allow=[mine]", "trainer=ddp", "trainer.devices=2", "run_dir=two")
    assert several.returncode == 0, several.stderr
    said = swept.stdout + swept.stderr + several.stdout + several.stderr
    said += "".join(file.read_text() for file in tmp_path.rglob("*.txt"))
    assert "is imported" not in said

"""The example of a user's own project: configuration and classes of theirs, without a change to ours."""

from __future__ import annotations

import re
import shlex
import shutil
import sys
from pathlib import Path

import pytest

import peftlab
from peftlab.composing.compose import conf_dir
from peftlab.errors import ConfigError
from peftlab.runs.record import RunRecord

EXAMPLE = conf_dir().parent / "examples" / "own_project"
(COMMANDS,) = re.findall(r"```bash\n(.*?)```", (EXAMPLE / "README.md").read_text(encoding="utf-8"), re.DOTALL)


@pytest.fixture
def tiny(tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Stand in a copy of the example, as the user would; return the overrides that make a run tiny."""
    folder = tmp_path / "own_project"
    shutil.copytree(EXAMPLE, folder, ignore=shutil.ignore_patterns("__pycache__"))
    monkeypatch.chdir(folder)
    monkeypatch.syspath_prepend(folder)  # as python -m does
    monkeypatch.setattr(sys, "modules", dict(sys.modules))  # my_package of this test only
    model = ["model=folder", f"model.path={tiny_model}", "trainer=cpu", "trainer.precision=32-true"]
    return [*model, "budget=smoke", "budget.max_steps=2", "run_dir=run"]


@pytest.mark.slow
@pytest.mark.parametrize("line", [line for line in COMMANDS.splitlines() if "--help" not in line])
def test_every_command_of_its_readme_runs(command, tiny, line):
    words = shlex.split(line)
    assert words[:2] == ["peftlab", "train"]
    ended = command(*words[2:], *tiny)
    assert ended.code == 0, ended.err
    record = RunRecord.load(Path("run")).data
    assert (record["status"], record["name"], record["data"]["name"]) == ("completed", "my_ner", "my_sentences")


@pytest.mark.slow
def test_from_python(tiny):
    method = peftlab.run("experiment=my_ner", *tiny, config_dir="my_conf").data["method"]
    with pytest.raises(ConfigError, match="--allow my_package"):
        peftlab.load("run")
    model = peftlab.load("run", allow=["my_package"]).model
    trained = [name for name, parameter in model.named_parameters() if parameter.requires_grad]
    assert all(name.endswith("bias") or name.startswith("classifier.") for name in trained)
    assert method["name"] == "my_bitfit"
    assert method["trainable_parameters"] == sum(p.numel() for p in model.parameters() if p.requires_grad)


@pytest.mark.slow
def test_help_lists_its_options(command, tiny):
    out = command("--config-dir", "my_conf", "--help").out
    assert all(option in out for option in ("my_ner", "my_bitfit", "my_sentences", "ner_lora"))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("flag", "override", "part"),
    [
        (["--config-dir", "my_conf"], "peft.layer=mlp", "Did you mean 'peft.layers'?"),
        (["--config-dir=my_conf"], "peft.layers=mpl", "Did you mean 'mlp'?"),
        (["-cd", "my_conf"], "peft=my_bitfitt", "Did you mean 'my_bitfit'?"),
        (["--config-dir", "my_conf"], "allow=[]", "add a package of your own with allow=[my_package]"),
    ],
)
def test_mistakes_are_told_as_for_our_own(command, tiny, flag, override, part):
    ended = command(*flag, "+experiment=my_ner", *tiny, override)
    assert ended.code == 2
    assert part in ended.err
    assert not Path("run").exists()


def test_a_folder_that_is_not_there(tiny):
    with pytest.raises(ConfigError):
        peftlab.run("experiment=my_ner", *tiny, config_dir="nowhere")

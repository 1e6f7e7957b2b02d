"""How ``python -m train`` ends: exit codes, and mistakes on the command line told in one message."""

from __future__ import annotations

import os
import runpy
import signal
import subprocess
import sys

import pytest
import yaml
from hydra.errors import HydraException

from peftlab.composing.compose import conf_dir, config_groups
from peftlab.errors import ConfigError
from peftlab.masking import mask as masking
from peftlab.terminal.exits import user_exits
from peftlab.terminal.signals import Interrupted

pytestmark = pytest.mark.usefixtures("composed_quickly")

# --- mistakes on the command line ------------------------------------------------------------------------------------


METHODS = ", ".join(sorted(path.stem for path in (conf_dir() / "peft").glob("*.yaml")))


@pytest.mark.one_in(3, "slow")
@pytest.mark.one_in(4, "slow")
@pytest.mark.parametrize(
    ("arguments", "parts"),
    [
        # options and groups
        (["peft=lorra"], ["peft=lorra: there is no such option", "Did you mean 'lora'?", METHODS]),
        (["callbacks=[x]"], ["callbacks=x: there is no such option", "early_stopping, progress"]),
        (["callbacks=[progress,early_stoping]"], ["Did you mean 'early_stopping'?"]),
        (["petf=lora"], ["there is no key 'petf'", "Did you mean 'peft'?"]),
        (["+petf=lora"], ["there is no key 'petf'", "Did you mean 'peft'?"]),
        (["optimizer=null"], ["optimizer=null: name an option"]),
        (["experiment=ner_lora"], ["experiment is not chosen by default: write +experiment=..., with a plus"]),
        (["+experiment=ner_lorra"], ["experiment=ner_lorra: there is no such option", "Did you mean 'ner_lora'?"]),
        (["+experiment=[ner_lora,ner_ful]"], ["experiment=ner_ful: there is no such option", "'ner_full'"]),
        # keys
        (["optimizer.lrr=1"], ["there is no key 'optimizer.lrr'", "Did you mean 'optimizer.lr'?"]),
        (["optimzer.lr=1"], ["there is no key 'optimzer.lr'", "Did you mean 'optimizer.lr'?"]),
        (["peft=lora", "peft.lora_alfa=3"], ["'peft.lora_alfa'", "Did you mean 'peft.lora_alpha'?"]),
        (["peft=full", "peft.r=8"], ["there is no key 'peft.r'", "Keys of peft: "]),
        (["data=files", "data.paht=x"], ["'data.paht'", "Did you mean 'data.path'?"]),
        (["callbacks.early_stoping=null"], ["Did you mean 'callbacks.early_stopping'?"]),
        (["sed=1"], ["there is no key 'sed'", "Did you mean 'seed'?"]),
        (["+unknown=1"], ["there is no key 'unknown'", "Allowed: "]),
        (["+seed=1"], ["seed is in the configuration already", "write seed=..., without the plus"]),
        # values
        (["optimizer.lr=fast"], ["optimizer.lr = 'fast'", "number"]),
        (["trainer.accelerator=tpu"], ["trainer.accelerator = 'tpu'", "auto, cpu, gpu"]),
        (["scheduler.warmup_steps=10"], ["give warmup_steps or warmup_fraction, not both"]),
        (["data=files"], ["data.path is missing: give it a value, data.path=..."]),
        (["model=folder"], ["model.path is missing: give it a value, model.path=..."]),
        (["optimizer.lr=${optimizer.lrr}"], ["optimizer.lr: ", "'optimizer.lrr' not found"]),
        (["+callbacks.x._target_=os.system"], ["callbacks.x._target_", "'os.system' may not be named here"]),
        # grammar
        (["optimizer.lr=["], ["cannot read 'optimizer.lr=['"]),
        (["peft"], ["cannot read 'peft'", "Write key=value"]),
        (["data.labels=[A,B"], ["cannot read 'data.labels=[A,B'"]),
        # what is elsewhere
        (["semi=tapt"], ["semi=tapt: there is no such option", "task=masked_lm", "adapter=runs/tapt/adapter"]),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) and "=" in value[0] else "",
)
def test_a_mistake_is_told_in_one_message(command, tmp_path, arguments, parts):
    ended = command(*arguments)
    assert ended.code == 2
    assert ended.err.startswith("error: ")
    assert ended.err.count("\n") == 1
    assert len(ended.err.replace(METHODS, "")) < 700  # however many methods there are to name
    for part in parts:
        assert part in ended.err
    assert ended.out == ""
    assert list(tmp_path.iterdir()) == []


@pytest.mark.one_in(4, "slow")
@pytest.mark.parametrize(
    "arguments",
    [
        ["optimizer.lr=hf_Xq7vLm2pXq7vLm2p"],
        ["logger.x.api_key=[Xq7vLm2p"],
        ["optimizer=nvapi-Xq7vLm2pXq7vLm2p"],
        ["+callbacks.x={_target_: mine.Own, password: Xq7vLm2p}"],
        ["+callbacks.x._target_=Xq7vLm2p", "+callbacks.x.password=Xq7vLm2p"],
        ["trainer.accelerator=Xq7vLm2p", "+logger.x.token=Xq7vLm2p"],
        ["data=files", "data.path=https://me:Xq7vLm2p@host.example"],
        ["+password=Xq7vLm2p", "+Xq7vLm2p=1"],
        ["--config-dir", "/nowhere/password=Xq7vLm2p"],
        ["+experiment=ghp_Xq7vLm2pXq7vLm2p"],
    ],
    ids=" ".join,
)
def test_a_mistake_is_told_without_secrets(command, arguments, monkeypatch):
    monkeypatch.setattr(masking, "_remembered", set())
    ended = command(*arguments)
    assert ended.code == 2
    assert ended.err.startswith("error: ")
    assert "Xq7v" not in ended.out + ended.err


@pytest.mark.slow
def test_a_value_from_a_file_is_told_with_the_file(command, tmp_path):
    """What the user has typed needs no such hint, what an experiment of the user's sets does."""
    (tmp_path / "experiment").mkdir()
    (tmp_path / "experiment" / "mine.yaml").write_text("# @package _global_\noptimizer:\n  lr: fast\n")
    ended = command("--config-dir", str(tmp_path), "+experiment=mine")
    assert ended.code == 2
    assert "optimizer.lr = 'fast'" in ended.err
    assert str(tmp_path / "experiment" / "mine.yaml") in ended.err
    assert "set in" not in command("optimizer.lr=fast").err


def test_the_full_error_is_there_for_those_who_ask(monkeypatch):
    """An exception that leaves the main module is shown by Python with its traceback."""
    monkeypatch.setenv("HYDRA_FULL_ERROR", "1")
    monkeypatch.setattr(sys, "argv", ["train", "peft=lorra"])
    with pytest.raises(HydraException, match="lorra"):
        runpy.run_module("train", run_name="__main__")
    assert os.environ["HYDRA_FULL_ERROR"] == "1"


def test_the_environment_is_left_as_it_was(command, monkeypatch):
    monkeypatch.delenv("HYDRA_FULL_ERROR", raising=False)
    command("peft=lorra")
    assert "HYDRA_FULL_ERROR" not in os.environ


# --- answers without a run -------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_help_lists_every_group_and_every_option(command, tmp_path):
    ended = command("--help")
    assert (ended.code, ended.err) == (0, "")
    listed = {
        group: options.split(", ")
        for group, colon, options in (line.strip().partition(": ") for line in ended.out.splitlines())
        if colon and group in config_groups()
    }
    assert listed == {
        group: sorted(file.stem for file in (conf_dir() / group).glob("*.yaml")) for group in config_groups()
    }
    assert "peftlab train +experiment=" in ended.out
    assert list(tmp_path.iterdir()) == []


def test_the_configuration_can_be_shown(command, tmp_path):
    ended = command("--cfg", "job", "+experiment=ner_lora", "seed=7")
    assert (ended.code, ended.err) == (0, "")
    shown = yaml.safe_load(ended.out)
    assert (shown["seed"], shown["name"], shown["peft"]["peft_type"]) == (7, "ner_lora", "LORA")
    assert list(tmp_path.iterdir()) == []


IMPORTED = """
import runpy, sys
sys.argv = ["train", *sys.argv[1:]]
try:
    runpy.run_module("train", run_name="__main__")
except SystemExit as end:
    assert not end.code
print("heavy:", sorted({"torch", "lightning", "transformers", "peft", "pydantic"} & set(sys.modules)))
"""


@pytest.mark.slow
@pytest.mark.parametrize("arguments", [["--help"], ["--cfg", "job"]], ids=" ".join)
def test_nothing_heavy_is_imported_to_answer(arguments):
    """In a process of its own, since here everything has been imported already."""
    ended = subprocess.run([sys.executable, "-c", IMPORTED, *arguments], capture_output=True, text=True, check=True)
    assert ended.stdout.splitlines()[-1] == "heavy: []"


# --- exit codes ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (Interrupted(signal.SIGINT), 130),
        (Interrupted(signal.SIGTERM), 143),
        (Interrupted(signal.SIGUSR1), 143),
        (KeyboardInterrupt(), 130),
        (ConfigError("no"), 2),
    ],
    ids=repr,
)
def test_exit_codes(error, code):
    with pytest.raises(SystemExit) as end, user_exits():
        raise error
    assert end.value.code == code


def test_a_failure_is_left_to_python():
    with pytest.raises(ZeroDivisionError), user_exits():
        raise ZeroDivisionError


def test_a_name_that_the_system_refuses_is_the_users_mistake(tmp_path, capsys):
    (tmp_path / "loop").symlink_to("loop")
    for path in (tmp_path / ("x" * 300), tmp_path / ("y/" * 3000), tmp_path / "loop"):
        with pytest.raises(SystemExit) as end, user_exits():
            path.open()
        assert end.value.code == 2
        said = capsys.readouterr().err
        assert said.startswith("error: '")
        assert said.endswith("; name another\n")
        assert len(said) < 200
    with pytest.raises(FileNotFoundError), user_exits():
        (tmp_path / "nothing").open()


def test_a_place_that_is_taken_is_told_in_one_message(tmp_path, capsys):
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").touch()
    for what, place, said in (
        (lambda: (tmp_path / "file").rename(tmp_path / "folder"), "folder", "is a folder, where a file is wanted"),
        (lambda: (tmp_path / "file").mkdir(exist_ok=True), "file", "is there already"),
        ((tmp_path / "file" / "x").touch, "x", "is a file, or lies in one, where a folder is wanted"),
    ):
        with pytest.raises(SystemExit) as end, user_exits():
            what()
        assert end.value.code == 1
        told = capsys.readouterr().err
        assert told.count("\n") == 1
        assert f"{place}' {said}" in told
        assert told.endswith("; name another place\n")

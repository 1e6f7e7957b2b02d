"""peftlab from Python: `run` and `compose`."""

from __future__ import annotations

from pathlib import Path

import pytest

import peftlab
from peftlab.errors import ConfigError
from peftlab.python_api import compose
from peftlab.record import RunRecord


def test_run_does_one_run(tiny_overrides):
    record = peftlab.run("experiment=ner_lora", *tiny_overrides, "budget.max_steps=2", "run_dir=run")
    assert record.data["status"] == "completed"
    assert record.data["overrides"][0] == "experiment=ner_lora"
    assert RunRecord.load(Path("run")).data == record.data
    (answer,) = peftlab.load("run").predict(["Marie moved to Paris."])
    assert answer.keys() == {"text", "entities"}


@pytest.mark.parametrize("plus", ["", "+"])
def test_an_experiment_needs_no_plus(plus):
    assert compose(f"{plus}experiment=ner_full").peft.name == "full"


def test_a_folder_of_ones_own_comes_beside_ours(tmp_path):
    (tmp_path / "mine" / "experiment").mkdir(parents=True)
    (tmp_path / "mine" / "experiment" / "my_own.yaml").write_text("# @package _global_\nname: my_own\nseed: 7\n")
    cfg = compose("experiment=my_own", "peft=head", config_dir="mine")
    assert (cfg.name, cfg.seed, cfg.peft.name) == ("my_own", 7, "head")


@pytest.mark.parametrize(
    ("override", "part"),
    [
        ("peft=lorra", "Did you mean 'lora'?"),
        ("optimizer.lrr=1", "Did you mean 'optimizer.lr'?"),
        ("experiment=ner_lorra", "Did you mean 'ner_lora'?"),
    ],
)
def test_a_mistake_is_a_config_error(override, part):
    with pytest.raises(ConfigError, match="there is no") as error:
        compose(override)
    assert part in str(error.value)


def test_two_compositions_do_not_disturb_each_other():
    assert compose("seed=1").seed == 1
    assert compose("seed=2").seed == 2

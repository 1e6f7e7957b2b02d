"""Every experiment: what it says of itself, that it composes, and two steps on the tiny model and data."""

from __future__ import annotations

import itertools

import pytest
import yaml
from hydra.utils import get_class
from tests.tiny_models import OF_HEADS

from peftlab.composing.compose import conf_dir
from peftlab.composing.hydra_gate import plain_values
from peftlab.config import resolve
from peftlab.one_run import run

EXPERIMENTS = sorted(file.stem for file in (conf_dir() / "experiment").glob("*.yaml"))


def text_of(name: str) -> str:
    return (conf_dir() / "experiment" / f"{name}.yaml").read_text(encoding="utf-8")


def missing(name: str) -> list[str]:
    """Return the overrides that fill in what an experiment leaves to its user: the path of data of one's own."""
    chosen = [
        entry["override /data"] for entry in yaml.safe_load(text_of(name))["defaults"] if "override /data" in entry
    ]
    data = [(conf_dir() / "data" / f"{option}.yaml").read_text(encoding="utf-8") for option in chosen]
    return ["data.path=somewhere"] if any(yaml.safe_load(text).get("path") == "???" for text in data) else []


def test_there_are_experiments():
    assert EXPERIMENTS


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_the_header_names_the_command(name):
    first, *lines = text_of(name).splitlines()
    assert first == "# @package _global_"
    header = itertools.takewhile(lambda line: line.startswith("#"), lines)
    assert any(line.strip("# ").startswith(f"python -m train +experiment={name}") for line in header)


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_it_sets_no_key_of_a_method(name):
    """A key set for one method would leak into the others of a sweep."""
    assert not [key for key in yaml.safe_load(text_of(name)) if key.split(".")[0] == "peft"]


@pytest.mark.one_in(2, "exhaustive")
@pytest.mark.one_in(8, "slow")
@pytest.mark.parametrize("name", EXPERIMENTS)
def test_it_composes_under_its_own_name_and_the_command_line_wins_over_it(compose_config, name):
    given = [f"+experiment={name}", *missing(name)]
    alone = {"stream": None}  # a stage of a stream, by itself
    assert resolve(plain_values(compose_config(*given)) | alone)["name"] == name
    other = plain_values(compose_config(*given, "peft=head", "name=other")) | alone
    assert resolve(other).items() >= {"name": "other"}.items()
    assert compose_config(*given, "peft=head").peft.name == "head"


@pytest.mark.one_in(6, "exhaustive")
@pytest.mark.slow
@pytest.mark.parametrize("name", EXPERIMENTS)
def test_it_runs_two_steps(compose_config, tiny_run, data_for, language_model, name):
    task = get_class(compose_config(f"+experiment={name}").task._target_)
    kind = OF_HEADS.get(task.head.model)
    tiny = [*tiny_run, *data_for(task), *([f"model.path={language_model(kind)}"] if kind else [])]
    cfg = compose_config(f"+experiment={name}", *tiny, "budget.max_steps=2", "data.max_tokens=64")
    record = run(plain_values(cfg) | {"stream": None}).data
    assert record["status"] == "completed"
    assert record["name"] == name
    assert record["cost"]["steps"] == 2
    assert record["method"]["name"] == cfg.peft.name
    assert {metric["split"] for metric in record["metrics"]} == {"validation", "test"}

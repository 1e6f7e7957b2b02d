"""An experiment is passed around: what it says below `hydra` must not be done."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from hydra import compose
from hydra._internal.config_loader_impl import ConfigLoaderImpl

from peftlab.errors import ConfigError
from peftlab.exits import conf_dir, search_path
from peftlab.hydra_gate import composing_only
from peftlab.own_hydra import own_hydra

EVIL = {"_target_": "sympy.sympify", "_args_": ["1"]}


@pytest.fixture
def composed(tmp_path: Path):
    """Compose with an experiment whose section `hydra` is given, and other overrides."""

    def make(section=None, *overrides, **others):
        (tmp_path / "experiment").mkdir(exist_ok=True)
        content = {**({} if section is None else {"hydra": section}), **others}
        (tmp_path / "experiment" / "x.yaml").write_text("# @package _global_\n" + yaml.safe_dump(content))
        with own_hydra(conf_dir()), composing_only():
            return compose("config", [search_path(tmp_path), "+experiment=x", *overrides], return_hydra_config=True)

    return make


@pytest.mark.parametrize(
    ("section", "key"),
    [
        ({"callbacks": {"x": EVIL}}, "hydra.callbacks"),
        ({"callbacks": {"x": {"_target_": "hydra.experimental.callbacks.LogJobReturnCallback"}}}, "hydra.callbacks"),
        ({"callbacks": "${evil}"}, "hydra.callbacks"),
        ({"launcher": {"trials_at_once": EVIL}}, "hydra.launcher.trials_at_once._target_"),
        ({"launcher": {"trials_at_once": "${evil}"}}, "hydra.launcher.trials_at_once"),
        ({"launcher": {"trials_at_once": [{"a": EVIL}]}}, "hydra.launcher.trials_at_once.0.a._target_"),
        ({"launcher": "${evil}"}, "hydra.launcher"),
        ({"sweeper": {"_target_": "pathlib.Path.touch"}}, "hydra.sweeper._target_"),
        ({"sweeper": {"_target_": "${name}"}}, "hydra.sweeper._target_"),
        ({"hydra_logging": {"handlers": {"x": {"()": "os.system"}}}}, "hydra.hydra_logging.handlers.x.()"),
        ({"job_logging": {"handlers": {"x": {"class": "logging.FileHandler"}}}}, "hydra.job_logging.handlers.x.class"),
        ({"job_logging": {"formatters": "${evil}"}}, "hydra.job_logging.formatters"),
        ({"output_subdir": "elsewhere"}, "hydra.output_subdir"),
        ({"run": {"dir": "/elsewhere"}}, "hydra.run.dir"),
        ({"job": {"chdir": True}}, "hydra.job.chdir"),
        ({"job": {"env_set": {"HF_HOME": "elsewhere"}}}, "hydra.job.env_set"),
        ({"verbose": {"a": EVIL}}, "hydra.verbose.a._target_"),
    ],
    ids=str,
)
def test_what_hydra_would_do_is_refused_before_it_does(composed, section, key):
    with pytest.raises(ConfigError) as refused:
        composed(section, evil=EVIL, name="os.system")
    assert str(refused.value).startswith((f"{key} ", f"{key}:"))


def test_a_section_elsewhere_is_none_of_hydras(composed):
    with pytest.raises(ConfigError, match=r"hydra\.launcher\.x: refers to a section elsewhere"):
        composed({"launcher": {"x": "${budget}"}})


@pytest.mark.parametrize("choice", ["../model/minilm", "a/../../x", "/model/minilm"])
def test_options_stay_in_the_folders_of_their_groups(tmp_path, composed, choice):
    inside = tmp_path / "experiment" / "a"
    inside.mkdir(parents=True)
    (tmp_path / "experiment" / "x.yaml").write_text("{}")
    with pytest.raises(Exception, match=r"option|not find|no such") as refused:
        composed(None, f"budget={choice}")
    assert not isinstance(refused.value, AssertionError)


def test_an_option_from_elsewhere_is_refused_where_hydra_finds_it(composed):
    with pytest.raises(ConfigError, match=r"budget=\.\./budget/smoke: an option is a file in the group's folder"):
        composed(None, "budget=../budget/smoke")


@pytest.mark.parametrize(
    "launcher",
    ["peftlab", "ray", "slurm", "submitit_local"],
)
def test_our_own_launchers_and_what_is_no_matter_of_hydras_stay(composed, launcher):
    pytest.importorskip("ray") if launcher == "ray" else None
    pytest.importorskip("submitit") if launcher in ("slurm", "submitit_local") else None
    config = composed({"sweep": {"dir": "my_sweeps"}}, f"hydra/launcher={launcher}", "seed=3")
    assert config.seed == 3
    assert config.hydra.sweep.dir == "my_sweeps"


def test_the_loader_is_hydras_own_again():
    before = ConfigLoaderImpl.load_configuration
    with composing_only():
        assert ConfigLoaderImpl.load_configuration is not before
    assert ConfigLoaderImpl.load_configuration is before

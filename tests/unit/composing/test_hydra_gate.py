"""An experiment is passed around: what it says below `hydra` must not be done."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest
import yaml
from hydra import compose
from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra._internal.sources_registry import SourcesRegistry
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from peftlab.composing.compose import compose as compose_in_python
from peftlab.composing.compose import conf_dir, search_path
from peftlab.composing.hydra_gate import composing_only, plain_values
from peftlab.composing.own_hydra import own_hydra
from peftlab.errors import ConfigError

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


@pytest.mark.one_in(4, "slow")
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


@pytest.mark.one_in(4, "slow")
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


UNREADABLE = {
    "name: !!python/object/apply:pathlib.PosixPath [/]": r"x\.yaml:2: .*the tag !!python/object/apply:",
    "name: !!python/name:os.system": r"x\.yaml:2: .*the tag !!python/name:os.system",
    "name: !!set {a}": r"x\.yaml:2: .*the tag !!set",
    "a: &a [1,1,1]\nb: &b [" + "*a," * 99 + "]\nc: &c [" + "*b," * 99 + "]\nd: [" + "*c," * 99: r"x\.yaml:5: .*aliases",
    "name: " + "[" * 10_000: r"x\.yaml:2: .*levels",
    f"? {'k' * 100_000}\n: 1": r"x\.yaml:2: .*a key of",
    "? [a]\n: 1": r"x\.yaml:2: .*a key must be a name",
    "name: [": r"x\.yaml:\d: cannot be read",
    "- a": r"x\.yaml: is a list",
    "3": r"x\.yaml: cannot be read: .*expected keys and values",
    "name: ${": r"x\.yaml: cannot be read: .*half of",
    "defaults: 3": r"x\.yaml: cannot be read: .*defaults",
    "defaults: [[a]]": r"x\.yaml: cannot be read: .*defaults",
    "defaults: [../../y]": r"experiment=\.\./\.\./y: an option is a file in the group's folder",
    "defaults: [{override /budget: ../budget/smoke}]": r"budget=\.\./budget/smoke: an option is a file in the group's",
    "name: \xe4": r"x\.yaml: cannot be read: .*utf-8",
}


@pytest.mark.parametrize(("text", "message"), UNREADABLE.items(), ids=lambda text: ascii(text[:30]))
def test_a_file_that_hydra_reads_holds_plain_values_or_is_named(tmp_path, text, message):
    (tmp_path / "y.yaml").write_text("seed: 1")
    (tmp_path / "conf" / "experiment").mkdir(parents=True)
    (tmp_path / "conf" / "experiment" / "x.yaml").write_bytes(f"# @package _global_\n{text}".encode("latin-1"))
    with pytest.raises(ConfigError, match=message):
        compose_in_python("experiment=x", config_dir=tmp_path / "conf")


@pytest.mark.parametrize(
    ("one", "several"),
    [
        ("xxxxxxxxxx", "".join),
        ({"x": 1}, lambda refs: {f"k{n}": ref for n, ref in enumerate(refs)}),
        ([1, 2, 3], list),
        ("x" * 200_000, "".join),
    ],
    ids=["texts", "sections", "lists", "long texts"],
)
def test_interpolations_that_stand_for_too_much_are_refused(one, several):
    levels = {f"a{n}": several([f"${{a{n - 1}}}"] * 10) for n in range(1, 9)}
    with pytest.raises(OmegaConfBaseException, match="resolve to too much"):
        plain_values(OmegaConf.create({"a0": one, **levels}))


def test_the_loader_is_hydras_own_again():
    before = ConfigLoaderImpl.load_configuration
    with composing_only():
        assert ConfigLoaderImpl.load_configuration is not before
    assert ConfigLoaderImpl.load_configuration is before


def test_a_file_is_read_once_until_it_changes(tmp_path, monkeypatch):
    """And overrides change what is composed with them, and nothing that is composed later."""
    (tmp_path / "experiment").mkdir()
    file, read = tmp_path / "experiment" / "x.yaml", []
    compose_in_python()  # by which Hydra knows its sources
    files = SourcesRegistry.instance().resolve("file")
    load = files.load_config
    monkeypatch.setattr(
        files, "load_config", lambda self, config_path: read.append(config_path) or load(self, config_path)
    )
    for age, seed in ((60, 3), (50, 4)):
        file.write_text(f"# @package _global_\nseed: {seed}\nlogger: {{csv: {{flush: 1}}}}\n")
        os.utime(file, (time.time() - age,) * 2)
        read.clear()
        compose_in_python("experiment=x", config_dir=tmp_path)
        assert "experiment/x" in read
        read.clear()
        changed = compose_in_python("experiment=x", "seed=9", "logger.csv.flush=7", config_dir=tmp_path)
        assert (changed.seed, changed.logger.csv.flush) == (9, 7)
        again = compose_in_python("experiment=x", config_dir=tmp_path)
        assert (again.seed, again.logger.csv.flush) == (seed, 1)
        assert read == []

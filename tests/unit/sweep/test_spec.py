from __future__ import annotations

import copy
import functools

import pytest
from hydra import compose, initialize_config_dir
from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import OmegaConf

from peftlab.composing.compose import conf_dir
from peftlab.errors import ConfigError
from peftlab.sweep.spec import PruningSpec, SweepSpec, idle, sweep_spec

OPTIONS = sorted(file.stem for file in (conf_dir() / "sweep").glob("*.yaml"))


@functools.cache
def option_of(name):
    with initialize_config_dir(str(conf_dir() / "sweep"), version_base=None):
        return compose(name)


def section_of(option, *overrides):
    section = copy.deepcopy(option_of(option))
    ConfigLoaderImpl._apply_overrides_to_config(OverridesParser.create().parse_overrides(list(overrides)), section)
    return OmegaConf.create({"sweep": section})


@pytest.mark.parametrize("option", OPTIONS)
def test_every_option_is_valid_and_lists_every_key(option):
    config = section_of(option)
    spec = sweep_spec(config)

    def keys(node):
        return {key: keys(value) if key in ("budget", "pruning") else None for key, value in node.items()}

    def fields(node):
        return {key: fields(vars(value)) if key in ("budget", "pruning") else None for key, value in node.items()}

    assert keys(config.sweep) == fields({k: v for k, v in vars(spec).items() if not k.startswith("__")})


def test_the_default_is_what_the_fields_say():
    assert sweep_spec(section_of("grid")) == SweepSpec()


@pytest.mark.parametrize(
    ("overrides", "found"),
    [
        (
            ('space={optimizer.lr:"tag(log, interval(1e-5, 1e-2))"}',),
            {"optimizer.lr": "tag(log, interval(1e-5, 1e-2))"},
        ),
        (('space={a:"1,2",b.c:"x,y"}',), {"a": "1,2", "b.c": "x,y"}),
        (("space={}",), {}),
    ],
)
def test_a_space_may_be_given_on_the_command_line(overrides, found):
    assert sweep_spec(section_of("grid", *overrides)).space == found


@pytest.mark.parametrize(
    ("overrides", "parts"),
    [
        (
            ("grid", "search=tpee"),
            ["sweep.search = 'tpee'", "grid, random, qmc, tpe, cmaes, gp", "Did you mean 'tpe'?"],
        ),
        (("grid", "prune=asa"), ["sweep.prune = 'asa'", "successive_halving", "Did you mean 'asha'?"]),
        (("grid", "reuse=sometimes"), ["sweep.reuse", "same_code"]),
        (("grid", "+budget.trails=3"), ["sweep.budget.trails", "Did you mean 'trials'?", "full_runs"]),
        (("grid", "+serch=tpe"), ["sweep.serch", "Did you mean 'search'?"]),
        (("grid", "+pruning.reduction=3"), ["sweep.pruning.reduction", "min_fraction"]),
        (("search", "pruning.eta=1"), ["sweep.pruning.eta = 1", "greater than or equal to 2"]),
        (("search", "pruning.min_fraction=1.0"), ["sweep.pruning.min_fraction", "less than 1"]),
        (("search", "budget.trials=0"), ["sweep.budget.trials = 0"]),
        (("search", "budget.trials=many"), ["sweep.budget.trials = 'many'"]),
        (("grid", "retries=-1"), ["sweep.retries = -1"]),
        (("grid", "name=/x"), ["sweep.name = '/x'", "sweep_dir"]),
        (("grid", "name=../x"), ["sweep.name = '../x'"]),
        (("grid", "space={a:[1,2]}"), ["sweep.space.a = [1, 2]", "1e-4,3e-4"]),
        (("grid", "space=3"), ["sweep.space = 3", "optimizer.lr"]),
        (("grid", "methods=3"), ["sweep.methods = 3", "peft.r"]),
        (("grid", "methods={lora:3}"), ["sweep.methods.lora = 3"]),
        (("grid", "methods={lora:{a:3}}"), ["sweep.methods.lora.a = 3"]),
        (("grid", "objectives={selection.value:most}"), ["sweep.objectives.selection.value = 'most'", "max, min"]),
        (("grid", "objectives={}"), ["sweep.objectives is empty", "null"]),
        (("grid", "final_seeds=[1,1]"), ["sweep.final_seeds = [1, 1]", "different"]),
        (("grid", "final_seeds=[]"), ["sweep.final_seeds"]),
        (("grid", "prune=asha"), ["sweep.prune = 'asha'", "grid", "sweep.search=random"]),
        (("grid", "budget.trials=3"), ["sweep.budget", "grid"]),
        (("search", "budget.money=3"), ["sweep.budget.money", "sweep.price_per_device_hour"]),
        (("search", "objectives={selection.value:max,cost.steps:min}"), ["sweep.prune = 'asha'", "sweep.prune=none"]),
        (("search", "objectives={cost.steps:min}"), ["sweep.prune = 'asha'", "sweep.objectives=null"]),
        (("equal_budget", "search=grid"), ["sweep.search = 'grid'", "random, qmc, tpe"]),
        (("equal_budget", "budget.full_runs=null"), ["sweep.budget.full_runs is null"]),
        (("equal_budget", "budget.hours=3"), ["sweep.budget.hours is set"]),
        (("equal_budget", "objectives={cost.steps:min}"), ["sweep.objectives", "selection.value"]),
        (("grid", "name=${nowhere}"), ["sweep", "nowhere"]),
    ],
)
def test_what_is_wrong_is_told_with_its_key(overrides, parts):
    with pytest.raises(ConfigError) as error:
        sweep_spec(section_of(*overrides))
    assert all(part in str(error.value) for part in parts), error.value


@pytest.mark.parametrize(
    ("values", "overrides", "told"),
    [
        ({"pruning": PruningSpec(eta=4)}, ["sweep=search"], []),  # a file's settings, which the command overrode
        ({}, ["sweep.pruning.eta=4", "sweep.final_seeds=[1]"], ["sweep.pruning.eta", "sweep.final_seeds"]),
        ({"search": "tpe", "prune": "median"}, ["sweep.pruning.eta=4"], ["sweep.pruning.eta"]),
        ({"search": "tpe", "prune": "asha"}, ["sweep.pruning.eta=4"], []),
        ({"search": "tpe", "prune": "asha"}, ["+sweep.pruning.warmup_trials=4"], ["sweep.pruning.warmup_trials"]),
        ({"methods": {"lora": {}, "head": {}}}, [], ["sweep.methods.head"]),
    ],
)
def test_what_has_no_effect_is_told(values, overrides, told):
    assert [line.partition(":")[0] for line in idle(SweepSpec(**values), overrides, ("lora", "full"))] == told

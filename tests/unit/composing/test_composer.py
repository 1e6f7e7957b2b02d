"""What is composed from what configurations share is what Hydra composes for each as a whole."""

from __future__ import annotations

from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest
from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra._internal.utils import create_config_search_path
from hydra.core.utils import setup_globals
from hydra.types import RunMode

from peftlab.composing.compose import conf_dir
from peftlab.composing.composer import Composer
from peftlab.composing.hydra_gate import composing_only
from peftlab.errors import ConfigError

pytestmark = pytest.mark.slow

CONFIGURATIONS = [
    [],
    ["peft=head", "optimizer.lr=0.5"],
    ["peft=head"],  # the rate is the method's again
    ["seed=2", "peft=head", "optimizer.lr=1", "seed=3"],  # the last one holds
    ["peft.learning_rate=0.25"],  # to which the optimiser's rate refers
    ["peft.learning_rate=0.25", "optimizer.lr=null"],
    ["name='a, b: {c}'", "trainer.deterministic=false"],
    ["name=${hydra:runtime.choices.peft}", "seed=1", "peft=head"],
    ["task.selection.metric=accuracy", "~callbacks.progress"],
    ["peft.target=[query]", "peft.r=2"],
    ["model={dropout:0.5}", "model.dropout=0.25"],
    ["+data.mine=1", "data.mine=2"],
    ["++seed=5", "seed=6"],
    ["model=folder", "model.path=x"],
    ["+experiment=ner_lora", "name=n", "seed=4"],
    ["model=folder"],
    ["seeds=1"],
    ["seed.of=1"],
    ["peft=nothing", "seed=1"],
    ["augment=typo", "seed=1"],
    ["peft.r=${nothing}"],
]


@pytest.fixture
def sweep() -> Iterator[tuple[Composer, list[list[str]]]]:
    """Yield a composer, and the overrides of all that Hydra has composed for it."""
    setup_globals()  # registers ${hydra:...}
    with composing_only():
        loader = ConfigLoaderImpl(create_config_search_path(str(conf_dir())))
        config = loader.load_configuration("config", ["hydra.mode=MULTIRUN"], RunMode.MULTIRUN)
        composed, load = [], loader.load_sweep_config
        loader.load_sweep_config = lambda config, overrides: [composed.append(overrides), load(config, overrides)][1]
        context: Any = SimpleNamespace(config_loader=loader)
        yield Composer(context, config), composed


def outcome(compose: Any, overrides: list[str]) -> Any:
    """Return the configuration with the order of its keys, or the message instead."""
    try:
        return repr(compose(overrides))
    except ConfigError as error:
        return str(error)


@pytest.mark.exhaustive
def test_each_is_what_hydra_composes_as_a_whole(sweep):
    compose, _ = sweep
    of_each = [outcome(compose, overrides) for overrides in CONFIGURATIONS]
    for overrides, own in zip(CONFIGURATIONS, of_each, strict=True):
        assert own == outcome(compose._as_a_whole, tuple(overrides)), overrides
    assert len({*of_each}) >= len(CONFIGURATIONS) - 4


def test_what_makes_the_same_choices_is_composed_once(sweep):
    compose, composed = sweep
    for method in ("lora", "head"):
        for rate in ("1e-4", "3e-4"):
            for seed in range(3):
                config = compose([f"peft={method}", f"optimizer.lr={rate}", f"seed={seed}", "name=a"])
                own = config["peft"]["name"], config["optimizer"]["lr"], config["seed"]
                assert own == (method, float(rate), seed)
        assert compose([f"peft={method}"])["name"] is None
    assert composed == [["peft=lora"], ["peft=head"]]


def test_the_same_overrides_give_the_same_object(sweep):
    compose, _ = sweep
    assert compose(["seed=1"]) is compose(("seed=1",))

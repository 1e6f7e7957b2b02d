"""Every file under conf/: it composes, it validates, and it offers exactly the keys that its class has."""

from __future__ import annotations

import importlib
import inspect
import itertools
from collections.abc import Iterator
from dataclasses import fields, is_dataclass
from typing import Any, get_args, get_type_hints

import pytest
import torch
import yaml
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf
from peft.mapping import PEFT_TYPE_TO_CONFIG_MAPPING
from pydantic.dataclasses import is_pydantic_dataclass

from peftlab.composing.compose import conf_dir
from peftlab.config import KINDS, OF_MANY_RUNS, RunSpec, resolve, validate
from peftlab.methods.library import LibraryMethod
from peftlab.specs import ALLOWED_PREFIXES
from peftlab.sweep.spec import sweep_spec

CONF = conf_dir()
OF_HYDRA, OF_SWEEPS, OF_STREAMS = CONF / "hydra", CONF / "sweep", CONF / "stream"
"""What is no part of a run's configuration."""
FILES = sorted(file for file in CONF.rglob("*.yaml") if not {OF_HYDRA, OF_SWEEPS, OF_STREAMS} & set(file.parents))
OPTIONS = [(file.parent.name, file.stem) for file in FILES if file.parent not in (CONF, CONF / "experiment")]
LEFT_OUT = [group for group, option in OPTIONS if option == "none"]
"""Groups with an option that leaves their section out."""
OPTIONS = [(group, option) for group, option in OPTIONS if option != "none"]
ALONE = {"trainer", "regularizer", "federated", "privacy", "semi", "out_of_scope"}
"""Groups whose options refuse some of others."""
BESIDE = {group: ["data=tweet_sentiment", "task=classification"] for group in ("semi", "out_of_scope")}
"""What the options of a group need: edits that move words suit no task on words."""
TOGETHER = [
    list(pairs) for group, pairs in itertools.groupby(OPTIONS, lambda pair: pair[0]) if group not in {*ALONE, "peft"}
]
CHOICES = [[pair] for pair in OPTIONS if pair[0] in ALONE]
CHOICES += [[pair for pair in pairs if pair is not None] for pairs in itertools.zip_longest(*TOGETHER)]
"""Each option once, but the methods."""
SHORTHANDS = {"path"}
"""Keys that only the options for the user's own files need: the others have nothing to put there."""
LISTS = ("callbacks", "logger", "regularizer", "augment")
"""Groups of which several options are chosen, each under its name."""
FROM_THE_RUN = {"self", "save_dir"}
"""Arguments that the run gives and that no file repeats."""


def read(group: str, option: str) -> dict[str, Any]:
    """Return a file's section of the group, with those that its defaults name put in where they belong."""
    text = (CONF / group / f"{option}.yaml").read_text(encoding="utf-8")
    node = yaml.safe_load(text)
    if text.startswith("# @package _global_"):  # which sets something of other sections too
        node = node[group]
    for entry in node.pop("defaults", []):
        if isinstance(entry, dict):
            ((place, other),) = entry.items()
            source, _, keys = place.removeprefix("/").partition("@")
            *sections, key = keys.split(".")
            inner = node
            for part in sections:
                inner = inner.setdefault(part, {})
            inner[key] = read(source, other) | inner.get(key, {})
        elif entry != "_self_":
            node = read(group, entry) | node
    return node


def choose(group: str, option: str) -> list[str]:
    """Return the overrides that choose an option and fill in what it leaves open."""
    missing = [key for key, value in read(group, option).items() if value == "???"]
    return [*BESIDE.get(group, ()), f"{group}={option}", *(f"{group}.{key}=somewhere" for key in missing)]


def nodes(node: Any, cls: type | None, key: str) -> Iterator[tuple[str, dict[str, Any], type]]:
    """Yield every mapping in `node` that has a class, with its dotted key and that class."""
    if not isinstance(node, dict):
        return
    cls = located(node["_target_"]) if "_target_" in node else cls
    if cls is not None:
        yield key, node, cls
    hints = get_type_hints(cls) if is_dataclass(cls) else {}
    for name, child in node.items():
        below = hints.get(name)
        yield from nodes(child, below if is_dataclass(below) else None, f"{key}.{name}")


def located(target: str) -> Any:
    module, _, name = target.rpartition(".")
    return getattr(importlib.import_module(module), name)


def targets(node: Any) -> Iterator[str]:
    if isinstance(node, dict):
        yield from [node["_target_"]] if "_target_" in node else []
        for child in node.values():
            yield from targets(child)


def class_of(group: str) -> Any:
    """Return the class of a section, also of one that may be left out."""
    hint = get_type_hints(RunSpec)[group]
    return next((each for each in get_args(hint) if is_dataclass(each)), hint)


def known_keys(cls: Any, node: dict[str, Any]) -> set[str]:
    """Return the keys that a file may give for `cls`."""
    if not is_dataclass(cls):
        return set(inspect.signature(cls).parameters) - FROM_THE_RUN
    keys = {field.name for field in fields(cls) if field.init}
    if issubclass(cls, LibraryMethod):
        keys |= set(inspect.signature(PEFT_TYPE_TO_CONFIG_MAPPING[node["peft_type"]]).parameters)
    return keys


def needed_keys(cls: Any) -> set[str]:
    """Return the keys that a file must give, so that a user may override them; of our own classes, all."""
    if not cls.__module__.startswith("peftlab."):
        return set()
    if is_dataclass(cls):
        return {field.name for field in fields(cls) if field.init} - SHORTHANDS
    return set(inspect.signature(cls).parameters) - FROM_THE_RUN


def test_there_are_options_to_test():
    assert {"peft", "model", "data", *LISTS} <= {group for group, _ in OPTIONS}


@pytest.mark.one_in(4, "exhaustive")
@pytest.mark.one_in(12, "slow")
@pytest.mark.parametrize("choice", CHOICES, ids=lambda choice: " ".join(f"{g}={o}" for g, o in choice))
def test_every_option_composes_and_validates(compose_config, choice):
    """One of each group at a time, since Hydra takes its time for a configuration."""
    cfg = compose_config(*(override for group, option in choice for override in choose(group, option)))
    for group, option in choice:
        node = cfg[group][option] if group in LISTS else cfg[group]
        assert set(node) == set(read(group, option)), (group, option)
    if cfg.trainer.accelerator == "gpu" and not torch.cuda.is_available():
        pytest.skip("composes; to validate it needs a CUDA device")
    spec = validate(resolve(cfg))
    for group, option in choice:
        built = getattr(spec, group)
        if group in LISTS:
            assert list(built) == [option]
            built = getattr(built[option], "func", type(built[option]))
            assert built is located(read(group, option)["_target_"])
        elif "_target_" in read(group, option):
            assert type(built) is located(read(group, option)["_target_"]), (group, option)
        else:
            assert isinstance(built, class_of(group)), (group, option)


@pytest.mark.slow
def test_an_option_called_none_leaves_its_section_out(compose_config):
    cfg = compose_config(*(f"{group}=none" for group in LEFT_OUT))
    assert LEFT_OUT
    assert all(cfg[group] is None for group in LEFT_OUT)


def test_every_method_composes_and_validates(compose_config):
    """Each in the place of the default one, for the same reason."""
    whole = resolve(compose_config())
    with initialize_config_dir(str(CONF), version_base="1.3"):
        for option in (option for group, option in OPTIONS if group == "peft"):
            node = OmegaConf.load(CONF / "peft" / f"{option}.yaml")
            node = compose(f"peft/{option}").peft if "defaults" in node else node  # those are Hydra's to put together
            node = OmegaConf.to_container(node, resolve=True)
            assert set(node) == set(read("peft", option)), option
            assert type(validate(whole | {"peft": node}).peft) is located(read("peft", option)["_target_"]), option


@pytest.mark.slow
def test_every_target_is_a_class_that_a_configuration_may_name():
    for file in FILES:
        for target in targets(yaml.safe_load(file.read_text(encoding="utf-8"))):
            cls = located(target)
            assert target.startswith(tuple(f"{prefix}." for prefix in ALLOWED_PREFIXES)), file
            assert inspect.isclass(cls), file
            assert is_pydantic_dataclass(cls) or issubclass(cls, KINDS), file


@pytest.mark.one_in(4, "slow")
@pytest.mark.parametrize("group", sorted({group for group, _ in OPTIONS}))
def test_the_keys_are_those_of_the_class(group):
    """A key too few cannot be overridden, since the composed configuration takes no new ones; one too many fails."""
    for option in (option for each, option in OPTIONS if each == group):
        file = read(group, option)  # of `privacy`, one that also sets options of the trainer
        found = list(nodes(file.get(group, file), class_of(group), group))
        for key, node, cls in found:
            given = set(node) - {"_target_"}
            assert given <= known_keys(cls, node), (option, key)
            assert needed_keys(cls) <= given, (option, key)
        assert found, option


def test_the_defaults_are_the_groups_and_the_values_of_a_run():
    config = yaml.safe_load((CONF / "config.yaml").read_text(encoding="utf-8"))
    groups = {next(iter(entry)) for entry in config["defaults"] if isinstance(entry, dict)}
    groups = {group for group in groups if not group.startswith("override ")}
    assert {*OF_MANY_RUNS} <= groups
    groups -= {*OF_MANY_RUNS}
    values = set(config) - {"defaults", "hydra"}
    assert groups | values == {field.name for field in fields(RunSpec)} - {"derived"}  # nobody sets it
    assert groups == {group for group, _ in OPTIONS}


@pytest.mark.parametrize(
    ("overrides", "loggers", "callbacks"),
    [
        ([], ["csv"], ["early_stopping", "progress"]),
        (["logger=[]"], [], ["early_stopping", "progress"]),
        (["logger=csv"], ["csv"], ["early_stopping", "progress"]),
        (["logger=[csv]", "callbacks=[]"], ["csv"], []),
        (["callbacks=[progress]"], ["csv"], ["progress"]),
        (["callbacks.early_stopping=null"], ["csv"], ["progress"]),
        (["logger.csv=null"], [], ["early_stopping", "progress"]),
    ],
)
def test_callbacks_and_loggers_can_be_chosen_and_switched_off(compose_config, overrides, loggers, callbacks):
    spec = validate(resolve(compose_config(*overrides)))
    assert [name for name, logger in spec.logger.items() if logger is not None] == loggers
    assert [name for name, callback in spec.callbacks.items() if callback is not None] == callbacks


@pytest.mark.parametrize("file", sorted(OF_HYDRA.rglob("*.yaml")), ids=lambda file: file.stem)
def test_the_keys_of_a_plugin_are_those_of_its_class(file):
    """Hydra's own classes are another matter: they bring their keys with them."""
    node = yaml.safe_load(file.read_text(encoding="utf-8"))
    if (target := node.pop("_target_", "hydra")).startswith("hydra_plugins.peftlab."):
        assert set(node) == set(inspect.signature(located(target)).parameters)


@pytest.mark.parametrize("option", sorted(file.stem for file in OF_SWEEPS.glob("*.yaml")))
def test_every_kind_of_sweep_composes_and_validates(compose_config, option):
    cfg = compose_config(f"sweep={option}")
    spec = sweep_spec(cfg)
    assert set(cfg.sweep) == {field.name for field in fields(spec)}
    for field in fields(spec):
        if is_dataclass(getattr(spec, field.name)):
            assert set(cfg.sweep[field.name]) == {inner.name for inner in fields(getattr(spec, field.name))}


@pytest.mark.slow
def test_options_of_the_trainer_state_their_difference_only(compose_config):
    """Every key comes from ``auto``, in its order; what an option repeats would not follow when that changes."""
    plain = yaml.safe_load((CONF / "trainer" / "auto.yaml").read_text(encoding="utf-8"))
    for file in sorted((CONF / "trainer").glob("*.yaml")):
        node = yaml.safe_load(file.read_text(encoding="utf-8"))
        if file.stem != "auto":
            assert node.pop("defaults") == ["auto", "_self_"]
            assert node
            assert not {key for key, value in node.items() if plain.get(key, ...) == value}
        composed = compose_config(f"trainer={file.stem}").trainer
        assert list(composed) == list(plain)
        assert composed == plain | node

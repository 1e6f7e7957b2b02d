"""Privates of Hydra, and of OmegaConf where a configuration is composed."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from functools import lru_cache, wraps
from typing import Any

from hydra._internal import defaults_list
from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra._internal.config_repository import ConfigRepository
from hydra.core.config_loader import ConfigLoader
from hydra.core.config_store import ConfigStore
from hydra.core.object_type import ObjectType
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.singleton import Singleton
from hydra.types import RunMode
from omegaconf import Container, DictConfig, Node, OmegaConf, ValueNode
from omegaconf import _utils as omegaconf_utils
from omegaconf import base as omegaconf_base

Version = tuple[str, str, int, int]
"""Of a configuration file: who provides it, its path, its size and the time of its last change."""

Change = Callable[[Callable[..., Any]], Callable[..., Any]]
"""Takes a function of a library, and returns its replacement."""


def section(config: DictConfig, key: str) -> DictConfig | None:
    """Return the section of `config` at `key`, without resolving anything; None where it has none."""
    node = config._get_node(key)
    return node if isinstance(node, DictConfig) and not node._is_none() and not node._is_missing() else None


def leaf(config: DictConfig, key: str) -> ValueNode | None:
    """Return the value of `config` at `key`, without resolving anything; None where it has none."""
    node = config._get_node(key)
    return node if isinstance(node, ValueNode) else None


def raw_value(node: Node) -> Any:
    """Return the unresolved value of a node; for an interpolation, its text."""
    return node._value()


def reading_yaml_with(loader: type) -> AbstractContextManager[None]:
    """Have OmegaConf read YAML with `loader` in the block."""
    return _replaced(omegaconf_utils, "get_yaml_loader", lambda _: lambda: loader)


def changed_interpolation(change: Change) -> AbstractContextManager[None]:
    """Replace the function that resolves an interpolation in the block; it returns a `Node`."""
    return _replaced(Container, "_resolve_node_interpolation", change)


def changed_composition(change: Change) -> AbstractContextManager[None]:
    """Replace the function with which Hydra composes a configuration in the block; it returns a `DictConfig`."""
    return _replaced(ConfigLoaderImpl, "load_configuration", change)


@contextmanager
def composed_once() -> Iterator[None]:
    """Have a command compose its configuration once in the block.

    Hydra composes it twice: first to ask for its mode, run or sweep, and again with that mode among the overrides.
    """
    asked: dict[tuple[Any, ...], DictConfig] = {}

    def composed(load: Callable[..., DictConfig]) -> Callable[..., DictConfig]:
        @wraps(load)
        def load_configuration(
            loader: ConfigLoaderImpl,
            config_name: str | None,
            overrides: list[str],
            run_mode: RunMode,
            from_shell: bool = True,
            validate_sweep_overrides: bool = True,
        ) -> DictConfig:
            if not validate_sweep_overrides:  # the question for the mode
                config = load(loader, config_name, overrides, run_mode, from_shell, validate_sweep_overrides=False)
                choices = config.hydra.runtime.choices
                if not any(OmegaConf.is_missing(choices, group) for group in choices):  # else a run is an error
                    asked[config_name, *overrides] = config
                return config
            mode = f"hydra.mode={run_mode.name}"
            added = overrides[-1:] == [mode]
            key = (config_name, *(overrides[:-1] if added else overrides))
            composed_before = asked.pop(key) if key in asked else None
            if composed_before is None:
                return load(loader, config_name, overrides, run_mode, from_shell)
            parsed = OverridesParser.create().parse_overrides(overrides)
            loader.validate_sweep_overrides_legal(parsed, run_mode, from_shell)
            if added:
                composed_before.hydra.mode = run_mode
                composed_before.hydra.overrides.hydra.append(mode)
            return composed_before

        return load_configuration

    with changed_composition(composed):
        yield


def changed_config_files(change: Change) -> AbstractContextManager[None]:
    """Replace the function with which Hydra reads a configuration file in the block.

    It takes a `ConfigRepository` and the path of the file below the configuration folders, and returns a
    `ConfigResult`, or None where there is no such file.
    """
    return _replaced(ConfigRepository, "load_config", change)


@contextmanager
def shared_config_store() -> Iterator[None]:
    """Keep Hydra from copying its store of structured configurations in the block.

    Hydra copies the whole store for every query, a hundred times for a help page. Configurations that it loads from the
    store are copied once more.
    """
    if "__deepcopy__" in vars(ConfigStore):  # already in such a block
        yield
        return
    ConfigStore.__deepcopy__ = lambda store, _: store  # type: ignore[attr-defined]
    try:
        yield
    finally:
        del ConfigStore.__deepcopy__  # type: ignore[attr-defined]


@contextmanager
def parsing_once(most: int = 1000) -> Iterator[None]:
    """Have OmegaConf parse a text with an interpolation once in the block; the `most` recent ones are kept.

    Its parser takes a millisecond for each, and configurations that have files in common repeat them.
    """
    parse: Change = lru_cache(most)
    with _replaced(omegaconf_base, "parse", parse), _replaced(omegaconf_utils, "parse", parse):
        yield


def choices_mapped_if_interpolated() -> AbstractContextManager[None]:
    """Have Hydra list the choices made so far, in the block, only for defaults lists that refer to them.

    It lists them for each file, which takes a fifth of a composition, and few files refer to any.
    """

    def where_needed(create: Callable[..., DictConfig]) -> Callable[..., DictConfig]:
        @wraps(create)
        def create_interpolation_map(overrides: Any, defaults: list[Any], self_added: bool) -> DictConfig:
            if any(default.is_interpolation() for default in defaults):
                return create(overrides, defaults, self_added)
            return OmegaConf.create()

        return create_interpolation_map

    return _replaced(defaults_list, "_create_interpolation_map", where_needed)


def group_test(loader: ConfigLoader, config_name: str | None, overrides: Sequence[str]) -> Callable[[str], bool]:
    """Return the function that tells whether Hydra takes a key for that of a group, with the search path so far."""
    assert isinstance(loader, ConfigLoaderImpl)
    _, repository = loader._parse_overrides_and_create_caching_repo(config_name, [*overrides])
    return repository.group_exists


def folder_with(repository: ConfigRepository, config_path: str) -> str | None:
    """Return the configuration folder in which Hydra finds a file; None where none has it."""
    source = repository._find_object_source(config_path, ObjectType.CONFIG)
    return source.path if source else None


def version_of(repository: ConfigRepository, config_path: str) -> Version | None:
    """Return a key of the file that Hydra finds at `config_path`: another content has another one.

    None where there is no such file, where Hydra takes it from a package, and where the file has just been written:
    another change would not show in its time.
    """
    source = repository._find_object_source(config_path, ObjectType.CONFIG)
    if source is None or source.scheme() != "file":
        return None
    path = os.path.join(source.path, source._normalize_file_name(config_path))
    state = os.stat(path)
    return None if time.time() - state.st_mtime < 2 else (source.provider, path, state.st_size, state.st_mtime_ns)


def singletons() -> dict[type, Any]:
    """Return Hydra's own dictionary of singletons, by class."""
    return Singleton._instances


@contextmanager
def _replaced(owner: Any, name: str, change: Callable[[Any], Any]) -> Iterator[None]:
    """Replace a function by the result of `change` in the block: its library offers no other way."""
    original = getattr(owner, name)
    setattr(owner, name, change(original))
    try:
        yield
    finally:
        setattr(owner, name, original)

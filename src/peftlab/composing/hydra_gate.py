"""Restrict Hydra to composing a configuration.

Hydra instantiates the objects configured under ``hydra``: callbacks, launcher, sweeper, logging. An experiment may set
them, and experiments are passed around. So before Hydra acts, every class or factory named there must be ours or an
installed Hydra plugin, and every key that writes files or changes variables must be off. The files that Hydra reads lie
within the configuration folders, and hold plain values, see `peftlab.reading.plain_yaml.Loader`.
"""

from __future__ import annotations

import pickle
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from pathlib import PurePosixPath
from typing import Any

from hydra.plugins.config_source import ConfigResult
from omegaconf import Container, DictConfig, Node, OmegaConf
from omegaconf.errors import GrammarParseError, InterpolationResolutionError, OmegaConfBaseException

from peftlab.errors import ConfigError
from peftlab.reading.plain_yaml import Loader, reading
from peftlab.seams import hydra as seams

_PLUGINS = ("hydra_plugins.", "hydra._internal.core_plugins.")

_FIXED: dict[str, tuple[Any, ...]] = {
    "callbacks": (None, {}),
    "output_subdir": (None,),
    "run.dir": (".",),
    "job.chdir": (None, False),
    "job.env_set": (None, {}),
}
"""The keys below ``hydra`` that make objects, write files or change the process, with their allowed values."""

_FACTORIES = ("_target_", "()", "class")
"""The keys that name a callable: for Hydra, and in the configuration of Python's logging."""

MOST_INTERPOLATIONS, MOST_INTERPOLATED = 500, 1_000_000
"""How many ``${...}`` a configuration may resolve, nested ones included, and to how many characters."""

_FILES: dict[seams.Version, bytes] = {}
"""The configuration files that this process has read, pickled, which is read in a fifth of the time of a deep copy."""

_WHERE_OPTIONS_LIE = "an option is a file in the group's folder; add a folder of your own, --config-dir"


@contextmanager
def composing_only() -> Iterator[None]:
    """In the block, check every file that Hydra reads, and every composed configuration before Hydra acts on it."""
    with (
        seams.changed_composition(_checked),
        seams.composed_once(),
        seams.changed_config_files(_read),
        seams.reading_yaml_with(Loader),
        seams.shared_config_store(),
        seams.parsing_once(),
        seams.choices_mapped_if_interpolated(),
    ):
        yield


def plain_values(config: Container) -> Any:
    """Return `config` in plain containers, with every interpolation resolved.

    Raises:
        OmegaConfBaseException: a value is missing, or an interpolation refers to nothing, to itself, or to too much.
    """
    interpolations, characters = 0, 0

    def counted(resolve: Callable[..., Any]) -> Callable[..., Any]:
        @wraps(resolve)
        def resolve_node_interpolation(*args: Any, **kwargs: Any) -> Node:
            nonlocal interpolations, characters
            interpolations += 1
            if interpolations > MOST_INTERPOLATIONS or characters > MOST_INTERPOLATED:
                raise InterpolationResolutionError("nested interpolations resolve to too much")
            node: Node = resolve(*args, **kwargs)
            value = seams.raw_value(node)
            characters += len(value) if isinstance(value, str) else 0
            return node

        return resolve_node_interpolation

    with seams.changed_interpolation(counted):
        return OmegaConf.to_container(config, resolve=True, throw_on_missing=True)


def _checked(load: Callable[..., DictConfig]) -> Callable[..., DictConfig]:
    @wraps(load)
    def load_configuration(*args: Any, **kwargs: Any) -> DictConfig:
        config = load(*args, **kwargs)
        check(config.hydra)
        return config

    return load_configuration


def _read(load: Callable[..., ConfigResult | None]) -> Callable[..., ConfigResult | None]:
    @wraps(load)
    def load_config(repository: Any, config_path: str) -> ConfigResult | None:
        parts = PurePosixPath(config_path.removesuffix(".yaml")).parts
        if ".." in parts:
            group, option = ("/".join(of) for of in (parts[: parts.index("..")], parts[parts.index("..") :]))
            raise ConfigError(f"{group}={option}: {_WHERE_OPTIONS_LIE}")
        folder = seams.folder_with(repository, config_path)
        file = config_path if folder is None else f"{folder}/{'/'.join(parts)}.yaml"
        try:
            with reading(file):
                version = seams.version_of(repository, config_path)
                if version in _FILES:
                    return pickle.loads(_FILES[version])  # noqa: S301, this process has pickled it
                result = load(repository, config_path)
        except GrammarParseError as error:
            raise ConfigError(
                f"{file}: cannot be read: a value has a half of ${{...}}; write \\${{ for the text"
            ) from error
        except (ValueError, LookupError, AssertionError) as error:  # an invalid defaults list
            raise ConfigError(f"{file}: cannot be read: {error}") from error
        if result is not None and not isinstance(result.config, DictConfig):
            raise ConfigError(f"{file}: is a list; expected keys and values")
        if result is not None and version is not None:
            _FILES[version] = pickle.dumps(result)
        return result

    return load_config


def check(hydra: DictConfig) -> None:
    """Check the section ``hydra`` of a composed configuration.

    Raises:
        ConfigError: names the key and its allowed values.
    """
    for key, allowed in _FIXED.items():
        value = OmegaConf.select(hydra, key)
        plain = OmegaConf.to_container(value) if isinstance(value, Container) else value
        if plain not in allowed:
            raise ConfigError(f"hydra.{key} = {plain!r}: may not be set here; the only value is {allowed[0]!r}")
    for section in map(str, hydra):
        _check_node(hydra, section, f"hydra.{section}")
    for group, choice in (hydra.runtime.choices or {}).items():
        if str(choice).startswith("/"):
            raise ConfigError(f"{group}={choice}: {_WHERE_OPTIONS_LIE}")


def _check_node(parent: Container, key: Any, path: str) -> None:
    """Check the value of `parent` at `key`, and all below it."""
    refers = OmegaConf.is_interpolation(parent, key)
    try:
        value = None if refers and key in _FACTORIES else parent[key]
    except OmegaConfBaseException:  # missing, or resolved later: `${hydra:...}`
        return
    if key in _FACTORIES and not (isinstance(value, str) and value.startswith(_PLUGINS)):
        raise ConfigError(f"{path}: names {value!r}, and only Hydra's plugins may be named here, {_PLUGINS[0]}...")
    if not isinstance(value, Container):
        return
    if refers:
        raise ConfigError(f"{path}: refers to a section elsewhere in the configuration; write its keys here")
    children: Any = value if isinstance(value, DictConfig) else range(len(value))  # type: ignore[arg-type]  # a list
    for child in children:
        _check_node(value, child, f"{path}.{child}")

"""What Hydra itself may do for a configuration: compose it, and nothing else.

Hydra instantiates what stands below ``hydra``: callbacks, launcher, sweeper, logging. An experiment may set it, and an
experiment is passed around. So before Hydra acts, what names a class or a factory there has to be ours or another
plugin of Hydra's that is installed, and what writes files or changes variables has to be off. The options of groups
stay within the folders of configuration.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import PurePosixPath
from typing import Any

from hydra._internal.config_loader_impl import ConfigLoaderImpl
from omegaconf import Container, DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from peftlab.errors import ConfigError

_PLUGINS = ("hydra_plugins.", "hydra._internal.core_plugins.")

_FIXED: dict[str, tuple[Any, ...]] = {
    "callbacks": (None, {}),
    "output_subdir": (None,),
    "run.dir": (".",),
    "job.chdir": (None, False),
    "job.env_set": (None, {}),
}
"""The keys below ``hydra`` by which Hydra would make objects, write files or change the process; what they may be."""

_FACTORIES = ("_target_", "()", "class")
"""The keys that name what is called: by Hydra, and in the configuration of Python's logging."""


@contextmanager
def composing_only() -> Iterator[None]:
    """Have every configuration that Hydra composes in the block checked before Hydra does anything with it."""
    load = ConfigLoaderImpl.load_configuration

    def checked(self: ConfigLoaderImpl, *args: Any, **kwargs: Any) -> DictConfig:
        config = load(self, *args, **kwargs)
        check(config.hydra)
        return config

    ConfigLoaderImpl.load_configuration = checked  # type: ignore[method-assign]  # Hydra has no place for it
    try:
        yield
    finally:
        ConfigLoaderImpl.load_configuration = load  # type: ignore[method-assign]


def check(hydra: DictConfig) -> None:
    """Check the section ``hydra`` of a composed configuration.

    Raises:
        ConfigError: names the key, and what is allowed.
    """
    for key, allowed in _FIXED.items():
        value = OmegaConf.select(hydra, key)
        plain = OmegaConf.to_container(value) if isinstance(value, Container) else value
        if plain not in allowed:
            raise ConfigError(f"hydra.{key} = {plain!r}: may not be set here; the only value is {allowed[0]!r}")
    for section in map(str, hydra):
        _check_node(hydra, section, f"hydra.{section}")
    for group, choice in (hydra.runtime.choices or {}).items():
        option = PurePosixPath(str(choice))
        if option.is_absolute() or ".." in option.parts:
            raise ConfigError(
                f"{group}={choice}: an option is a file in the group's folder; add a folder of your own, --config-dir"
            )


def _check_node(parent: Container, key: Any, path: str) -> None:
    """Check the value of `parent` at `key`, and all below it."""
    refers = OmegaConf.is_interpolation(parent, key)
    try:
        value = None if refers and key in _FACTORIES else parent[key]
    except OmegaConfBaseException:  # missing, or to be known later: `${hydra:...}`
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

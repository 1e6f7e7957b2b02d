"""Compose many configurations: those that make the same choices are composed once, and differ by values."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cache
from typing import Any, NamedTuple

from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override, OverrideType
from hydra.errors import HydraException
from hydra.types import HydraContext
from omegaconf import DictConfig, OmegaConf, ValueNode, open_dict, read_write
from omegaconf.errors import OmegaConfBaseException

from peftlab.composing.compose import explain_composition, is_no_option
from peftlab.composing.hydra_gate import plain_values
from peftlab.errors import ConfigError
from peftlab.seams.hydra import group_test, leaf, raw_value, section

_FAULTS = (HydraException, OmegaConfBaseException, ValueError)
"""What Hydra and OmegaConf raise about overrides or a configuration file."""


class _Split(NamedTuple):
    """The overrides of a configuration, in two parts: their order does not matter between these."""

    choices: tuple[str, ...]
    """Those that decide which files it consists of, and all others but the values."""
    values: tuple[Override, ...]
    """Those that set a single value, as in ``optimizer.lr=1e-3``."""


class Composer:
    """Composes the trials of the sweep that Hydra has composed as `config`, from their overrides.

    Hydra sets the values of overrides last, in what it has composed by the choices among them. Here that is composed
    once for all trials with the same choices, and each sets its own values there: a fiftieth of the time.
    What this does not suit, such as an override that adds a key, is composed by Hydra as a whole.
    """

    def __init__(self, context: HydraContext, config: DictConfig) -> None:
        self._loader, self._config = context.config_loader, config
        of_hydra = OmegaConf.to_container(config.hydra.overrides.hydra)
        assert isinstance(of_hydra, list)
        is_group = group_test(self._loader, config.hydra.job.config_name, [str(text) for text in of_hydra])
        self._is_group = cache(is_group)
        self._parsed = cache(OverridesParser.create().parse_override)
        self._chosen: dict[tuple[str, ...], DictConfig | None] = {}
        """What is composed by choices alone; None: that is not possible, or no base for other values."""
        self._plain: dict[tuple[str, ...], dict[str, Any]] = {}

    def __call__(self, overrides: Sequence[str]) -> dict[str, Any]:
        """Return the configuration with `overrides` as plain values.

        Raises:
            ConfigError: there is none; says why.
        """
        key = tuple(overrides)
        if key not in self._plain:
            self._plain[key] = self._with_values(key) or self._as_a_whole(key)
        return self._plain[key]

    def _as_a_whole(self, overrides: tuple[str, ...]) -> dict[str, Any]:
        """Return the configuration as Hydra composes it."""
        try:
            return _plain(self._load(overrides))
        except _FAULTS as error:
            if not isinstance(error, (HydraException, OmegaConfBaseException)) and not is_no_option(error):
                raise
            raise ConfigError(explain_composition(error, list(overrides))) from error

    def _with_values(self, overrides: tuple[str, ...]) -> dict[str, Any] | None:
        """Return the same from what other configurations share; None where that is not possible."""
        try:
            choices, values = self._split(overrides)
            config = self._base(choices)
            if config is None:
                return None
            before = [(value.key_or_group, raw_value(_leaf(config, value.key_or_group))) for value in values]
        except (LookupError, *_FAULTS):
            return None
        try:
            for value in values:
                OmegaConf.update(config, value.key_or_group, value.value(), merge=True)
            return _plain(config)
        except _FAULTS:
            return None
        finally:
            for key, raw in before:
                OmegaConf.update(config, key, raw, merge=True)

    def _split(self, overrides: Sequence[str]) -> _Split:
        """Return the overrides in parts; what has to do with another's key is no value."""
        parsed = [self._parsed(text) for text in overrides]
        others = [each.key_or_group for each in parsed if self._is_key(each) and not self._sets_a_value(each)]
        alone = [not any(_touch(each.key_or_group, other) for other in others) for each in parsed]
        is_value = [self._sets_a_value(each) and free for each, free in zip(parsed, alone, strict=True)]
        return _Split(
            tuple(text for text, value in zip(overrides, is_value, strict=True) if not value),
            tuple(each for each, value in zip(parsed, is_value, strict=True) if value),
        )

    def _sets_a_value(self, override: Override) -> bool:
        """Return whether an override sets the value of an existing key to text, a number, a flag or null."""
        if override.type is not OverrideType.CHANGE or override.package is not None or override.is_sweep_override():
            return False
        value = override.value()
        plain = value is None or isinstance(value, str | int | float)
        return plain and "${" not in str(value) and not override.is_hydra_override() and self._is_key(override)

    def _is_key(self, override: Override) -> bool:
        """Return whether an override names a key, not a group whose option it chooses."""
        return isinstance(override.value(), dict) or not self._is_group(override.key_or_group)

    def _base(self, choices: tuple[str, ...]) -> DictConfig | None:
        """Return the configuration of choices alone; None where there is none, or where a text names Hydra.

        ``${hydra:...}`` stands for something else in each configuration.
        """
        if choices not in self._chosen:
            try:
                config = self._load(choices)
            except (ConfigError, *_FAULTS):
                self._chosen[choices] = None
            else:
                texts = _texts(OmegaConf.to_container(config))
                self._chosen[choices] = None if any("hydra" in text for text in texts) else config
        return self._chosen[choices]

    def _load(self, overrides: Sequence[str]) -> DictConfig:
        """Return the configuration that Hydra composes, without its own section."""
        config = self._loader.load_sweep_config(self._config, list(overrides))
        HydraConfig.instance().set_config(config)  # for ${hydra:...}
        with read_write(config), open_dict(config):
            del config["hydra"]
        return config


def _plain(config: DictConfig) -> dict[str, Any]:
    return {str(key): value for key, value in plain_values(config).items()}


def _leaf(config: DictConfig, key: str) -> ValueNode:
    """Return the value at a dotted key, without resolving anything; raises LookupError where there is none."""
    *sections, name = key.split(".")
    inner: DictConfig | None = config
    for part in sections:
        inner = None if inner is None else section(inner, part)
    if inner is None or (value := leaf(inner, name)) is None:
        raise LookupError(key)
    return value


def _touch(one: str, other: str) -> bool:
    """Return whether dotted keys are equal, or one lies below the other."""
    return f"{one}.".startswith(f"{other}.") or f"{other}.".startswith(f"{one}.")


def _texts(value: Any) -> Iterator[str]:
    """Yield every text in plain containers."""
    if isinstance(value, dict | list):
        for item in value.values() if isinstance(value, dict) else value:
            yield from _texts(item)
    elif isinstance(value, str):
        yield value

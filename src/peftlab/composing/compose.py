"""Compose a configuration from overrides, and explain errors in one message. Imports nothing heavy."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from hydra import compose as hydra_compose
from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException, MissingConfigException, OverrideParseException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import InterpolationKeyError, MissingMandatoryValue, OmegaConfBaseException

from peftlab.composing.own_hydra import own_hydra
from peftlab.errors import ConfigError, did_you_mean
from peftlab.seams.hydra import section

_NO_OPTION = "Config group override must be a string or a list"
"""The start of Hydra's ValueError about ``GROUP=null`` or ``GROUP=1``."""

_ELSEWHERE = {
    "semi/tapt": " Task-adaptive pretraining is two runs of one method: peftlab train task=masked_lm run_dir=runs/tapt "
    "... on the texts, then the task with adapter=runs/tapt/adapter, see docs/semi_supervised.md."
}
"""By ``GROUP/OPTION``, what readers of papers look for in a group, and where it is."""


def compose(*overrides: str, config_dir: str | Path | None = None) -> DictConfig:
    """Return the configuration composed with `overrides`.

    Raises:
        ConfigError: there is no such option or key; suggests the nearest.
    """
    wanted = [f"+{text}" if text.startswith("experiment=") else text for text in overrides]
    if config_dir is not None:
        wanted.append(search_path(config_dir))
    try:
        with own_hydra(conf_dir()):
            return hydra_compose("config", overrides=wanted)
    except (HydraException, OmegaConfBaseException, ValueError) as error:
        if isinstance(error, ValueError) and not is_no_option(error):
            raise
        raise ConfigError(explain_composition(error, wanted)) from error


def conf_dir() -> Path:
    """Return the configuration folder: next to the sources in a checkout, inside the package when installed."""
    package = Path(__file__).resolve().parents[1]
    checkout = package.parents[1] / "conf"
    return checkout if (checkout / "config.yaml").is_file() else package / "conf"


def is_no_option(error: ValueError) -> bool:
    """Return whether Hydra's error is about a value that cannot name an option of a group."""
    return str(error).startswith(_NO_OPTION)


def _is_no_name(value: str) -> bool:
    return re.fullmatch(r"(?i)null|true|false|[+-]?[\d.]+(e[+-]?\d+)?|\{.*\}", value) is not None


def explain_composition(error: Exception, overrides: list[str]) -> str:
    """Return the message for an error of Hydra or OmegaConf about the command line `overrides` or a config file."""
    if isinstance(error, MissingConfigException) and error.missing_cfg_file:
        return _missing_option(str(error.missing_cfg_file), [str(option) for option in error.options or []])
    if isinstance(error, MissingMandatoryValue):
        key = str(error.full_key)
        return f"{key} is missing: give it a value, {key}=..."
    if isinstance(error, OverrideParseException):
        reason = error.message.splitlines()[0].rstrip(".")
        return (
            f"cannot read '{error.override}': {reason}. Write key=value; "
            "a value with special characters needs quotes within quotes: \"key='a=b'\""
        )
    if match := re.search(r"Missing mandatory value: (\S+)", str(error)):
        return f"{match[1]} is missing: give it a value, {match[1]}=..."
    if isinstance(error, InterpolationKeyError):
        return f"{error.full_key}: {str(error).splitlines()[0]}"
    text = str(error)
    groups = config_groups()
    if text.startswith(_NO_OPTION):
        pairs = (override.lstrip("+").partition("=") for override in overrides)
        group, value = next(((key, value) for key, _, value in pairs if key in groups and _is_no_name(value)), ("", ""))
        return f"{group}={value}: name an option, or write {group}=[] where options form a list"
    if match := re.search(r"An item is already at '([^']+)'", text):
        return f"{match[1]} is in the configuration already: write {match[1]}=..., without the plus"
    if match := re.search(r"Could not override '([^']+)'", text):
        if match[1] in groups:
            return f"{match[1]} is not chosen by default: write +{match[1]}=..., with a plus"
        return _unknown_key(match[1], overrides)
    return text.splitlines()[0].rstrip(".")


def typed_overrides() -> list[str]:
    """Return the overrides of the running command as typed, with any ``${...}`` unresolved."""
    overrides = OmegaConf.to_container(HydraConfig.get().overrides.task)
    assert isinstance(overrides, list)
    return [str(override) for override in overrides]


def whole_number(config: DictConfig, key: str) -> int | None:
    """Return the number of at least 1 at the dotted `key`; None: there is none, or one that validation will refuse."""
    try:
        value = OmegaConf.select(config, key)
    except OmegaConfBaseException:
        return None
    return value if isinstance(value, int) and value > 0 else None


def search_path(config_dir: str | Path) -> str:
    """Return the override that adds the user's folder `config_dir` to our own configuration."""
    return f"hydra.searchpath=['file://{Path(config_dir).absolute()}']"


def set_in(message: str) -> str:
    """Return `` (set in FILE)`` where `message` begins with a key set in a file, else an empty string.

    A value from the command line needs no such hint: the user has just typed it.
    """
    key = re.match(r"\w+(\.\w+)+", message)
    if key is None or not HydraConfig.initialized():
        return ""
    group, leaf = key[0].partition(".")[0], key[0].rpartition(".")[2]
    hydra = HydraConfig.get()
    if any(text.lstrip("+").startswith(key[0]) for text in typed_overrides()):
        return ""
    for name in ("experiment", group):  # an experiment comes last and wins, wherever its file lies
        for source in hydra.runtime.config_sources:
            file = Path(source.path) / name / f"{hydra.runtime.choices.get(name)}.yaml"
            if (
                source.schema == "file"
                and file.is_file()
                and re.search(rf"^\s*{leaf}:", file.read_text(), re.MULTILINE)
            ):
                return f" (set in {file})"
    return ""


def _missing_option(file: str, options: list[str]) -> str:
    group, _, option = file.rpartition("/")
    if not group:
        return f"there is no configuration '{option}'"
    # for a list, Hydra gives no options
    options = options or sorted(file.stem for file in (conf_dir() / group).glob("*.yaml"))
    if not options:
        groups = config_groups()
        return f"there is no group '{group}' (in '{file}').{did_you_mean(group, groups)} Groups: {', '.join(groups)}"
    return (
        f"{group}={option}: there is no such option.{_ELSEWHERE.get(file) or did_you_mean(option, options)} "
        f"Options of {group}: {', '.join(sorted(options))}"
    )


def _unknown_key(key: str, overrides: list[str]) -> str:
    keys = [*config_groups(), *composed_keys(overrides)]
    if key in keys:  # set by a choice that Hydra composes later than the override
        return f"there is no key '{key}' before all choices are made: write ++{key}=..., which sets it in any case"
    parent, _, leaf = key.rpartition(".")
    siblings = sorted({name[len(parent) + 1 :] for name in keys if name.startswith(parent + ".")} if parent else keys)
    suggestion = did_you_mean(key, keys)
    if not suggestion and siblings:
        suggestion = did_you_mean(leaf, siblings)
    allowed = f" Keys of {parent}: {', '.join(siblings)}" if parent and siblings and len(siblings) <= 24 else ""
    return f"there is no key '{key}' in the configuration.{suggestion}{allowed}"


def config_groups() -> list[str]:
    """Return the names of the config groups: the folders below `conf_dir`, except Hydra's own."""
    return sorted(folder.name for folder in conf_dir().iterdir() if folder.is_dir() and folder.name != "hydra")


def composed_keys(overrides: list[str]) -> list[str]:
    """Return every dotted key of the configuration with the group choices of `overrides`."""
    groups = config_groups()
    chosen = {*groups, "hydra.searchpath"}
    choices = [text for text in overrides if "=" in text and text.lstrip("+").split("=")[0] in chosen]
    choices = [re.sub(r"=(?:choice\()?([\w/]+),.*", r"=\1", text) for text in choices]  # in a sweep: the first

    def keys(node: DictConfig, prefix: str) -> Iterator[str]:
        for key in map(str, node):
            yield f"{prefix}{key}"
            if (below := section(node, key)) is not None:
                yield from keys(below, f"{prefix}{key}.")

    with own_hydra(conf_dir()):
        return list(keys(hydra_compose("config", overrides=choices), ""))

"""Converts the arguments of ``peftlab train`` and ``python -m train`` for Hydra.

Hydra composes once before it calls the sweeper, without the swept choices: a key that only the swept options of a
group define does not exist then. A choice of one value is a sweep to Hydra, too, so an override below a swept group is
written as one: it is left out likewise and applies only to the cells. `Space.parse` restores what was typed.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping, Sequence

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.errors import HydraException

from peftlab.errors import ConfigError
from peftlab.sweep.wandb_agent import read_arguments

AS_COMMAND = "peftlab train"
"""``sys.argv[0]`` under the command `peftlab`; otherwise Python sets it to a file."""

OF_THE_SWEEP = ("hydra", "sweep")
"""The groups that hold for the whole sweep."""

_WITH_A_VALUE = {
    *("--cfg", "-c", "--package", "-p", "--info", "-i"),
    *("--config-path", "-cp", "--config-name", "-cn", "--config-dir", "-cd"),
}
"""Hydra options that take the next argument as their value."""

_UNPICKLES = "--experimental-rerun"
"""A Hydra option; argparse accepts any prefix of it."""

_CHOICE = re.compile(r"^(?P<key>[^=]+)=(?:choice\((?P<value>.*)\)|null,null)\Z", re.DOTALL)


def for_hydra(arguments: Sequence[str], environment: Mapping[str, str]) -> list[str]:
    """Return the arguments of a command for Hydra; `environment` shows whether a W&B agent started it.

    Options come first, because Hydra does not recognise overrides after an option among them. With ``--cfg``, which
    shows one configuration, a sweep is reduced to its first trial.

    Raises:
        ConfigError: an option would run code from a file.
    """
    ordered = _options_first(read_arguments(arguments, environment))
    for text in ordered:
        if len(text) > len("--") and text.startswith("--") and _UNPICKLES.startswith(text.partition("=")[0]):
            raise ConfigError(
                f"{text}: unpickles a file, which may run any code; `peftlab reproduce RUN` does a run again"
            )
    if not ({"-m", "--multirun", "hydra.mode=MULTIRUN"} & set(ordered)):
        return ordered
    if any(text in ("--cfg", "-c") or text.startswith("--cfg=") for text in ordered):
        return [_first(text) for text in ordered if text not in ("-m", "--multirun", "hydra.mode=MULTIRUN")]
    swept = _swept_groups(ordered)
    return [_as_choice(text) if _is_below(text, swept) else text for text in ordered]


def as_typed(arguments: Sequence[str]) -> list[str]:
    """Return the arguments of a sweep as typed: undo `for_hydra`."""
    swept = _swept_groups(arguments)
    plain = {
        text: f"{match['key']}={match['value'] or 'null'}" for text in arguments if (match := _CHOICE.fullmatch(text))
    }
    # keep real choices of several values
    return [plain[text] if text in plain and _is_below(plain[text], swept) else text for text in arguments]


def called_as() -> list[str]:
    """Return the leading words of the running command."""
    return AS_COMMAND.split() if sys.argv[0] == AS_COMMAND else ["python", "-m", "train"]


def command() -> list[str]:
    """Return the running command as typed."""
    return [*called_as(), *as_typed(sys.argv[1:])]


def sweeps_all_groups(arguments: Sequence[str]) -> bool:
    """Return whether a swept group, such as an experiment, may change any key."""
    return any(group.startswith("+") for group in _swept_groups(arguments))


def key_of(override: Override) -> str:
    """Return the key of an override, with its package, as several packages may have a choice from one group."""
    return override.key_or_group if override.package is None else f"{override.key_or_group}@{override.package}"


def refuse_what_each_run_is_given(arguments: Sequence[str]) -> None:
    """Refuse overrides that a sweep sets for each of its runs: it would leave them without effect.

    Raises:
        ConfigError: there is one; names the setting of the sweep in its place.
    """
    for text in arguments:
        key, _, value = text.lstrip("+").partition("=")
        if key == "existing" and value != "auto":
            raise ConfigError(f"{text}: of a sweep, finished runs are kept or repeated by sweep.reuse, as with =never")
        if key == "run_dir" and value != "null":
            raise ConfigError(f"{text}: each run of a sweep has a folder in that of the sweep, sweep_dir={value}")


def _options_first(arguments: Sequence[str]) -> list[str]:
    options: list[str] = []
    overrides: list[str] = []
    left = list(arguments)
    while left:
        text = left.pop(0)
        chosen = options if text.startswith("-") else overrides
        chosen.append(text)
        if text in _WITH_A_VALUE and left:
            chosen.append(left.pop(0))
    return options + overrides


def _swept_groups(arguments: Sequence[str]) -> set[str]:
    return {group for text in arguments if (group := _swept_group(text))}


def _swept_group(argument: str) -> str | None:
    """Return the group that an override sweeps, with its plus; None if it sweeps none."""
    override = _read(argument)
    if override is None or not override.is_sweep_override() or "." in override.key_or_group:
        return None
    place = override.package or override.key_or_group.replace("/", ".")
    return f"+{place}" if argument.startswith("+") else place


def _is_below(argument: str, swept: set[str]) -> bool:
    """Return whether an override sets one value at a key that a `swept` group may define."""
    override = _read(argument)
    if override is None or override.is_sweep_override() or override.is_delete() or "." not in override.key_or_group:
        return False
    key = override.key_or_group
    if any(group.startswith("+") for group in swept):
        return key.partition(".")[0] not in OF_THE_SWEEP
    return any(key.startswith(f"{group}.") for group in swept)


def _as_choice(argument: str) -> str:
    key, _, value = argument.partition("=")
    if value.strip().lower() == "null":  # Hydra's choice does not accept null
        return f"{key}=null,null"
    return f"{key}=choice({value or repr('')})"


def _first(argument: str) -> str:
    override = _read(argument)
    if override is None or not override.is_sweep_override():
        return argument
    key = argument.partition("=")[0]
    if override.is_interval_sweep():
        return f"{key}={override.value().start}"  # type: ignore[union-attr]
    return f"{key}={next(iter(override.sweep_string_iterator()))}"


def _read(argument: str) -> Override | None:
    """Return an argument as an override; None if it is none or Hydra, which will report it, cannot parse it."""
    if "=" not in argument or argument.startswith("-"):
        return None
    try:
        return OverridesParser.create().parse_override(argument)
    except (HydraException, ValueError, TypeError):
        return None

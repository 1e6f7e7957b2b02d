"""Build objects from configuration: the only place that instantiates. No torch, no Lightning.

A node with a ``_target_`` becomes an object of that class, after its children. A class is accepted in two steps: its
name must begin with an allowed prefix, checked in the whole configuration before anything is imported; then the name
must resolve to a class defined under such a prefix that is one of our specs (a pydantic dataclass of this package or of
an allowed one) or of a kind that the caller can make. Functions, methods and modules are never called.
"""

from __future__ import annotations

import importlib
import inspect
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pydantic.dataclasses import is_pydantic_dataclass

from peftlab.errors import ConfigError, did_you_mean
from peftlab.validation import checked

ALLOWED_PREFIXES = (
    *(f"peftlab.{room}" for room in ("callbacks", "data", "loggers", "methods", "regularizers")),
    *(f"peftlab.{room}" for room in ("schedules", "semi_supervised", "sources", "tasks")),
    "torch.optim",
    "pytorch_optimizer",
    "bitsandbytes.optim",
    "lightning.pytorch.callbacks",
    "lightning.pytorch.loggers",
)

_EXTRAS = {"bitsandbytes": '"peftlab[quantize]"'}
"""What installs the packages among them that not everyone has."""

SECTIONS = (
    *("model", "model.source", "data", "data.source", "task", "task.selection", "peft", "optimizer", "scheduler"),
    *("trainer", "budget", "callbacks", "logger"),
)
"""The sections of a resolved configuration, as dotted keys: each has keys and values of its own."""


@dataclass(frozen=True)
class Kinds:
    """Classes besides our specs that a configuration may name."""

    classes: tuple[type, ...] = ()
    """The base classes; subclasses are allowed too."""
    make: Callable[[type, dict[str, Any], str], Any] | None = None
    """Returns the object for such a class, its values and their dotted key."""


def build(node: Any, path: str, prefixes: tuple[str, ...] = ALLOWED_PREFIXES, kinds: Kinds = Kinds()) -> Any:
    """Replace every mapping with a ``_target_`` in `node` by an object of that class, innermost first.

    Args:
        node: plain values as from YAML.
        path: the dotted key of `node`, for messages.
        prefixes: packages whose classes may be named.
        kinds: classes that may be named besides our specs.

    Raises:
        ConfigError: a class is not allowed, or refuses its values.
    """
    check_names(node, path, prefixes)
    return _build(node, path, prefixes, kinds)


def check_names(node: Any, path: str, prefixes: tuple[str, ...]) -> None:
    """Check every name in `node` before anything is imported.

    Raises:
        ConfigError: a class is not allowed, or there is a key of Hydra's own besides ``_target_``.
    """
    if isinstance(node, list):
        for i, child in enumerate(node):
            check_names(child, f"{path}[{i}]", prefixes)
    if isinstance(node, dict):
        for key, child in node.items():
            if key == "_target_" and not (isinstance(child, str) and _is_within(child, prefixes)):
                raise ConfigError(
                    f"{join(path, key)}: '{child}' may not be named here. Allowed are classes of "
                    f"{', '.join(prefixes)}; add a package of your own with allow=[my_package]"
                )
            if key == "_target_" and re.search(r"(\A|\.)_", child):  # such as `__main__`, which runs on import
                raise ConfigError(f"{join(path, key)}: '{child}' is private; name a class of a public module")
            if key != "_target_" and re.fullmatch(r"_\w*_", str(key)):
                raise ConfigError(f"there is no key '{join(path, key)}': of Hydra's own keys only _target_ is known")
            check_names(child, join(path, key), prefixes)


def _build(node: Any, path: str, prefixes: tuple[str, ...], kinds: Kinds) -> Any:
    if isinstance(node, list):
        return [_build(child, f"{path}[{i}]", prefixes, kinds) for i, child in enumerate(node)]
    if not isinstance(node, dict):
        return node
    values = {key: _build(child, join(path, key), prefixes, kinds) for key, child in node.items() if key != "_target_"}
    if "_target_" not in node:
        return values
    cls = _allowed_class(node["_target_"], join(path, "_target_"), prefixes, kinds.classes)
    if kinds.make is None or is_pydantic_dataclass(cls):
        return checked(cls, values, path)
    return kinds.make(cls, values, path)


def class_of(node: Mapping[str, Any], path: str, prefixes: tuple[str, ...] = ALLOWED_PREFIXES) -> type:
    """Return the class that ``_target_`` in `node` names, one of our specs, without building it; see `build`."""
    check_names({"_target_": node["_target_"]}, path, prefixes)
    return _allowed_class(node["_target_"], join(path, "_target_"), prefixes, ())


def _is_within(name: str, prefixes: tuple[str, ...]) -> bool:
    dotted = re.fullmatch(r"\w+(\.\w+)+", name)
    return dotted is not None and any(name.startswith(prefix + ".") for prefix in prefixes)


def _allowed_class(target: str, path: str, prefixes: tuple[str, ...], kinds: tuple[type, ...]) -> type:
    module_name, _, class_name = target.rpartition(".")
    try:
        module = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        if error.name and (error.name in _EXTRAS or not module_name.startswith(error.name)):
            needed = _EXTRAS.get(error.name, error.name.partition(".")[0])
            raise ConfigError(
                f"{path}: '{target}' needs a package that is not installed: pip install {needed}"
            ) from error
        raise ConfigError(f"{path}: there is no module '{error.name}' (in '{target}')") from error
    cls = vars(module).get(class_name)
    if cls is None:
        names = [name for name, value in vars(module).items() if inspect.isclass(value)]
        raise ConfigError(f"{path}: there is no '{class_name}' in {module_name}.{did_you_mean(class_name, names)}")
    if not inspect.isclass(cls) or not (is_pydantic_dataclass(cls) or issubclass(cls, kinds)):
        named = ", ".join(["a spec", *(kind.__name__ for kind in kinds)])
        raise ConfigError(f"{path}: '{target}' is not of a kind that a configuration may name: {named}")
    if not _is_within(f"{cls.__module__}.{cls.__name__}", prefixes):
        raise ConfigError(f"{path}: '{target}' is {cls.__module__}.{cls.__name__}, which may not be named here")
    return cls


def section(config: Mapping[str, Any], key: str, remedy: str, place: str = "") -> Mapping[str, Any]:
    """Return the section of `config` at a dotted key, whose outer section exists.

    Args:
        config: a composed or resolved configuration.
        key: the dotted key of the section.
        remedy: how to fix a missing section, for the message.
        place: the start of the message, such as a file.

    Raises:
        ConfigError: there is no such section, or it has no keys.
    """
    outer, _, inner = key.partition(".")
    node: Any = config.get(outer)
    node = node.get(inner) if inner else node
    if not isinstance(node, Mapping):
        shown = "missing" if node is None else repr(node)[:80]
        raise ConfigError(f"{place}{key} is {shown}; expected a section of keys and values. {remedy}")
    return node


def packages_of(config: Mapping[str, Any]) -> Sequence[str]:
    """Return the packages whose classes `config` may name, besides those of `ALLOWED_PREFIXES`.

    Raises:
        ConfigError: the value is no list of names, or a name is no package of the user's own.
    """
    allow = config.get("allow") or []
    if not isinstance(allow, list) or not all(isinstance(name, str) and name.isidentifier() for name in allow):
        raise ConfigError(f"allow = {allow!r} must be a list of names of packages, allow=[my_package]")
    for name in allow:
        if name in sys.stdlib_module_names or any(prefix.startswith(f"{name}.") for prefix in ALLOWED_PREFIXES):
            raise ConfigError(f"allow = {allow!r}: {name} is no package of your own, and what may be named of it is")
    return allow


def prefixes_of(config: Mapping[str, Any]) -> tuple[str, ...]:
    """Return all packages whose classes `config` may name; see `packages_of`."""
    return (*ALLOWED_PREFIXES, *packages_of(config))


def join(path: str, key: Any) -> str:
    """Return the dotted key of `key` within `path`."""
    return f"{path}.{key}" if path else str(key)

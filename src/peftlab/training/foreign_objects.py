"""Make what a configuration names of other libraries: optimisers, loggers and callbacks.

Lightning's callbacks and loggers are confined to the run's folder: they write nowhere else, whatever a configuration
says. Classes of the user's own package are not, since their code may do anything.
"""

from __future__ import annotations

import functools
import inspect
import os
import re
from collections.abc import Mapping
from typing import Any, get_args, get_type_hints

from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch.callbacks import Callback, Checkpoint
from lightning.pytorch.loggers import Logger
from pydantic import ConfigDict, TypeAdapter, ValidationError
from pydantic.errors import PydanticUserError
from torch.optim import Optimizer

from peftlab.errors import ConfigError, UserError
from peftlab.runs.identity import leaves
from peftlab.specs import join
from peftlab.storage.entries import may_lead_out
from peftlab.validation import explain, unknown_key

LATER = (Optimizer, Logger)
"""Kinds that need something of the run (parameters, its folder): they become partials."""
KINDS = (*LATER, Callback)
"""No metric, strategy or profiler: some fetch, unpickle, write files or start processes on construction."""

_PLACE = re.compile(r"\w*(dir|path|file|folder|uri|url)s?|\w*(directory|filename|location|root)")
"""The names of parameters that say where something is written."""


def make(cls: type, values: dict[str, Any], path: str) -> Any:
    """Return an object of a class of `KINDS`, or a partial for one of `LATER`."""
    if issubclass(cls, Checkpoint):  # they pickle, to any path
        raise ConfigError(f"{path}._target_: {cls.__name__} is not needed: every run keeps its best checkpoint itself")
    _check_signature(cls, values, path)
    if issubclass(cls, Logger) and "save_dir" in values:
        raise ConfigError(f"{path}.save_dir is no option: a logger writes into the run's folder")
    if cls.__module__.startswith("lightning."):
        _hold(cls, values, path)
    if issubclass(cls, LATER):
        if refused := getattr(cls, "refuse", lambda options: None)(values):
            raise ConfigError(f"{path}.{refused}")
        return functools.partial(cls, **values)
    try:
        return cls(**values)
    except UserError:
        raise
    except (TypeError, ValueError, RuntimeError, LookupError, MisconfigurationException) as error:
        raise ConfigError(f"{path}: {cls.__name__} refuses these values: {error}") from error


def _hold(cls: type, values: Mapping[str, Any], path: str) -> None:
    """Check that a callback or logger of Lightning's writes only to the run's folder, its ``save_dir``."""
    hints = _hints(cls)
    places = [name for name in inspect.signature(cls).parameters if _is_place(name, hints.get(name))]
    if issubclass(cls, Callback) and places:
        raise ConfigError(
            f"{path}: {cls.__name__} writes where its '{places[0]}' says, and a run writes into its own folder only"
        )
    if not issubclass(cls, Logger):
        return
    if "save_dir" not in places:
        raise ConfigError(f"{path}: {cls.__name__} has no save_dir, by which a run has a logger write into its folder")
    for key, value in leaves(values):
        place = next((part for part in key.split(".") if _is_place(part, hints.get(part))), None)
        if place is not None and value is not None and not _is_address(place, value):
            hint = "null or the address of a server, https://..." if place.endswith(("uri", "url")) else "null"
            raise ConfigError(f"{path}.{key} = {value!r}: must be {hint}; what a run writes lies in its folder")
        if place is None and isinstance(value, str) and may_lead_out(value):
            raise ConfigError(f"{path}.{key} = {value!r}: must be a name within the run's folder, without '..'")


def _is_address(name: str, value: Any) -> bool:
    return name.endswith(("uri", "url")) and re.match("https?://", str(value)) is not None


def _is_place(name: str, hint: Any) -> bool:
    """Return whether a parameter of this name and type says where something is written."""
    types = [kind for kind in (hint, *get_args(hint)) if isinstance(kind, type)]
    return _PLACE.fullmatch(name) is not None or any(issubclass(kind, os.PathLike) for kind in types)


def _hints(cls: type) -> dict[str, Any]:
    """Return the parameter types of a constructor, as far as they are known."""
    try:
        return get_type_hints(cls.__init__)  # type: ignore[misc]
    except NameError:  # annotations that only a type checker can resolve
        return {}


def _check_signature(cls: type, values: dict[str, Any], path: str) -> None:
    """Check keys and types against the signature of a third-party class's constructor; texts that stand for truths and
    numbers become these: to Python, a text such as ``no`` is true.
    """
    parameters = inspect.signature(cls).parameters
    open_ended = any(parameter.kind is inspect.Parameter.VAR_KEYWORD for parameter in parameters.values())
    hints = _hints(cls)
    for key, value in values.items():
        if key not in parameters and not open_ended:
            raise ConfigError(unknown_key(join(path, key), list(parameters)))
        if key in hints:
            try:
                adapter = TypeAdapter(hints[key], config=ConfigDict(arbitrary_types_allowed=True))
                checked = adapter.validate_python(value)
            except ValidationError as error:
                raise ConfigError(explain(cls, error.errors()[0], join(path, key), within=False)) from error
            except PydanticUserError:  # a type that pydantic cannot check
                continue
            if isinstance(value, str) and isinstance(checked, bool | int | float):
                values[key] = checked

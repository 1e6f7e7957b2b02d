"""What a run is: all that decides its result (configuration, data, weights), as digests. No torch."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from peftlab.errors import ConfigError
from peftlab.storage.digests import sha256_of

NOT_RESULT = (
    "logger",  # where metrics are shown
    "callbacks.progress",  # what the terminal shows
    "name",  # a label
    "run_dir",  # where the run folder lies
    "sweep_dir",  # where the run folders of a sweep lie
    "existing",  # what to do about a run that is there already
    "allow",  # permits classes to be named; those that are named stand in the configuration themselves
    "task.top_k",  # how much of the predictions is kept
    "trainer.threads",  # environment: the record keeps it there
    "data.workers",  # how many processes load the same batches
    "trainer.log_every",  # how often metrics are shown
    "trainer.trail_every",  # how often the trail notes what the weights are
    "trainer.checkpoint_every",  # how much is lost when the run is killed
    "trainer.keep_every",  # what is left beside the best checkpoint
    # how the arithmetic of one and the same step is spread over devices and time: the batches and what is learnt from
    # each do not depend on it, only roundings and the places that dropout hits do, as on another kind of device
    "trainer.devices",
    "trainer.num_nodes",
    "trainer.strategy",
    "trainer.find_unused_parameters",
    "trainer.zero_stage",
    "trainer.offload_optimizer",
    "trainer.accumulate",
    "trainer.compile",
    "trainer.on_out_of_memory",
    "model.attention",
    # whether frozen layers are computed once or in every epoch
    "trainer.cache_activations",
    "trainer.activation_cache_gib",
    "adapter.path",  # where the adapter lies that the training begins with; its digest says what is in it
    "data.path",  # where the user's files lie; the data digests say what is in them
    "model.path",  # the same; the weights digest says what is in them
    "data.source.path",  # where the user's files lie; the data digests say what is in them
    "data.source.licence",  # a note
    "model.source.path",  # where the user's files lie; the weights digest says what is in them
    "model.source.licence",  # a note
)
"""Dotted keys of the configuration that cannot change a result, whole groups included: no part of a run's identity."""

ADDED: dict[str, Any] = {
    "data.format.group": None,
    "task.class_weights": None,
    "regularizer": {},
}
"""By dotted key of the configuration that an older version lacks: the value that means what runs did without it. While
a key has that value it is no part of the identity, so that runs from before stay the runs that they are."""

RENAMED: dict[str, str] = {}
"""By dotted key of the configuration, or path of a class that it names: what runs first called it. The identity is
hashed under the first names, so that runs of before and after a change of names are the same runs; `present_names`
gives the configuration of an older run the present ones."""


def identity(config: Mapping[str, Any], data_sha256: Mapping[str, str], weights_sha256: str) -> dict[str, Any]:
    """Return the `identity` section of the record: what decides a run's result, as digests.

    Args:
        config: the resolved configuration, in plain containers; the keys in `NOT_RESULT` are left out of it. Secrets
            count like any value, for a key says only what may be one; nobody can tell them from the digest.
        data_sha256: the digest of each split or file of the data.
        weights_sha256: the digest of the base weights.

    Raises ConfigError where the configuration holds nan or an infinity.
    """
    deciding = deciding_part(config)
    for key, value in leaves(deciding):
        if isinstance(value, float) and not math.isfinite(value):
            raise ConfigError(f"'{key}' is {value}: a number must be finite; use null for none.")
    parts = {
        "config_sha256": sha256_of(_renamed(deciding, RENAMED)),
        "data_sha256": dict(data_sha256),
        "weights_sha256": weights_sha256,
    }
    return {"sha256": sha256_of(parts), **parts}


def deciding_part(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return the resolved configuration without the keys in `NOT_RESULT`, and those in `ADDED` that change nothing."""
    neutral = [key for key, value in ADDED.items() if _has(config, key, value)]
    return _without(config, (*NOT_RESULT, *neutral))


def present_names(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return the configuration of a run, which may be older than a change of names, under the present names."""
    return _renamed(config, {first: present for present, first in RENAMED.items()})


def run_id_of(identity: Mapping[str, Any]) -> str:
    """Return the run id: the first 12 hex digits of the identity."""
    return str(identity["sha256"])[:12]


def leaves(value: Any, key: str = "") -> Iterator[tuple[str, Any]]:
    """Yield every value that is no container, with its dotted key."""
    if isinstance(value, Mapping):
        inner: Iterable[tuple[Any, Any]] = value.items()
    elif isinstance(value, list | tuple):
        inner = enumerate(value)
    else:
        yield key, value
        return
    for part, item in inner:
        yield from leaves(item, f"{key}.{part}" if key else str(part))


def _without(config: Mapping[str, Any], keys: Iterable[str]) -> dict[str, Any]:
    """Return `config` without the dotted `keys`."""
    split = [key.partition(".") for key in keys]
    dropped = {head for head, dot, _ in split if not dot}
    return {
        key: _without(value, [rest for head, dot, rest in split if dot and head == key])
        if isinstance(value, Mapping)
        else value
        for key, value in config.items()
        if key not in dropped
    }


def _renamed(config: Mapping[str, Any], names: Mapping[str, str]) -> dict[str, Any]:
    """Return `config` with the dotted keys, and the paths of classes, that `names` has other names for under those."""
    renamed: dict[str, Any] = _with_classes(config, names)
    for key, other in names.items():
        if (moved := _taken(renamed, key.split("."))) is not None:
            _put(renamed, other.split("."), moved[0])
    return renamed


def _taken(config: Any, key: Sequence[str]) -> tuple[Any] | None:
    """Take what stands at `key`, and a section that is empty without it, out of `config`; None: nothing does."""
    if not isinstance(config, dict) or key[0] not in config:
        return None
    if len(key) == 1:
        return (config.pop(key[0]),)
    taken = _taken(config[key[0]], key[1:])
    if taken is not None and not config[key[0]]:
        del config[key[0]]
    return taken


def _put(config: dict[str, Any], key: Sequence[str], value: Any) -> None:
    for part in key[:-1]:
        config = config.setdefault(part, {})
    config.setdefault(key[-1], value)


def _with_classes(node: Any, names: Mapping[str, str]) -> Any:
    if isinstance(node, list):
        return [_with_classes(item, names) for item in node]
    if not isinstance(node, Mapping):
        return node
    other = {key: _with_classes(value, names) for key, value in node.items()}
    if isinstance(target := node.get("_target_"), str):
        other["_target_"] = names.get(target, target)
    return other


def _has(config: Any, key: str, value: Any) -> bool:
    """Return whether `config` has `value` at the dotted `key`."""
    head, _, rest = key.partition(".")
    if not isinstance(config, Mapping) or head not in config:
        return False
    return _has(config[head], rest, value) if rest else bool(config[head] == value)

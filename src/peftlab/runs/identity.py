"""The identity of a run: digests of all that decides its result (configuration, data, weights). No torch."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from peftlab.errors import ConfigError
from peftlab.storage.digests import sha256_of

LOCATIONS = (
    "adapter.path",  # the location of the initial adapter; its digest stands for its content
    "privacy.key_file",  # the location of a key; its digest stands for it
    "data.path",  # the location of the user's files; the data digests stand for their content
    "model.path",  # the same; the weights digest stands for the content
    "data.replay.run",  # the location of a run; the digest of its examples stands for it
    "data.source.path",  # the location of the user's files; the data digests stand for their content
    "data.clean.label_errors_from",  # the location of a list; its digest among those of the data stands for its content
    "data.mask_pii.key",  # the location of a secret; its digest among those of the data stands for it
    "model.source.path",  # the location of the user's files; the weights digest stands for their content
    "budget.listed.path",  # the location of a list; its digest stands for it
    "out_of_scope.far.path",  # the location of texts; the digest of the file stands for them
    "data.labelled.path",  # the location of further examples; the digest of the file stands for them
    "regularizer.distil.teacher",  # the location of a run; its digest stands for it
    "regularizer.ewc.previous",  # the same, of several
    "regularizer.lwf.previous",  # the same, of one
    "peft.previous.path",  # the location of an adapter; its digest stands for its content
    "semi.teacher",  # the same
    "semi.unlabelled",  # the location of a file; its digest among those of the data stands for its content
)
"""Dotted keys of what lies elsewhere, whose digest stands for its content once it is read."""

NOT_RESULT = (
    "logger",  # where metrics are shown
    "callbacks.progress",  # what the terminal shows
    "callbacks.curve",  # the same
    "name",  # a label
    "run_dir",  # where the run folder lies
    "sweep_dir",  # where the run folders of a sweep lie
    "existing",  # what to do about an existing run
    "notice",  # what users of the model are told
    "allow",  # permits classes to be named; the configuration holds those that are
    "task.top_k",  # how much of the predictions is kept
    "task.packing",  # how examples are laid into rows, see trainer.devices
    "task.forgetting",  # a text that is measured, not learnt
    "trainer.threads",  # recorded in the environment
    "data.workers",  # how many processes load the same batches
    "federated.processes",  # how many processes train the clients of a round
    "trainer.log_every",  # how often metrics are shown
    "trainer.trail_every",  # how often the trail hashes the weights
    "trainer.checkpoint_every",  # how much is lost when the run is killed
    "trainer.keep_every",  # which checkpoints are kept besides the best
    # how the arithmetic of a step is spread over devices and time: batches and gradients do not depend on it, only
    # rounding and the positions of dropout do, as on another kind of device
    "trainer.devices",
    "trainer.num_nodes",
    "trainer.strategy",
    "trainer.find_unused_parameters",
    "trainer.zero_stage",
    "trainer.offload_optimizer",
    "trainer.accumulate",
    "trainer.compile",
    "trainer.static_shapes",
    "trainer.cuda_graphs",
    "trainer.cudnn_attention",
    "trainer.on_out_of_memory",
    "model.attention",
    # whether frozen layers are computed once or every epoch
    "trainer.cache_activations",
    "trainer.activation_cache_gib",
    "data.source.licence",  # a note
    "model.source.licence",  # a note
    *LOCATIONS,
)
"""Dotted keys of the configuration, or whole groups, that cannot change a result: no part of a run's identity. In a
list of groups, they are left out of each."""

ADDED: dict[str, Any] = {
    "budget.half": None,
    "budget.listed": None,
    "budget.max_passes": None,
    "budget.stratified": False,
    "budget.per_class": None,
    "budget.sample_seed": 0,
    "budget.select": "best",
    "budget.validation_per_class": None,
    "callbacks.early_stopping.check_finite": False,
    "data.clean": None,
    "data.fold": None,
    "data.labelled": None,
    "data.mask_pii": None,
    "data.replay": None,
    "data.subset": None,
    "data.format.group": None,
    "data.format.documents": False,
    "data.format.rows.invalid_tags": "error",
    "data.format.rows.scheme": "bio",
    "data.format.rows.skip_empty": False,
    "data.format.rows.weight": None,
    "data.format.weight": None,
    "model.pooling": None,
    "model.quantize": "none",
    "task.class_weights": None,
    "trainer.tf32": False,
    "regularizer": {},
    "augment": {},
    "federated": None,
    "privacy": None,
    "semi": None,
    "out_of_scope": None,
    "regularizer.rdrop.start_step": 1,
    "regularizer.mixup.layers": [0],
}
"""By dotted key that older versions lack: the value that stands for what runs did without it. A key with that value is
no part of the identity, so that older runs keep theirs."""

RENAMED: dict[str, str] = {}
"""The first name of each renamed key (dotted) or class (path) of the configuration. The identity is hashed under the
first names, so that a change of names keeps the identity of runs; `present_names` gives the configuration of an older
run the present ones."""


def identity(config: Mapping[str, Any], data_sha256: Mapping[str, str], weights_sha256: str) -> dict[str, Any]:
    """Return the `identity` section of the record: digests of all that decides a run's result.

    Args:
        config: the resolved configuration, in plain containers; the keys in `NOT_RESULT` are left out. Secrets count
            like any value, because a key only says what may be one; the digest does not reveal them.
        data_sha256: the digest of each split or file of the data.
        weights_sha256: the digest of the base weights.

    Raises ConfigError if the configuration holds nan or an infinity.
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


@dataclass(frozen=True)
class Sources:
    """Settings resolved by reading model files and data, and their digests: the identity needs both."""

    model: Mapping[str, str]
    """Entries of `model.source`."""
    data: Mapping[str, str]
    """Entries of `data.source`."""
    read: Mapping[str, Any]
    """Entries of `data`."""
    task: Mapping[str, Any]
    """Entries of `task`."""
    augment: Mapping[str, Mapping[str, Any]]
    """Entries of each augmentation in `augment`."""
    regularizer: Mapping[str, Mapping[str, Any]]
    """Entries of each regulariser in `regularizer`, and as ``semi``, of `semi`."""
    privacy: Mapping[str, Any]
    """Entries of `privacy`; empty without it."""
    data_sha256: Mapping[str, str]
    weights_sha256: str

    def complete(self, config: dict[str, Any]) -> dict[str, Any]:
        """Add these settings to the resolved `config`, and return the identity of its run."""
        config["model"]["source"] |= self.model
        config["data"]["source"] |= self.data
        config["data"] |= self.read
        config["task"] |= self.task
        for name, entries in self.augment.items():
            config["augment"][name] |= entries
        for name, entries in self.regularizer.items():
            _complete(config["semi"] if name == "semi" else config["regularizer"][name], entries)
        if self.privacy:
            config["privacy"] |= self.privacy
        return identity(config, self.data_sha256, self.weights_sha256)


def _complete(section: dict[str, Any], entries: Mapping[str, Any]) -> None:
    """Set the entries of a section, whose parts with a class keep their other entries."""
    for key, entry in entries.items():
        inner = section.get(key)
        if isinstance(inner, dict) and isinstance(entry, Mapping) and not entry.keys() - inner.keys():
            _complete(inner, entry)
        else:
            section[key] = entry


def deciding_part(config: Mapping[str, Any], kept: Collection[str] = ()) -> dict[str, Any]:
    """Return the configuration without the keys in `NOT_RESULT`, but for `kept`, and those with their value in `ADDED`.

    Args:
        config: resolved, or composed.
        kept: keys in `NOT_RESULT` that decide here.
    """
    neutral = [key for key, value in ADDED.items() if _has(config, key, value)]
    return _without(config, (*(key for key in NOT_RESULT if key not in kept), *neutral))


def asked_sha256(config: Mapping[str, Any]) -> str:
    """Return the digest of all that decides in a configuration of which nothing is read yet: its `LOCATIONS`, too."""
    return sha256_of(_renamed(deciding_part(config, kept=LOCATIONS), RENAMED))


def present_names(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return the configuration of a run, perhaps from before a change of names, with the present names."""
    return _renamed(config, {first: present for present, first in RENAMED.items()})


def run_id_of(identity: Mapping[str, Any]) -> str:
    """Return the run id: the first 12 hex digits of the identity."""
    return str(identity["sha256"])[:12]


def leaves(value: Any, key: str = "") -> Iterator[tuple[str, Any]]:
    """Yield the dotted key and the value of every leaf."""
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
    """Return `config` without the dotted `keys`, which go through lists."""
    split = [key.partition(".") for key in keys]
    dropped = {head for head, dot, _ in split if not dot}

    def inside(value: Any, key: str) -> Any:
        if isinstance(value, list):
            return [inside(item, key) for item in value]
        if not isinstance(value, Mapping):
            return value
        return _without(value, [rest for head, dot, rest in split if dot and head == key])

    return {key: inside(value, key) for key, value in config.items() if key not in dropped}


def _renamed(config: Mapping[str, Any], names: Mapping[str, str]) -> dict[str, Any]:
    """Return `config` with its dotted keys and class paths renamed by `names`."""
    renamed: dict[str, Any] = _with_classes(config, names)
    for key, other in names.items():
        if (moved := _taken(renamed, key.split("."))) is not None:
            _put(renamed, other.split("."), moved[0])
    return renamed


def _taken(config: Any, key: Sequence[str]) -> tuple[Any] | None:
    """Remove and return the value at `key`, and remove sections left empty; None: there is no such key."""
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

"""Differences of two runs: configuration, data, weights, code, packages, environment, scores, cost. No torch."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from peftlab.errors import ConfigError, UserError
from peftlab.masking.mask import mask_settings
from peftlab.runs.find import find
from peftlab.runs.folder import CONFIG, PACKAGES, read_config
from peftlab.runs.identity import deciding_part, leaves
from peftlab.runs.record import RunRecord
from peftlab.storage.entries import inside

Differences = dict[str, tuple[Any, Any]]
"""The two values of each name whose values differ; None: it has none."""

COMPUTING = ("torch", "lightning", "transformers", "peft", "numpy", "tokenizers", "safetensors", "torchmetrics")
"""The packages that a result depends on most; they are listed first."""

_COSTS = ("wall_seconds", "train_seconds", "steps", "epochs", "samples_per_second", "peak_memory_gib", "train_flops")

_SETTINGS_SHOWN = 6
"""How many settings a message lists."""


def compare(one: str | Path, other: str | Path) -> dict[str, Any]:
    """Return the differences of the runs `one` and `other`, folders or starts of ids.

    ``runs`` are their folders; ``config``, ``data``, ``weights``, ``code``, ``environment``, ``packages`` and every
    section that a capability added to a record are `Differences`; ``scores`` lists the scores of both with ``values``
    and ``difference`` (second minus first); ``cost`` has both values of each entry.

    Raises:
        UserError: a run does not exist or cannot be read.
    """
    folders = [find(one), find(other)]
    one_run, other_run = (RunRecord.load(folder) for folder in folders)
    a, b = one_run.data, other_run.data
    weights = [{"weights": record["identity"]["weights_sha256"]} for record in (a, b)]
    data = [{"sha256": record["identity"]["data_sha256"], **record["data"]} for record in (a, b)]
    return {
        "runs": [str(folder) for folder in folders],
        "config": differences(*(read_config(folder) for folder in folders)),
        "data": differences(*data),
        "weights": differences(*weights),
        "code": differences(a["code"], b["code"]),
        "environment": differences(a["environment"], b["environment"]),
        "packages": package_differences(*(kept_packages(folder) for folder in folders)),
        **{
            name: differences(*(run.extensions.get(name, {}) for run in (one_run, other_run)))
            for name in sorted({*one_run.extensions, *other_run.extensions})
        },
        "scores": _scores(one_run.scores(), other_run.scores()),
        "cost": {key: [a["cost"][key], b["cost"][key]] for key in _COSTS},
    }


def differences(one: Mapping[str, Any], other: Mapping[str, Any]) -> Differences:
    """Return the dotted keys whose values differ."""
    a, b = dict(leaves(one)), dict(leaves(other))
    return {key: (a.get(key), b.get(key)) for key in {**a, **b} if _of(a, key) != _of(b, key)}


def package_differences(one: Iterable[str], other: Iterable[str]) -> Differences:
    """Return the packages (``name==version``) whose versions differ, `COMPUTING` first."""
    a, b = ({name: version for name, _, version in (line.partition("==") for line in of)} for of in (one, other))
    differing = {name: (a.get(name), b.get(name)) for name in sorted({**a, **b}) if a.get(name) != b.get(name)}
    first = [name for name in COMPUTING if name in differing]
    return {name: differing[name] for name in dict.fromkeys([*first, *differing])}


def _of(values: Mapping[str, Any], key: str) -> tuple[bool, type, Any]:
    """Return a key that distinguishes a missing value from null, and 1 from true and 1.0."""
    return key in values, type(values.get(key)), values.get(key)


def _scores(one: Iterable[Mapping[str, Any]], other: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    a, b = ({(m["split"], m["name"], m["checkpoint"], m["scorer"]): m["value"] for m in of} for of in (one, other))
    scores = []
    for key in {**a, **b}:
        first, second = a.get(key), b.get(key)
        difference = None if first is None or second is None else second - first
        entry = dict(zip(("split", "name", "checkpoint", "scorer"), key, strict=True))
        scores.append(entry | {"values": [first, second], "difference": difference})
    return scores


def kept_packages(folder: Path) -> list[str]:
    """Return the packages of the run in `folder`, as ``name==version``; empty if its folder has no list of them.

    Raises:
        UserError: the file cannot be read.
    """
    file = folder / PACKAGES
    try:
        return inside(folder, file).read_text(encoding="utf-8").split() if file.is_file() else []
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{file}: cannot be read: {error}. Put the file back, or remove it") from error


def differing_parts(
    then: RunRecord, config: Mapping[str, Any], identity: Mapping[str, Any], data: Mapping[str, Any]
) -> list[str]:
    """Return the differences, as text, between an existing run and another in the parts that decide a result.

    Args:
        then: the record of the existing run.
        config: the resolved configuration of the other run.
        identity: the identity of the other run.
        data: the data section of the other's record.
    """
    recorded = then.data["identity"]
    parts = [
        f"{_data_file(config, data, split)} has changed since: its digest was {_short(one)} and is {_short(other)}"
        for split, (one, other) in differences(recorded["data_sha256"], identity["data_sha256"]).items()
    ]
    if recorded["weights_sha256"] != identity["weights_sha256"]:
        one, other = recorded["weights_sha256"], identity["weights_sha256"]
        name = config.get("model", {}).get("name", "model")
        parts.append(f"the weights of {name} have changed since: their digest was {_short(one)} and is {_short(other)}")
    if recorded["config_sha256"] != identity["config_sha256"]:
        parts += _differing_settings(then.folder, config)
    return parts


def _differing_settings(folder: Path, config: Mapping[str, Any]) -> list[str]:
    try:
        before = deciding_part(read_config(folder))
    except ConfigError as error:
        return [str(error)]
    keys = [
        f"{key} was {one!r} and is {other!r}"
        for key, (one, other) in differences(before, deciding_part(mask_settings(config))).items()
    ]
    if not keys:  # the file now describes the other run, not the recorded one
        return [f"{folder / CONFIG} has changed since the run began"]
    more = [f"{len(keys) - _SETTINGS_SHOWN} more settings differ"] if len(keys) > _SETTINGS_SHOWN else []
    return [*keys[:_SETTINGS_SHOWN], *more]


def _data_file(config: Mapping[str, Any], data: Mapping[str, Any], split: str) -> str:
    """Return the path of a split's file as the user wrote it."""
    file = data.get("splits", {}).get(split, {}).get("file") or f"the {split} split"
    folder = config.get("data", {}).get("source", {}).get("path")
    return str(Path(folder) / file) if folder and Path(folder).is_dir() else str(folder or file)


def _short(digest: Any) -> str:
    return "none" if digest is None else str(digest)[:12]

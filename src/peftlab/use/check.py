"""Checks a run against its record and its inputs, as far as that is possible without training it again.

No claim of a record is taken for granted. Its entries follow from the configuration, the data, the pretrained model and
the files of the run folder, or contradict them: the configuration is checked against the digest in the identity, files
against their digests, scores against predictions, predictions against the data and, for a sample, the adapter, the
adapter against the best checkpoint, that against the trail, counts against data and model (`peftlab.use.claims`,
`peftlab.use.evidence`). Entries without evidence are listed as unverified.

None of this detects a consistent forgery, which leaves no contradiction. Training the run again does, see
`peftlab.use.reproduce`.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from omegaconf.errors import OmegaConfBaseException

from peftlab.composing.compose import compose
from peftlab.composing.hydra_gate import plain_values
from peftlab.config import RunSpec, resolve, validate
from peftlab.data.reading import beside_the_splits
from peftlab.data.spec import digest_of, takes_folders
from peftlab.data.splits import file_of, split_files
from peftlab.devices.hardware import fit_to_this_machine
from peftlab.devices.process_state import restored
from peftlab.errors import UserError
from peftlab.masking.mask import mask
from peftlab.models import backbone
from peftlab.one_run import surroundings
from peftlab.runs.compare import differences, kept_packages, package_differences
from peftlab.runs.environment import WITHOUT_EFFECT, code_state, installed_packages
from peftlab.runs.folder import CONFIG, PACKAGES, RunFolder
from peftlab.runs.identity import deciding_part, leaves, run_id_of
from peftlab.semi_supervised.unlabelled import REST
from peftlab.storage.digests import file_sha256, sha256_of
from peftlab.use import evidence
from peftlab.use.claims import NOT_READABLE, Cause, Findings, hold
from peftlab.use.unchanged import File, changes, config_sha256, files

NOT_COMPARABLE = {
    "status": "the run did not reach its end",
    "config": "the configuration is not that of the record's identity",
    "data": "the data is not what the run was trained and scored on",
    "weights": "the pretrained weights are not those that the run began with",
}
"""Why a run and its repetition cannot be compared, by kind of cause."""

SURROUNDINGS = ("code", "packages", "environment")
"""Kinds of causes that may change the last bits of a result but are no part of a run's identity."""

_CLAIMED_TWICE = {"environment.threads": "trainer.threads", "environment.precision": "trainer.precision"}
"""Keys of the record that repeat keys of the configuration, unless those are null."""

_SETTLED_ELSEWHERE = {"packages_sha256", "seeds", "effective_batch_size", "deterministic", "nondeterministic_parts"}
"""Entries of the record's environment that follow from others, or from the configuration."""

SETTLED_WHOLE = ("class_weights", "pos_weight")
"""Keys of the configuration whose value, whatever it was, is replaced by a run with a weight for each label."""

_ALL_BUT_THE_IDENTITY = [*NOT_READABLE, "name", "data", "method", "selection", "metrics", "cost", "history"]
"""Entries that are not checked if the run cannot be compared anyway."""


def check(folder: RunFolder) -> Findings:
    """Return everything about the run in `folder` that contradicts its record, or has changed since.

    Raises:
        UserError: a dependency of the run, such as a package, is missing; or the record lacks an entry of every record.
    """
    try:
        return _checked(folder)
    except (LookupError, TypeError, AttributeError) as error:
        raise UserError(f"{folder.path}: lacks what a run has ({type(error).__name__}: {error})") from error
    except OSError as error:
        raise UserError(f"{error.filename or folder.path}: cannot be read ({error.strerror})") from error


def _checked(folder: RunFolder) -> Findings:
    record = folder.record.data
    is_completed = record["status"] == "completed"
    causes = [] if is_completed else [Cause("status", "status", record["status"], None)]
    present = files(folder.path, [file["path"] for file in record["files"]])
    causes += _files(record["files"], present)
    causes += _identity(record["identity"], record["run_id"])
    try:
        config = folder.read_config()
        changed = list(_config(folder, config, any(cause.what == CONFIG for cause in causes)))
    except UserError as error:
        unread = Cause("config", CONFIG, record["identity"]["config_sha256"], mask(str(error)))
        return Findings([*causes, unread], _ALL_BUT_THE_IDENTITY)
    causes += changed
    code = list(_code(record))
    causes += [*code, *_packages(folder)]
    if any(cause.kind == "config" for cause in changed):
        return Findings(causes, _ALL_BUT_THE_IDENTITY)  # the folder now describes another run
    causes += _claims(record, config)
    spec = validate(here(config, record["environment"]["threads"]) | {"callbacks": {}})
    causes += _environment(record["environment"], spec)
    sources = [*_data(record, spec), *_weights(record, spec)]
    if sources or not is_completed:
        return Findings([*causes, *sources], _ALL_BUT_THE_IDENTITY)
    with restored():
        gathered = evidence.gather(folder, spec, config, *evidence.prepared(spec, record["identity"]["sha256"]))
    held = hold(folder.record, spec, present, gathered, same_code=not code)
    return Findings([*causes, *held.causes], held.unverified)


def here(config: Mapping[str, Any], threads: int) -> dict[str, Any]:
    """Return the resolved configuration of a run for training it again here, with `threads` threads and no logger.

    Raises:
        ConfigError: it does not fit the hardware.
    """
    trainer = fit_to_this_machine(config["trainer"]) | {"threads": threads}
    return resolve({**config, "trainer": trainer, "logger": {}})


def _files(listed: Iterable[Mapping[str, Any]], present: Mapping[str, File]) -> Iterator[Cause]:
    for change in changes(listed, present):
        path, then, here = change.path, change.listed, change.here
        if then is None:  # the claims decide whether it may be here
            continue
        if here is None:
            yield Cause("gone", path, then["sha256"], None)
        elif here.sha256 != then["sha256"]:
            yield Cause("edited", path, then["sha256"], here.sha256)
        else:
            yield Cause("edited", f"record.json: bytes of {path}", then["bytes"], here.bytes)


def _identity(recorded: Mapping[str, Any], run_id: str) -> Iterator[Cause]:
    parts = {key: recorded[key] for key in ("config_sha256", "data_sha256", "weights_sha256")}
    if (digest := sha256_of(parts)) != recorded["sha256"]:
        yield Cause("edited", "record.json: identity.sha256", recorded["sha256"], digest)
    elif run_id_of(recorded) != run_id:
        yield Cause("edited", "record.json: run_id", run_id, run_id_of(recorded))


def _config(folder: RunFolder, config: Mapping[str, Any], edited: bool) -> Iterator[Cause]:
    """Yield the differences from the configuration of the record's identity, by key if that can be restored."""
    record = folder.record.data
    digest = config_sha256(record, config)
    same = digest == record["identity"]["config_sha256"]
    if same and not edited:
        return
    original = _composed_again(folder, config)
    if same:
        for key, (then, now) in differences(original or {}, config).items() if original else ():
            yield Cause("edited", f"{CONFIG}: {key}", then, now)
    elif original is None:
        yield Cause("config", f"{CONFIG} (its digest)", record["identity"]["config_sha256"], digest)
    else:
        for key, (then, now) in differences(deciding_part(original), deciding_part(config)).items():
            yield Cause("config", key, then, now)


def _composed_again(folder: RunFolder, config: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return the configuration composed from the run's overrides, if its digest is that of the record."""
    record = folder.record.data
    if any(re.match(r"\W*hydra\b", text) for text in record["overrides"]):  # may name files and packages to load
        return None
    try:
        composed = plain_values(compose(*record["overrides"]))
        folder.check_allowed(composed)
        original = resolve(composed)
        _settle(original, config)
        return original if config_sha256(record, original) == record["identity"]["config_sha256"] else None
    except (UserError, OmegaConfBaseException):  # the user's own configuration folder, or other hardware, for example
        return None


def _settle(config: dict[str, Any], settled: Mapping[str, Any]) -> None:
    """Replace null and ``auto`` in `config` with the values of `settled`, which the run resolved."""
    for key, value in config.items():
        if isinstance(value, dict) and isinstance(settled.get(key), dict) and key not in SETTLED_WHOLE:
            _settle(value, settled[key])
        elif value in (None, "auto") or key in SETTLED_WHOLE:
            config[key] = settled.get(key)


def _claims(record: Mapping[str, Any], config: Mapping[str, Any]) -> Iterator[Cause]:
    recorded, configured = dict(leaves(record)), dict(leaves(config))
    for claim, key in _CLAIMED_TWICE.items():
        if configured[key] not in (None, recorded[claim]):
            yield Cause("edited", f"record.json: {claim}", recorded[claim], configured[key])


def _data(record: Mapping[str, Any], spec: RunSpec) -> Iterator[Cause]:
    recorded = record["identity"]["data_sha256"]
    try:
        now = list(_digests(spec))
    except UserError as error:
        yield Cause("data", spec.data.name, recorded, mask(str(error)))
        return
    for name, place, digest in now:
        if (then := recorded.get(name)) != digest:
            yield Cause("data", f"{name} ({place})", then, digest)


def _digests(spec: RunSpec) -> Iterator[tuple[str, Path, str]]:
    """Yield all that decides what the examples are: its name in the identity, its place, and its digest now."""
    fetched = spec.data.source.fetch()
    files = split_files(spec.data.splits, fetched, takes_folders(spec.data.format, fetched.path))
    # a fold is tested in place of the test split, which the run has not used
    of = {split: "train" if split == "test" and spec.data.fold is not None else split for split in files}
    names = {split: file_of(files, own) for split, own in of.items()}
    digests = {name: digest_of(spec.data.format, fetched, name) for name in dict.fromkeys(names.values())}
    for split, name in names.items():
        yield split, fetched.folder / name, digests[name]
    for what, (path, digest) in beside_the_splits(spec.data).items():
        yield what, path, digest
    if spec.semi is not None and spec.semi.off is None and spec.semi.unlabelled != REST:
        path = Path(spec.semi.unlabelled)
        yield "unlabelled", path, file_sha256(path)


def _weights(record: Mapping[str, Any], spec: RunSpec) -> Iterator[Cause]:
    then = record["identity"]["weights_sha256"]
    try:
        pretrained = backbone.fetch(spec.model, spec.task)
    except UserError as error:
        yield Cause("weights", spec.model.name, then, mask(str(error)))
        return
    if pretrained.weights_sha256 != then:
        yield Cause("weights", f"{spec.model.name} ({pretrained.folder})", then, pretrained.weights_sha256)


def _code(record: Mapping[str, Any]) -> Iterator[Cause]:
    for key, (then, now) in differences(record["code"], code_state()).items():
        yield Cause("code", key, then, now)


def _packages(folder: RunFolder) -> Iterator[Cause]:
    kept, installed = kept_packages(folder.path), installed_packages()
    digest = folder.record.data["environment"]["packages_sha256"]
    if _digest_of(kept) == digest:
        for name, (then, now) in package_differences(kept, installed).items():
            yield Cause("packages", name, then, now)
    elif kept:
        yield Cause("edited", f"record.json: environment.packages_sha256, of {PACKAGES}", digest, _digest_of(kept))
    elif _digest_of(installed) != digest:  # without packages.txt, it is unknown which differ
        yield Cause("packages", "all of them (their digest)", digest, _digest_of(installed))


def _digest_of(packages: list[str]) -> str:
    return hashlib.sha256("".join(f"{package}\n" for package in packages).encode()).hexdigest()


def _environment(recorded: Mapping[str, Any], spec: RunSpec) -> Iterator[Cause]:
    then, now = (
        {key: value for key, value in section.items() if key not in (*_SETTLED_ELSEWHERE, *WITHOUT_EFFECT)}
        for section in (recorded, surroundings(spec))
    )
    for key, (one, other) in differences(then, now).items():
        yield Cause("environment", key, one, other)

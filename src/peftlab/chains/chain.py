"""A folder of runs that follow from each other: the rounds of a loop, the tasks of a stream.

Whatever is decided between two runs is a function of the chain's settings and of the runs before, so that a chain that
is killed anywhere goes on with the same command, to the same bits.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from copy import deepcopy
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import torch
from omegaconf import DictConfig

from peftlab.composing.hydra_gate import plain_values
from peftlab.devices import openmp
from peftlab.devices.process_state import restored
from peftlab.errors import ConfigError, DataError, UserError
from peftlab.imports import find_here
from peftlab.masking.mask import mask
from peftlab.one_run import run
from peftlab.reading.json_form import parsed
from peftlab.runs.identity import leaves
from peftlab.runs.record import FILE_NAME, RunRecord
from peftlab.specs import packages_of
from peftlab.storage.atomic import is_torn, replacing
from peftlab.storage.digests import canonical_json
from peftlab.storage.locks import LOCK, lock
from peftlab.storage.names import check_folder

CHAIN = "chain.json"
"""The file that holds the settings of a chain, and its finished stages."""

SCHEMA = 1
"""The version of its form."""

OWN = ("name", "folder", "run", "identity")
"""What `Chain.run` keeps of a stage; everything else are facts of `Chain.note`."""


class Chain:
    """Runs in the folders of one folder; as a context manager, it holds the lock on that.

    Args:
        folder: of the chain; made if it is missing.
        kind: what the chain is, such as ``active``.
        settings: all that decides its runs besides themselves, as JSON values.
        command: the command line, for the records of its runs.

    Raises:
        ConfigError: the folder holds something else, or a chain with other settings; or another process writes it.
    """

    def __init__(self, folder: Path, kind: str, settings: Mapping[str, Any], command: tuple[str, ...] = ()) -> None:
        check_folder(f"the folder of {kind}", folder)
        self.folder, self.kind, self.command = folder, kind, list(command)
        self._lock: int | None = None
        # overrides may hold secrets, such as a key of a logger's
        asked = {"schema_version": SCHEMA, "kind": kind, "settings": mask(dict(settings))}
        if (folder / CHAIN).is_file():
            self._document = self._as_asked(asked)
        else:
            self._document = {**asked, "threads": torch.get_num_threads(), "stages": []}
            if folder.is_dir() and any(entry.name != LOCK and not is_torn(entry, CHAIN) for entry in folder.iterdir()):
                raise ConfigError(f"{folder}: there is something else in it; name a new or empty folder")
        try:
            folder.mkdir(parents=True, exist_ok=True)
            self._lock = lock(folder, kind)
        except OSError as error:
            raise ConfigError(f"{folder}: cannot be written to ({error.strerror}); name another folder") from error
        if (folder / CHAIN).is_file():  # as another process may have left it meanwhile
            self._document = self._as_asked(asked)
        self._write()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if self._lock is not None:
            os.close(self._lock)

    @property
    def stages(self) -> list[dict[str, Any]]:
        """The finished stages, in order: ``name``, ``folder`` (below the chain's), ``run``, ``identity``, and facts."""
        stages: list[dict[str, Any]] = self._document["stages"]
        return stages

    def stage(self, name: str) -> dict[str, Any] | None:
        """Return the finished stage of this name; None: it is yet to come."""
        return next((stage for stage in self.stages if stage["name"] == name), None)

    def run(self, name: str, config: DictConfig | Mapping[str, Any]) -> RunRecord:
        """Do the run of a stage, or find it finished, or go on with it where it was interrupted.

        It has the threads that the chain began with, unless it or ``OMP_NUM_THREADS`` sets others: the last digits
        depend on them. The state of the process is restored afterwards.

        Args:
            name: of the stage, and of its folder.
            config: a composed configuration, or one in plain values.

        Raises:
            UserError: the run cannot be done, or another one is in its place.
        """
        if config.get("existing") == "rerun":
            raise ConfigError(
                f"existing=rerun: {self.kind} keeps what is finished in {self.folder}, as later runs follow from it. "
                "Name a new folder, or leave the option out"
            )
        if (stage := self.stage(name)) is not None:
            return self._finished(stage)
        plain: dict[str, Any] = plain_values(config) if isinstance(config, DictConfig) else deepcopy(dict(config))
        plain |= {"run_dir": str(self.folder / name), "existing": "auto"}
        if plain["trainer"].get("threads") is None and openmp.threads_of(os.environ) is None:
            plain["trainer"]["threads"] = self._document["threads"]
        with restored():
            if isinstance(config, DictConfig):  # from the user's command: their packages may lie in its folder
                find_here(packages_of(plain))
            record = run(plain, self.command)
        own = (name, name, record.data["run_id"], record.data["identity"]["sha256"])
        self.stages.append(dict(zip(OWN, own, strict=True)))
        self._write()
        return record

    def note(self, name: str, **facts: Any) -> None:
        """Keep facts about a finished stage, as JSON values.

        Raises:
            UserError: one is kept already, and is another: what a chain computes has changed since it began.
        """
        stage = self.stage(name)
        assert stage is not None, f"{name} is finished before facts about it are kept"
        for key, value in facts.items():
            assert key not in OWN, f"{key} is kept by the chain itself"
            if key in stage and canonical_json(stage[key]) != canonical_json(value):
                raise UserError(
                    f"{self.folder / CHAIN}: {key} of stage {name} was another when it was computed first. The code "
                    "or its libraries have changed since: go on with those of then, or begin in a new folder"
                )
        stage.update(facts)
        self._write()

    def _finished(self, stage: Mapping[str, Any]) -> RunRecord:
        """Return the record of a finished stage."""
        record = RunRecord.load(self.folder / stage["folder"])
        if record.data["status"] != "completed" or record.data["identity"]["sha256"] != stage["identity"]:
            raise UserError(
                f"{record.folder}: is not the run that {CHAIN} names for stage {stage['name']}; put that one back, or "
                "begin in a new folder"
            )
        return record

    def _as_asked(self, asked: Mapping[str, Any]) -> dict[str, Any]:
        """Return the document in the folder, checked to be of the chain that is asked for."""
        there = read_chain(self.folder)
        there["settings"] = mask(there["settings"])  # an older version wrote them as they were typed
        if there["kind"] != self.kind:
            raise ConfigError(f"{self.folder}: holds a chain of kind '{there['kind']}'; name another folder")
        old, new = (dict(leaves(one["settings"])) for one in (there, asked))
        if odd := [key for key in {**old, **new} if old.get(key) != new.get(key)]:
            shown = ", ".join(f"{key}={old.get(key)!r}, now {new.get(key)!r}" for key in sorted(odd)[:3])
            raise ConfigError(
                f"{self.folder}: was begun with other settings ({shown}). Give the same to go on with it, or name "
                "another folder"
            )
        return there

    def _write(self) -> None:
        with replacing(self.folder / CHAIN) as temporary:
            temporary.write_text(canonical_json(self._document) + "\n", encoding="utf-8")


def check_data(record: RunRecord, sha256: Mapping[str, str]) -> None:
    """Check that the run of a stage was trained on the data that there is now, by the digests of its files.

    Raises:
        DataError: it was not.
    """
    own = record.data["identity"]["data_sha256"]
    if odd := [split for split, digest in sha256.items() if own.get(split) != digest]:
        raise DataError(
            f"the data have changed ({', '.join(odd)}) since {record.folder} was trained. Put the old ones back, or "
            "begin in another folder"
        )


def read_chain(folder: Path) -> dict[str, Any]:
    """Return the document of the chain in `folder`.

    Raises:
        UserError: there is none, or this version cannot read it.
    """
    file = folder / CHAIN
    if not file.is_file():
        what = "a run" if (folder / FILE_NAME).is_file() else "nothing of the kind"
        raise UserError(f"{folder}: has no {CHAIN}, but {what}; name the folder of a chain of runs")
    try:
        document = parsed(file.read_text(encoding="utf-8"))
    except ValueError as error:
        raise UserError(f"{file}: cannot be read ({error}); put back the file that was written") from error
    if not isinstance(document, dict) or document.get("schema_version") != SCHEMA:
        raise UserError(f"{file}: is not of a form that this version reads; use the version that wrote it")
    return document

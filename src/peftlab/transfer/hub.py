"""Fetches files of repositories on the Hugging Face Hub, through the cache that the user's other tools share."""

from __future__ import annotations

import re
from pathlib import Path
from typing import NamedTuple

from peftlab.errors import SourceError
from peftlab.masking.mask import mask
from peftlab.storage.disk import refusal


class Kind(NamedTuple):
    """What a repository on the hub holds."""

    repo_type: str
    section: str
    """The section of the configuration that names it."""
    place: str
    """Where its page is, before its name."""
    own: str
    """How to use files of one's own instead."""


MODEL = Kind("model", "model", "", "a folder of your own (model=folder model.path=...)")
DATA = Kind("dataset", "data", "datasets/", "files of your own (data.path=...)")


def checked_repository(repo: str) -> str:
    """Return the name of a repository; raises ValueError if it cannot be one."""
    from huggingface_hub.utils import validate_repo_id

    validate_repo_id(repo)
    return repo


def checked_revision(revision: str | None) -> str | None:
    """Return a revision; raises ValueError if it cannot be one."""
    # it becomes a file name in the cache
    if revision is not None and (not re.fullmatch(r"\w[\w./-]*", revision, re.ASCII) or ".." in revision):
        raise ValueError(f"'{revision}' must be a commit, a branch or a tag")
    return revision


def snapshot(repo: str, revision: str | None, patterns: tuple[str, ...], ignored: str | None, kind: Kind) -> Path:
    """Return the folder of the hub's cache that holds files of a repository; it is named by the commit.

    Args:
        repo: the repository.
        revision: a commit, a branch or a tag; None: the default branch.
        patterns: patterns of the names of the files, in which * also stands for folders.
        ignored: a pattern of the names of others; None: there are none.
        kind: what the repository holds.

    Raises:
        SourceError: the repository, the revision or the files cannot be had.
    """
    from huggingface_hub import constants, errors, snapshot_download

    try:
        return Path(
            snapshot_download(
                repo,
                repo_type=kind.repo_type,
                revision=revision,
                allow_patterns=list(patterns),
                ignore_patterns=ignored,
            )
        )
    except errors.GatedRepoError as error:
        raise SourceError(
            f"{repo} is gated: accept its terms at {mask(constants.ENDPOINT)}/{kind.place}{repo}, then log in with "
            "`hf auth login` or set HF_TOKEN."
        ) from error
    except errors.RevisionNotFoundError as error:
        raise SourceError(
            f"{repo} has no revision '{revision}' on the hub. Name a commit, a branch or a tag in "
            f"{kind.section}.source.revision, or leave it null."
        ) from error
    except errors.RepositoryNotFoundError as error:
        raise SourceError(
            f"The hub shows no repository '{repo}'. Check its name; if it is private, log in with "
            "`hf auth login` or set HF_TOKEN."
        ) from error
    except (errors.HTTPError, OSError, RuntimeError) as error:
        if reason := refusal(Path(constants.HF_HUB_CACHE), error):
            raise SourceError(f"The hub's cache {reason}, or set HF_HUB_CACHE to another folder.") from error
        raise SourceError(
            f"Cannot fetch '{repo}' from the hub, nor is all of it in the cache '{constants.HF_HUB_CACHE}': "
            f"{mask(_cause(error))}. Check the network and the proxy, unset HF_HUB_OFFLINE, set HF_ENDPOINT to a "
            f"mirror, or use {kind.own}."
        ) from error


def _cause(error: BaseException) -> str:
    """Return the first line of what first went wrong: the hub's own message on top of it is a paragraph."""
    while error.__cause__ is not None:
        error = error.__cause__
    return (str(error).strip() or type(error).__name__).splitlines()[0].rstrip(".")

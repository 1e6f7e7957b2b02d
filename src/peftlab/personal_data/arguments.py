"""The options of masking on a command line."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Protocol

from peftlab.errors import ConfigError
from peftlab.personal_data.key import read_key
from peftlab.personal_data.kinds import kinds
from peftlab.personal_data.masker import REGIONS, Masker, Names


class Takes(Protocol):
    """A parser, or a group of its arguments."""

    def add_argument(self, name: str, /, **settings: Any) -> Any:
        """Declare an argument."""


def add_masking(parser: Takes, prefix: str = "") -> None:
    """Declare ``--kinds``, ``--with``, ``--key``, ``--regions``, ``--names`` and ``--names-types``; see `masker_of`.

    Args:
        parser: takes the options.
        prefix: stands before each name, such as ``mask-``.
    """
    parser.add_argument(
        f"--{prefix}kinds",
        dest="mask_kinds",
        metavar="KINDS",
        default="",
        help=f"what is looked for, of {', '.join(kinds())}; by default all, names if a run finds them",
    )
    parser.add_argument(
        f"--{prefix}with",
        dest="mask_with",
        choices=("tag", "surrogate", "refuse"),
        help="what stands in its place: its kind, as in [EMAIL]; another value in its form, the same one wherever it "
        "stands; or nothing: the text is an error (default tag)",
    )
    parser.add_argument(
        f"--{prefix}key",
        dest="mask_key",
        type=Path,
        metavar="FILE",
        help="the secret that surrogates follow from, 16 bytes or more: peftlab mask --new-key FILE writes one",
    )
    parser.add_argument(
        f"--{prefix}regions",
        dest="mask_regions",
        metavar="CODES",
        default="",
        help=f"countries whose telephone and identity numbers are looked for (default {','.join(REGIONS)})",
    )
    parser.add_argument(
        f"--{prefix}names",
        dest="mask_names",
        metavar="RUN",
        help="a run of task=ner, whose model finds names of people",
    )
    parser.add_argument(
        f"--{prefix}names-types",
        dest="mask_names_types",
        metavar="TYPES",
        default="",
        help="the entity types of that run that are names (default: those that are usually called so, such as PER)",
    )


def is_asked_for(options: argparse.Namespace) -> bool:
    """Return whether one of the options of masking was given."""
    names = options.mask_names, options.mask_names_types
    return any((options.mask_kinds, options.mask_with, options.mask_key, options.mask_regions, *names))


def masker_of(options: argparse.Namespace, names_of: Callable[[str, Sequence[str], Sequence[str]], Names]) -> Masker:
    """Return the masker that `options` describe.

    Args:
        options: those of `add_masking` and ``allow``.
        names_of: returns what finds names by a run, its types that are names, and packages that its configuration may
            name classes of.

    Raises:
        ConfigError: an option is unknown, has no effect, or needs another or a package.
        UserError: there is no such run.
    """
    if options.mask_names_types and options.mask_names is None:
        raise ConfigError(
            "names-types: they are types of the run that finds names: give --names RUN too (--mask-names)"
        )
    types = _listed(options.mask_names_types)
    names = None if options.mask_names is None else names_of(options.mask_names, types, options.allow)
    masker = Masker(
        kinds=_listed(options.mask_kinds),
        with_=options.mask_with or "tag",
        key=None if options.mask_key is None else read_key(options.mask_key),
        regions=_listed(options.mask_regions),
        names=names,
    )
    if options.mask_regions and not masker.has_regions:
        raise ConfigError(
            f"regions: {', '.join(masker.kinds)} look alike in all countries: leave the option out, or look for phone "
            "or national_id too"
        )
    return masker


def _listed(text: str) -> tuple[str, ...]:
    return tuple(filter(None, (part.strip() for part in text.split(","))))

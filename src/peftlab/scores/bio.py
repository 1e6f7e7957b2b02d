"""Tag schemes of entities: reads entities from BIO tags, and converts other schemes to BIO.

Five schemes mark the same entities:

- ``iob1`` (Ramshaw & Marcus 1995; the original CoNLL-2003 files): every word of an entity is I-TYPE; B-TYPE only where
  an entity directly follows another of the same type.
- ``bio`` (also IOB2; used throughout peftlab): the first word of an entity is B-TYPE, the others are I-TYPE.
- ``bioes`` (also IOBES; BILOU of Ratinov & Roth 2009 with L for E and U for S; BMES and BMEWO of Borthwick 1999, which
  come from Chinese word segmentation (Xue 2003), with M for I and W for S): like bio, but the last of several words is
  E-TYPE, and the only word of an entity is S-TYPE.
- ``ioe1`` (Tjong Kim Sang & Veenstra 1999, like ioe2): every word of an entity is I-TYPE; the last one is E-TYPE only
  where another entity of the same type follows directly.
- ``ioe2``: the last word of an entity is E-TYPE, the others are I-TYPE.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import Literal, NamedTuple

Repair = Literal["conlleval", "discard"]
Scheme = Literal["iob1", "bio", "bioes", "ioe1", "ioe2"]

TAG_FORMS = "O, B-TYPE, I-TYPE, E-TYPE, S-TYPE, and with other letters L-TYPE, M-TYPE, U-TYPE and W-TYPE"
"""The well-formed tags, for messages."""

# Nothing below needs the other letters.
_PREFIXES = {"B": "B", "I": "I", "E": "E", "S": "S", "L": "E", "M": "I", "U": "S", "W": "S"}
_PREFIXES_OF: dict[Scheme, str] = {"iob1": "OBI", "bio": "OBI", "bioes": "OBIES", "ioe1": "OIE", "ioe2": "OIE"}

_PREFIXED = re.compile(r"(?P<letter>[BIESLMUW])[-_:./|](?P<type>\S+)", re.IGNORECASE)
_SUFFIXED = re.compile(r"(?P<type>\S+)[-_:./|](?P<letter>[BIESLMUW])", re.IGNORECASE)

_Parsed = tuple[str, str]  # prefix and type; ("O", "") outside entities


class Entity(NamedTuple):
    """A typed span of words."""

    type: str
    start: int
    """Position of the first word in its sentence."""
    end: int
    """Position after the last word."""


class TagError(ValueError):
    """A tag that is malformed, or not allowed at its position by its scheme."""

    def __init__(self, position: int, reason: str) -> None:
        super().__init__(position, reason)
        self.position = position
        """Position of the tag in its sentence, from 0."""
        self.reason = reason

    def __str__(self) -> str:
        return f"{self.reason} (position {self.position})"


def is_tag(tag: str) -> bool:
    """Return whether `tag` is O, or a known prefix, a hyphen and a type (which may itself contain hyphens)."""
    return _parse(tag) is not None


def bio_labels(types: Iterable[str]) -> list[str]:
    """Return the BIO tags of `types`, in the order given: ``["O", "B-LOC", "I-LOC", ...]``."""
    return ["O", *(f"{prefix}-{type_}" for type_ in types for prefix in "BI")]


def entities(tags: Sequence[str], repair: Repair = "conlleval") -> list[Entity]:
    """Return the entities that a sentence's BIO tags mark, in order.

    A model may predict an I-X that no B-X or I-X precedes, and the score depends on how that is read (Lignos & Kamyab
    2020, "If You Build Your Own NER Scorer, Non-replicable Results Will Come"):

    - ``conlleval`` begins an entity there, as the scorer of the CoNLL-2003 shared task does (Tjong Kim Sang &
      De Meulder 2003) and seqeval by default;
    - ``discard`` counts only entities that begin with B, as seqeval does with ``mode="strict", scheme=IOB2``.

    Raises:
        TagError: a tag is not O, B-TYPE or I-TYPE.
    """
    marked: list[Entity] = []
    start, inside = 0, ""
    for position, (prefix, type_) in enumerate(_parse_all(tags)):
        if prefix not in _PREFIXES_OF["bio"]:
            raise TagError(position, _not_of_scheme(tags[position], "bio"))
        if prefix == "I" and type_ == inside:
            continue
        if inside:
            marked.append(Entity(inside, start, position))
        begins = prefix == "B" or (prefix == "I" and repair == "conlleval")
        start, inside = position, type_ if begins else ""
    if inside:
        marked.append(Entity(inside, start, len(tags)))
    return marked


def to_bio(tags: Sequence[str], scheme: Scheme) -> list[str]:
    """Return the BIO tags of a sentence tagged in `scheme`.

    Raises:
        TagError: a tag is malformed, not in the scheme, or cannot follow the one before it.
    """
    position = _first_impossible(_parse_all(tags), scheme)
    if position is not None:
        raise _impossible(tags, position, scheme)
    return repaired_bio(tags)  # exact: in every scheme, the conlleval reading of a valid sequence is its meaning


def repaired_bio(tags: Sequence[str]) -> list[str]:
    """Return the BIO tags of any sequence of well-formed tags, from any mix of schemes, as conlleval reads it.

    B and S begin an entity; E, S and a change of type end one; I and E begin one where none is open.

    Raises:
        TagError: a tag is malformed.
    """
    converted: list[str] = []
    inside = ""
    for prefix, type_ in _parse_all(tags):
        if prefix == "O":
            converted.append("O")
            inside = ""
        else:
            continues = prefix in "IE" and type_ == inside
            converted.append(f"I-{type_}" if continues else f"B-{type_}")
            inside = "" if prefix in "ES" else type_
    return converted


def detect_scheme(sentences: Iterable[Sequence[str]]) -> Scheme:
    """Return the scheme in which most sentences of a data set are valid, even if single tags contradict it.

    On a tie it is bioes if any tag has one of the letters E, S, L, U and W, else bio before iob1 (so that a strict
    conversion names the first wrong tag).

    Raises:
        TagError: a tag is malformed.
    """
    possible: dict[Scheme, int] = {"bio": 0, "iob1": 0, "bioes": 0, "ioe2": 0, "ioe1": 0}
    letters: set[str] = set()
    for tags in sentences:
        parsed = _parse_all(tags)
        own = {prefix for prefix, _ in parsed}
        letters |= own
        if own - {"O"}:  # a sentence without an entity is valid in all schemes
            for scheme, allowed in _PREFIXES_OF.items():
                possible[scheme] += own.issubset(allowed) and _first_impossible(parsed, scheme) is None
    return max(possible, key=lambda scheme: (possible[scheme], scheme == "bioes" and not letters.isdisjoint("ES")))


def respelt(tag: str) -> str | None:
    """Return the tag that another spelling of it means, such as ``b-PER``, ``B_PER`` or ``PER-B``; None if unclear."""
    bare = tag.strip()
    if bare in ("o", "0"):
        return "O"
    for pattern in (_PREFIXED, _SUFFIXED):
        if match := pattern.fullmatch(bare):
            return f"{match['letter'].upper()}-{match['type']}"
    return bare if bare != tag and is_tag(bare) else None


def explain(tag: str) -> str:
    """Return why `tag` is invalid, what is allowed, and how to write it where that is clear."""
    wrong = f"{tag!r} is not a tag; allowed are {TAG_FORMS}."
    if tag.rstrip("-") in _PREFIXES:
        return f"{wrong} It names no type: write '{tag[0]}-TYPE'."
    meant = respelt(tag)
    return f"{wrong} Write {meant!r}." if meant else f"{wrong} Mend it."


@lru_cache(maxsize=4096)
def _parse(tag: str) -> _Parsed | None:
    if tag == "O":
        return "O", ""
    prefix, _, type_ = tag.partition("-")
    # white space around a type comes from a misread separator, and would make it a type of its own
    if prefix not in _PREFIXES or not type_ or type_ != type_.strip():
        return None
    return _PREFIXES[prefix], type_


def _parse_all(tags: Sequence[str]) -> list[_Parsed]:
    parsed: list[_Parsed] = []
    for position, tag in enumerate(tags):
        parts = _parse(tag)
        if parts is None:
            raise TagError(position, f"{tag!r} is not a tag; allowed are {TAG_FORMS}")
        parsed.append(parts)
    return parsed


def _first_impossible(parsed: Sequence[_Parsed], scheme: Scheme) -> int | None:
    """Return the position of the first tag that is not allowed there; the length if the end cuts an entity short."""
    before, before_type = "O", ""
    for position, (prefix, type_) in enumerate([*parsed, ("O", "")]):
        same_type = type_ == before_type
        if scheme == "bio":
            possible = prefix in "OB" or (prefix == "I" and same_type)
        elif scheme == "iob1":
            possible = prefix in "OI" or (prefix == "B" and same_type)
        elif scheme == "bioes":
            possible = (prefix in "IE" and same_type) if before in "BI" else prefix in "OBS"
        elif scheme == "ioe2":
            possible = (prefix in "IE" and same_type) if before == "I" else prefix in "OIE"
        else:
            possible = (prefix in "IE" and same_type) if before == "E" else prefix in "OIE"
        if not possible:
            return position
        before, before_type = prefix, type_
    return None


def _impossible(tags: Sequence[str], position: int, scheme: Scheme) -> TagError:
    if position == len(tags):
        return TagError(position - 1, f"{tags[-1]} cannot end a sentence in the {scheme} scheme")
    tag = tags[position]
    if _PREFIXES.get(tag[0], "O") not in _PREFIXES_OF[scheme]:
        return TagError(position, _not_of_scheme(tag, scheme))
    if position == 0:
        return TagError(position, f"{tag} cannot start a sentence in the {scheme} scheme")
    return TagError(position, f"{tag} cannot follow {tags[position - 1]} in the {scheme} scheme")


def _not_of_scheme(tag: str, scheme: Scheme) -> str:
    allowed = ", ".join("O" if prefix == "O" else f"{prefix}-TYPE" for prefix in _PREFIXES_OF[scheme])
    return f"{tag} is not a tag of the {scheme} scheme, which has {allowed}"

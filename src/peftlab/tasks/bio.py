"""Tag schemes of entities: reading entities from BIO tags, and converting other schemes to BIO.

Three schemes mark the same entities:

- ``iob1`` (Ramshaw & Marcus 1995; the original CoNLL-2003 files): every word of an entity is I-TYPE; B-TYPE only where
  an entity follows another of the same type directly.
- ``bio`` (also IOB2; what peftlab works with): the first word of an entity is B-TYPE, the others are I-TYPE.
- ``bioes`` (also IOBES; BILOU of Ratinov & Roth 2009 with L for E and U for S): as bio, but the last of several words
  is E-TYPE, and the only word of an entity is S-TYPE.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import Literal, NamedTuple

Repair = Literal["conlleval", "discard"]
Scheme = Literal["iob1", "bio", "bioes"]

TAG_FORMS = "O, B-TYPE, I-TYPE, E-TYPE, S-TYPE, L-TYPE and U-TYPE"
"""The well-formed tags, for messages."""

# L and U of BILOU are other letters for E and S, so nothing below has to know them.
_PREFIXES = {"B": "B", "I": "I", "E": "E", "S": "S", "L": "E", "U": "S"}
_PREFIXES_OF: dict[Scheme, str] = {"iob1": "OBI", "bio": "OBI", "bioes": "OBIES"}

_Parsed = tuple[str, str]  # prefix and type; ("O", "") outside entities


class Entity(NamedTuple):
    """A typed span of words."""

    type: str
    start: int
    """Position of the first word in its sentence."""
    end: int
    """Position after the last word."""


class TagError(ValueError):
    """A tag that is malformed, or impossible at its place in its scheme."""

    def __init__(self, position: int, reason: str) -> None:
        super().__init__(position, reason)
        self.position = position
        """Position of the tag in its sentence, from 0."""
        self.reason = reason

    def __str__(self) -> str:
        return f"{self.reason} (position {self.position})"


def is_tag(tag: str) -> bool:
    """Return whether `tag` is O or a known prefix, a hyphen and a type (which may hold hyphens itself)."""
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
        TagError: a tag is none of O, B-TYPE and I-TYPE.
    """
    found: list[Entity] = []
    start, inside = 0, ""
    for position, (prefix, type_) in enumerate(_parse_all(tags)):
        if prefix not in _PREFIXES_OF["bio"]:
            raise TagError(position, _not_of_scheme(tags[position], "bio"))
        if prefix == "I" and type_ == inside:
            continue
        if inside:
            found.append(Entity(inside, start, position))
        begins = prefix == "B" or (prefix == "I" and repair == "conlleval")
        start, inside = position, type_ if begins else ""
    if inside:
        found.append(Entity(inside, start, len(tags)))
    return found


def to_bio(tags: Sequence[str], scheme: Scheme) -> list[str]:
    """Return the BIO tags of a sentence that is tagged in `scheme`.

    Raises:
        TagError: a tag is malformed, not of the scheme, or cannot follow the one before it.
    """
    position = _first_impossible(_parse_all(tags), scheme)
    if position is not None:
        raise _impossible(tags, position, scheme)
    return repaired_bio(tags)  # exact: the conlleval reading of a possible sequence is its meaning, in every scheme


def repaired_bio(tags: Sequence[str]) -> list[str]:
    """Return the BIO tags of any sequence of well-formed tags, whichever schemes they come from, as conlleval reads it.

    B and S begin an entity, E and S end one, and so does every change of type; I and E begin one where none is open.

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
    """Return the scheme of a data set's tags.

    Any E, S, L or U means bioes. Otherwise it is bio where all sentences are possible in bio, else iob1 where all are
    possible in iob1, else bio (so that a strict conversion names the first tag that is wrong).

    Raises:
        TagError: a tag is malformed.
    """
    possible: list[Scheme] = ["bio", "iob1"]
    for tags in sentences:
        parsed = _parse_all(tags)
        if any(prefix in "ES" for prefix, _ in parsed):
            return "bioes"
        possible = [scheme for scheme in possible if _first_impossible(parsed, scheme) is None]
    return "iob1" if possible == ["iob1"] else "bio"


@lru_cache(maxsize=4096)
def _parse(tag: str) -> _Parsed | None:
    if tag == "O":
        return "O", ""
    prefix, _, type_ = tag.partition("-")
    # a type with space at its ends is a separator read wrongly, and would pass for a type of its own
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
    """Return the position of the first tag that cannot stand there; the length if the end comes inside an entity."""
    before, before_type = "O", ""
    for position, (prefix, type_) in enumerate([*parsed, ("O", "")]):
        same_type = type_ == before_type
        if scheme == "bio":
            possible = prefix in "OB" or (prefix == "I" and same_type)
        elif scheme == "iob1":
            possible = prefix in "OI" or (prefix == "B" and same_type)
        elif before in "BI":
            possible = prefix in "IE" and same_type
        else:
            possible = prefix in "OBS"
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

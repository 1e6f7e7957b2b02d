"""Splits plain text into words as word-level data sets do, with the position of each word in the text."""

from __future__ import annotations

import re
import unicodedata
from functools import lru_cache

# The rule is a regular expression over the kinds of the characters, one letter each: see `_kind`. A character is what a
# reader sees as one, with its combining marks: see `_starts`.
_WORD = re.compile(
    r"""
    c                                   # a Chinese or Japanese character
  | (?: [Aa]\. ){2,} (?: -[Aa0]+ )*     # U.S., a.m., U.S.-led
  | A\. (?= \s+\S )                     # an initial: J. Smith
  | [Aa0]+ (?: (?: [-'&/_]
                 | \. (?=[Aa0])         # example.com, 3.5
                 | (?<=0) [,:] (?=0)    # 1,000 and 10:30
               ) [Aa0]+ )*
  | Ee+                                 # 's, n't
  | \.{2,} | -{2,} | '{2} | `{2}        # ..., --, and quotation marks of two
  | \S
    """,
    re.VERBOSE,
)
_ENDING = re.compile(r"(?:(?<=[^\W\d_])n['\u2019]t|['\u2019](?:s|re|ve|ll|d|m))\b", re.IGNORECASE)
"""Endings that English writes together and treebanks write apart."""

_IDEOGRAPHIC = ("CJK UNIFIED", "CJK COMPATIBILITY", "HIRAGANA", "KATAKANA", "IDEOGRAPHIC")
_SAME = {"\u2019": "'", "\u2010": "-", "\u2011": "-"}
"""Typographic forms of the marks that join a word."""

_JOINER, _KEYCAP = "\u200d", "\u20e3"


def words_of(text: str) -> list[tuple[int, int]]:
    """Return the start and end of each word of `text`, so that ``text[start:end]`` is the word.

    White space ends a word, and so does punctuation; every mark is a word of its own, except

    - between the letters and digits of one word: well-known, O'Brien, AT&T, and/or, example.com, 3.5, 1,000, 10:30;
    - in abbreviations of single letters (U.S., a.m.) and after an initial (J. Smith);
    - where marks are repeated: ..., --, `` and ''.

    Each Chinese character, Japanese kana or emoji is a word. English endings are split off: Germany 's, do n't. This
    matches CoNLL-2003 and similar data sets; other abbreviations lose their period (Corp . and Mr .).

    Combining marks, variation selectors, joiners and skin tones stay with the character before them, so that composed
    and decomposed text (NFC, NFD) give the same words, and an emoji of several characters is one word, as is a flag.
    """
    starts = _starts(text)
    ends = [*starts, len(text)][1:]
    characters = text
    if len(starts) < len(text):
        characters = "".join(_composed(text[start:end]) for start, end in zip(starts, ends, strict=True))
    kinds = list(map(_kind, characters))
    for ending in _ENDING.finditer(characters):
        start, end = ending.span()
        kinds[start:end] = "E" + "e" * (end - start - 1)
    return [(starts[match.start()], ends[match.end() - 1]) for match in _WORD.finditer("".join(kinds))]


def _starts(text: str) -> list[int]:
    """Return the start of each character of `text` as a reader counts them: marks belong to the one before."""
    if text.isascii():
        return list(range(len(text)))
    starts: list[int] = []
    for place, character in enumerate(text):
        if not starts or not _continues(text[starts[-1]], text[max(starts[-1] + 1, place - 1) : place], character):
            starts.append(place)
    return starts


def _continues(base: str, last: str, character: str) -> bool:
    """Return whether `character` belongs to the one that starts with `base` and has `last` as its last mark, if any."""
    if _kind(base) == " ":
        return False
    if _is_flag_letter(base) and _is_flag_letter(character):
        return not last
    return _extends(character) or (last == _JOINER and _is_symbol(base) and _is_symbol(character))


@lru_cache(maxsize=4096)
def _extends(character: str) -> bool:
    """Return whether `character` is a mark, a joiner, a skin tone, or the second or third part of a Korean syllable."""
    category = unicodedata.category(character)
    return (
        category[0] == "M"
        or category == "Cf"
        or "\U0001f3fb" <= character <= "\U0001f3ff"
        or "\u1160" <= character <= "\u11ff"
    )


def _is_flag_letter(character: str) -> bool:
    return "\U0001f1e6" <= character <= "\U0001f1ff"


def _is_symbol(character: str) -> bool:
    return unicodedata.category(character)[0] == "S"


def _composed(character: str) -> str:
    """Return one code point for a character with its marks: the composed one, else the first.

    A keycap is represented by its frame, not its digit: together they are a symbol, not a number.
    """
    if _KEYCAP in character:
        return _KEYCAP
    return unicodedata.normalize("NFC", character)[0]


@lru_cache(maxsize=4096)
def _kind(character: str) -> str:
    """Return A for a capital, a for another letter, 0 for a digit, c for a character that is a word by itself, a space
    for white space, else `character` itself.
    """
    if character == _KEYCAP:
        return "c"
    category = unicodedata.category(character)
    if character.isspace() or category == "Cc":
        return " "
    if category[0] == "L" and unicodedata.name(character, "").startswith(_IDEOGRAPHIC):
        return "c"
    if category[0] in "LM" or category == "Cf":  # marks and joiners belong to the adjacent letters
        return "A" if category == "Lu" else "a"
    if category[0] == "N":
        return "0"
    return _SAME.get(character, character)

"""Plain text to words, as word-level data sets have them, with the place of each word in the text."""

from __future__ import annotations

import re
import unicodedata
from functools import lru_cache

# The rule is a regular expression over the kinds of the characters, a letter each: see `_kind`.
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
"""What English writes together and treebanks write apart."""

_IDEOGRAPHIC = ("CJK UNIFIED", "CJK COMPATIBILITY", "HIRAGANA", "KATAKANA", "IDEOGRAPHIC")
_SAME = {"\u2019": "'", "\u2010": "-", "\u2011": "-"}
"""Typographic forms of the marks that join a word."""


def words_of(text: str) -> list[tuple[int, int]]:
    """Return where each word of `text` starts and ends, so that ``text[start:end]`` is the word.

    White space ends a word, and so does punctuation, every mark of which is a word of its own, except

    - between the letters and digits of one word: well-known, O'Brien, AT&T, and/or, example.com, 3.5, 1,000, 10:30;
    - in abbreviations of single letters (U.S., a.m.) and after an initial (J. Smith);
    - where marks are repeated: ..., --, `` and ''.

    Chinese characters and Japanese kana are words one by one. English endings are cut off: Germany 's, do n't. This is
    how CoNLL-2003 and its like are written; other abbreviations lose their period (Corp . and Mr .).
    """
    kinds = list(map(_kind, text))
    for ending in _ENDING.finditer(text):
        start, end = ending.span()
        kinds[start:end] = "E" + "e" * (end - start - 1)
    return [match.span() for match in _WORD.finditer("".join(kinds))]


@lru_cache(maxsize=4096)
def _kind(character: str) -> str:
    """Return A or a for a capital or another letter, 0 for a digit, c for a character that is a word, a space, or else
    what it is: `character` itself.
    """
    category = unicodedata.category(character)
    if character.isspace() or category == "Cc":
        return " "
    if category[0] == "L" and unicodedata.name(character, "").startswith(_IDEOGRAPHIC):
        return "c"
    if category[0] in "LM" or category == "Cf":  # marks and joiners belong to the letters that they stand with
        return "A" if category == "Lu" else "a"
    if category[0] == "N":
        return "0"
    return _SAME.get(character, character)

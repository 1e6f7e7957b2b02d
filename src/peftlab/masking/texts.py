"""Find secrets in a text: after their keys, in their issuers' forms, on command lines, and known ones."""

from __future__ import annotations

import base64
import contextlib
import html
import json
import re
import string
import urllib.parse
from collections.abc import Iterator
from functools import lru_cache

from peftlab.masking import forms
from peftlab.masking.keys import MASK, is_plain, is_secret, kind_of, looks_random

Span = tuple[int, int]

SHORTEST = 8
"""Characters of the shortest secret that is searched for anywhere: shorter ones may be words."""
_SHORTEST_MIXED = 4
"""The same for secrets of letters and other characters that stand alone."""

_KEY = re.compile(
    r"""
    (?<![\w.-])-{0,2}(?P<key>[A-Za-z_+~][\w.-]*+)        # a word, a dotted key or --an-option
    \0*\\?["']?\]?[\s\0]*+                              # or a key of a dict
    (?:=>|:=|={1,3}|:)[\s\0]*+                          # as in JSON, YAML, Python, a shell, a URL, a header
    (?:[|>][+-]?[ \t]*+\n\s*+)?                          # a block of YAML
    """,
    re.VERBOSE,
)
_VALUE = re.compile(
    r"""
      b?\\?"(?P<double>(?:[^"\\]|\\[^"])*+)(?=\\?") | b?\\?'(?P<single>(?:[^'\\]|\\[^'])*+)(?=\\?')
    | ["'](?P<open>[^\n]+)                                # cut off
    | \[(?P<list>[^\[\]]{1,2000})\]
    | (?P<bare>\$\{(?:[^{}]|\$\{[^{}]{1,200}\}){1,200}\}   # a reference, whose default may be another
      | (?:(?:bearer|basic|digest|token)\s+)?[^\s,;&"'(){}\[\]]{1,400})
    """,
    re.VERBOSE | re.IGNORECASE,
)
_REST = re.compile(r"[^\s,;&\"'(){}\[\]]*")
"""The rest of a bare value that is longer than the match."""

_AFTER_SCHEME = r"(?P<value>(?:(?=[\w.~+/-]*[\d=+])[\w.~+/-]{8,}|[\w.~+/-]{20,})=*)"
_TYPED = (
    # an option and its value, a tag
    ("--", r"(?<!\S)--(?P<key>[A-Za-z][\w.-]*+)\s{1,4}(?:\\\n\s*)?[\"']?(?P<value>[^\s\"'\\-][^\s\"']*)"),
    ("</", r"<(?P<key>[\w.:-]{1,80})>(?P<value>[^<>\n]{1,2000})</"),
    # programs that take a password, or a user with one
    ("-u", r"(?<!\S)(?:-u|--user)[\s=]{0,3}[\"']?[^\s:\"'%/]{1,100}[:%](?!\d+\b)(?P<value>[^\s\"']+)"),
    ("-u", r"(?<!\S)-U\s{0,3}[\"']?[^\s:\"'%/]{1,100}[:%](?!\d+\b)(?P<value>[^\s\"']+)"),
    ("proxy-user", r"--proxy-user[\s=]{1,3}[\"']?[^\s:\"'%/]{1,100}:(?P<value>[^\s\"']+)"),
    (
        " -p",
        r"\b(?:mysql\w*|mariadb[\w-]*|sshpass|7z\w?|mongo\w*|(?:docker|podman|helm|oc|az)\slogin)\b"
        r"[^\n|;]{0,200}?\s-p\s?[\"']?(?P<value>[^\s\"'-][^\s\"']*)",
    ),
    ("zip ", r"zip\s[^\n|;]{0,200}?-P\s?(?P<value>[^\s-]\S*)"),
    ("redis-cli", r"redis-cli\s[^\n|;]{0,200}?-a\s?(?P<value>[^\s-]\S*)"),
    ("ldap", r"ldap\w+\s[^\n|;]{0,200}?-w\s?(?P<value>[^\s-]\S*)"),
    (" -pw ", r"\b(?:plink|pscp|psftp)\b[^\n|;]{0,200}?\s-pw\s(?P<value>\S+)"),
    ("-pass", r"-pass(?:in|out)?\spass:(?P<value>\S+)"),
    # netrc
    (
        "machine",
        r"\bmachine\s{1,9}\S{1,200}\s{1,9}login\s{1,9}\S{1,200}\s{1,9}(?:account\s{1,9}\S{1,200}\s{1,9})?"
        r"password\s{1,9}(?P<value>\S+)",
    ),
    ("machine", r"\bmachine\s{1,9}\S{1,200}\s{1,9}password\s{1,9}(?P<value>\S+)(?=\s{1,9}login\b)"),
    # a header
    ("bearer", rf"\b(?i:bearer)\s+{_AFTER_SCHEME}"),
    ("basic", rf"\b(?i:basic)\s+{_AFTER_SCHEME}"),
    ("pin", r"\b(?i:pin)(?:\s(?i:is|was|code))?\s{1,4}(?P<value>\d{4,12})\b"),
)
"""A hint that every such text holds, in lower case, and the pattern of a secret in a position that holds no words."""
_SAID = r"(?:\s(?i:is|was))?\s{1,4}[\"'`]?(?P<value>[\w.~+/=!@#$%^&*-]{6,})"
_SPOKEN = (
    (
        "log",
        r"\b(?:wandb|comet|vault|ngrok|heroku|hf|huggingface-cli)\s(?:auth\s)?login\s(?:--\S{1,100}\s){0,4}"
        r"(?P<value>\S{8,})",
    ),
    ("authtoken", r"authtoken\s(?P<value>\S{8,})"),
    ("'", r"'(?P<key>[\w.-]{1,200})',\s{0,4}b?'(?P<value>[^']{6,200})'"),
    ('"', r'"(?P<key>[\w.-]{1,200})",\s{0,4}b?"(?P<value>[^"]{6,200})"'),
    ("set ", r"\bset\s(?P<key>[\w./:-]{1,200})\s(?P<value>\S{6,})"),
    ("config", r"\b(?:config|configure)\s(?:--\w+\s)?(?P<key>[\w./:-]{1,200})\s(?P<value>\S{6,})"),
    ("pass", rf"\b(?i:password|passwd|passphrase|passcode){_SAID}"),
    ("secret", rf"\b(?i:secret){_SAID}"),
    ("token", rf"\b(?i:token){_SAID}"),
    ("key", rf"\b(?i:api[ _-]?key){_SAID}"),
    ("credential", rf"\b(?i:credentials?){_SAID}"),
)
"""The same for positions that may hold words: only a value that looks random is a secret there."""
_BEFORE_SHORT = re.compile(r"(?:pass\w*|pwd?|pin|secret|token|key|code|credentials?)\W{0,3}\s?(?:is|was)?\W{0,4}", re.I)
_URL_PASSWORD = re.compile(r"://[^/\s:@]{0,200}:(?P<value>[^/\s@]{1,400})@")
_ESCAPES = re.compile(r"%[0-9A-Fa-f]{2}|\\u[0-9a-fA-F]{4}|\\[nrt]|\x1b\[[\d;]{0,20}m|bot(?=\d{8})")
_BLANK = "\0"
_BREAK = re.compile(r"\\?[ \t\r]{0,80}\n\s*+")

_LOWER = {ord(letter): letter.lower() for letter in string.ascii_uppercase}


def spans(text: str, secrets: frozenset[str]) -> list[Span]:
    """Return the spans of secrets in `text`, in order and disjoint: those that it reveals, and `secrets`."""
    merged: list[Span] = []
    for start, end in sorted(_all(text, secrets)):
        if merged and start < merged[-1][1]:
            merged[-1] = (merged[-1][0], max(end, merged[-1][1]))
        elif start < end:
            merged.append((start, end))
    return merged


def secrets_in(text: str) -> Iterator[str]:
    """Yield the secrets in `text` under a key, or as the password in an address."""
    yield from (text[start:end] for start, end in _assigned(text))
    yield from (match["value"] for match in _URL_PASSWORD.finditer(text))


def _all(text: str, secrets: frozenset[str]) -> Iterator[Span]:
    yield from _verbatim(text, secrets)
    if not {"%", "\\", "\x1b"}.isdisjoint(text) or "bot" in text:
        text = _ESCAPES.sub(_blank, text)
    yield from forms.find(text)
    yield from _assigned(text)
    yield from _typed(text)


def _assigned(text: str) -> Iterator[Span]:
    """Yield the spans of the values of secret keys; a value may itself begin with a key."""
    position = 0
    while key := _KEY.search(text, position):
        position = key.end()
        if kind_of(key["key"][-200:]) is None or not (value := _VALUE.match(text, position)):
            continue
        kind = value.lastgroup
        assert kind is not None
        content = value[kind].strip("\\") if kind == "open" else value[kind]
        if is_secret(key["key"], content.strip("\"'") if kind == "list" else content):
            position = _REST.match(text, value.end()).end() if kind == "bare" else value.end(kind)  # type: ignore[union-attr]
            yield value.start(kind), position


def assigned_values(text: str) -> Iterator[tuple[str, str]]:
    """Yield every key that names a secret in `text`, with its value."""
    for key in _KEY.finditer(text):
        if kind_of(key["key"][-200:]) and (value := _VALUE.match(text, key.end())):
            yield key["key"], value[value.lastgroup or 0]


def _typed(text: str) -> Iterator[Span]:
    low = text.lower()
    for hint, pattern in _TYPED:
        if hint in low:
            for match in re.finditer(pattern, text):
                key = match.groupdict().get("key")
                if key is None or (is_secret(key, match["value"]) and not match["value"].isupper()):
                    yield match.span("value")
    for hint, pattern in _SPOKEN:
        if hint in low:
            for match in re.finditer(pattern, text):
                key, value = match.groupdict().get("key"), match["value"].rstrip(".!?")
                if looks_random(value) if key is None else is_secret(key, value) and not is_plain(value):
                    yield match.start("value"), match.start("value") + len(value)


def _blank(escape: re.Match[str]) -> str:
    """Return a replacement of the same length for an escape: its equals sign or colon, spaces, or blanks."""
    text = escape[0]
    sign = {"%3d": "=", "%3a": ":", "\\u003d": "="}.get(text.lower())
    if sign is not None:
        return sign.rjust(len(text), _BLANK)
    return (" " if text in ("\\n", "\\r", "\\t") else _BLANK) * len(text)


def _verbatim(text: str, secrets: frozenset[str]) -> Iterator[Span]:
    """Yield the spans of `secrets`, in any spelling and case, also broken over lines."""
    if not secrets:
        return
    low = _lower(text)
    for secret in secrets:
        for spelling in _spellings(secret):
            for span in _occurrences(low, spelling):
                if len(secret) >= SHORTEST or _stands_out(text, span, secret):
                    yield span
    if "\n" in text:
        joined = _BREAK.sub("", low)
        for secret in secrets:
            spelling = _lower(secret)
            if len(secret) >= SHORTEST and joined.count(spelling) > low.count(spelling):
                broken = rf"(?:{_BREAK.pattern})?".join(map(re.escape, spelling))
                yield from (match.span() for match in re.finditer(broken, low))


def _occurrences(text: str, part: str) -> Iterator[Span]:
    start = text.find(part)
    while start >= 0:
        yield start, start + len(part)
        start = text.find(part, start + len(part))


def _stands_out(text: str, span: Span, secret: str) -> bool:
    """Return whether a short secret stands alone at `span`, and is no word or follows a word such as password."""
    start, end = span
    if (start and text[start - 1].isalnum()) or text[end : end + 1].isalnum():
        return False
    mixed = any(map(str.isalpha, secret)) and not secret.isalpha() and len(secret) >= _SHORTEST_MIXED
    before = text[max(0, start - 30) : start]
    return mixed or any(match.end() == len(before) for match in _BEFORE_SHORT.finditer(before))


def _lower(text: str) -> str:
    """Return `text` in lower case, with every character at its index."""
    return text.lower() if text.isascii() else text.translate(_LOWER)


@lru_cache(maxsize=1024)
def _spellings(secret: str) -> frozenset[str]:
    """Return the spellings of `secret`, in lower case: in JSON, Python, URLs, HTML, base64, hexadecimal."""
    if len(secret) < SHORTEST:
        return frozenset({_lower(secret)})
    data = secret.encode("utf-8", "surrogatepass")
    quoted = {json.dumps(secret)[1:-1], json.dumps(secret, ensure_ascii=False)[1:-1], repr(secret)[1:-1]}
    spelt = {secret, *quoted, *(json.dumps(text)[1:-1] for text in quoted), html.escape(secret), data.hex()}
    spelt |= {urllib.parse.quote(data, safe=""), urllib.parse.quote(data), urllib.parse.quote_plus(data)}
    spelt |= {urllib.parse.unquote(secret), html.unescape(secret)}
    spelt |= {"".join(f"\\u{ord(letter):04x}" for letter in secret)}
    with contextlib.suppress(ValueError):  # it may have been written as JSON itself
        spelt.add(json.loads(f'"{secret}"'))
    spelt |= set(_in_base64(data))
    return frozenset(_lower(text) for text in spelt if len(text) >= SHORTEST and text != MASK)


def _in_base64(data: bytes) -> Iterator[str]:
    """Yield the base64 of `data` within other bytes, without the characters that its neighbours affect."""
    for before in range(3):
        encoded = base64.b64encode(bytes(before) + data).decode().rstrip("=")
        inner = encoded[-(-before * 8 // 6) : (before + len(data)) * 8 // 6]
        yield inner
        yield inner.translate({ord("+"): "-", ord("/"): "_"})

"""Which keys name a credential: `wandb.api_key` and ``HF_TOKEN`` do, `num_tokens` and `secret_santa` do not.

The last word of a key says what its value is, as in English: ``secret_santa`` is a Santa and ``pin_memory`` a memory.
Some of those words have a second meaning (the token of a tokenizer, a cookie to bake): there the value decides. It is a
secret unless it consists of words and numbers.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Any, Literal

MASK = "****"

Kind = Literal["secret", "folder", "word", "mention"]
"""The value of a key is a secret: always | unless it is a path | unless it is plain | only if it looks random."""

_SECRETS = {
    *("password", "passwd", "passphrase", "passcode", "passkey", "secret", "credential", "cred", "pw", "pat", "pin"),
    *("apikey", "authkey", "secretkey", "accesskey", "privatekey", "authtoken", "accesstoken", "apitoken", "webhook"),
    *("otp", "totp", "mnemonic", "psk", "licensekey", "sharedkey", "signingkey"),
}
"""Words that name a secret at the end of a key, whatever comes before."""
_ISSUERS = {
    *("openai", "anthropic", "wandb", "hf", "hub", "huggingface", "github", "gitlab", "gh", "aws", "azure", "google"),
    *("gcp", "gemini", "nvidia", "ngc", "groq", "mistral", "cohere", "replicate", "together", "fireworks", "deepseek"),
    *("perplexity", "xai", "pinecone", "langsmith", "langchain", "comet", "neptune", "clearml", "mlflow", "kaggle"),
    *("sentry", "datadog", "slack", "discord", "telegram", "stripe", "twilio", "sendgrid", "mailgun", "cloudflare"),
    *("npm", "pypi", "docker", "databricks", "vault", "bot", "deploy", "oauth", "api", "access", "auth", "service"),
    *("secret", "session", "security"),
}
_OWNERS: dict[str, set[str]] = {
    "key": _ISSUERS
    | {"private", "account", "encryption", "signing", "master", "ssh", "license", "licence", "shared", "hmac"}
    | {"consumer", "client", "tls", "ssl", "gpg", "pgp", "rsa", "storage", "subscription", "webhook", "root", "admin"},
    "token": _ISSUERS | {"bearer", "refresh", "pat", "csrf", "webhook", "registry"},
    "pass": {
        *("db", "database", "smtp", "mail", "ftp", "ssh", "proxy", "user", "root", "admin", "http", "imap", "key")
    },
    "seed": {"otp", "totp", "mfa", "wallet", "secret"},
    "phrase": {"seed", "pass", "recovery", "secret", "mnemonic"},
    "code": {"mfa", "otp", "recovery", "access", "auth", "authorization", "pass", "security"},
    "string": {"connection", "conn"},
    "str": {"connection", "conn"},
    "url": {"webhook", "sas"},
    "uri": {"webhook", "sas"},
    "id": {"secret"},
}
"""Words that name a secret at the end of a key after one of these."""

_SECRET_ENDS = ("password", "passwd", "passphrase", *(f"{owner}key" for owner in sorted(_OWNERS["key"])))
"""The endings of words without separators: ``PGPASSWORD``, ``encryptionkey``."""

_AMBIGUOUS = {"token", "pass", "bearer", "cookie", "authorization", "auth", "jwt", "sas"}
"""Words with a second meaning, at the end of a key."""
_TOKENS_OF_WORDS = {
    *("cls", "sep", "pad", "padding", "unk", "mask", "bos", "eos", "eot", "start", "end", "stop", "begin", "first"),
    *("last", "next", "special", "added", "image", "audio", "video", "prompt", "virtual", "word", "text", "class"),
    *("max", "min", "num", "n", "per", "each", "new", "decoder", "encoder", "forced", "boundary", "separator"),
    "unknown",
}
"""The words before ``_token`` in the settings of a tokenizer."""
_ABOUT = {"file", "path", "dir", "folder", "length", "count", "policy", "name", "type", "store", "id", "ids"}
"""The last words of keys that describe a secret but do not hold it: ``password_file``."""
_QUALIFIERS = {
    *(
        "value",
        "text",
        "string",
        "str",
        "plain",
        "raw",
        "base",
        "hex",
        "env",
        "var",
        "header",
        "here",
        "main",
        "primary",
    ),
    *("prod", "production", "dev", "staging", "test", "live", "old", "new", "current", "previous", "backup", "default"),
    *("secondary", "ro", "rw", "read", "write", "rotated"),
}
"""Words at the end of a key that say which secret it is: ``password_prod``."""

_NEVER = re.compile(r"\$\{.*\}|\$[A-Z_]+|null|none|true|false|\?\?\?|\*+|[+-]?\d*(?:\.\d+)+(?:e[+-]?\d+)?", re.I | re.S)
"""Values that are no secrets: references to one, empty values, masks, scores and versions."""
_DEFAULT = re.compile(r"\$\{.*?(?:,|:[-=])\s*(?:(\$\{.*)|(.*?)\}*)\}", re.S)
"""A reference with a default, itself a reference or not: ``${oc.env:KEY,secret}``, and a shell's ``${KEY:-secret}``."""
_PATH = re.compile(r"~|\.{0,2}/[^=+]*$|[A-Za-z]:\\")
_SEPARATORS = re.compile(r"[\s_./:,;|+@#()\[\]<>-]+")
_NUMBER = r"(?:\d{0,2}|(?:19|20)\d\d)"
_WORD = re.compile(
    rf"(?:[a-z]{{1,20}}|[A-Z]{{1,20}}|(?:[A-Z][a-z]{{2,20}}){{1,4}}|[a-z]{{2,20}}(?:[A-Z][a-z]{{2,20}}){{1,3}}){_NUMBER}"
    r"|\d{1,5}"
)
_DIGEST = re.compile(
    r"[0-9a-f]{12}|[0-9a-f]{32}|[0-9a-f]{40}|(?:[0-9a-f]{8}){7,16}|[0-9a-f]{8}-(?:[0-9a-f]{4}-){3}\w{12}"
)
_LONGEST = 200
"""Characters of the longest plain text, and of a key that are checked."""


def is_secret(key: str, value: Any) -> bool:
    """Return whether `value` is a credential, judging by its `key`."""
    if value is None or isinstance(value, (bool, float)):
        return False
    text = str(value)
    if default := _DEFAULT.fullmatch(text[:_LONGEST]):
        return is_secret(key, (default[1] or default[2]).strip("\"'"))
    if not text or (len(text) <= _LONGEST and _NEVER.fullmatch(text)):
        return False
    if text.isdecimal() and key[-_LONGEST:].lower().endswith("tokens"):  # a count of tokens
        return False
    match kind_of(key[-_LONGEST:]):
        case "secret":
            return True
        case "folder":
            return not _PATH.match(text)
        case "word":
            return len(text) >= 6 and not is_plain(text)
        case "mention":
            return looks_random(text)
    return False


def is_plain(text: str) -> bool:
    """Return whether `text` consists of words and short numbers, or is a special token such as [SEP] or <s>."""
    if len(text) > _LONGEST:
        return False
    pieces = list(filter(None, _SEPARATORS.split(text)))
    return re.fullmatch(r"\W.*\W", text) is not None or all(map(_WORD.fullmatch, pieces))


def looks_random(text: str) -> bool:
    """Return whether `text` can hardly be anything but a credential: no words, no number, no digest."""
    return (
        re.fullmatch(r"[\w.~+/=-]{8,}", text) is not None
        and re.search(r"\d", text[:_LONGEST]) is not None
        and re.search(r"[A-Za-z]", text[:_LONGEST]) is not None
        and not is_plain(text)
        and not _DIGEST.fullmatch(text)
    )


@lru_cache(maxsize=4096)
def kind_of(key: str) -> Kind | None:
    """Return the kind of `key`; None: its value is no secret."""
    leaf = re.split(r"[.\s/]", key)[-1]
    words = [word.lower() for word in re.findall(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+", leaf)]
    if not words:
        return None
    if _is_owned(words):
        return "secret"
    while len(words) > 1 and words[-1] in _QUALIFIERS:
        words.pop()
    last = _singular(words[-1])
    if last in _SECRETS or last.endswith(_SECRET_ENDS) or "".join(words) in _SECRETS or _is_owned(words):
        return "secret"
    if last == "pwd":
        return "folder"
    if words[-1] in _ABOUT:
        return None
    if last == "token" and (_TOKENS_OF_WORDS & {*words} or (words[-1] == "tokens" and len(words) == 1)):
        return None
    if last == "token" and leaf.isupper():  # an environment variable
        return "secret"
    if last in _AMBIGUOUS:
        return "word"
    return "mention" if _SECRETS & {_singular(word) for word in words} else None


def _is_owned(words: list[str]) -> bool:
    """Return whether the last of `words` names a secret because of a word before it."""
    last = _singular(words[-1])
    before = words[:-1] if last in ("key", "token", "pass") else words[-2:-1]
    return not _OWNERS.get(last, set()).isdisjoint(before)


def _singular(word: str) -> str:
    return word if word == "pass" else word.removesuffix("s")

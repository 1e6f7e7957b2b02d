"""No secret in a file: what looks like a credential is written as ``****``.

Text for people (messages, tracebacks, commands, log lines) goes through `mask`. A secret in it is known by its key
(``api_key``, ``hf_token``, ``password``, ...), by its form (``hf_...``, ``sk-...``, a bearer token, a private key, the
user in ``https://user:password@host``), or because the environment of this process, or a configuration that it has
read, holds it under such a key: then it is masked wherever its very characters turn up.

What is read back stays as it is: masking is lossy, and a label such as ``password: reset`` only looks like a secret.
A configuration goes through `mask_settings`, which goes by keys; of a record the free text alone is masked; data,
predictions, tables and scores are never. Where a setting is masked, its value is gone: whoever reads the file back says
so (`masked_in`). Give a secret in the environment (``WANDB_API_KEY``), or again on the command line.
"""

from __future__ import annotations

import json
import os
import re
import urllib.parse
from collections.abc import Iterable, Iterator, Mapping
from functools import lru_cache
from typing import Any

MASK = "****"

_FROM_DATA = ("data.labels", "data.format")
"""The sections of a configuration that name what stands in data: nothing in them is masked."""
_OURS = ("peftlab.", "lightning.", "torch.")
"""How the classes begin whose settings hold no secrets but by their keys; others may be given any text."""

_SHORTEST = 8
"""Characters of the shortest secret that is masked wherever it turns up: shorter ones are words."""

_SECRET_WORDS = {
    *("password", "passwd", "passphrase", "passcode", "secret", "credential", "authorization", "cookie", "bearer"),
    *("apikey", "authkey", "secretkey", "accesskey", "privatekey", "authtoken", "accesstoken", "apitoken"),
}
_SECRET_KEYS = {
    *("api", "access", "secret", "private", "auth", "account", "encryption", "signing", "master", "ssh", "service"),
    *("openai", "anthropic", "wandb", "hf", "huggingface", "github", "aws", "azure", "google"),
}
"""What a ``..._key`` is the key of."""
_SECRET_PASSES = {"db", "database", "smtp", "mail", "ftp", "ssh", "proxy", "user", "root", "admin", "http"}
"""Whose ``..._pass`` or ``..._pwd`` is a password: elsewhere it is a forward pass, or the working folder."""
_SECRET_TOKENS = {
    *("api", "access", "auth", "bearer", "refresh", "session", "security", "secret", "id", "hf", "hub", "huggingface"),
    *("wandb", "github", "gitlab", "gh", "aws", "openai", "slack", "bot", "user", "service", "deploy", "pat", "oauth"),
}
"""What a ``..._tokens`` of several is for: elsewhere it counts words."""
_PLAIN_TOKENS = {
    *("cls", "sep", "pad", "padding", "unk", "mask", "bos", "eos", "eot", "start", "end", "stop", "begin", "first"),
    *("last", "next", "special", "added", "image", "audio", "video", "prompt", "virtual", "word", "text", "class"),
    *("max", "min", "num", "n", "per", "each", "new", "decoder", "encoder", "forced", "boundary", "separator"),
    "unknown",
}
"""What a ``..._token`` of a tokenizer stands for."""
_ABOUT = {"file", "path", "dir", "folder", "length", "count", "policy", "name", "type", "store", "id", "ids"}
"""What a key that ends so tells about a secret is none: ``password_file``."""

_FORMS = re.compile(
    r"""
    -----BEGIN\ [A-Z0-9 ]*PRIVATE\ KEY-----.*?(?:-----END\ [A-Z0-9 ]*PRIVATE\ KEY-----|\Z)
    | (?<![A-Za-z0-9_])(?:
        hf_[A-Za-z0-9]{16,} | api_org_[A-Za-z0-9]{16,}                                 # Hugging Face
      | wandb_v\d_[A-Za-z0-9_]{16,} | local-[0-9a-f]{40}                                # Weights & Biases
      | gh[pousr]_[A-Za-z0-9]{16,} | github_pat_\w{16,} | glpat-[\w-]{16,}              # GitHub, GitLab
      | (?:AKIA|ASIA|AROA|AIDA)[A-Z0-9]{12,}                                            # AWS
      | sk-(?=[\w-]*\d)[\w-]{16,} | [sr]k_(?:live|test)_[A-Za-z0-9]{10,}                # OpenAI and its like, Stripe
      | AIza[\w-]{30,} | ya29\.[\w-]{10,}                                               # Google
      | xox[abeprs]-[\w-]{10,} | xapp-[\w-]{10,}                                        # Slack
      | pypi-[\w-]{32,} | npm_[A-Za-z0-9]{30,} | dapi[0-9a-f]{32} | dckr_pat_[\w-]{16,} # registries, Databricks
      | eyJ[\w-]{8,}\.[\w-]{8,}\.[\w-]+                                                 # a JSON web token
    )
    | (?<=://)[^/\s"'<>\\]+@                                                           # the user before a host
    | (?<=[?&]sig=)[^&\s"']+ | (?<=[Ss]ignature=)[^&\s"']{16,}                         # a signed URL
    """,
    re.VERBOSE | re.DOTALL,
)
_BEARER = re.compile(r"\b(bearer|basic)(\s+)(?:(?=[\w.~+/-]*[\d=+])[\w.~+/-]{8,}|[\w.~+/-]{20,})=*", re.IGNORECASE)
_ASSIGNED = re.compile(
    r"""
    (?<![\w.-])-{0,2}(?P<key>[A-Za-z_+~][\w.-]*+)   # a word, a dotted key or --an-option
    (?P<is>\\?["']?\s*(?:=>|[=:])\s*)    # as in JSON, YAML, Python, a shell, a URL, a header
    (?P<value>
      \\?"(?:[^"\\]|\\[^"])*\\?" | \\?'(?:[^'\\]|\\[^'])*\\?'
      | (?:(?:bearer|basic|digest|token)\s+)?[^\s,;&"'(){}\[\]]+
    )
    """,
    re.VERBOSE | re.IGNORECASE,
)

_remembered: set[str] = set()


def remember(config: Any) -> None:
    """From now on, mask the secrets of `config` wherever this process writes them, also without their keys."""
    _remembered.update(_secrets(config))


def mask(value: Any) -> Any:
    """Return `value`, text or nested containers, without the secrets in it and those that this process knows."""
    # GOOGLE_APPLICATION_CREDENTIALS and its like say where a secret lies
    environment = _long(text for key, text in os.environ.items() if is_secret(key, text) and not os.path.exists(text))
    return _mask(value, _spellings({*_secrets(value), *_remembered, *environment}))


def mask_settings(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return a configuration as it is written and read back: without its secrets, and otherwise as it is.

    A text is masked where its key is that of a secret. Only in what loggers and the user's own callbacks are given,
    which may be whole sentences or addresses, is it also looked through; none of that decides a result.
    """
    return {key: mask(node) if key == "logger" else _mask_node(node, key) for key, node in config.items()}


def masked_in(config: Mapping[str, Any]) -> str | None:
    """Return the dotted key of a setting in `config` that was masked when it was written; None: there is none."""
    labels = (config.get("data") or {}).get("labels")
    if isinstance(labels, list) and len(set(map(str, labels))) < len(
        labels
    ):  # two that only a secret's place tells apart
        return "data.labels"
    return next(_masked_keys(config, ""), None)


def is_secret(key: str, value: Any) -> bool:
    """Return whether a key names a credential, as `wandb.api_key` and ``HF_TOKEN`` do, and `num_tokens` does not."""
    if value is None or isinstance(value, bool) or value in ("", MASK):
        return False
    kind = _kind(key)
    if kind == "token":  # the word has a second meaning: a tokenizer's [SEP] and <s>, numbers, words
        text = str(value)
        return len(text) >= 6 and not re.fullmatch(r"\W.*\W|\d{1,5}|\d*\.\d*", text)
    return kind == "secret"


@lru_cache(maxsize=4096)
def _kind(key: str) -> str | None:
    leaf = re.split(r"[.\s/]", key)[-1]
    words = [word.lower() for word in re.findall(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+", leaf)]
    single = [word if word == "pass" else word.removesuffix("s") for word in words]
    if not words or words[-1] in _ABOUT:
        return None
    before, last = set(words[:-1]), single[-1]
    if (
        _SECRET_WORDS & {*single, "".join(single)}
        or (last == "key" and _SECRET_KEYS & before)
        or (last in ("pass", "pwd") and _SECRET_PASSES & before)
    ):
        return "secret"
    if last == "token" and not _PLAIN_TOKENS & before and (words[-1] == "token" or _SECRET_TOKENS & before):
        return "token"
    return None


def _mask_node(node: Any, path: str) -> Any:
    """Mask the texts under secret keys below the dotted key `path`, and all texts that classes of others are given."""
    if path in _FROM_DATA:
        return node
    if isinstance(node, Mapping):
        if path.startswith("callbacks.") and not str(node.get("_target_", _OURS[0])).startswith(_OURS):
            return mask(node)
        return {
            key: _masked_whole(item)
            if isinstance(_first(item), str) and is_secret(str(key), _first(item))
            else _mask_node(item, f"{path}.{key}")
            for key, item in node.items()
        }
    return [_mask_node(item, path) for item in node] if isinstance(node, (list, tuple)) else node


def _masked_keys(node: Any, path: str) -> Iterator[str]:
    if isinstance(node, Mapping):
        for key, item in node.items():
            yield from _masked_keys(item, f"{path}.{key}" if path else str(key))
    elif isinstance(node, (list, tuple)):
        for item in node:
            yield from _masked_keys(item, path)
    elif isinstance(node, str) and MASK in node and not (path.startswith(_FROM_DATA) and _has_its_own_asterisks(node)):
        yield path


def _has_its_own_asterisks(text: str) -> bool:
    """Return whether `text` has them elsewhere than after a secret key, as ratings by stars have."""
    assigned = (match["value"].strip("\"'\\") for match in _ASSIGNED.finditer(text) if _kind(match["key"]))
    return MASK not in assigned


def _mask(value: Any, known: re.Pattern[str] | None) -> Any:
    if isinstance(value, str):
        return _mask_text(value, known)
    if isinstance(value, Mapping):
        return {
            _mask(key, known): _masked_whole(item) if is_secret(str(key), _first(item)) else _mask(item, known)
            for key, item in value.items()
        }
    if isinstance(value, (list, tuple)):
        return type(value)(_mask(_mask_argument(item), known) for item in value)
    return value


def _mask_text(text: str, known: re.Pattern[str] | None) -> str:
    if known is not None:
        text = known.sub(MASK, text)
    text = _FORMS.sub(lambda found: f"{MASK}@" if found[0].endswith("@") else MASK, text)
    return _BEARER.sub(rf"\1\2{MASK}", _mask_assigned(text))


def _mask_assigned(text: str) -> str:
    """Mask the values in `text` that secret keys are given."""
    done, position = "", 0
    while found := _ASSIGNED.search(text, position):
        value = found["value"].strip("\"'\\")
        end = found.end("is")  # a value may itself begin with a key
        done += text[position:end]
        if is_secret(found["key"], value):
            end = found.end()
            done += found["value"].replace(value, MASK)
        position = end
    return done + text[position:]


def _mask_argument(argument: Any) -> Any:
    """Mask one argument of a command, KEY=VALUE: whatever follows the sign is the value."""
    key, sign, value = argument.partition("=") if isinstance(argument, str) else ("", "", "")
    return f"{key}={MASK}" if sign and is_secret(key, value) else argument


def _first(item: Any) -> Any:
    """Return one value of a list of secrets, to tell what it holds."""
    return next((one for one in item if one), None) if isinstance(item, (list, tuple)) else item


def _masked_whole(item: Any) -> Any:
    return [MASK for _ in item] if isinstance(item, (list, tuple)) else MASK


def _secrets(value: Any) -> Iterator[str]:
    """Yield every value in `value` that stands under a secret key and is long enough to be told from a word."""
    if isinstance(value, Mapping):
        for key, item in value.items():
            items = list(item) if isinstance(item, (list, tuple)) else [item]
            if is_secret(str(key), _first(item)):
                yield from _long(str(one) for one in items)
            yield from _secrets(item)
    elif isinstance(value, (list, tuple)):
        for item in value:
            yield from _secrets(item)


def _long(texts: Iterable[str]) -> set[str]:
    return {text for text in texts if len(text) >= _SHORTEST}


def _spellings(secrets: set[str]) -> re.Pattern[str] | None:
    """Return what finds any of `secrets`, also as JSON, Python and URLs write them."""
    spelt = {
        spelling
        for secret in secrets
        for spelling in (secret, json.dumps(secret)[1:-1], repr(secret)[1:-1], urllib.parse.quote(secret, safe=""))
    }
    return re.compile("|".join(map(re.escape, sorted(spelt, key=len, reverse=True)))) if spelt else None

"""Keep secrets out of files: a credential is written as ``****``.

Text for people (messages, tracebacks, commands, log lines) goes through `mask`. It recognises a secret by its key
(``api_key``, ``hf_token``, ``password``, ...: `peftlab.masking.keys`), by its form (``hf_...``, ``sk-...``, a private
key, the user in ``https://user:password@host``, ...: `peftlab.masking.forms`), by its position on a command line
(`peftlab.masking.texts`), or because the environment of this process, or a configuration that it has read, holds it
under such a key: then it is masked anywhere, also in base64 or URL encoding. The output of the process itself passes
through `peftlab.masking.streams`.

Files that are read back stay as they are: masking is lossy, and a label such as ``password: reset`` only looks like a
secret. A configuration goes through `mask_settings`, which goes by keys; in a record only the free text is masked;
data, predictions, tables and scores never are. The value of a masked setting is lost: whoever reads the file back says
so (`masked_in`). Give a secret in the environment (``WANDB_API_KEY``), or again on the command line.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping
from functools import lru_cache
from typing import Any

from peftlab.masking.keys import MASK, is_secret
from peftlab.masking.texts import SHORTEST, Span, assigned_values, secrets_in, spans

__all__ = ["MASK", "is_secret", "mask", "mask_settings", "mask_spans", "masked_in", "remember"]

NOT_SHOWN = "[not shown: it cannot be masked]"
"""Replaces a text that masking fails on, and containers nested too deeply."""

_DEEPEST = 50
"""The depth of nested containers that are masked."""

_FROM_DATA = ("data.labels", "data.format")
"""The sections of a configuration that quote data: nothing in them is masked."""
_OURS = ("peftlab.", "lightning.", "torch.")
"""The prefixes of classes whose settings hold secrets only under secret keys; others may hold any text."""

_remembered: set[str] = set()


def remember(config: Any) -> None:
    """From now on, mask the secrets of `config` wherever this process writes them, even without their keys.

    Args:
        config: a configuration, or arguments KEY=VALUE.
    """
    _remembered.update(_long(_secrets(config, texts=True)))


def mask(value: Any) -> Any:
    """Return `value`, text or nested containers, without its own secrets and those that this process knows.

    Never raises: a value that cannot be masked is not shown.
    """
    try:
        return _Masking(_process_secrets() | _long(_secrets(value))).of(value)
    except Exception:  # noqa: BLE001  # whatever it is, it must neither end the report nor show a secret
        return NOT_SHOWN


def mask_spans(text: str) -> list[Span]:
    """Return the spans of secrets that `mask` finds in `text`; unlike `mask`, it may raise."""
    return spans(text, _process_secrets())


def mask_settings(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return a configuration as it is written and read back: without its secrets, otherwise unchanged.

    A text is masked where its key names a secret. The settings of loggers and of the user's own callbacks may be whole
    sentences or addresses, and go through `mask` too; none of them affects a result.
    """
    return {key: mask(node) if key == "logger" else _mask_node(node, key) for key, node in config.items()}


def masked_in(config: Mapping[str, Any]) -> str | None:
    """Return the dotted key of a setting that was masked when `config` was written; None: there is none."""
    labels = (config.get("data") or {}).get("labels")
    if isinstance(labels, list) and len(set(map(str, labels))) < len(labels):  # two that differed in a masked part only
        return "data.labels"
    return next(_masked_keys(config, ""), None)


def _mask_node(node: Any, path: str) -> Any:
    """Mask the texts under secret keys below the dotted key `path`, and all settings of third-party callbacks."""
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
    """Return whether the asterisks in `text` follow no secret key, as in star ratings."""
    return MASK not in (value for _, value in assigned_values(text))


class _Masking:
    """Masks containers: shared ones are masked once, and those nested too deeply are not shown."""

    def __init__(self, secrets: frozenset[str]) -> None:
        self._secrets = secrets
        self._done: dict[int, Any] = {}
        self._depth = 0

    def of(self, value: Any) -> Any:
        if isinstance(value, str):
            return self._text(value)
        if isinstance(value, (bytes, bytearray)):
            return type(value)(self._text(value.decode("latin-1")), "latin-1")
        if not isinstance(value, (Mapping, list, tuple, set, frozenset)):
            return value
        if id(value) not in self._done:
            self._done[id(value)] = NOT_SHOWN  # for a container that contains itself
            if self._depth < _DEEPEST:
                self._depth += 1
                self._done[id(value)] = self._mapping(value) if isinstance(value, Mapping) else self._items(value)
                self._depth -= 1
        return self._done[id(value)]

    def _mapping(self, value: Mapping[Any, Any]) -> dict[Any, Any]:
        return {
            self.of(key): _masked_whole(item) if is_secret(str(key), _first(item)) else self.of(item)
            for key, item in value.items()
        }

    def _items(self, value: Iterable[Any]) -> Any:
        masked = [self.of(item) for item in _mask_arguments(value)]
        return tuple(masked) if isinstance(value, tuple) else masked if isinstance(value, list) else set(masked)

    def _text(self, text: str) -> str:
        pieces, position = [], 0
        for start, end in spans(text, self._secrets):
            pieces += [text[position:start], MASK]
            position = end
        return "".join([*pieces, text[position:]])


def _mask_arguments(arguments: Iterable[Any]) -> Iterator[Any]:
    """Mask the arguments of a command, KEY=VALUE or ``--key`` and VALUE: all after the key is the value."""
    option = None
    for argument in arguments:
        key, value = _argument(argument)
        if option and isinstance(argument, str) and is_secret(option, argument):
            yield MASK
        else:
            yield f"{key}={MASK}" if is_secret(key, value) else argument
        option = argument if isinstance(argument, str) and argument.startswith("--") and not key else None


def _first(item: Any) -> Any:
    """Return the first value of a list, which stands for all of it."""
    return next((one for one in item if one), None) if isinstance(item, (list, tuple)) else item


def _masked_whole(item: Any) -> Any:
    return [MASK for _ in item] if isinstance(item, (list, tuple)) else MASK


def _secrets(value: Any, texts: bool = False) -> Iterator[str]:
    """Yield every value under a secret key in `value`, or in KEY=VALUE of a list; `texts`: in any text."""
    todo, seen = [value], set()
    while todo:
        node = todo.pop()
        if isinstance(node, str) and texts:
            yield from secrets_in(node)
        if not isinstance(node, (Mapping, list, tuple)) or id(node) in seen:
            continue
        seen.add(id(node))
        for key, item in node.items() if isinstance(node, Mapping) else map(_argument, node):
            if is_secret(str(key), _first(item)):
                yield from (str(one) for one in (item if isinstance(item, (list, tuple)) else [item]))
            else:
                todo.append(f"{key}={item}" if isinstance(node, (list, tuple)) and key else item)


def _argument(argument: Any) -> tuple[str, Any]:
    key, sign, value = argument.partition("=") if isinstance(argument, str) else ("", "", "")
    return (key, value.strip("\"'")) if sign else ("", argument)


def _process_secrets() -> frozenset[str]:
    """Return the secrets of this process."""
    return _of_environment(tuple(os.environb.items())) | _remembered


@lru_cache(maxsize=8)
def _of_environment(variables: tuple[tuple[bytes, bytes], ...]) -> frozenset[str]:
    return frozenset().union(*(_of_variable(os.fsdecode(key), os.fsdecode(text)) for key, text in variables))


def _of_variable(key: str, text: str) -> frozenset[str]:
    """Return the secrets in an environment variable."""
    if not is_secret(key, text):
        return _long(secrets_in(text))
    # GOOGLE_APPLICATION_CREDENTIALS and the like name the file of a secret
    return frozenset() if os.path.exists(text) else frozenset({text})


def _long(texts: Iterable[str]) -> frozenset[str]:
    return frozenset(text for text in texts if len(text) >= SHORTEST)

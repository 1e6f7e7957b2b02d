"""YAML of plain values: reads the configuration of a user or a run, and writes a resolved one.

A file from a stranger creates no objects, and costs no more than its length: only the tags of plain values are
accepted, and what aliases repeat, the nesting depth and the length of a key are limited.

The scanner of libyaml is faster than PyYAML's own by far, and reads nearly every text alike. So it goes first, unless
the text holds something that the two read differently; what it refuses is read again by PyYAML's, whose error counts.

In a resolved configuration every value is literal. A label, a path or a text may look like an interpolation of
OmegaConf (``${price}``, or half of one, ``${``); it stays as it is, and none is resolved.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, ClassVar

import yaml
from yaml.composer import Composer, ComposerError
from yaml.constructor import ConstructorError, SafeConstructor
from yaml.parser import Parser
from yaml.reader import Reader
from yaml.resolver import Resolver
from yaml.scanner import Scanner

from peftlab.errors import ConfigError
from peftlab.seams.omegaconf import text_node, yaml_dumper, yaml_loader

MOST_LEVELS = 40
"""The deepest nesting of sections."""

MOST_REPEATED = 100_000
"""How many values all aliases of a file together may repeat."""

_CHARACTERS = 100
"""A text counts as one more value for so many: whatever writes the values writes it once for each alias."""

LONGEST_KEY = 1_000
"""In characters."""

_LARGEST_BITS = 10_000
"""The largest integer: Python refuses to print a much larger one."""

_PLAIN = frozenset(f"tag:yaml.org,2002:{kind}" for kind in ("null", "bool", "int", "float", "str", "seq", "map"))
"""The accepted tags; a configuration has no sets, dates or bytes."""

_NULL = "tag:yaml.org,2002:null"

_READ_DIFFERENTLY = re.compile(r"[\t!?\ufeff]|[|>][-+\d]*#|(?:^|[\n\r\x85\u2028\u2029])%")
"""What libyaml and PyYAML's own scanner read differently: tabs between values, a lone tag, a question mark that ends a
word in brackets, a byte order mark within the text, a comment that touches the sign of a block of text or
a directive."""

_OmegaConfLoader: Any = yaml_loader()
_OmegaConfDumper: Any = yaml_dumper()


class _Dumper(_OmegaConfDumper):  # type: ignore[misc]  # OmegaConf's
    """Escapes NEL (U+0085), which a reader would turn into a line feed."""

    @staticmethod
    def text(dumper: yaml.Dumper, text: str) -> yaml.ScalarNode:
        """Return the node for a text."""
        if "\x85" in text:
            return dumper.represent_scalar("tag:yaml.org,2002:str", text, style='"')
        return text_node(dumper, text)


_Dumper.add_representer(str, _Dumper.text)


def dump(config: Mapping[str, Any]) -> str:
    """Return `config`, plain values, as YAML with the keys in their order."""
    return yaml.dump(dict(config), Dumper=_Dumper, default_flow_style=False, allow_unicode=True, sort_keys=False)


def load(text: str) -> Any:
    """Return the plain values in `text`.

    Raises:
        yaml.YAMLError: it is not YAML, has a duplicate key, or something that is refused, see `_PlainValues`.
    """
    if _WithLibyaml is not None and not _READ_DIFFERENTLY.search(text):
        with suppress(yaml.YAMLError, UnicodeEncodeError):  # of half a character
            return yaml.load(text, Loader=_WithLibyaml)  # noqa: S506  # it makes plain values
    loader: Any = _WithPyYaml
    return yaml.load(text, Loader=loader)  # noqa: S506  # the same


@contextmanager
def reading(file: str | Path) -> Iterator[None]:
    """Turn errors while `file` is read into a ConfigError that names the line."""
    try:
        yield
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        place = file if mark is None else f"{file}:{mark.line + 1}"
        raise ConfigError(f"{place}: cannot be read: {error.problem}") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(f"{file}: cannot be read: {str(error).splitlines()[0]}") from error
    except OSError as error:  # OmegaConf raises it too, if a file holds a single value
        raise ConfigError(
            f"{file}: cannot be read: {error.strerror or f'{error}; expected keys and values'}"
        ) from error


class _PlainValues(Composer, SafeConstructor, Resolver):
    """Makes values of the events of a parser, as OmegaConf does, without objects.

    Memory stays in proportion to the size of the file.
    """

    yaml_implicit_resolvers = _OmegaConfLoader.yaml_implicit_resolvers
    yaml_constructors: ClassVar[dict[Any, Any]] = {
        tag: make for tag, make in _OmegaConfLoader.yaml_constructors.items() if tag in _PLAIN
    }
    peek_event: Any
    """The parser's, which a class below adds."""

    def __init__(self) -> None:
        Composer.__init__(self)
        SafeConstructor.__init__(self)
        Resolver.__init__(self)
        self._level = 0
        self._values = self._repeated = 0
        self._sizes: dict[int, int] = {}
        """The number of values in a node, by its `id`, see `_CHARACTERS`; without nodes that are still being read."""

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        """Return the next node, and count its values.

        Raises:
            ComposerError: it is nested too deeply, refers to itself, or repeats too much.
        """
        event = self.peek_event()
        mark: Any = event.start_mark
        before = self._values
        self._level += 1
        if self._level > MOST_LEVELS:
            raise ComposerError(None, None, f"more than {MOST_LEVELS} levels of sections", mark)
        node: yaml.Node | None = super().compose_node(parent, index)
        self._level -= 1
        if not isinstance(event, yaml.AliasEvent):
            self._values += 1 + (len(node.value) // _CHARACTERS if isinstance(node, yaml.ScalarNode) else 0)
            self._sizes[id(node)] = self._values - before
            return node
        if id(node) not in self._sizes:
            raise ComposerError(None, None, f"*{event.anchor} stands within what it refers to", mark)
        self._values += self._sizes[id(node)]
        self._repeated += self._sizes[id(node)]
        if self._repeated > MOST_REPEATED:
            raise ComposerError(None, None, f"aliases repeat more than {MOST_REPEATED:,} values", mark)
        return node

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> Any:
        """Return the keys and values of a section.

        Raises:
            ConstructorError: a key is no plain value, null, too long, or a duplicate.
        """
        keys = set()
        for key, _ in node.value:
            if not isinstance(key, yaml.ScalarNode):
                raise ConstructorError(None, None, "a key must be a name", key.start_mark)
            if len(key.value) > LONGEST_KEY:
                problem = f"a key of {len(key.value):,} characters; at most {LONGEST_KEY:,} are taken"
                raise ConstructorError(None, None, problem, key.start_mark)
            if key.tag == _NULL:
                problem = f"the key {key.value or ':'} is no name to YAML, but null; write '{key.value}' in quotes"
                raise ConstructorError(None, None, problem, key.start_mark)
            if (key.tag, key.value) in keys:
                raise ConstructorError(None, None, f"the key {key.value} is there twice", key.start_mark)
            keys.add((key.tag, key.value))
        return super().construct_mapping(node, deep)

    def construct_plain(self, node: yaml.ScalarNode) -> Any:
        """Return the value of a tagged scalar.

        Raises:
            ConstructorError: the text is not a value of that type.
        """
        try:
            value = _OmegaConfLoader.yaml_constructors[node.tag](self, node)
        except (ValueError, LookupError) as error:
            raise ConstructorError(None, None, f"no {node.tag.rpartition(':')[2]}: {error}", node.start_mark) from error
        if isinstance(value, int) and value.bit_length() > _LARGEST_BITS:
            raise ConstructorError(None, None, "an integer that is too large", node.start_mark)
        return value

    def refuse_tag(self, node: yaml.Node) -> Any:
        """Refuse a tag that creates an object.

        Raises:
            ConstructorError: always.
        """
        tag = node.tag.replace("tag:yaml.org,2002:", "!!")
        problem = f"the tag {tag} makes an object; a configuration holds plain values only"
        raise ConstructorError(None, None, problem, node.start_mark)


_PlainValues.yaml_constructors[None] = _PlainValues.refuse_tag
for _kind in ("bool", "int", "float"):
    _PlainValues.yaml_constructors[f"tag:yaml.org,2002:{_kind}"] = _PlainValues.construct_plain


class _WithPyYaml(_PlainValues, Reader, Scanner, Parser):
    """Reads YAML with PyYAML's own scanner."""

    def __init__(self, stream: Any) -> None:
        Reader.__init__(self, stream)
        Scanner.__init__(self)
        Parser.__init__(self)
        _PlainValues.__init__(self)


_WithLibyaml: Any = None
"""Reads YAML with libyaml's scanner; None if PyYAML was built without it."""
if yaml.__with_libyaml__:
    from yaml.cyaml import CParser  # type: ignore[attr-defined]  # its stubs do not export it

    class _Libyaml(_PlainValues, CParser):
        def __init__(self, stream: Any) -> None:
            CParser.__init__(self, stream)
            _PlainValues.__init__(self)

    _WithLibyaml = _Libyaml


class Loader:
    """What `yaml.load` asks of a loader; reads as `load` does."""

    def __init__(self, stream: Any) -> None:
        self._text = stream if isinstance(stream, str) else stream.read()

    def get_single_data(self) -> Any:
        """Return the values in the text; raises what `load` raises."""
        return load(self._text)

    def dispose(self) -> None:
        """Keep nothing open: the text is read."""

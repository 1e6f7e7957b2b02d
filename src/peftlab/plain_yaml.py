"""The settled configuration as YAML: every value is what it says.

A label, a path or a text may look like one of OmegaConf's interpolations (``${price}``, half of one, ``${``). In a file
that is read back it has to stay what it is, so that none is looked for there.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import yaml
from omegaconf._utils import OmegaConfDumper, get_yaml_loader  # 1e-3 is a number, and a text "1e-3" is quoted


class _Dumper(OmegaConfDumper):
    """Escapes the line end of IBM's mainframes, which a reader would make a line feed."""

    @staticmethod
    def text(dumper: yaml.Dumper, text: str) -> yaml.ScalarNode:
        """Return the node of a text."""
        if "\x85" in text:
            return dumper.represent_scalar("tag:yaml.org,2002:str", text, style='"')
        return OmegaConfDumper.str_representer(dumper, text)


_Dumper.add_representer(str, _Dumper.text)


def dump(config: Mapping[str, Any]) -> str:
    """Return `config`, plain values, as YAML in its own order."""
    return yaml.dump(dict(config), Dumper=_Dumper, default_flow_style=False, allow_unicode=True, sort_keys=False)


def load(text: str) -> Any:
    """Return the plain values in `text`.

    Raises:
        yaml.YAMLError: it is no YAML, has a key twice, or a tag of Python's.
    """
    loader = get_yaml_loader()
    plain = {tag: make for tag, make in loader.yaml_constructors.items() if ":python/" not in str(tag)}
    loader.yaml_constructors = plain  # a class of its own at every call; OmegaConf's makes paths, too
    return yaml.load(text, Loader=loader)  # noqa: S506  # a safe one

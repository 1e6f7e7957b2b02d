"""Privates of OmegaConf, for YAML: modules that only read a configuration import no Hydra."""

from __future__ import annotations

from typing import Any

import yaml
from omegaconf import _utils as omegaconf_utils


def yaml_loader() -> Any:
    """Return OmegaConf's class of YAML loaders, to which ``1e-3`` is a number."""
    return omegaconf_utils.get_yaml_loader()


def yaml_dumper() -> Any:
    """Return OmegaConf's class of YAML dumpers, which quotes a text that looks like a number to its loader."""
    return omegaconf_utils.OmegaConfDumper


def text_node(dumper: yaml.Dumper, text: str) -> yaml.ScalarNode:
    """Return the node that `dumper`, an instance of `yaml_dumper()`, writes for a text."""
    return omegaconf_utils.OmegaConfDumper.str_representer(dumper, text)

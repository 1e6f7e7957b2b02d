"""The methods of ``conf/peft/``, read once for all files of tests, and which of them a test has in which tier."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import Any

import pytest
from omegaconf import DictConfig, OmegaConf

from peftlab.composing.compose import conf_dir
from peftlab.reading import plain_yaml

FILES: dict[str, DictConfig] = {
    path.stem: OmegaConf.create(plain_yaml.load(path.read_text("utf-8")))
    for path in sorted((conf_dir() / "peft").glob("*.yaml"))
}
METHODS = list(FILES)
ONE_OF_EACH_CLASS = sorted({file._target_: name for name, file in FILES.items()}.values())
"""What is the class's doing is tested once a class."""
OFTEN = {*ONE_OF_EACH_CLASS, "lora"}
SOME = ["full", "houlsby", "lora", "prefix_tuning"]
"""One of each place where the weights of a method may be."""
CHANGES_AT_START = {"unilora", "vblora", "mam", "unipelt", "prompt_tuning", "p_tuning", "prefix_tuning", "sliced"}
"""Methods that do not promise to begin as the plain backbone."""


def tiers(names: Iterable[str], default: Collection[str] = OFTEN, slow: Collection[str] = OFTEN) -> list[Any]:
    """Return the names as parameters of a test: some of the default suite, some `slow`, and the rest `exhaustive`."""
    marks = {name: pytest.mark.slow if name in slow else pytest.mark.exhaustive for name in names}
    return [name if name in default else pytest.param(name, marks=mark) for name, mark in marks.items()]

"""What the contracts share: objects built from the configuration, as a run would build them, and the tiny BERT."""

from __future__ import annotations

import copy
import functools
from pathlib import Path

import pytest
import torch
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import OmegaConf
from tests.method_files import FILES


@pytest.fixture(scope="session")
def spec(compose_config, tiny_model: Path, tiny_data: Path):
    """Return a maker of a validated configuration under some overrides, on the tiny model and data.

    A method is put in the place of the default one, since Hydra takes its time for a whole configuration:
    ``tests/conf/test_options.py`` composes each of them.
    """
    from peftlab.config import resolve, validate

    @functools.cache
    def composed(overrides):
        tiny = ["model=folder", f"model.path={tiny_model}", "data=files", f"data.path={tiny_data}", "trainer=cpu"]
        tiny += ["trainer.precision=32-true"]  # bf16 is what auto means on some processors
        no_dropout = ["model.dropout=0.0", "model.attention_dropout=0.0", "model.head_dropout=0.0"]
        return compose_config(*tiny, *no_dropout, *overrides)

    @functools.cache
    def method_of(name):
        file = FILES[name]
        return composed((f"peft={name}",)).peft if "defaults" in file else file

    @functools.cache
    def resolved(overrides):
        given = [override for override in overrides if not override.startswith("peft")]
        cfg = copy.deepcopy(composed(tuple(given)))
        for override in OverridesParser.create().parse_overrides([each for each in overrides if each not in given]):
            if override.key_or_group == "peft":
                cfg.peft = method_of(override.value())
            else:
                OmegaConf.update(cfg, override.key_or_group, override.value(), force_add=False)
        return resolve(cfg)

    return lambda *overrides: validate(resolved(overrides))


@pytest.fixture(scope="session")
def pretrained(spec):
    from peftlab.models.backbone import fetch

    return fetch(spec().model)


@pytest.fixture(scope="session")
def backbones(pretrained):
    """Return a maker of the backbone for a task with the head that a seed gives; each is loaded once."""
    loaded = {}

    def make(seed, task):
        key = seed, task.head.model, tuple(task.labels)
        if key not in loaded:
            torch.manual_seed(seed)
            loaded[key] = pretrained.backbone(task).eval()
        torch.manual_seed(seed)
        return copy.deepcopy(loaded[key])

    return make

"""What the contracts share: objects built from the configuration, as a run would build them, and the tiny BERT."""

from __future__ import annotations

import functools
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def spec(compose_config, tiny_model: Path, tiny_data: Path):
    """Return a maker of a validated configuration under some overrides, on the tiny model and data."""
    from peftlab.config import resolve, validate

    @functools.cache
    def resolved(overrides):
        tiny = ["model=folder", f"model.path={tiny_model}", "data=files", f"data.path={tiny_data}", "trainer=cpu"]
        no_dropout = ["model.dropout=0.0", "model.attention_dropout=0.0", "model.head_dropout=0.0"]
        return resolve(compose_config(*tiny, *no_dropout, *overrides))

    return lambda *overrides: validate(resolved(overrides))


@pytest.fixture(scope="session")
def pretrained(spec):
    from peftlab.backbone import fetch

    return fetch(spec().model)

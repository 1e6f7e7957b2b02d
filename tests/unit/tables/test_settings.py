"""What the user decides about a scorecard."""

from __future__ import annotations

import pytest

from peftlab.errors import ConfigError
from peftlab.tables.settings import Settings


def test_no_secret_is_written():
    written = Settings(("logger=wandb", "+logger.wandb.api_key=Xq7vLm2p")).as_json()
    assert written["overrides"] == ["logger=wandb", "+logger.wandb.api_key=****"]
    assert written["cut_off"] == 1 / 6


def test_a_column_counts_once():
    with pytest.raises(ConfigError, match="--columns age: is named twice"):
        Settings((), columns=("age", "job", "age"))


def test_a_list_of_no_column_is_no_list_of_all():
    with pytest.raises(ConfigError, match="--columns: names none"):
        Settings((), columns=())

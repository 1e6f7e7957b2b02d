"""Which runs can be merged, before their weights are looked at."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from peftlab.errors import UserError
from peftlab.use.ensembles.merging import check
from peftlab.use.ensembles.rules import Soup, Ties


def run(share: float) -> Any:
    """A run on one file, from which a share is held out to be tested."""
    digests = dict.fromkeys(("train", "validation", "test"), "1f")
    task = SimpleNamespace(head=SimpleNamespace(model="a.Head"), labels=["a", "b"], settled=dict)
    return SimpleNamespace(
        config={"data": {"splits": {"train": "all.csv", "validation": 0.1, "test": share}, "format": {}}},
        record=SimpleNamespace(data={"identity": {"data_sha256": digests}}),
        folder=SimpleNamespace(path=f"runs/{share}"),
        pretrained=SimpleNamespace(weights_sha256="2e"),
        parts=SimpleNamespace(task=task, peft=SimpleNamespace(mergeable=True), model=SimpleNamespace(pooling=None)),
    )


def test_a_run_that_held_other_examples_out_was_trained_on_what_the_soup_is_tested_on(caplog):
    runs = [run(0.3), run(0.1)]
    with pytest.raises(UserError, match=r"^runs/0.1: its data is not that of the first run, .* may have been trained"):
        check(runs, Soup())
    check(runs, Ties())
    assert "runs/0.1: its data is not that of the first run" in caplog.text
    caplog.clear()
    check([run(0.3), run(0.3)], Soup())
    assert not caplog.text

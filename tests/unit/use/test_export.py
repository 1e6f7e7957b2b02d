from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from peftlab.errors import UserError
from peftlab.tasks.networks.heads import SEQUENCE_CLASSIFICATION
from peftlab.use.export import _published, export


@pytest.mark.parametrize("folder", [".", "", "../here"])
def test_the_current_folder_is_not_taken_the_place_of(tmp_path, monkeypatch, folder):
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    run: Any = None  # it is not needed yet
    with pytest.raises(UserError, match="is the current folder"):
        export(run, folder)


def test_the_card_says_that_nothing_is_out_of_scope_any_more():
    task = SimpleNamespace(head=SEQUENCE_CLASSIFICATION, exported="", processor="tokenizer")
    sections = {"model": SimpleNamespace(quantize="none"), "data": SimpleNamespace(mask_pii=None)}
    spec: Any = SimpleNamespace(task=task, out_of_scope=object(), **sections)  # which a derived run has, too
    for knows in (False, True):
        about = _published(spec, "fp32", 0.0, chats=False, knows_scope=knows).about
        assert ("the exported model gives every text a label" in about) == knows

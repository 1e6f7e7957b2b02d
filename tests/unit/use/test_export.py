from __future__ import annotations

from typing import Any

import pytest

from peftlab.errors import UserError
from peftlab.use.export import export


@pytest.mark.parametrize("folder", [".", "", "../here"])
def test_the_current_folder_is_not_taken_the_place_of(tmp_path, monkeypatch, folder):
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    run: Any = None  # it is not needed yet
    with pytest.raises(UserError, match="is the current folder"):
        export(run, folder)

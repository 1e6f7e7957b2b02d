from __future__ import annotations

import subprocess
import sys

import pytest

from peftlab.errors import UserError
from peftlab.serving.access.limits import Limits
from peftlab.serving.shared import Shared, Wanted, Worker, opened


def test_nothing_of_an_earlier_server_is_taken_for_this_one(tmp_path):
    with opened(tmp_path / "state") as folder:
        Shared(folder).report(Worker(7, 0, {}))
        assert Limits(folder, clock=lambda: 1e6).take("caller", 60, 60) == 0  # the machine has been up for long
    with opened(folder):
        assert Shared(folder).workers([7]) == []
        limits = Limits(folder, clock=lambda: 10.0)  # and has been started again
        assert [limits.take("caller", 60, 60) for _ in range(2)] == [0, 60]


def test_a_folder_that_others_may_use_is_refused(tmp_path):
    tmp_path.chmod(0o770)
    with pytest.raises(UserError, match="chmod 700"), opened(tmp_path):
        pass


def test_a_folder_is_of_one_server(tmp_path):
    tmp_path.chmod(0o700)
    code = (
        "import sys, pathlib; from peftlab.serving.shared import opened; opened(pathlib.Path(sys.argv[1])).__enter__()"
    )
    with opened(tmp_path):
        other = subprocess.run([sys.executable, "-c", code, tmp_path], capture_output=True, text=True, check=False)
    assert "state of a server" in other.stderr


def test_without_a_folder_there_is_one_for_as_long_as_the_server_lives():
    with opened(None) as folder:
        Shared(folder).want(Wanted(("run",)))
        assert Shared(folder).wanted.runs == ("run",)
    assert not folder.exists()

import subprocess
import sys

import numpy as np
import pytest

from peftlab.devices import peak_memory as module
from peftlab.devices.peak_memory import held_memory, peak_memory


@pytest.mark.slow
def test_what_was_held_counts_after_it_is_freed():
    held = np.ones(128 * 2**20, dtype=np.uint8)
    during = peak_memory()
    del held
    assert peak_memory() > during - 2**24  # the system counts in portions


@pytest.mark.slow
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="elsewhere the system does not say")
def test_what_held_the_process_that_started_this_one_does_not_count():
    held = np.ones(256 * 2**20, dtype=np.uint8)
    code = "from peftlab.devices.peak_memory import peak_memory; print(peak_memory())"
    child = int(subprocess.run([sys.executable, "-c", code], capture_output=True, check=True).stdout)
    assert 2**22 < child < held.nbytes < peak_memory()


@pytest.mark.parametrize(("platform", "unit"), [("darwin", 1), ("freebsd14", 1024)])
def test_a_system_without_proc_counts_in_its_own_unit(platform, unit, tmp_path, monkeypatch):
    class Usage:
        ru_maxrss = 3 * 2**20

    monkeypatch.setattr(module.resource, "getrusage", lambda _: Usage)
    monkeypatch.setattr(module.sys, "platform", platform)
    assert peak_memory(tmp_path) == 3 * 2**20 * unit
    assert held_memory(tmp_path) == peak_memory(tmp_path)  # no less is known


def test_what_is_held_now_is_told_from_the_most(tmp_path):
    (tmp_path / "proc/self").mkdir(parents=True)
    (tmp_path / "proc/self/status").write_text("Name:\tpython\nVmHWM:\t 300 kB\nVmRSS:\t 200 kB\n")
    assert (held_memory(tmp_path), peak_memory(tmp_path)) == (200 * 1024, 300 * 1024)

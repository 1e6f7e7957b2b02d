from __future__ import annotations

import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

from peftlab.devices import openmp
from peftlab.devices.openmp import Cpu, settings, threads_of, waiting
from peftlab.errors import ConfigError

SLEEP = {"OMP_WAIT_POLICY": "PASSIVE"}
TWO = {"OMP_NUM_THREADS": "2"}


@pytest.mark.parametrize(
    ("environment", "cpu", "threads", "processes", "expected"),
    [
        # threads that have a core each spin, and those that others leave none sleep
        ({}, Cpu(2), None, 1, {}),
        ({}, Cpu(2, busy=0.4), None, 1, {}),
        ({}, Cpu(2, busy=0.9), None, 1, SLEEP),
        ({}, Cpu(8, busy=3.9), 4, 1, {}),
        ({}, Cpu(8, busy=5.0), 4, 1, SLEEP),
        (TWO, Cpu(8, busy=5.0), None, 1, {}),
        (TWO, Cpu(8, busy=7.0), None, 1, SLEEP),
        ({"OMP_NUM_THREADS": "4,1"}, Cpu(4, busy=1.0), None, 1, SLEEP),
        # a single thread waits for nobody
        ({}, Cpu(1, busy=1.0), None, 1, {}),
        ({"MKL_NUM_THREADS": "1"}, Cpu(8, busy=8.0), None, 1, {}),
        ({}, Cpu(8, busy=8.0), 1, 8, {}),
        # several processes want cores for all their threads, or divide those that there are
        ({}, Cpu(8), None, 4, {}),
        ({}, Cpu(8), 4, 2, {}),
        ({}, Cpu(8), 4, 4, SLEEP),
        (TWO, Cpu(2), None, 4, {}),
        (TWO | {"LOCAL_WORLD_SIZE": "4"}, Cpu(8), None, 1, {}),
        (TWO | {"LOCAL_WORLD_SIZE": "4"}, Cpu(4), None, 1, SLEEP),
        # a container's time limits the number of threads, unless somebody says how many
        ({}, Cpu(64, quota=4.5), None, 1, {"OMP_NUM_THREADS": "4"}),
        ({}, Cpu(64, quota=4.5, busy=30.0), None, 1, {"OMP_NUM_THREADS": "4"} | SLEEP),
        ({}, Cpu(64, quota=0.5), None, 1, {"OMP_NUM_THREADS": "1"}),
        ({}, Cpu(4, quota=16.0), None, 1, {}),
        ({"OMP_NUM_THREADS": "64"}, Cpu(64, quota=4.0), None, 1, SLEEP),
        ({}, Cpu(64, quota=4.0), 8, 1, SLEEP),
        # the user's own choice stays
        ({"OMP_WAIT_POLICY": "ACTIVE"}, Cpu(2, busy=2.0), None, 1, {}),
        ({"GOMP_SPINCOUNT": "100"}, Cpu(2, busy=2.0), None, 1, {}),
        ({"KMP_BLOCKTIME": "0"}, Cpu(2, busy=2.0), None, 1, {}),
    ],
)
def test_what_is_set(environment, cpu, threads, processes, expected):
    assert settings(environment, cpu, threads, processes) == expected


def test_what_the_environment_says():
    texts = {"": None, "8": 8, " 4 , 2": 4, "many": None, "0": None}
    assert {text: threads_of({"OMP_NUM_THREADS": text}) for text in texts} == texts
    assert threads_of({"MKL_NUM_THREADS": "3"}) == 3
    assert waiting({"HOME": "x"}) == "default"
    assert waiting(SLEEP) == "OMP_WAIT_POLICY=PASSIVE"
    assert waiting({"GOMP_SPINCOUNT": "100", "KMP_BLOCKTIME": "0"}) == "GOMP_SPINCOUNT=100 KMP_BLOCKTIME=0"


def test_a_launcher_whose_number_of_processes_is_none():
    with pytest.raises(ConfigError, match=r"^LOCAL_WORLD_SIZE in the environment is 'two'"):
        openmp.settings(TWO | {"LOCAL_WORLD_SIZE": "two"}, Cpu(4))


@pytest.fixture
def busy(monkeypatch, caplog):
    """Pretend to have so many cores, and as many in use by others; nothing is set in the environment yet."""
    for name in (*openmp.WAITING, *openmp.THREADS, "LOCAL_RANK", "LOCAL_WORLD_SIZE"):
        monkeypatch.setenv(name, "")  # restored afterwards, even where `settle` sets it
        monkeypatch.delenv(name)
    monkeypatch.setattr(openmp, "_quota", lambda root: None)
    monkeypatch.setattr(openmp.log, "propagate", True)
    caplog.set_level("INFO")

    def pretend(cores: int, load: float, torch_is_loaded: bool = False) -> None:
        monkeypatch.setattr(openmp, "_cores", lambda: frozenset(range(cores)))
        monkeypatch.setattr(openmp, "_busy", lambda cores, seconds: load)
        monkeypatch.setattr(openmp, "_LOADED_WITH", "os" if torch_is_loaded else "no_such_module")

    return pretend


def test_on_a_busy_cpu_it_says_so(busy, caplog):
    busy(2, 1.5)
    openmp.settle()
    assert os.environ["OMP_WAIT_POLICY"] == "PASSIVE"
    assert caplog.messages == [
        "the CPU is busy, other processes use 1.5 of 2 cores: threads sleep while they wait for one another "
        "(OMP_WAIT_POLICY=PASSIVE)"
    ]


def test_for_more_threads_than_cores_it_says_so_too(busy, caplog):
    busy(2, 0.0)
    openmp.settle(threads=2, processes=2)
    assert os.environ["OMP_WAIT_POLICY"] == "PASSIVE"
    assert caplog.messages[0].startswith("more threads at once than the 2 cores that can be used here: threads sleep")


def test_on_an_idle_cpu_it_is_silent(busy, caplog):
    busy(2, 0.2)
    openmp.settle()
    assert "OMP_WAIT_POLICY" not in os.environ
    assert caplog.messages == []


def test_one_of_several_ranks_says_it(busy, caplog, monkeypatch):
    busy(2, 1.5)
    monkeypatch.setenv("LOCAL_RANK", "1")
    openmp.settle()
    assert os.environ["OMP_WAIT_POLICY"] == "PASSIVE"
    assert caplog.messages == []


def test_with_torch_loaded_it_says_what_to_do(busy, caplog):
    busy(2, 1.5, torch_is_loaded=True)
    openmp.settle()
    assert "OMP_WAIT_POLICY" not in os.environ  # which would be recorded, and is not so
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert caplog.messages[0].endswith("training may crawl; set OMP_WAIT_POLICY=PASSIVE before torch is imported")


def test_processes_that_are_started_load_torch_themselves(busy):
    busy(2, 1.5, torch_is_loaded=True)
    openmp.settle(only_starts=True)
    assert os.environ["OMP_WAIT_POLICY"] == "PASSIVE"


def test_a_single_thread_measures_nothing(busy, monkeypatch):
    busy(2, 1.5)
    monkeypatch.delattr(openmp, "_busy")
    openmp.settle(threads=1)
    openmp.settle(threads=None, processes=2)


def test_the_time_of_others(tmp_path, monkeypatch):
    """Cores that this process may not run on do not count, nor do waiting for disks and politer processes."""
    stat = tmp_path / "stat"
    lines = {0: "cpu0 100 50 20 500 30 1 2 7 9 9", 1: "cpu1 0 0 0 900 0 0 0 0 0 0"}
    stat.write_text("\n".join(["cpu  100 50 20 1400 30 1 2 7 9 9", *lines.values(), "intr 12 3", "ctxt 4"]))
    monkeypatch.setattr(os, "getpriority", lambda which, who: 0)
    times = openmp._core_times(stat)
    assert {core: (one.busy, one.all) for core, one in times.items()} == {0: (130, 710), 1: (0, 900)}
    monkeypatch.setattr(os, "getpriority", lambda which, who: 10)
    assert openmp._core_times(stat)[0].busy == 180
    assert openmp._core_times(tmp_path / "none") == {}


def test_the_load_is_that_of_our_cores(monkeypatch):
    readings = [{0: (10, 100), 1: (0, 100), 2: (0, 100)}, {0: (20, 110), 1: (5, 110), 2: (10, 110)}]
    times = iter([{core: openmp._Times(*one) for core, one in reading.items()} for reading in readings])
    monkeypatch.setattr(openmp, "_core_times", lambda stat: next(times))
    assert openmp._busy(frozenset({0, 1}), 0.0) == 1.5


def test_elsewhere_the_load_average_says(monkeypatch):
    monkeypatch.setattr(openmp, "_core_times", lambda stat: {})
    monkeypatch.setattr(os, "getloadavg", lambda: (0.7, 3.0, 3.0))
    assert openmp._busy(frozenset({0, 1}), 60.0) == 0.7


def test_the_quota_of_a_container(tmp_path):
    def write(path: str, text: str) -> None:
        file = tmp_path / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)

    assert openmp._quota(tmp_path) is None
    write("proc/self/cgroup", "0::/jobs/one\n")
    assert openmp._quota(tmp_path) is None
    write("sys/fs/cgroup/jobs/one/cpu.max", "max 100000\n")
    assert openmp._quota(tmp_path) is None
    write("sys/fs/cgroup/jobs/cpu.max", "350000 100000\n")
    write("sys/fs/cgroup/cpu.max", "800000 100000\n")
    assert openmp._quota(tmp_path) == 3.5
    write("proc/self/cgroup", "9:name=systemd:/\n4:cpu,cpuacct:/docker/x\n")  # the first version
    write("sys/fs/cgroup/cpu/cpu.cfs_quota_us", "150000\n")
    write("sys/fs/cgroup/cpu/cpu.cfs_period_us", "100000\n")
    assert openmp._quota(tmp_path) == 1.5
    write("sys/fs/cgroup/cpu/cpu.cfs_quota_us", "-1\n")
    assert openmp._quota(tmp_path) is None


def test_openmp_reads_what_is_set():
    """The library that torch loads shows its settings when it is loaded; here without torch, which takes seconds."""
    torch = find_spec("torch")
    assert torch is not None
    libraries = sorted(Path(str(torch.origin)).parent.glob("lib/libgomp*"))
    if not libraries:
        pytest.skip("this torch comes without libgomp")
    code = (
        "import ctypes, sys\n"
        "from peftlab.devices import openmp\n"
        "openmp.settle(threads=1000)\n"
        "assert 'torch' not in sys.modules\n"
        f"ctypes.CDLL({str(libraries[0])!r})\n"
    )
    environment = {"PATH": os.environ["PATH"], "OMP_DISPLAY_ENV": "VERBOSE", "PYTHONPATH": os.pathsep.join(sys.path)}
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment, check=True)
    shown = dict(line.strip().split(" = ") for line in ended.stderr.splitlines() if " = " in line)
    assert (shown["OMP_WAIT_POLICY"], shown["GOMP_SPINCOUNT"]) == ("'PASSIVE'", "'0'")

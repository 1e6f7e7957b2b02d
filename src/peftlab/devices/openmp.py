"""How many threads OpenMP starts and how they wait for one another, chosen before torch is loaded. No torch.

On a CPU, torch divides an operation among OpenMP's threads, which meet at its end. A thread that arrives early spins
for some milliseconds before it sleeps, because waking takes longer than most gaps between two operations. That is
fastest where every thread has a core of its own. Where other processes want the cores too, the thread that is waited
for is often not running, and those that spin use up the time that it needs: beside a few busy processes, training then
takes many times as long, and with threads that sleep at once (``OMP_WAIT_POLICY=PASSIVE``) about as long as its share
of the cores allows.

How threads wait changes no result. Their number changes the last digits, so it never depends on the load: it is that
of the configuration or the record, else torch's, which is limited here to the CPU time that a container may use.

OpenMP's libraries read these variables once, when torch loads them: libgomp, which torch's wheels for Linux contain,
and LLVM's libomp on macOS.
"""

from __future__ import annotations

import logging
import os
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from peftlab.devices.control_groups import groups
from peftlab.devices.launched import number_in

log = logging.getLogger("peftlab")

WAITING = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME", "KMP_LIBRARY")
"""The variables that say how threads wait: whoever sets one of them has chosen."""

THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS")
"""The same of the number of threads."""

SLACK = 0.5
"""Cores that may be missing before threads had better sleep: other processes rarely run all the time."""

SAMPLED_SECONDS = 0.1
"""How long the load is measured; the kernel counts CPU time in hundredths of a second."""

_LOADED_WITH = "torch"
"""The module whose import loads OpenMP."""


@dataclass(frozen=True)
class Cpu:
    """The CPU as this process may use it."""

    cores: int
    """Cores that it may run on."""
    quota: float | None = None
    """Cores' worth of time that its container may use; None: all."""
    busy: float = 0.0
    """Cores among them that other processes use at present."""

    @property
    def usable(self) -> float:
        """Cores' worth of time that it could use without others."""
        return self.cores if self.quota is None else min(self.cores, self.quota)


def threads_each(
    environment: Mapping[str, str], cpu: Cpu, threads: int | None = None, processes: int = 1
) -> tuple[int, bool]:
    """Return the number of threads of each process, and whether the quota of `cpu` limits it; see `settings`."""
    if threads is not None:
        return threads, False
    total = threads_of(environment)
    limited = total is None and int(cpu.usable) < cpu.cores
    return max(1, (total or int(cpu.usable)) // processes), limited


def settings(
    environment: Mapping[str, str], cpu: Cpu, threads: int | None = None, processes: int = 1
) -> dict[str, str]:
    """Return the variables to set for processes that compute on `cpu`; empty: OpenMP's own choice is the best.

    Args:
        environment: the present variables; those of `WAITING` and `THREADS` are the user's choice, and stay.
        cpu: the CPU, and its use by others.
        threads: threads of each process; None: their share of those in `environment`, or of all that `cpu` allows.
        processes: processes to be started, which compute at the same time.

    Raises:
        ConfigError: a launcher's number of processes is none.
    """
    each, limited = threads_each(environment, cpu, threads, processes)
    chosen: dict[str, str] = {}
    if limited:  # torch counts cores, and more threads than the quota has time for are held up together
        chosen["OMP_NUM_THREADS"] = str(max(1, int(cpu.usable)))
    launched = number_in("LOCAL_WORLD_SIZE", 1, environment)  # by torchrun, each with threads of its own
    wanted = each * processes * launched + cpu.busy
    if each > 1 and wanted > cpu.usable + SLACK and not any(name in environment for name in WAITING):
        chosen["OMP_WAIT_POLICY"] = "PASSIVE"
    return chosen


def settle(threads: int | None = None, processes: int = 1, only_starts: bool = False) -> None:
    """Set the variables for this process and those that it starts, and log why threads will sleep.

    Call it before torch is imported: afterwards it changes nothing, and only says what to do on a busy CPU.

    Args:
        threads: threads of each process, if the configuration or a record says; None: by default.
        processes: processes that this one starts, to compute at the same time.
        only_starts: whether those compute, and this one does not.
    """
    cpu = measured(0.0)
    each, limited = threads_each(os.environ, cpu, threads, processes)
    if each == 1 and not limited:
        return  # a single thread waits for nobody
    cpu = measured()
    chosen = settings(os.environ, cpu, threads, processes)
    late = _LOADED_WITH in sys.modules and not only_starts
    if not late:
        os.environ.update(chosen)
    if "OMP_WAIT_POLICY" in chosen and os.environ.get("LOCAL_RANK", "0") == "0":
        log.log(logging.WARNING if late else logging.INFO, "%s", _reason(cpu, late))


def _reason(cpu: Cpu, late: bool) -> str:
    if cpu.busy < SLACK:
        reason = f"more threads at once than the {cpu.usable:g} cores that can be used here"
    else:
        reason = f"the CPU is busy, other processes use {cpu.busy:.1f} of {cpu.cores} cores"
    if late:
        return f"{reason}: training may crawl; set OMP_WAIT_POLICY=PASSIVE before torch is imported"
    return f"{reason}: threads sleep while they wait for one another (OMP_WAIT_POLICY=PASSIVE)"


def threads_of(environment: Mapping[str, str]) -> int | None:
    """Return the number of threads that `environment` asks for; None: it says nothing, or no number."""
    for name in THREADS:
        first = environment.get(name, "").partition(",")[0].strip()  # the further ones are of nested regions
        if first.isdigit() and int(first) > 0:
            return int(first)
    return None


def waiting(environment: Mapping[str, str]) -> str:
    """Return how threads wait under `environment`, for the record: ``default``, or the variables that say so."""
    return " ".join(f"{name}={environment[name]}" for name in WAITING if name in environment) or "default"


def measured(seconds: float = SAMPLED_SECONDS) -> Cpu:
    """Return the CPU, and what other processes use of it in the next `seconds`; this one sleeps. 0: nothing of them."""
    cores = _cores()
    return Cpu(len(cores) or os.cpu_count() or 1, _quota(Path("/")), _busy(cores, seconds) if seconds else 0.0)


def _cores() -> frozenset[int]:
    """Return the numbers of the cores that this process may run on; none where the system does not say."""
    return frozenset(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else frozenset()


def _busy(cores: frozenset[int], seconds: float) -> float:
    """Return how many of these cores are busy for `seconds`; where the system does not say, its load average."""
    before = _core_times(Path("/proc/stat"))
    if before.keys() >= cores and cores:
        time.sleep(seconds)
        after = _core_times(Path("/proc/stat"))
        counted = [after[core].since(before[core]) for core in cores]
        if any(times.all for times in counted):
            return sum(times.busy / times.all for times in counted if times.all)
    return min(os.getloadavg()[0], os.cpu_count() or 1)


@dataclass(frozen=True)
class _Times:
    """The time of a core, in ticks since the machine started."""

    busy: float
    all: float

    def since(self, before: _Times) -> _Times:
        return _Times(self.busy - before.busy, self.all - before.all)


def _core_times(stat: Path) -> dict[int, _Times]:
    """Return the times of each core from ``/proc/stat``, see proc_stat(5).

    Processes of lower priority (nice) than this one hardly take any time from it, and do not count.
    """
    times: dict[int, _Times] = {}
    with suppress(OSError, ValueError):
        for line in stat.read_text(encoding="ascii").splitlines():
            name, *counts = line.split()
            if name.startswith("cpu") and name != "cpu":
                user, nice, system, idle, iowait, irq, softirq, steal = (int(count) for count in counts[:8])
                polite = 0 if os.getpriority(os.PRIO_PROCESS, 0) > 0 else nice
                every = user + nice + system + idle + iowait + irq + softirq + steal
                times[int(name[3:])] = _Times(every - idle - iowait - polite, every)
    return times


def _quota(root: Path) -> float | None:
    """Return the cores' worth of time that the control groups of this process allow; None: any.

    Args:
        root: the root of the file system.
    """
    with suppress(OSError, ValueError):
        return min((limit for group in groups("cpu", root) for limit in _limit(group)), default=None)
    return None


def _limit(group: Path) -> Iterator[float]:
    """Yield the limit of a control group, if it has one: microseconds of CPU time in a period of so many."""
    with suppress(OSError, ValueError):
        quota, period = (group / "cpu.max").read_text(encoding="ascii").split()
        if quota != "max":
            yield int(quota) / int(period)
    with suppress(OSError, ValueError):
        quota, period = ((group / f"cpu.cfs_{name}_us").read_text(encoding="ascii") for name in ("quota", "period"))
        if int(quota) > 0:
            yield int(quota) / int(period)

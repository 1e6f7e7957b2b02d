"""The energy that a run takes, as far as the hardware counts it.

Two counters are read. NVML gives the energy of a whole NVIDIA GPU since its driver was loaded (Volta and newer,
``nvmlDeviceGetTotalEnergyConsumption``). Linux gives that of whole processor packages, and of their memory where it is
counted apart, through RAPL (``/sys/class/powercap``; most systems let only root read it). Both count whatever else runs
on the same hardware; power supplies, fans and networks are in neither.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, Protocol

import torch

from peftlab.devices.processes import gathered, over_ranks, rank

log = logging.getLogger("peftlab")

_POWERCAP = Path("/sys/class/powercap")
_SECONDS_BETWEEN_READINGS = 30.0
"""A package may count to 2**18 J only, which it can take in ten minutes."""


class Counter(Protocol):
    """Counts the energy of one piece of hardware."""

    name: str
    """What it counts, and by which interface."""
    range: float | None
    """The joules after which it starts again from zero; None: it never does."""

    def read(self) -> float:
        """Return the joules counted so far, from any beginning.

        Raises:
            OSError, ValueError: the counter cannot be read, or what it shows is no number.
        """
        ...


class Energy:
    """Adds up the energy of a run: over counters, over ranks, and over the parts of a resumed run."""

    def __init__(self) -> None:
        self._counters: list[Counter] | None = None
        self._last: list[float] = []
        self._read_at = 0.0
        self._joules = 0.0
        self._before: float | None = 0.0
        self._is_counted = True
        self.counted: list[str] = []
        """What `total` counts, and by which interface; on rank 0, for all ranks."""

    def start(self, device: torch.device, counts_host: bool) -> None:
        """Count from now on; further calls change nothing.

        Args:
            device: the device of this rank.
            counts_host: whether this rank counts the processors, as one rank on each machine must.
        """
        if self._counters is not None:
            return
        of_device = list(_of_gpu(device)) if device.type == "cuda" else []
        of_host = list(_of_packages()) if counts_host else []
        self._is_counted = bool(of_device) if device.type != "cpu" else bool(of_host) or not counts_host
        self._counters = [*of_device, *of_host]
        self._last = [counter.read() for counter in self._counters]
        self._read_at = time.monotonic()

    def keep_up(self) -> None:
        """Read the counters if that is due: none may start from zero twice between two readings."""
        if self._counters and time.monotonic() - self._read_at >= _SECONDS_BETWEEN_READINGS:
            self._read()

    def total(self) -> float | None:
        """Return the joules of all ranks so far; every rank must call it.

        None if the device of a rank is not counted, if a counter has failed since, or if a part of a resumed run was
        not counted.
        """
        self._read()
        (uncounted,) = over_ranks([float(not self._is_counted)], "max")
        (joules,) = over_ranks([self._joules], "sum")
        self.counted = sorted(set(gathered([counter.name for counter in self._counters or ()])))
        return None if uncounted or self._before is None else self._before + joules

    def resume(self, joules: float | None) -> None:
        """Go on from the `total` of the part of the run before; every rank must call it."""
        self._before = joules if joules is None or rank() == 0 else 0.0

    def _read(self) -> None:
        for place, counter in enumerate(self._counters or ()):
            try:
                now = counter.read()
            except (OSError, ValueError) as error:
                log.warning("energy: %s can no longer be read (%s): the run's energy is unknown", counter.name, error)
                self._is_counted, self._counters = False, []
                return
            joules = now - self._last[place]
            if joules < 0 and counter.range is not None:
                joules += counter.range
            self._joules += joules
            self._last[place] = now
        self._read_at = time.monotonic()


class _Gpu:
    """A GPU's counter, read through `pynvml`."""

    range: float | None = None

    def __init__(self, nvml: Any, handle: Any) -> None:
        self.nvml, self.handle = nvml, handle
        self.name = f"GPU {nvml.nvmlDeviceGetName(handle)} (NVML)"

    def read(self) -> float:
        try:
            return float(self.nvml.nvmlDeviceGetTotalEnergyConsumption(self.handle)) / 1e3
        except self.nvml.NVMLError as error:
            raise OSError(str(error)) from error


class _Package:
    """A zone of RAPL: a processor package, or the memory behind it."""

    def __init__(self, zone: Path) -> None:
        self.file = zone / "energy_uj"
        self.name = f"{(zone / 'name').read_text(encoding='utf-8').strip()} (RAPL)"
        self.range: float | None = float((zone / "max_energy_range_uj").read_text(encoding="utf-8")) / 1e6

    def read(self) -> float:
        return float(self.file.read_text(encoding="utf-8")) / 1e6


def _of_gpu(device: torch.device) -> Iterator[Counter]:
    """Yield the counter of `device`, if its driver has one."""
    import pynvml

    with suppress(pynvml.NVMLError, OSError):  # no library, no permission, or a GPU older than Volta
        pynvml.nvmlInit()
        identity = str(torch.cuda.get_device_properties(device).uuid)
        counter = _Gpu(pynvml, pynvml.nvmlDeviceGetHandleByUUID(f"GPU-{identity}"))
        counter.read()
        yield counter


def _of_packages() -> Iterator[Counter]:
    """Yield the counters of the processor packages and their memory, as far as they may be read."""
    for zone in sorted(_POWERCAP.glob("intel-rapl:*")):  # the name is the same on AMD's processors
        with suppress(OSError, ValueError):
            counter = _Package(zone)
            counter.read()
            if counter.name.startswith(("package", "dram")):  # a package's count includes its cores
                yield counter

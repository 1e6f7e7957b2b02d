"""How fast training on a CPU is beside other processes, by how OpenMP's threads wait for one another.

python experiments/throughput/busy.py [--beside 0 1 2 4] [--policies NAME ...] [--rounds N] [--seconds S]
                                      [key=value ...]

For each policy a process has the run of `key=value` (by default +experiment=ner_lora) ready, and trains in its turns:
one of S seconds in each round, alone or beside so many processes that count on one core each. Rounds are interleaved,
so that whatever else the machine does meets all policies. Told are, for every number of processes beside it, medians
of samples/s, and

- ``chosen``: the policy that `peftlab.devices.openmp` chooses in that situation, measured anew in every round;
- ``of the best``: its samples/s over those of the fastest policy, the median of the ratios within rounds;
- ``of a fair share``: its samples/s over the share of the cores that as many equal threads would get (threads over
  threads and processes, where these are more than the cores) of the fastest policy's samples/s on a free machine.

The figures mean what they say only on a machine with nothing else to do: the first line shows how busy it was before.
"""

from __future__ import annotations

import argparse
import os
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

from peftlab.devices.openmp import WAITING, measured, settings

POLICIES = {
    "default": {},
    "active": {"OMP_WAIT_POLICY": "ACTIVE"},
    "spin-30000": {"GOMP_SPINCOUNT": "30000"},
    "spin-3000": {"GOMP_SPINCOUNT": "3000"},
    "spin-300": {"GOMP_SPINCOUNT": "300"},
    "passive": {"OMP_WAIT_POLICY": "PASSIVE"},
    "one-thread": {"OMP_NUM_THREADS": "1"},
}
"""What a policy sets. By default libgomp spins 300,000 times, some milliseconds, and with PASSIVE not at all. With one
thread nobody waits, but the last digits of the results are others, so that peftlab never chooses it by the load.
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="the run; by default +experiment=ner_lora")
    parser.add_argument("--beside", nargs="+", type=int, default=[0, 1, 2, 4], help="processes beside it")
    parser.add_argument("--policies", nargs="+", choices=POLICIES, default=[*POLICIES][:-1])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=5.0, help="of training in a turn")
    parser.add_argument("--within", action="store_true", help=argparse.SUPPRESS)
    chosen = parser.parse_intermixed_args()
    overrides = chosen.overrides or ["+experiment=ner_lora"]
    if chosen.within:
        within(overrides)
        return
    busy, average = measured(1.0).busy, os.getloadavg()[0]
    print(f"before: {busy:.1f} of {os.cpu_count()} cores in use, load average {average:.1f}", flush=True)
    workers = {name: Worker(name, overrides) for name in chosen.policies}
    free: float | None = None
    for beside in chosen.beside:
        with competitors(beside):
            rounds = [one_round(workers, chosen.seconds) for _ in range(chosen.rounds)]
        free = report(beside, rounds, workers, free)
    for worker in workers.values():
        worker.end()


class Worker:
    """A process that has a run ready, and trains when it is asked to; it is stopped otherwise, since threads that wait
    actively would go on spinning in the turns of the others.
    """

    def __init__(self, name: str, overrides: list[str]) -> None:
        environment = {key: value for key, value in os.environ.items() if key not in WAITING} | POLICIES[name]
        command = [sys.executable, __file__, "--within", *overrides]
        pipe = subprocess.PIPE
        self.process = subprocess.Popen(command, env=environment, stdin=pipe, stdout=pipe, text=True)
        self.threads = int(self._line())
        self.process.send_signal(signal.SIGSTOP)

    def rate(self, seconds: float) -> float:
        """Return the samples/s of so many seconds of training."""
        assert self.process.stdin is not None
        self.process.send_signal(signal.SIGCONT)
        self.process.stdin.write(f"{seconds}\n")
        self.process.stdin.flush()
        found = float(self._line())
        self.process.send_signal(signal.SIGSTOP)
        return found

    def end(self) -> None:
        self.process.send_signal(signal.SIGCONT)
        self.process.communicate()

    def _line(self) -> str:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            if line.startswith("busy.py "):
                return line.removeprefix("busy.py ")
        raise SystemExit(f"a worker has ended with {self.process.wait()}")


def within(overrides: list[str]) -> None:
    """Have a run ready, and train for as many seconds as each line of stdin says."""
    import torch

    from peftlab.assembly import store_and_compile
    from peftlab.composing.compose import compose
    from peftlab.devices.spec import AUTOCAST
    from peftlab.one_run import build, prepare
    from peftlab.training.step import Step

    ready = prepare(compose(*overrides, "trainer=cpu", "logger=[]", "callbacks=[]"))
    tuner, spec = build(ready).train(), ready.spec
    store_and_compile(tuner.model, spec.trainer)
    optimizer = spec.optimizer.attach(tuner.model, tuner.context.head)
    trained = [parameter for parameter in tuner.model.parameters() if parameter.requires_grad]
    dtype = AUTOCAST.get(spec.trainer.precision)
    loader = ready.data.train_dataloader()
    steps = (parts for _ in iter(int, 1) for parts in loader)

    def train() -> int:
        parts = next(steps)
        autocast = torch.autocast("cpu", dtype, enabled=dtype is not None)
        tuner.take_gradient(Step(parts, trained, tuner.guards.training, lambda: autocast))
        optimizer.step()
        optimizer.zero_grad()
        return sum(len(part.examples) for part in parts)

    train()
    print("busy.py", torch.get_num_threads(), flush=True)
    for line in sys.stdin:
        began, samples = time.perf_counter(), 0
        while (spent := time.perf_counter() - began) < float(line):
            samples += train()
        print("busy.py", samples / spent, flush=True)


@contextmanager
def competitors(number: int) -> Iterator[None]:
    """Have so many processes count beside the block."""
    processes = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(number)]
    try:
        yield
    finally:
        for process in processes:
            process.kill()
            process.wait()


def one_round(workers: dict[str, Worker], seconds: float) -> tuple[str, dict[str, float]]:
    """Return the name of what peftlab would choose now, and the samples/s of each policy in its turn."""
    some = next(iter(workers.values()))
    environment = {key: value for key, value in os.environ.items() if key not in WAITING}
    chosen = settings(environment, measured(), some.threads)
    name = next(name for name, sets in POLICIES.items() if sets == chosen)
    return name, {name: worker.rate(seconds) for name, worker in workers.items()}


def report(
    beside: int, rounds: list[tuple[str, dict[str, float]]], workers: dict[str, Worker], free: float | None
) -> float | None:
    """Print the rounds beside so many processes; return the samples/s of the fastest policy on a free machine."""
    medians = {name: statistics.median(rates[name] for _, rates in rounds) for name in workers}
    if beside == 0:
        free = max(medians.values())
    print(f"\nbeside {beside}: " + ", ".join(f"{name} {rate:.1f}" for name, rate in medians.items()))
    names = [name for name, _ in rounds]
    most = max(set(names), key=names.count)
    told = f"  chosen: {most} ({names.count(most)} of {len(names)} rounds)"
    of_rounds = [(rates[name], rates) for name, rates in rounds if name in rates]
    if of_rounds:
        ratio = statistics.median(rate / max(rates.values()) for rate, rates in of_rounds)
        told += f"; of the best {ratio:.2f}"
        if free is not None:
            threads, cores = next(iter(workers.values())).threads, os.cpu_count() or 1
            share = min(1.0, cores / (threads + beside))
            told += f"; of a fair share {statistics.median(rate for rate, _ in of_rounds) / (share * free):.2f}"
    print(told, flush=True)
    return free


if __name__ == "__main__":
    main()

"""Measures a server: throughput against the transformers pipeline, latency, many adapters, endurance, faults, overload.

experiments/serving/compare.py MEASUREMENT OUT RUN...; ``table`` in place of a measurement prints what OUT has so far.
A measurement that OUT has is not repeated. The environment sets sizes: TEXTS, ROUNDS, SECONDS_EACH, REQUESTS, WORKERS.
"""

from __future__ import annotations

import json
import os
import signal
import statistics
import subprocess
import sys
import threading
import time
from pathlib import Path

from served import ROOT, Served, served, until

from peftlab.serving.load import Load, Outcome, put_on

TEXTS, ROUNDS, SECONDS, REQUESTS, WORKERS = (
    int(os.environ.get(name, default))
    for name, default in (("TEXTS", 1000), ("ROUNDS", 5), ("SECONDS_EACH", 60), ("REQUESTS", 100_000), ("WORKERS", 2))
)
OPTIONS = os.environ.get("SERVE_OPTIONS", "").split()
"""Further options of the server, such as ``--no-drift``."""
CORES = 2
CLIENTS = 64
"""Requests that are open at a time where throughput is measured."""
BATCH = 32
ADAPTERS = 10


def main() -> None:
    """Make one measurement, unless it is there."""
    measurement, out, *runs = sys.argv[1:]
    folder = Path(out)
    if measurement == "table":
        print(table(folder))
        return
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / f"{measurement}.json"
    if file.is_file():
        return
    found = MEASUREMENTS[measurement](folder, runs)
    file.write_text(json.dumps(found, indent=2) + "\n")
    print(f"{measurement}: {json.dumps(found)}", file=sys.stderr)


def texts(folder: Path) -> tuple[str, ...]:
    """Return the texts that are asked for."""
    lines = (folder / "texts.txt").read_text(encoding="utf-8").split("\n")
    return tuple(line for line in lines if line)[:TEXTS]


def at_once(
    server: Served, inputs: tuple[str, ...], requests: int, models: tuple[str, ...] = (), watch=None
) -> Outcome:
    """Ask as fast as the server answers, with `CLIENTS` requests open."""
    rate = MOST_RATE
    load = Load(
        url=server.url,
        inputs=inputs,
        rate=rate,
        seconds=requests / rate,
        arrivals="fixed",
        models=models,
        connections=CLIENTS,
        timeout=3600,
    )
    return put_on(load, watch)


MOST_RATE = 1e6
"""Requests a second that are due where throughput is measured: all at once."""


def at_rate(
    server: Served, inputs: tuple[str, ...], rate: float, seconds: float, watch=None, timeout=10.0, connections=512
) -> Outcome:
    """Ask at a rate."""
    load = Load(url=server.url, inputs=inputs, rate=rate, seconds=seconds, timeout=timeout, connections=connections)
    return put_on(load, watch)


def serving(folder: Path, runs: list[str], *options: str):
    """Start the server of a measurement."""
    threads = max(1, CORES // WORKERS)
    return served(runs, folder / "server.log", "--workers", str(WORKERS), "--threads", str(threads), *OPTIONS, *options)


def throughput(folder: Path, runs: list[str]) -> dict:
    """Compare texts a second with those of the pipeline, in turn."""
    exported = folder / "exported"
    if not exported.is_dir():
        subprocess.run([sys.executable, "-m", "peftlab", "export", runs[0], str(exported)], check=True, cwd=ROOT)
    inputs, seconds = texts(folder), {"one by one": [], "batched": [], "served": []}
    cpu: dict[str, list[float]] = {way: [] for way in seconds}
    (folder / "asked.txt").write_text("\n".join(inputs) + "\n", encoding="utf-8")
    with serving(folder, runs[:1]) as server:
        at_once(server, inputs, 4 * CLIENTS)
        for _ in range(ROUNDS):
            for way, batch in (("one by one", 1), ("batched", BATCH)):
                arguments = [str(exported), str(folder / "asked.txt"), str(batch), str(CORES)]
                script = Path(__file__).with_name("pipeline.py")
                done = subprocess.run([sys.executable, str(script), *arguments], capture_output=True, check=True)
                told = json.loads(done.stdout.splitlines()[-1])
                seconds[way].append(told["seconds"])
                cpu[way].append(told["cpu"])
            before = server.cpu()
            outcome = at_once(server, inputs, len(inputs))
            cpu["served"].append(server.cpu() - before)
            if outcome.answered < outcome.due:
                raise SystemExit(f"not all were answered: {outcome.errors}")
            seconds["served"].append(outcome.seconds)
    rates = {way: [len(inputs) / one for one in each] for way, each in seconds.items()}
    ratios = {
        way: [one / other for one, other in zip(rates["served"], rates[way], strict=True)]
        for way in ("one by one", "batched")
    }
    return {
        "texts": len(inputs),
        "texts_a_second": {way: statistics.median(each) for way, each in rates.items()},
        "cpu_ms_a_text": {way: 1000 * statistics.median(each) / len(inputs) for way, each in cpu.items()},
        "times": {way: {"median": statistics.median(each), "all": each} for way, each in ratios.items()},
    }


def capacity(folder: Path) -> float:
    """Return the texts a second that `throughput` has measured."""
    return json.loads((folder / "throughput.json").read_text())["texts_a_second"]["served"]


def latency(folder: Path, runs: list[str]) -> dict:
    """Measure latencies at half and nine tenths of the capacity, in turn."""
    inputs, most = texts(folder), capacity(folder)
    found: dict[str, list] = {"0.5": [], "0.9": []}
    with serving(folder, runs[:1]) as server:
        at_once(server, inputs, 4 * CLIENTS)
        for _ in range(3):
            for share, each in found.items():
                outcome = at_rate(server, inputs, float(share) * most, SECONDS)
                each.append({"share": outcome.answered / outcome.due, **_milliseconds(outcome)})
    return {"capacity": most, "at": found}


def _milliseconds(outcome: Outcome) -> dict:
    values = {name: value and 1000 * value for name, value in outcome.latency.percentiles.items()}
    return {**values, "keeps_up": outcome.keeps_up, "errors": outcome.errors}


def adapters(folder: Path, runs: list[str]) -> dict:
    """Compare texts a second of ten models on one backbone with those of one of them, in turn."""
    named = [f"m{number}={runs[number % len(runs)]}" for number in range(ADAPTERS)]
    names = tuple(one.partition("=")[0] for one in named)
    inputs, rates = texts(folder), {"one": [], "ten": []}
    with serving(folder, named) as server:
        at_once(server, inputs, 4 * CLIENTS, names)
        for _ in range(ROUNDS):
            for way, models in (("one", names[:1]), ("ten", names)):
                outcome = at_once(server, inputs, len(inputs), models)
                if outcome.answered < outcome.due:
                    raise SystemExit(f"not all were answered: {outcome.errors}")
                rates[way].append(outcome.throughput)
    ratios = [ten / one for one, ten in zip(rates["one"], rates["ten"], strict=True)]
    return {"texts_a_second": rates, "ratio": {"median": statistics.median(ratios), "all": ratios}}


def right_answers(folder: Path, run: str, inputs: tuple[str, ...]) -> dict[str, dict]:
    """Return the answer of ``peftlab predict`` to each text."""
    file = folder / "asked.txt"
    file.write_text("\n".join(inputs) + "\n", encoding="utf-8")
    command = [sys.executable, "-m", "peftlab", "predict", run, "--file", str(file), "--json"]
    done = subprocess.run(command, capture_output=True, check=True, text=True, cwd=ROOT)
    answers = [json.loads(line) for line in done.stdout.splitlines()]
    return dict(zip(inputs, answers, strict=True))


class Judge:
    """Counts the answers that differ from the right ones by more than rounding, which a batch may change."""

    def __init__(self, right: dict[str, dict]) -> None:
        self.right, self.wrong, self.judged = right, 0, 0

    def __call__(self, model, inputs, status: int, body: bytes) -> None:
        """Judge one response."""
        if status == 200:
            answers = json.loads(body)["answers"]
            self.judged += len(answers)
            self.wrong += sum(not _same(self.right[text], one) for text, one in zip(inputs, answers, strict=True))


def _same(one, other) -> bool:
    if isinstance(one, float) and isinstance(other, float):
        return abs(one - other) <= 1e-4
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(_same(value, other[key]) for key, value in one.items())
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(_same, one, other))
    return one == other


def endurance(folder: Path, runs: list[str]) -> dict:
    """Ask a hundred thousand times at 70 % of the capacity; hold answers against the right ones, and watch memory."""
    inputs, rate = texts(folder), 0.7 * capacity(folder)
    judge = Judge(right_answers(folder, runs[0], inputs))
    parts, memory, errors, cpu = 10, [], {}, 0.0
    with serving(folder, runs[:1]) as server:
        at_once(server, inputs, 8 * CLIENTS)
        memory.append(server.memory())
        answered = 0
        for _ in range(parts):
            outcome = at_rate(server, inputs, rate, REQUESTS / parts / rate, judge)
            answered += outcome.answered
            errors = {key: errors.get(key, 0) + outcome.errors.get(key, 0) for key in {*errors, *outcome.errors}}
            memory.append(server.memory())
        cpu = server.cpu()
    grown = (memory[-1] - memory[1]) / memory[1]
    counts = {"answered": answered, "errors": errors, "judged": judge.judged, "wrong": judge.wrong}
    return {**counts, "memory": memory, "grown_after_the_first_tenth": grown, "cpu": cpu}


def killed(folder: Path, runs: list[str]) -> dict:
    """Kill a worker with SIGKILL at half load: what is lost, what is wrong, and when there are two again."""
    inputs, rate = texts(folder), 0.5 * capacity(folder)
    judge, recovery = Judge(right_answers(folder, runs[0], inputs)), []
    with serving(folder, runs[:1]) as server:
        at_once(server, inputs, 4 * CLIENTS)
        holding = min(map(_memory_of, server.workers()[:WORKERS])) // 2

        def strike() -> None:
            time.sleep(SECONDS / 4)
            victim = server.workers()[0]
            os.kill(victim, signal.SIGKILL)

            def back() -> bool:
                alive = [pid for pid in server.workers() if pid != victim and _memory_of(pid) > holding]
                return len(alive) >= WORKERS

            recovery.append(until(back, 60))

        thread = threading.Thread(target=strike)
        thread.start()
        outcome = at_rate(server, inputs, rate, SECONDS, judge)
        thread.join()
    about = {"due": outcome.due, "answered": outcome.answered, "errors": outcome.errors, "wrong": judge.wrong}
    return {**about, "seconds_until_back": recovery[0], **_milliseconds(outcome)}


def _memory_of(pid: int) -> int:
    from served import resident

    return resident(pid)


def overload(folder: Path, runs: list[str]) -> dict:
    """Ask four times as often as the server can answer: how fast it refuses, and what it still answers."""
    inputs, most = texts(folder), capacity(folder)
    with serving(folder, runs[:1]) as server:
        at_once(server, inputs, 4 * CLIENTS)
        # more connections than inputs may wait in both workers: else requests would wait in the client
        outcome = at_rate(server, inputs, 4 * most, min(SECONDS, 20), timeout=20, connections=900)
        after = at_rate(server, inputs, 0.5 * most, min(SECONDS, 10))
    refused = {name: value and 1000 * value for name, value in outcome.refusals.percentiles.items()}
    return {
        "due": outcome.due,
        "by_status": outcome.by_status,
        "errors": outcome.errors,
        "answered_of_capacity": outcome.throughput / most,
        "refused_after": refused,
        "answered": _milliseconds(outcome),
        "afterwards": {"answered": after.answered, "due": after.due, **_milliseconds(after)},
    }


MEASUREMENTS = {one.__name__: one for one in (throughput, latency, adapters, endurance, killed, overload)}


def table(folder: Path) -> str:
    """Return what was measured as Markdown."""
    found = {name: json.loads(file.read_text()) for name in MEASUREMENTS if (file := folder / f"{name}.json").is_file()}
    lines = ["| what | found | aim |", "|-|-|-|"]

    def add(what: str, text: str, aim: str) -> None:
        lines.append(f"| {what} | {text} | {aim} |")

    if one := found.get("throughput"):
        for way, aim in (("one by one", "3"), ("batched", "1.5")):
            ratios = one["times"][way]
            spread = f"{min(ratios['all']):.2f} to {max(ratios['all']):.2f}"
            rates = f"{one['texts_a_second']['served']:.0f} against {one['texts_a_second'][way]:.0f} a second"
            spent = one["cpu_ms_a_text"]
            add(f"CPU of a text, ms, against {way}", f"{spent['served']:.1f} against {spent[way]:.1f}", "stated")
            add(f"texts, times the pipeline {way}", f"{ratios['median']:.2f} ({spread}); {rates}", f"at least {aim}")
    if one := found.get("latency"):
        for share, rounds in one["at"].items():
            for name in ("p50", "p99"):
                values = [each[name] for each in rounds if each[name] is not None]
                shown = " / ".join(f"{value:.1f}" for value in values)
                add(f"{name} at {float(share):.0%} of capacity, ms", shown, "stated")
    if one := found.get("adapters"):
        ratios = one["ratio"]
        spread = f"{min(ratios['all']):.2f} to {max(ratios['all']):.2f}"
        add("texts of ten adapters to those of one", f"{ratios['median']:.2f} ({spread})", "at least .80")
    if one := found.get("endurance"):
        counts = f"{one['answered']:,} answered, {sum(one['errors'].values())} errors, {one['wrong']} wrong"
        add("requests at 70 %", counts, "100,000, 0, 0")
        memory = f"{one['memory'][1] / 2**20:.0f} to {one['memory'][-1] / 2**20:.0f} MiB"
        add("memory after a tenth, and at the end", memory, "no growth")
    if one := found.get("killed"):
        back = one["seconds_until_back"]
        counts = (
            f"{one['answered']:,} of {one['due']:,} answered, {one['wrong']} wrong, errors {one['errors'] or 'none'}"
        )
        add("a worker killed at 50 %", counts, "none wrong, others served")
        add("seconds until two workers again", "never" if back is None else f"{back:.1f}", "below 10")
    if one := found.get("overload"):
        p99 = one["refused_after"]["p99"]
        counts = ", ".join(f"{status}: {count:,}" for status, count in one["by_status"].items())
        add("four times the capacity", f"{counts}; errors {one['errors'] or 'none'}", "429s, no timeout")
        add("p99 until a refusal, ms", "-" if p99 is None else f"{p99:.1f}", "50")
        add("texts answered meanwhile, of capacity", f"{one['answered_of_capacity']:.2f}", "stated")
    return "\n".join(lines)


if __name__ == "__main__":
    main()

"""What every group costs, and the scores that it buys."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from peftlab.report.analysis.groups import Group
from peftlab.report.analysis.results import Result, Row
from peftlab.report.document import Block, Cell, Column, Figure, Paragraph, Section, Table
from peftlab.report.numbers import (
    UNKNOWN,
    called,
    count,
    duration,
    energy,
    flops,
    gib,
    listed,
    money,
    plural,
    share,
    size,
)
from peftlab.report.sections.scores import axis, in_figures
from peftlab.report.study import Run


@dataclass(frozen=True)
class Cost:
    """What a group costs: means over its tested runs, and sums over all its runs."""

    trainable: float | None
    total: float | None
    adapter_bytes: float | None
    train_seconds: float | None
    """None, as are the other figures of training, unless a run was trained."""
    wall_seconds: float | None
    memory_gib: float | None
    train_flops: float | None
    energy_joules: float | None
    """Of one tested run; None unless each was counted."""
    sent_bytes: float | None
    """Between a server and its clients, both ways; None unless each run was federated."""
    samples_per_second: float | None
    device_hours: float | None
    """Of one tested run, and of those that its model was computed from."""
    all_device_hours: float
    """Of all runs of the group itself: search, final and lost ones."""
    price: float | None

    @property
    def money(self) -> float | None:
        """Of one tested run."""
        return None if self.price is None or self.device_hours is None else self.device_hours * self.price

    @property
    def all_money(self) -> float | None:
        """Of all runs of the group."""
        return None if self.price is None else self.all_device_hours * self.price


def cost_of(group: Group, price: float | None) -> Cost:
    """Return what a group costs."""
    runs = group.final or group.trials or group.everything

    trained = [run for run in runs if run.record.derived is None]

    def mean(part: str, name: str, of: Sequence[Run] = runs) -> float | None:
        return _mean(run.record.data[part][name] for run in of)

    return Cost(
        trainable=mean("method", "trainable_parameters"),
        total=mean("method", "total_parameters"),
        adapter_bytes=mean("method", "adapter_bytes"),
        train_seconds=mean("cost", "train_seconds", trained),
        wall_seconds=mean("cost", "wall_seconds"),
        memory_gib=mean("cost", "peak_memory_gib"),
        train_flops=mean("cost", "train_flops", trained),
        energy_joules=None if None in (joules := [energy_of(run) for run in runs]) else _mean(joules),
        sent_bytes=None if None in (sent := [sent_by(run) for run in runs]) else _mean(sent),
        samples_per_second=mean("cost", "samples_per_second", trained),
        device_hours=_mean(None if (own := run.record.device_seconds()) is None else own / 3600 for run in runs),
        all_device_hours=sum(device_hours(run) or 0.0 for run in group.everything),
        price=price,
    )


def device_hours(run: Run) -> float | None:
    """Return hours times devices of a run, as its record has them; None if it never ended."""
    seconds = run.record.seconds_on_device()
    return None if seconds is None else seconds / 3600 * (run.record.data["environment"].get("world_size") or 1)


def energy_of(run: Run) -> float | None:
    """Return the joules of a run, of a packed one its share by time; None if they were not counted."""
    joules: float | None = run.record.data["cost"].get("energy_joules")
    seconds, own = run.record.data["cost"]["wall_seconds"], run.record.seconds_on_device()
    return joules * own / seconds if joules is not None and seconds and own is not None else joules


def sent_by(run: Run) -> float | None:
    """Return the bytes of weights that a run has sent to its clients and back; None: it was not federated."""
    section = run.record.extensions.get("federated", {})
    up, down = section.get("bytes_up"), section.get("bytes_down")
    return None if up is None or down is None else float(up + down)


def section(result: Result) -> Section:
    """Return what the groups of a comparison cost."""
    comparison = result.comparison
    price = comparison.options.price_per_device_hour
    groups = [row.group for row in result.ranked] or list(comparison.groups)
    costs = {group.name: cost_of(group, price) for group in groups}
    blocks: list[Block] = [Paragraph(_explained(result)), _table(result, costs)]
    blocks += _fronts(result, costs)
    return Section(f"{comparison.name}-cost", "Cost", tuple(blocks))


def _explained(result: Result) -> str:
    runs = result.comparison.everything
    hours = sum(device_hours(run) or 0.0 for run in runs)
    devices = sorted({_device(run) for run in runs})
    price = result.comparison.options.price_per_device_hour
    paid = "" if price is None else f", {money(hours * price)} at {price:g} per device hour"
    return (
        f"All {len(runs):,} runs took {duration(hours * 3600)} of device time{paid}, on: {'; '.join(devices)}. "
        "Time, memory and speed are means over the tested runs, as measured, whatever else ran on "
        f"the machine. A device is a GPU, or a process on a CPU with all its threads. {_energy(runs)}"
    )


def _energy(runs: Sequence[Run]) -> str:
    joules = [energy_of(run) for run in runs]
    counted = [one for one in joules if one is not None]
    if not counted:
        return "Energy was not measured."
    names = sorted({name for run in runs for name in run.record.data["cost"].get("energy_counted") or ()})
    of = "all runs" if len(counted) == len(joules) else f"{len(counted):,} of {len(joules):,} runs"
    return (
        f"The energy of {of}, {energy(sum(counted))}, is that of {listed(names)}, from the set-up of the training to "
        "the last evaluation, whatever else ran on the same hardware."
    )


def _device(run: Run) -> str:
    environment = run.record.data["environment"]
    number = environment.get("world_size") or 1
    names = environment["accelerators"] or [f"{environment['cpu'] or 'a CPU'} ({_threads(environment['threads'])})"]
    return f"{number} x {names[0]}" if number > 1 else str(names[0])


def _threads(number: int | None) -> str:
    return plural(number, "thread") if number else "threads unknown"


def _table(result: Result, costs: dict[str, Cost]) -> Table:
    priced = result.comparison.options.price_per_device_hour is not None
    columns = [
        Column(", ".join(result.comparison.keys)),
        Column("trained parameters", True),
        Column("of all", True),
        Column("kept", True, "what is saved of a run, head included"),
        Column("training", True, "time of one run"),
        Column("in all", True, "time of one run with loading, validating and testing"),
        Column("samples/s", True, "while training"),
        Column("peak memory", True),
        Column("compute", True, "of one training, forward and backward"),
        Column("energy", True, "of one run"),
        Column("sent", True, "weights between server and clients, both ways, of one run"),
        Column("device time", True, "of all runs of the group"),
    ]
    if priced:
        columns += [
            Column("a run", True, "money, with the runs that it was computed from"),
            Column("the group", True, "money, search included"),
        ]
    rows = []
    for name, cost in costs.items():
        part = cost.trainable / cost.total if cost.trainable is not None and cost.total else None
        cells = [
            Cell(name),
            Cell(count(cost.trainable), cost.trainable),
            Cell(share(part), part),
            Cell(size(cost.adapter_bytes), cost.adapter_bytes),
            Cell(duration(cost.train_seconds), cost.train_seconds),
            Cell(duration(cost.wall_seconds), cost.wall_seconds),
            Cell(f"{cost.samples_per_second:.1f}" if cost.samples_per_second else UNKNOWN, cost.samples_per_second),
            Cell(gib(cost.memory_gib), cost.memory_gib),
            Cell(flops(cost.train_flops), cost.train_flops),
            Cell(energy(cost.energy_joules), cost.energy_joules),
            Cell(size(cost.sent_bytes), cost.sent_bytes),
            Cell(duration(cost.all_device_hours * 3600), cost.all_device_hours),
        ]
        if priced:
            cells += [Cell(money(cost.money), cost.money), Cell(money(cost.all_money), cost.all_money)]
        rows.append(tuple(cells))
    kept = [place for place in range(len(columns)) if place == 0 or any(row[place].value is not None for row in rows)]
    return Table(
        f"{result.comparison.name}-cost-table",
        tuple(columns[place] for place in kept),
        tuple(tuple(row[place] for place in kept) for row in rows),
        "What the groups cost",
    )


def _fronts(result: Result, costs: dict[str, Cost]) -> list[Block]:
    kinds: list[tuple[str, str, str, Callable[[Cost], float | None], float]] = [
        ("parameters", "Trained parameters", "count", lambda cost: cost.trainable, 1.0),
        ("time", "Training time of a run", "seconds", lambda cost: cost.train_seconds, 1.0),
    ]
    if result.comparison.options.price_per_device_hour is not None:
        kinds[1] = ("money", "Money for a run", "money", lambda cost: cost.money, 1.0)
    metric = result.comparison.metric
    figures: list[Block] = []
    for name, label, unit, of, factor in kinds:
        at = {row.name: x * factor for row in result.ranked if (x := of(costs[row.name])) is not None and x > 0}
        if len(set(at.values())) < 2:
            continue
        shown = {row.name for row in in_figures(result)} | _front([row for row in result.ranked if row.name in at], at)
        points = [
            {
                "label": row.name,
                "x": at[row.name],
                "y": {"value": row.value, "low": row.whole.low, "high": row.whole.high},
            }
            for row in result.ranked
            if row.name in at and row.name in shown
        ]
        data = {
            "x": {"label": label, "unit": unit, "log": None},
            "y": axis(metric, f"test {called(metric)}"),
            "better": result.comparison.direction,
            "points": points,
        }
        covers = "seeds and test sets" if result.units else "seeds"
        what = f"{label[0].lower()}{label[1:]}, with intervals over {covers}"
        caption = f"Test {called(metric)} against {what}; the line joins what nothing else beats in both."
        if len(points) < len(at):
            caption += f" What it joins, and the best of {len(at)} groups."
        figures.append(Figure(f"{result.comparison.name}-pareto-{name}", "pareto", data, caption))
    return figures


def _front(rows: Sequence[Row], at: Mapping[str, float]) -> set[str]:
    """Return the names of the rows, the best first, that cost less than every better one."""
    front: set[str] = set()
    least = float("inf")
    for row in rows:
        if at[row.name] < least:
            least = at[row.name]
            front.add(row.name)
    return front


def _mean(values: Iterable[float | None]) -> float | None:
    there = [value for value in values if value is not None]
    return statistics.fmean(there) if there else None

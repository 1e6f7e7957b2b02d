"""Runs in one process whose steps are computed together, against the same runs one after another.

python experiments/throughput/packing.py [--runs K] [--steps N] [--rounds N] [--size tiny|minilm|base] [KEY=VALUE ...]

The model is a BERT with random weights and LoRA, batches are of 16 short sentences. The runs differ in their learning
rate, and with --seeds in their seeds, so that their batches have different lengths and are padded. Both sides take
turns in one process; the first steps of each do not count. Told are medians over the rounds: milliseconds of the
processor (all threads) and of the clock for a step of one run, and the ratios of the two sides within each round. With
trainer=gpu, where the clock is what counts, this has never run.
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
from collections.abc import Callable
from contextlib import redirect_stdout
from pathlib import Path
from typing import TYPE_CHECKING, Any

import clock
from clock import Reading
from synthetic import BASE, TINY, Sizes, make_bert, make_sentences, on

if TYPE_CHECKING:
    from omegaconf import DictConfig

BATCH = 16
FIRST_STEPS = 8
"""Steps of each run that do not count: they are computed alone, or allocate."""
SIZES = {"tiny": TINY, "minilm": Sizes(6, 384, 12, 1536, 2000, 512), "base": BASE}
OVERRIDES = [
    *("task=ner", "peft=lora", f"data.batch_size={BATCH}", "logger=[]"),
    *("trainer.cache_activations=false", "budget.max_epochs=1", "budget.test=false", "existing=rerun"),
    *clock.OVERRIDES,
]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=4)
    parser.add_argument("--steps", type=int, default=40, help="of each run that count")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--size", choices=SIZES, default="tiny")
    parser.add_argument("--seeds", action="store_true", help="each run has its own seed, and so batches of its own")
    parser.add_argument("overrides", nargs="*", metavar="KEY=VALUE", help="of the runs, such as trainer=cpu")
    chosen = parser.parse_args()
    sides: dict[str, list[Reading]] = {"one after another": [], "packed": []}
    with tempfile.TemporaryDirectory() as folder:
        configs = composed(Path(folder), chosen)
        for _ in range(chosen.rounds):
            for name, side in {"one after another": in_turn, "packed": packed}.items():
                sides[name].append(side(configs))
    print(f"{chosen.runs} runs, {chosen.size}, medians of {chosen.rounds} rounds, milliseconds for a step of one run")
    for kind in ("process", "wall"):
        for name, rounds in sides.items():
            print(f"{kind:8} {name:18} {1000 * statistics.median(getattr(each, kind) for each in rounds):9.2f}")
        pairs = zip(*sides.values(), strict=True)
        ratio = statistics.median(getattr(a, kind) / getattr(b, kind) for a, b in pairs)
        print(f"{kind:8} {'ratio':18} {ratio:9.2f}")


def composed(folder: Path, chosen: argparse.Namespace) -> list[DictConfig]:
    from peftlab.composing.compose import compose

    sizes = SIZES[chosen.size]
    model = make_bert(folder / "model", sizes)
    sentences = BATCH * (FIRST_STEPS + chosen.steps)
    data = make_sentences(folder / "data", sizes.vocabulary, (8, 24), sentences, BATCH)
    return [
        compose(
            *on(model, data),
            *OVERRIDES,
            *chosen.overrides,
            f"run_dir={folder / str(number)}",
            f"optimizer.lr={1e-4 * (number + 1)}",
            f"seed={number if chosen.seeds else 0}",
        )
        for number in range(chosen.runs)
    ]


def in_turn(configs: list[DictConfig]) -> Reading:
    from peftlab.one_run import run

    each = []
    for config in configs:
        _, readings = quietly(lambda config=config: run(config))
        each.append(a_step(readings[FIRST_STEPS - 1 :]))
    return Reading(*(statistics.mean(values) for values in zip(*each, strict=True)))


def packed(configs: list[DictConfig]) -> Reading:
    from peftlab.one_run import run
    from peftlab.packing.pack import Pack

    def work(config: DictConfig) -> Callable[[Any], object]:
        return lambda seat: run(config, seat=seat)

    seats, readings = quietly(lambda: Pack([work(config) for config in configs]).run())
    for seat in seats:
        if seat.turns.error is not None:
            raise seat.turns.error
        print(seat.facts())
    return a_step(readings[FIRST_STEPS * len(configs) - 1 : -len(configs)])  # evaluations follow the last steps


def quietly(act: Callable[[], Any]) -> tuple[Any, list[Reading]]:
    """Return what `act` returns, and the clocks after each step in it."""
    from peftlab.devices.process_state import restored

    readings: list[Reading] = []
    clock.after_step[:] = [lambda: readings.append(Reading.now())]
    with open(os.devnull, "w") as nowhere, redirect_stdout(nowhere), restored():
        return act(), readings


def a_step(readings: list[Reading]) -> Reading:
    """Return the seconds of each clock from the first of `readings` to the last, a step."""
    return Reading(*(seconds / (len(readings) - 1) for seconds in readings[-1].since(readings[0])))


if __name__ == "__main__":
    main()

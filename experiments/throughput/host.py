"""What our loop costs the host beside the model: CPU time a step beyond a plain loop's, which a GPU would wait for.

python experiments/throughput/host.py [--steps N] [--rounds N] [KEY=VALUE ...]

The model is a BERT of 2 layers and hidden size 32 with LoRA, batches are of 16 short sentences, in fp32 on one thread.
The plain loop has the same model, batches (collated before), optimiser, clipping and schedule, and nothing else. Both
train in one process, ten steps and ten steps in turn, so that whatever else the machine does meets both; the first
steps, which do what only first ones do, do not count. Told are medians over these turns of CPU milliseconds a step: of
all threads of the process, and of the thread that trains, which alone keeps a GPU waiting. No GPU is used.
"""

from __future__ import annotations

import os

os.environ["OMP_NUM_THREADS"] = "1"  # before torch is imported: other threads would spin, and that is CPU time, too

import argparse
import statistics
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import redirect_stdout
from pathlib import Path

import clock
from clock import Reading
from plain import plain_steps
from synthetic import TINY, make_bert, make_sentences, on

BATCH = 16
TURN = 10
"""Steps of one side before it is the other's turn: as many as `trainer.log_every`, so that each of ours logs once."""
FIRST_STEPS = 40
"""Steps that do not count: counting operations and allocating are over by then."""
KINDS = ("process", "thread")
"""The clocks that are told, see `Reading`."""
OVERRIDES = [
    *("task=ner", "peft=lora", f"data.batch_size={BATCH}", "logger=[csv]", f"trainer.log_every={TURN}"),
    *("trainer=cpu", "trainer.precision=32-true", "trainer.threads=1", "trainer.cache_activations=false"),
    *("budget.max_epochs=1", "budget.test=false", "existing=rerun", *clock.OVERRIDES),
]


class Turns:
    """After every `TURN` steps of ours, takes as many of the plain loop, and notes what both took.

    Args:
        plain: the steps of the plain loop.
    """

    def __init__(self, plain: Iterator[None]) -> None:
        self.plain = plain
        self.taken = 0
        self.began: Reading | None = None
        self.laps: dict[str, list[Reading]] = {"plain loop": [], "peftlab": [], "beyond the plain loop": []}
        """Seconds of each turn."""

    def __call__(self) -> None:
        self.taken += 1
        if self.taken % TURN:
            return
        ended = Reading.now()
        for _ in range(TURN):
            next(self.plain)
        through = Reading.now()
        if self.began is not None and self.taken > FIRST_STEPS:
            ours, theirs = ended.since(self.began), through.since(ended)
            for lap, of_side in zip((theirs, ours, ours.since(theirs)), self.laps.values(), strict=True):
                of_side.append(lap)
        self.began = through


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=300, help="that count, in each round (default 300)")
    parser.add_argument("--rounds", type=int, default=3, help="runs, each with a seed of its own (default 3)")
    parser.add_argument("overrides", nargs="*", metavar="KEY=VALUE", help="of the run, such as peft=full")
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        laps = measured(Path(folder), FIRST_STEPS + chosen.steps, chosen.rounds, chosen.overrides)
    print(f"medians of {len(laps['peftlab'])} turns of {TURN} steps, CPU milliseconds a step")
    print(f"{'':24}{'process':>9}{'thread':>9}")
    for name, of_side in laps.items():
        show(name, [1000 * statistics.median(getattr(lap, kind) for lap in of_side) / TURN for kind in KINDS])
    show("peftlab / plain loop", [ratio(laps["peftlab"], laps["plain loop"], kind) for kind in KINDS])


def ratio(ours: Sequence[Reading], theirs: Sequence[Reading], kind: str) -> float:
    return statistics.median(getattr(a, kind) / getattr(b, kind) for a, b in zip(ours, theirs, strict=True))


def show(name: str, figures: list[float]) -> None:
    print(f"{name:24}" + "".join(f"{each:9.3f}" for each in figures))


def measured(folder: Path, steps: int, rounds: int, overrides: list[str]) -> dict[str, list[Reading]]:
    """Return the seconds of all turns, by side; of collating alone, those of as many batches."""
    import peftlab
    from peftlab.assembly import store_and_compile
    from peftlab.composing.compose import compose
    from peftlab.devices.process_state import restored
    from peftlab.one_run import build, prepare

    model = make_bert(folder / "model", TINY)
    data = make_sentences(folder / "data", TINY.vocabulary, (8, 24), BATCH * steps, BATCH)
    common = [*on(model, data), *OVERRIDES, *overrides, f"run_dir={folder / 'run'}"]
    laps: dict[str, list[Reading]] = {"collating alone": []}
    for seed in range(rounds):
        with restored():
            ready = prepare(compose(*common, f"seed={seed}"))
            tuner = build(ready)
            store_and_compile(tuner.model, ready.spec.trainer)
            loader, batches = iter(ready.data.train_dataloader()), []
            for _ in range(steps // TURN):
                began = Reading.now()
                batches += [part for _ in range(TURN) for part in next(loader)]
                laps["collating alone"].append(Reading.now().since(began))
        turns = Turns(plain_steps(tuner.model, tuner.context.head, ready.spec, batches, steps))
        clock.after_step[:] = [turns]
        with redirect_stdout(sys.stderr):
            peftlab.run(*common, f"seed={seed}")
        for name, of_side in turns.laps.items():
            laps.setdefault(name, []).extend(of_side)
    return laps


if __name__ == "__main__":
    main()

"""What our loop costs the host beside the model: CPU time a step beyond a plain loop's, which a GPU would wait for.

python experiments/throughput/host.py [--steps N] [--rounds N] [KEY=VALUE ...]

The model is a BERT of 2 layers and hidden size 32 with LoRA, batches are of 16 short sentences, in fp32 on one thread.
The plain loop has the same model, batches (collated before its clock starts), optimiser, clipping and schedule, and
nothing else. Both take the same steps in one process, turn and turn about, so that whatever else the machine does meets
both; the first steps of each, which do what only first ones do, do not count. Told are medians over the rounds of CPU
milliseconds a step: of all threads of the process, and of the thread that trains, which alone keeps a GPU waiting. No
GPU is used.
"""

from __future__ import annotations

import os

os.environ["OMP_NUM_THREADS"] = "1"  # before torch is imported: other threads would spin, and that is CPU time, too

import argparse
import statistics
import sys
import tempfile
from contextlib import redirect_stdout
from pathlib import Path
from typing import TYPE_CHECKING

import clock
from clock import Reading
from plain import train_plainly
from synthetic import TINY, make_bert, make_sentences, on

if TYPE_CHECKING:
    from peftlab.config import RunSpec
    from peftlab.tasks.batch import Batch
    from peftlab.training.tuner import Tuner

BATCH = 16
KINDS = ("process", "thread")
"""The clocks that are told, see `clock.Reading`."""
FIRST_STEPS = 32
"""Steps that do not count: compiling, counting operations and allocating are over by then."""
OVERRIDES = [
    *("task=ner", "peft=lora", f"data.batch_size={BATCH}", "logger=[csv]"),
    *("trainer=cpu", "trainer.precision=32-true", "trainer.threads=1", "trainer.cache_activations=false"),
    *("budget.max_epochs=1", "budget.test=false", "existing=rerun", *clock.OVERRIDES),
]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=300, help="that count, in each round (default 300)")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("overrides", nargs="*", metavar="KEY=VALUE", help="of the run, such as peft=full")
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        sides = measured(Path(folder), FIRST_STEPS + chosen.steps, chosen.rounds, chosen.overrides)
    print(f"medians of {chosen.rounds} rounds of {chosen.steps} steps, CPU milliseconds a step")
    print(f"{'':30}{'process':>9}{'thread':>9}")
    ours, plain = sides["peftlab"], sides["plain loop"]
    beyond = [mine.since(theirs) for mine, theirs in zip(ours, plain, strict=True)]
    for name, rounds in {**sides, "peftlab beyond the plain loop": beyond}.items():
        show(name, [1000 * statistics.median(getattr(each, kind) for each in rounds) for kind in KINDS])
    show("peftlab / plain loop", [ratio(ours, plain, kind) for kind in KINDS])


def ratio(ours: list[Reading], theirs: list[Reading], kind: str) -> float:
    return statistics.median(getattr(a, kind) / getattr(b, kind) for a, b in zip(ours, theirs, strict=True))


def show(name: str, figures: list[float]) -> None:
    print(f"{name:30}" + "".join(f"{each:9.3f}" for each in figures))


def measured(folder: Path, steps: int, rounds: int, overrides: list[str]) -> dict[str, list[Reading]]:
    """Return the seconds a step of each side, in every round."""
    import peftlab
    from peftlab.assembly import store_and_compile
    from peftlab.composing.compose import compose
    from peftlab.devices.process_state import restored
    from peftlab.one_run import build, prepare

    model = make_bert(folder / "model", TINY)
    data = make_sentences(folder / "data", TINY.vocabulary, (8, 24), BATCH * steps, BATCH)
    common = [*on(model, data), *OVERRIDES, *overrides, f"run_dir={folder / 'run'}"]
    sides: dict[str, list[Reading]] = {"plain loop": [], "collating alone": [], "peftlab": []}
    for seed in range(rounds):
        with restored():
            ready = prepare(compose(*common, f"seed={seed}"))
            tuner = build(ready)
            store_and_compile(tuner.model, ready.spec.trainer)
            loader = ready.data.train_dataloader()
            before = Reading.now()
            batches = [part for parts in loader for part in parts]
            sides["collating alone"].append(a_step([before, Reading.now()], len(batches)))
            sides["plain loop"].append(plain_steps(tuner, ready.spec, batches))
        with redirect_stdout(sys.stderr):
            peftlab.run(*common, f"seed={seed}")
        sides["peftlab"].append(a_step(clock.readings[FIRST_STEPS - 1 :], steps - FIRST_STEPS))
    return sides


def plain_steps(tuner: Tuner, spec: RunSpec, batches: list[Batch]) -> Reading:
    """Return the seconds a step of a plain loop over `batches`, the first steps left out."""
    ends: list[Reading] = []
    train_plainly(
        tuner.model,
        tuner.context.head,
        spec,
        batches,
        len(batches),
        after_step=lambda: ends.append(Reading.now()),
    )
    return a_step(ends[FIRST_STEPS - 1 :], len(batches) - FIRST_STEPS)


def a_step(readings: list[Reading], steps: int) -> Reading:
    """Return the seconds of each clock from the first of `readings` to the last, a step."""
    return Reading(*(seconds / steps for seconds in readings[-1].since(readings[0])))


if __name__ == "__main__":
    main()

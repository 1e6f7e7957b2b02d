"""What checkpoints, the trail, the guards and the wait for signals cost a step.

python experiments/reliability/cost.py [BLOCKS] [key=value ...]

One process trains `+experiment=ner_lora` on one thread, always on the same few batches, in blocks of `STEPS` steps:
with all of it (A) and without (B), in the order A B B A, so that a drift of the machine's speed meets both alike. Told
are the ratios A to B of CPU time and of time by the clock: of the totals, which have the rare events in them (a
checkpoint, a point of the trail), and the median over groups of four blocks, each with the interval that 95 % of 10,000
bootstrap samples of the groups lie in. Checkpoints come by the clock, which runs on in B: A has twice its share of
them.
"""

from __future__ import annotations

import os
import sys
import tempfile
import time
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

os.environ["OMP_NUM_THREADS"] = "1"

import lightning as L
import numpy as np
from torch import nn

from peftlab.callbacks.progress import Progress
from peftlab.composing.compose import compose
from peftlab.data import batching
from peftlab.one_run import run
from peftlab.tasks.batch import Batch
from peftlab.training.checkpointing import Checkpointing
from peftlab.training.interruption import Interruption
from peftlab.training.trail import Trail
from peftlab.training.tuner import Tuner

STEPS = 4
RUN = ["+experiment=ner_lora", "logger=[csv]", "trainer=cpu", "trainer.threads=1", "budget.eval_examples=50"]
RUN += ["budget.test=false", "callbacks=[progress]", "run_dir=run"]


class Switch:
    on = True


def switched(owner: type, name: str, otherwise: Callable[..., Any]) -> None:
    """Have a method do something else while the switch is off."""
    usual = getattr(owner, name)

    def method(*args: Any, **kwargs: Any) -> Any:
        return (usual if Switch.on else otherwise)(*args, **kwargs)

    setattr(owner, name, method)


def nothing(*_: Any, **__: Any) -> None:
    pass


def take_step(tuner: Tuner, parts: list[Batch]) -> Any:
    """Take a step that checks nothing."""
    (batch,), trainer = parts, tuner.trainer
    optimizer = trainer.optimizers[0]
    with trainer.precision_plugin.forward_context():
        loss = tuner.task.loss(tuner(batch), batch) * batch.scale
    optimizer.zero_grad()
    loss.backward()
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    assert trainer.gradient_clip_val is not None
    norm = nn.utils.clip_grad_norm_(parameters, trainer.gradient_clip_val)
    optimizer.step()
    # what the loggers read of a step
    step = SimpleNamespace(loss=loss.detach(), terms={}, number=trainer.global_step + 1, device=tuner.device)
    tuner._step = step  # type: ignore[assignment]
    tuner.step_log.take(step, norm)  # type: ignore[arg-type]
    return {"loss": step.loss}


clocks: list[tuple[float, float]] = []


def turn(_: Progress, trainer: L.Trainer, *__: Any) -> None:
    """Where a block ends, read both clocks, and turn the switch; in the place of a hook that the bar does not need."""
    if trainer.global_step % STEPS == 0:
        clocks.append((time.process_time(), time.perf_counter()))
        Switch.on = (len(clocks) - 1) % 4 in (0, 3)


def ratios(blocks: np.ndarray) -> str:
    """Return what `blocks`, of shape (groups, 4), say."""
    with_it, without = blocks[:, 0] + blocks[:, 3], blocks[:, 1] + blocks[:, 2]
    chosen = np.random.default_rng(0).integers(len(blocks), size=(10_000, len(blocks)))
    total = with_it[chosen].sum(1) / without[chosen].sum(1)
    median = np.median((with_it / without)[chosen], axis=1)
    found = []
    for name, value, sampled in (
        ("totals", with_it.sum() / without.sum(), total),
        ("median", np.median(with_it / without), median),
    ):
        low, high = np.percentile(sampled, [2.5, 97.5])
        found.append(f"{name} {value:.4f} [{low:.4f}, {high:.4f}]")
    return ", ".join(found)


def main() -> None:
    blocks = int(sys.argv[1]) if len(sys.argv) > 1 else 400
    plan = batching.plan
    batching.plan = lambda *args, **kwargs: plan(*args, **kwargs)[:STEPS] * (blocks + 3)
    Progress.on_train_batch_start = turn
    switched(Trail, "on_train_batch_end", nothing)
    switched(Checkpointing, "on_train_batch_start", nothing)
    switched(Interruption, "on_train_batch_start", nothing)
    switched(Tuner, "take_step", take_step)
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        run(compose(*RUN, f"budget.max_steps={STEPS * (blocks + 2)}", *sys.argv[2:]))
        os.chdir("/")
    taken = np.diff(np.asarray(clocks), axis=0)[4:]  # the first ones warm up
    groups = taken[: len(taken) // 4 * 4].reshape(-1, 4, 2)
    seconds = groups.sum(axis=(0, 1)) / groups[..., 0].size / STEPS
    print(f"{groups[..., 0].size} blocks of {STEPS} steps; a step takes {seconds[0]:.3f} s of CPU, {seconds[1]:.3f} s")
    print(f"CPU time, with to without: {ratios(groups[..., 0])}")
    print(f"by the clock: {ratios(groups[..., 1])}")


if __name__ == "__main__":
    main()

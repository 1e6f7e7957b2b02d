"""An epoch of head-only training that computes every layer against one that starts from activations on disk.

python experiments/throughput/head_cache.py [ROUNDS] [key=value ...]

Both sides train the same head on the same batches in one process, turn and turn about, so that whatever else the
machine does meets both. Of each turn the second epoch counts, validation included: the first does what only a first one
does. Ratios are taken within a round. On a busy machine the seconds of CPU tell more than the clock.
"""

from __future__ import annotations

import statistics
import sys
import time
import warnings
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from lightning.pytorch.callbacks import Callback

from peftlab.assembly import build_tuner, make_trainer
from peftlab.composing.compose import compose
from peftlab.config import resolve, validate
from peftlab.data.module import DataModule
from peftlab.models import backbone
from peftlab.one_run import seed_everything
from peftlab.runs.folder import RunFolder
from peftlab.runs.record import RunRecord
from peftlab.speed.activation_cache import choose_border, from_activations
from peftlab.speed.frozen_weights import store_in_bf16
from peftlab.terminal.console import start_logging
from peftlab.terminal.signals import Signals
from peftlab.training.cost import Cost

OVERRIDES = ["+experiment=ner_lora", "peft=head", "logger=[]", "callbacks=[]", "budget.max_epochs=2"]
OVERRIDES += ["model.dropout=0", "model.attention_dropout=0"]


class SecondEpoch(Callback):
    """Seconds of the second epoch with its validation: by the clock, and of the processor."""

    def __init__(self) -> None:
        self.seconds = self.cpu_seconds = 0.0

    def on_train_epoch_start(self, *args: Any) -> None:
        self.seconds, self.cpu_seconds = -time.perf_counter(), -time.process_time()

    def on_train_epoch_end(self, *args: Any) -> None:
        self.seconds += time.perf_counter()
        self.cpu_seconds += time.process_time()


def main() -> None:
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 5
    start_logging()
    warnings.simplefilter("ignore")
    spec = validate(resolve(compose(*OVERRIDES, *sys.argv[2:])))
    seed_everything(spec)
    pretrained = backbone.fetch(spec.model)
    sides = []
    with ExitStack() as within:
        temporary = Path(within.enter_context(TemporaryDirectory()))
        folder = RunFolder(RunRecord.start(temporary, run_id="", name="", command=[], overrides=[], identity={}))
        for cached in (False, True):
            trainer = replace(spec.trainer, cache_activations=cached)
            data = DataModule(spec.data, spec.task, pretrained.processor("tokenizer"), spec.budget, spec.seed)
            data.load()
            tuner = build_tuner(spec, pretrained)
            if trainer.frozen_weights == "bf16":
                store_in_bf16(tuner.model)
            border = choose_border(trainer, tuner.model, data)
            within.enter_context(from_activations(border, tuner.model, data, trainer, folder.record))
            sides.append((tuner, data))
        print(f"{len(data.train_dataloader())} steps an epoch; {folder.record.data['cost']['activation_cache']}")
        columns = f"{'from disk':>11} {'ratio':>7}"
        print(f"{'seconds':10}{'by clock':>11} {columns} {'of CPU':>13} {columns}")
        found: list[list[float]] = []
        for number in range(rounds):
            laps = []
            for tuner, data in sides:
                second = SecondEpoch()
                make_trainer(spec, data, folder, [Cost(), second], Signals(), []).fit(tuner, data)
                laps.append((second.seconds, second.cpu_seconds))
            (slow, slow_cpu), (fast, fast_cpu) = laps
            found.append([slow, fast, slow / fast, slow_cpu, fast_cpu, slow_cpu / fast_cpu])
            show(f"round {number + 1}", found[-1])
    show("medians", [statistics.median(column) for column in zip(*found, strict=True)])


def show(name: str, row: list[float]) -> None:
    slow, fast, ratio, slow_cpu, fast_cpu, ratio_cpu = row
    by_the_clock = f"{slow:11.2f} {fast:11.3f} {ratio:7.1f}"
    print(f"{name:10}{by_the_clock} {slow_cpu:13.2f} {fast_cpu:11.3f} {ratio_cpu:7.1f}", flush=True)


if __name__ == "__main__":
    main()

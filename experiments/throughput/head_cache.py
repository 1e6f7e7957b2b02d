"""An epoch of head-only training that computes every layer against one that starts from activations on disk.

python experiments/throughput/head_cache.py [ROUNDS] [key=value ...]

Both sides train the same head on the same batches in one process, turn and turn about, so that whatever else the
machine does meets both. Of each turn the second epoch counts: the first does what only a first one does. Ratios are
taken within a round.
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

from peftlab import backbone
from peftlab.callbacks.cost import Cost
from peftlab.config import resolve, validate
from peftlab.console import start_logging
from peftlab.data.module import DataModule
from peftlab.exits import Signals
from peftlab.one_run import build_tuner, make_trainer, seed_everything
from peftlab.python_api import compose
from peftlab.record import RunRecord
from peftlab.run_folder import RunFolder
from peftlab.speed.activation_cache import choose_border, from_activations
from peftlab.speed.frozen_weights import store_in_bf16

OVERRIDES = ["+experiment=ner_lora", "peft=head", "logger=[]", "callbacks=[]", "budget.max_epochs=2"]
OVERRIDES += ["model.dropout=0", "model.attention_dropout=0"]


class SecondEpoch(Callback):
    """Seconds of training and of validation in the second epoch."""

    def __init__(self) -> None:
        self.training = self.validation = 0.0
        self._lap = 0.0

    def _seconds(self) -> float:
        now = time.perf_counter()
        self._lap, seconds = now, now - self._lap
        return seconds

    def on_train_epoch_start(self, *args: Any) -> None:
        self._seconds()
        self.training = self.validation = 0.0

    def on_validation_start(self, *args: Any) -> None:
        self.training += self._seconds()

    def on_validation_end(self, *args: Any) -> None:
        self.validation += self._seconds()

    def on_train_epoch_end(self, *args: Any) -> None:
        self.training += self._seconds()


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
            data = DataModule(spec.data, spec.task, pretrained.tokenizer(), spec.budget, spec.seed)
            data.load()
            tuner = build_tuner(spec, pretrained)
            if trainer.frozen_weights == "bf16":
                store_in_bf16(tuner.model)
            border = choose_border(trainer, tuner.model, data)
            within.enter_context(from_activations(border, tuner.model, data, trainer, folder.record))
            sides.append((tuner, data))
        print(f"{len(data.train_dataloader())} steps an epoch; {folder.record.data['cost']['activation_cache']}")
        columns = f"{'from disk':>11} {'ratio':>7}"
        print(f"{'seconds':10}{'training':>11} {columns} {'validated':>13} {columns}")
        found: list[list[float]] = []
        for number in range(rounds):
            laps = []
            for tuner, data in sides:
                second = SecondEpoch()
                make_trainer(spec, data, folder, [Cost(), second], Signals(), []).fit(tuner, data)
                laps.append((second.training, second.training + second.validation))
            (slow, slow_all), (fast, fast_all) = laps
            found.append([slow, fast, slow / fast, slow_all, fast_all, slow_all / fast_all])
            show(f"round {number + 1}", found[-1])
    show("medians", [statistics.median(column) for column in zip(*found, strict=True)])


def show(name: str, row: list[float]) -> None:
    slow, fast, ratio, slow_all, fast_all, ratio_all = row
    training = f"{slow:11.2f} {fast:11.3f} {ratio:7.1f}"
    print(f"{name:10}{training} {slow_all:13.2f} {fast_all:11.3f} {ratio_all:7.1f}", flush=True)


if __name__ == "__main__":
    main()

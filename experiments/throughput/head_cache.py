"""An epoch of head-only training that computes every layer against one that starts from activations on disk.

python experiments/throughput/head_cache.py [ROUNDS] [key=value ...]

Both sides train the same head on the same batches in one process, an epoch of the one after an epoch of the other, so
that whatever else the machine does meets both. The last line has medians; the ratios are taken within a round.
"""

from __future__ import annotations

import statistics
import sys
import time
from contextlib import ExitStack
from dataclasses import replace

from peftlab import backbone, run_folder
from peftlab.callbacks.cost import Cost
from peftlab.config import resolve, validate
from peftlab.data.module import DataModule
from peftlab.one_run import build_tuner, make_trainer, seed_everything
from peftlab.python_api import compose
from peftlab.speed.activation_cache import choose_border, from_activations
from peftlab.speed.frozen_weights import store_in_bf16

OVERRIDES = ["+experiment=ner_lora", "peft=head", "logger=[]", "callbacks=[]", "budget.max_epochs=1"]
OVERRIDES += ["model.dropout=0", "model.attention_dropout=0", "model.head_dropout=0.1"]


def main() -> None:
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 5
    spec = validate(resolve(compose(*OVERRIDES, *sys.argv[2:])))
    seed_everything(spec)
    pretrained = backbone.fetch(spec.model)
    folder = run_folder.elsewhere("head_cache", {"sha256": ""}, command=[], overrides=[])
    sides = {}
    with ExitStack() as within:
        for name, cached in {"every layer": False, "from activations": True}.items():
            trainer = replace(spec.trainer, cache_activations=cached)
            data = DataModule(spec.data, spec.task, pretrained.tokenizer(), spec.budget, spec.seed)
            data.load()
            tuner = build_tuner(spec, pretrained)
            if trainer.frozen_weights == "bf16":
                store_in_bf16(tuner.model)
            border = choose_border(trainer, tuner.model, data)
            within.enter_context(from_activations(border, tuner.model, data, trainer, folder.record))
            sides[name] = (tuner, data)
        print(f"{len(data.train_dataloader())} steps an epoch; {folder.record.data['cost'].get('activation_cache')}")
        print(f"seconds of{'training':>26}{'training, validation':>36}")
        laps: dict[str, list[tuple[float, float]]] = {name: [] for name in sides}
        for number in range(rounds + 1):
            for name, (tuner, data) in sides.items():
                cost = Cost()
                began = time.perf_counter()
                make_trainer(spec, data, folder, [cost], []).fit(tuner, data)
                laps[name].append((cost.train_seconds, time.perf_counter() - began))
            if number:  # the first round warms up
                show(f"round {number}", [laps[name][-1] for name in sides])
    slow, fast = ([statistics.median(lap[i] for lap in laps[name][1:]) for i in (0, 1)] for name in sides)
    ratios = [statistics.median(a[i] / b[i] for a, b in list(zip(*laps.values(), strict=True))[1:]) for i in (0, 1)]
    show("medians", [(slow[0], slow[1]), (fast[0], fast[1])])
    print(f"median ratio{ratios[0]:>24.1f}{ratios[1]:>36.1f}")


def show(name: str, laps: list[tuple[float, float]]) -> None:
    (slow, slow_all), (fast, fast_all) = laps
    training = f"{slow:>12.2f}{fast:>9.2f}{slow / fast:>7.1f}"
    print(f"{name:10}{training}{slow_all:>20.2f}{fast_all:>9.2f}{slow_all / fast_all:>7.1f}", flush=True)


if __name__ == "__main__":
    main()

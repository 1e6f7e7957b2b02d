"""How fast each method trains beside LoRA, on the same batches in the same process, in turn.

python experiments/method_axis/speed.py [--rounds N] [METHOD ...]

A turn is LoRA, then the method: twenty steps of each on the first batches of the study's recipe (MiniLM, CoNLL-2003,
batches of 16), after three that are not counted. What a run does beside steps (reading, validation, checkpoints) is not
in it. Told are samples/s and the time of LoRA's step over the method's, medians over the rounds with the range of the
latter; on a machine that is busy only the ratios mean anything. Written as CSV to speed.csv beside this file.
"""

from __future__ import annotations

import argparse
import copy
import csv
import dataclasses
import statistics
import time
from pathlib import Path
from typing import Any

import torch

from peftlab.assembly import build_tuner
from peftlab.catalogue.method_table import method_names
from peftlab.composing.compose import compose
from peftlab.one_run import prepare, settle
from peftlab.tasks.batch import Batch

WARM, STEPS = 3, 20
RECIPE = ("experiment=ner_lora", "logger=[]", "callbacks=[]", "budget.train_examples=1000", "budget.max_epochs=1")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("methods", nargs="*", metavar="METHOD", default=method_names())
    parser.add_argument("--rounds", type=int, default=3)
    chosen = parser.parse_args()
    ready = prepare(compose(*RECIPE))
    batches = [batch for (batch,), _ in zip(ready.data.train_dataloader(), range(WARM + STEPS), strict=False)]
    with Path(__file__).with_name("speed.csv").open("w", newline="") as file:
        table = csv.writer(file, lineterminator="\n")
        table.writerow(["method", "samples_per_second", "of_lora", "from", "to"])
        for method in chosen.methods:
            spec = copy.copy(ready.spec)
            spec.peft = settle(compose(*RECIPE, f"peft={method}"))[1].peft
            pairs = [(rate(ready.spec, ready, batches), rate(spec, ready, batches)) for _ in range(chosen.rounds)]
            ratios = sorted(own / lora for lora, own in pairs)
            row = [f"{statistics.median(own for _, own in pairs):.1f}"]
            row += [f"{value:.3f}" for value in (statistics.median(ratios), ratios[0], ratios[-1])]
            table.writerow([method, *row])
            file.flush()
            print(f"{method:16} {row[0]:>6} samples/s, {row[1]} of LoRA's ({row[2]} to {row[3]})", flush=True)


def rate(spec: Any, ready: Any, batches: list[Batch]) -> float:
    """Return the training examples a second."""
    torch.manual_seed(0)
    tuner = build_tuner(spec, ready.pretrained)
    spec.peft.calibrate(tuner.model, (batch.inputs for batch in batches))
    context = dataclasses.replace(tuner.context, steps=len(batches))
    optimizer = spec.optimizer.attach(tuner.model, tuner.context.head, spec.peft.learning_rate_factor)
    tuner.train()
    seconds, examples = 0.0, 0
    for number, batch in enumerate(batches):
        began = time.perf_counter()
        tuner.losses_of(batch).total.backward()
        optimizer.step()
        spec.peft.after_step(tuner.model, number + 1, context)
        optimizer.zero_grad()
        if number >= WARM:
            seconds += time.perf_counter() - began
            examples += len(batch.inputs["input_ids"])
    return examples / seconds


if __name__ == "__main__":
    main()

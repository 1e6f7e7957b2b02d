"""Times K members that answer as one: one pass for all, one after another, and one member alone.

Run `python experiments/ensembles/cost.py RUN [--members 8] [--batch 1 8 64] [--rounds 7]`, on a finished run of a task
on texts. All members are copies of its model, which costs as much as others would. The three take turns; the median of
the seconds of the CPU (of the clock on a GPU) for an example is printed, and how many times as long as the one member.
"""

from __future__ import annotations

import argparse
import statistics
import time

import numpy as np
import torch

from peftlab.data.module import DataModule
from peftlab.use.ensembles.members import fill_members, members_of
from peftlab.use.finished import load


def main() -> None:
    """Time the three on test examples, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run")
    parser.add_argument("--members", type=int, default=8)
    parser.add_argument("--batch", type=int, nargs="+", default=[1, 8, 64])
    parser.add_argument("--rounds", type=int, default=7)
    options = parser.parse_args()
    run = load(options.run)
    members = [run.config["peft"]] * options.members
    section = {"_target_": "peftlab.methods.ensemble.Ensemble", "name": "average", "members": members}
    model = members_of(run, section, fill_members([run] * options.members))
    together = model.together
    predictor, clock = run.predictor_of(model), time.process_time if run.device.type == "cpu" else synchronised
    data = DataModule(run.spec.data, predictor.task, run.processor, run.spec.budget, run.spec.seed)
    data.load()
    test = data.splits["test"].examples
    chosen = [test[place] for place in np.random.default_rng(0).permutation(len(test))[:64]]
    print(f"batch  {'one':>9}  {'together':>16}  {'in turn':>16}  ms an example, {options.members} members")
    for size in options.batch:
        examples = chosen[: min(64, 8 * size)]
        predictor.batch_size = size
        encoded = predictor.task.encode(examples, run.processor, run.spec.data.limits)
        batches = [batch for _, batch in predictor.batches(examples, encoded)]
        ways = {"one": model.members[0], "together": model, "in turn": model}
        seconds = {way: list[float]() for way in ways}
        for number in range(options.rounds + 1):
            for way, answering in ways.items():
                model.together = together if way == "together" else None
                with torch.inference_mode(), predictor.arithmetic():
                    began = clock()
                    for batch in batches:
                        predictor.task.outputs(answering, batch)
                    if number:  # the first round warms up, and compares both ways
                        seconds[way].append((clock() - began) / len(examples))
        medians = {way: 1000 * statistics.median(of_way) for way, of_way in seconds.items()}
        ratios = {way: f"{median:.2f} ({median / medians['one']:.2f} x)" for way, median in medians.items()}
        print(f"{size:5d}  {medians['one']:9.2f}  {ratios['together']:>16}  {ratios['in turn']:>16}")
    if reason := getattr(together, "apart", None):
        print(f"not together: {reason}")


def synchronised() -> float:
    """Return the time when the GPU has done all that it was asked."""
    torch.cuda.synchronize()
    return time.perf_counter()


if __name__ == "__main__":
    main()

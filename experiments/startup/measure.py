"""How long from the command to the first training step, and where the time goes: medians over new processes.

python experiments/startup/measure.py [PROCESSES] [key=value ...]

Each process does what ``python -m train +experiment=ner_lora`` does up to the end of its first step, with warm
caches, and says when it came by.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time

OVERRIDES = ["+experiment=ner_lora"]


class FirstStepError(Exception):
    """The first step is done: the rest of the run is of no interest."""


def main() -> None:
    processes = int(sys.argv[1]) if len(sys.argv) > 1 else 5
    laps = [one(sys.argv[2:]) for _ in range(processes + 1)][1:]  # the first one warms the caches
    print(f"medians of {processes} processes, in seconds")
    for name in laps[0]:
        print(f"{name:24} {statistics.median(lap[name] for lap in laps):6.2f}")


def one(overrides: list[str]) -> dict[str, float]:
    began = time.time()
    command = [sys.executable, __file__, "--within", *OVERRIDES, *overrides]
    with tempfile.TemporaryDirectory() as folder:
        environment = os.environ | {"WANDB_MODE": "offline"}
        ended = subprocess.run(command, cwd=folder, env=environment, check=True, capture_output=True, text=True)
    times = {"": began} | json.loads(ended.stdout.splitlines()[-1])
    names = list(times)
    laps = {name: times[name] - times[before] for before, name in itertools.pairwise(names)}
    return laps | {"to the first step": times[names[-1]] - began}


def within(overrides: list[str]) -> None:
    """Do one run, and note when its parts are over."""
    times = {"python": time.time()}

    def note(name: str) -> None:
        times[name] = time.time()

    from peftlab.imports import without_collecting

    with without_collecting():
        import torch  # noqa: F401

        note("import torch")
        import lightning  # noqa: F401

        note("import lightning")
        from lightning.pytorch.callbacks import Callback

        import peftlab.one_run as story
        from peftlab.composing.compose import compose

        note("import the rest")
    cfg = compose(*overrides)
    note("compose the config")

    class FirstStep(Callback):
        def on_train_start(self, *_: object) -> None:
            note("folder, trainer")

        def on_train_batch_end(self, *_: object) -> None:
            note("first step")
            raise FirstStepError

    def noting(owner: object, function: str, name: str) -> None:
        original = getattr(owner, function)

        def wrapped(*args: object, **options: object) -> object:
            result = original(*args, **options)
            note(name)
            return result

        setattr(owner, function, wrapped)

    noting(story, "validate", "validate")
    noting(story.DataModule, "load", "tokenizer, data")
    noting(story, "build_tuner", "model, method")
    make_trainer = story.make_trainer
    story.make_trainer = lambda spec, data, folder, callbacks, *rest: make_trainer(
        spec, data, folder, [*callbacks, FirstStep()], *rest
    )
    with contextlib.suppress(FirstStepError):
        story.run(cfg)
    print("\n" + json.dumps(dict(sorted(times.items(), key=lambda item: item[1]))))


if __name__ == "__main__":
    if sys.argv[1:2] == ["--within"]:
        within(sys.argv[2:])
    else:
        main()

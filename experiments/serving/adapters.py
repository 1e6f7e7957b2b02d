"""Times batches of 32 rows that belong to one or many LoRA adapters on one backbone.

Run `python experiments/serving/adapters.py RUN [--rounds 9] [--threads 1]` on a finished LoRA run of a task on texts.
The ways take turns; medians over the rounds are printed, with ratios to one adapter within a round.
"""

from __future__ import annotations

import argparse
import copy
import statistics
import time
from collections.abc import Callable
from functools import partial
from itertools import islice
from typing import Any

import torch

from peftlab.models.adapted_model import base_model
from peftlab.runs.folder import each_prediction
from peftlab.serving.models.mixing import Mixed
from peftlab.serving.models.shelf import Shelf
from peftlab.use.finished import load
from peftlab.use.predictor import Predictor

ROWS = 32
COUNTS = (1, 2, 10, 32, 64)


def main() -> None:
    """Time all ways, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    ways = _ways(options.run)
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for number in range(options.rounds + 1):
        for name, way in ways.items():
            start = time.process_time()
            way(number)
            if number:  # the first warms up
                seconds[name].append(time.process_time() - start)
    one = seconds["1 adapter, its own model"]
    print(f"{'32 rows of':40} {'CPU ms':>8} {'of one':>7} {'throughput':>11}")
    for name, own in seconds.items():
        ratio = statistics.median(mine / theirs for mine, theirs in zip(own, one, strict=True))
        print(f"{name:40} {1e3 * statistics.median(own):8.0f} {ratio:7.2f} {100 / ratio:10.0f}%")


def _ways(place: str) -> dict[str, Callable[[int], Any]]:
    """Return what computes 32 rows, by name; each takes the number of its round."""
    run = load(place)
    shelf = Shelf()
    run.pretrained = shelf.on(run.pretrained)
    predictors = [_noisy(run, shelf) for _ in range(max(COUNTS))]
    mixed = Mixed(base_model(run.parts, run.pretrained), run.device)
    for number, predictor in enumerate(predictors):
        assert mixed.add(str(number), predictor) is None
    inputs = [one["input"] for one in islice(each_prediction(run.folder.predictions / "test.jsonl"), ROWS)]
    first = predictors[0]
    examples = [first.read(text) for text in inputs]

    def encoded(places: list[int]) -> tuple[list[Any], Any]:
        chosen = [examples[place] for place in places]
        return chosen, first.task.encode(chosen, first.processor, first.limits)

    def divided(count: int, number: int) -> dict[int, list[int]]:
        """Return the rows of each adapter; of more than 32, the rounds have others."""
        parts: dict[int, list[int]] = {}
        for row in range(ROWS):
            parts.setdefault((row * min(count, ROWS) // ROWS + number * ROWS) % count, []).append(row)
        return parts

    prepared = {
        (count, number % 2): {adapter: encoded(rows) for adapter, rows in divided(count, number % 2).items()}
        for count in COUNTS
        for number in range(2)
    }

    def together(count: int, number: int) -> Any:
        parts = prepared[count, number % 2]
        return mixed.replies({str(adapter): (predictors[adapter], *part) for adapter, part in parts.items()})

    def in_turn(count: int, number: int) -> Any:
        return [predictors[adapter].computed(*part) for adapter, part in prepared[count, number % 2].items()]

    ways: dict[str, Callable[[int], Any]] = {"1 adapter, its own model": partial(in_turn, 1)}
    for count in COUNTS:
        ways[f"{count} adapters, one pass"] = partial(together, count)
    for count in (10, 32):
        ways[f"{count} adapters, one by one"] = partial(in_turn, count)
    return ways | _of_library(first, examples)


def _noisy(run: Any, shelf: Shelf) -> Predictor:
    model = run.adapted()
    shelf.share(model, run.pretrained.weights_sha256)
    with torch.no_grad():
        for tensor in run.parts.peft.trained(model).values():
            tensor.add_(0.01 * torch.randn_like(tensor))
    return run.predictor_of(model.requires_grad_(False))


def _of_library(predictor: Predictor, examples: list[Any]) -> dict[str, Callable[[int], Any]]:
    """Return forward passes of the library alone, without the answers that are read off their outputs."""
    model: Any = copy.deepcopy(predictor.model)
    for module in model.modules():
        if type(module).__name__ == "FusedLoraLinear":  # the library's own forward
            module.__class__ = type(module).__mro__[1]
    for number in range(1, 32):
        model.add_adapter(str(number), model.peft_config["default"])
    encoded = predictor.task.encode(examples, predictor.processor, predictor.limits)
    batch = predictor.task.collate(examples, encoded, range(len(examples)))
    names = {
        count: [str(row * count // ROWS) if row * count // ROWS else "default" for row in range(ROWS)]
        for count in (1, 10, 32)
    }

    @torch.inference_mode()
    def forward(count: int, _: int) -> Any:
        return model(**batch.inputs, adapter_names=names[count])

    return {f"{count} adapters, peft adapter_names (forward)": partial(forward, count) for count in names}


if __name__ == "__main__":
    main()

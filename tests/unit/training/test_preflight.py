"""What is foretold of memory follows from what short rows keep, and says what to set where it is too much."""

from __future__ import annotations

from contextlib import nullcontext
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn

from peftlab.data.static_shapes import StaticShapes
from peftlab.tasks.batch import Batch, Part
from peftlab.training import preflight
from peftlab.training.footprint import Activations
from peftlab.training.preflight import _GAPS, _extended, advice, kept_by_largest, peak_gib

CPU, GPU = torch.device("cpu"), torch.device("cuda")
MEMORY = {"weights_gib": 1.0, "gradients_gib": 0.5, "optimizer_gib": 1.0, "activations_gib": 2.0, "logits_gib": 0.5}


def test_what_rows_keep_grows_with_their_tokens_and_their_pairs():
    lengths = [32, 64, 128]
    linear = [0.3 + 0.01 * length for length in lengths]
    assert _extended(lengths, linear, rows=4, tokens=1000) == pytest.approx(0.3 + 4 * 0.01 * 1000)
    square = [kept + 1e-5 * length**2 for kept, length in zip(linear, lengths, strict=True)]
    assert _extended(lengths, square, rows=4, tokens=1000) == pytest.approx(0.3 + 4 * (10 + 10), rel=1e-6)
    bent = [kept - 1e-6 * length**2 for kept, length in zip(linear, lengths, strict=True)]
    assert _extended(lengths, bent, rows=1, tokens=1000) > 9.5  # no parabola that comes down again
    assert _extended([20], [0.2], rows=3, tokens=20) == pytest.approx(0.6)


def test_what_does_not_fit_is_said_with_what_to_set():
    assert advice(MEMORY, 4.0, GPU, checkpoints=False) is None
    assert advice(MEMORY, 0.0, GPU, checkpoints=False) is None  # nobody knows what is free
    assert advice(MEMORY, 4.0 * _GAPS, CPU, checkpoints=False) is None
    assert advice(MEMORY, 4.0, CPU, checkpoints=False) is not None
    text = advice(MEMORY, 3.0, GPU, checkpoints=False)
    assert text.startswith("a step is expected to need 4.00 GiB beside the weights, and 3.00 GiB are free: ")
    assert all(key in text for key in ("trainer.accumulate", "gradient_checkpointing=true", "data.max_tokens"))
    assert "quantize" not in text
    text = advice(MEMORY | {"weights_gib": 9.0}, 3.0, GPU, checkpoints=True)
    assert "model.quantize=nf4" in text
    assert "gradient_checkpointing" not in text


WIDTH, OUT = 8, 4
TASK = SimpleNamespace(
    outputs=lambda model, batch: model(batch.inputs["x"]), loss=lambda outputs, batch: outputs.mean()
)


def data_of(plan, lengths, rows, static=None):
    """Return data whose steps are these examples, each with so many rows of so many tokens of 8 numbers."""

    def batch_of(part):
        height, width = int(rows[part.examples].sum()), int(lengths[part.examples].max())
        width = width if static is None else static.width(width)
        ones = torch.ones(len(part.examples))
        return Batch({"x": torch.ones(height, width, WIDTH)}, {}, ones, torch.arange(height), part.examples, 0)

    encoded = SimpleNamespace(lengths=lengths, rows=rows)
    size = None if static is None else 4
    division = SimpleNamespace(of_training_batch=lambda batch: [Part(batch, batch, 0, size), Part([], batch, 0, size)])
    return SimpleNamespace(
        splits={"train": SimpleNamespace(encoded=encoded)},
        plan_of=lambda: plan,
        training_division=division,
        training_part=batch_of,
        static=static,
        augmenter=None,
    )


@pytest.mark.parametrize(
    ("plan", "rows", "static", "largest"),
    [
        ([[0, 1, 2], [3, 4]], [1, 1, 1, 1, 1], None, (3, 90)),
        ([[0, 1, 2], [3, 4]], [1, 1, 1, 4, 5], None, (9, 40)),  # of several rows each
        ([[0, 1, 2]], [1, 1, 1, 1, 1], StaticShapes(most=128), (4, 96)),  # wider, and filled up
        ([[3]], [1, 1, 1, 2, 1], None, (2, 40)),
    ],
)
def test_what_two_examples_keep_tells_of_the_largest_batch(plan, rows, static, largest):
    model = nn.Sequential(nn.Linear(WIDTH, OUT), nn.Dropout(0.5), nn.Linear(OUT, OUT), nn.GELU())
    data = data_of(plan, np.array([90, 30, 60, 40, 20]), np.array(rows), static)
    state = torch.get_rng_state()
    foretold = kept_by_largest(model, TASK, data, nullcontext)
    assert torch.get_rng_state().equal(state)
    assert all(weight.grad is None for weight in model.parameters())
    with Activations(model.parameters()) as counted:
        TASK.loss(model(torch.ones(*largest, WIDTH)), None)
    assert foretold == pytest.approx(counted.gib, rel=1e-2)


def test_the_peak_is_what_is_held_already_and_what_is_to_come(monkeypatch):
    memory = {"weights_gib": 1.0, "gradients_gib": 0.5, "optimizer_gib": 1.0, "activations_gib": 2.0}
    of_process = {"held_memory": 3 * 2**30, "peak_memory": 4 * 2**30}
    for name, size in of_process.items():
        monkeypatch.setattr(preflight, name, lambda size=size: size)
    assert peak_gib(CPU, memory) == (3 + _GAPS * 3.5, 3 + _GAPS * 3.5 - 4.5)
    assert peak_gib(CPU, memory, is_whole=False) == (6.5, 2.0)
    assert peak_gib(CPU, memory, is_whole=False, state_gib=1.0) == (5.5, 1.0)  # of a training that goes on
    assert peak_gib(CPU, {"weights_gib": 1.0}) == (4.0, 3.0)  # it has been more already
    of_device = {"memory_allocated": 2**30, "max_memory_allocated": 2**31}
    for name, size in of_device.items():
        monkeypatch.setattr(torch.cuda, name, lambda device, size=size: size)
    assert peak_gib(GPU, memory) == (4.5, 0.0)
    assert peak_gib(GPU, {"weights_gib": 1.0}) == (2.0, 1.0)

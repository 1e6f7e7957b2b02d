"""What is foretold of memory follows from what short rows keep, and says what to set where it is too much."""

from __future__ import annotations

import pytest
import torch

from peftlab.training.preflight import _GAPS, _extended, advice

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

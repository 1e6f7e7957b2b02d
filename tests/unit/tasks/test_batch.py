"""A batch moves to a device, and sums rows by example."""

from __future__ import annotations

import torch

from peftlab.tasks.batch import Batch


def batch() -> Batch:
    inputs = {"input_ids": torch.zeros(3, 5), "attention_mask": torch.ones(3, 5)}
    rows = torch.tensor([0, 1, 0])
    return Batch(inputs, {"labels": torch.zeros(3)}, torch.ones(2, dtype=torch.float64), rows, ["a", "b"], 15)


def test_all_tensors_move_and_nothing_else():
    here = batch()
    assert here.to(torch.device("cpu")) is here
    there = here.to(torch.device("meta"))
    tensors = [*there.inputs.values(), *there.targets.values(), there.weights, there.rows]
    assert {tensor.device.type for tensor in tensors} == {"meta"}
    assert there.examples is here.examples
    assert here.weights.device.type == "cpu"


def test_positions_are_those_of_one_input_with_its_padding():
    assert batch().positions == 15


def test_rows_are_summed_by_example():
    values = torch.tensor([1.0, 2.0, 4.0], requires_grad=True)
    sums = batch().by_example(values)
    assert sums.tolist() == [5, 2]
    sums[0].backward()
    assert values.grad.tolist() == [1, 0, 1]

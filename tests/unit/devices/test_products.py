from __future__ import annotations

import os

import pytest
import torch

from peftlab.devices.products import products, set_products


@pytest.fixture
def workspace(monkeypatch):
    monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", "unset")
    monkeypatch.delenv("CUBLAS_WORKSPACE_CONFIG")
    return monkeypatch


def test_whatever_multiplies_first_leaves_a_later_training_deterministic(workspace):
    """On a GPU, torch looks at the variable with the first product of the process alone."""
    with products(tf32=False):
        assert os.environ["CUBLAS_WORKSPACE_CONFIG"] == ":4096:8"


def test_a_workspace_that_the_user_has_chosen_stays(workspace):
    workspace.setenv("CUBLAS_WORKSPACE_CONFIG", ":16:8")
    set_products(tf32=False)
    assert os.environ["CUBLAS_WORKSPACE_CONFIG"] == ":16:8"


def test_the_precision_is_that_of_before_after_the_context():
    before = torch.get_float32_matmul_precision()
    with products(tf32=True):
        assert torch.get_float32_matmul_precision() == "high"
    assert torch.get_float32_matmul_precision() == before

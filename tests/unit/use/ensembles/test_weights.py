"""Weights of runs on disk, merged piece by piece."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from torch import nn

from peftlab.errors import UserError
from peftlab.use.ensembles import weights
from peftlab.use.ensembles.merging import merge_into
from peftlab.use.ensembles.rules import Dare, Soup, Ties
from peftlab.use.ensembles.weights import Original, Shelf


def model(seed):
    torch.manual_seed(seed)
    return nn.ModuleDict({"body": nn.Linear(5, 7), "kept": nn.Linear(3, 3), "head": nn.Linear(7, 2)})


def tensors(of):
    return {name: parameter.detach() for name, parameter in of.named_parameters()}


@pytest.fixture
def shelf(tmp_path, monkeypatch):
    """Three runs that share ``kept`` with the pretrained model, whose ``head`` is fresh."""
    runs = [tensors(model(seed)) | {n: t for n, t in tensors(model(0)).items() if "kept" in n} for seed in (1, 2, 3)]
    monkeypatch.setattr(weights, "merged_weights", lambda run, labels: runs[run])
    made = Shelf(tmp_path, Original(tensors(model(0)), frozenset({"head.weight", "head.bias"})))
    for run in range(3):
        made.add(run, [])
    return made, runs


def filled(shelf, rule, runs):
    """Return the weights of a model, whose head was drawn anew, merged by `rule`."""
    into = model(0)
    nn.init.ones_(into["head"].weight)
    merge_into(into, shelf, rule, runs)
    return tensors(into)


def test_pieces_join_to_the_whole(shelf, monkeypatch):
    shelf, runs = shelf
    original = tensors(model(0))
    for rule in (Soup(weights=[1, 2]), Ties(density=0.4, scale=0.5)):
        whole = filled(shelf, rule, [0, 2])
        changed = [name for name in original if name.startswith("body")]
        cuts = [rule.cut([runs[run][name] - original[name] for name in changed]) for run in (0, 2)]
        for name in changed:
            both = torch.stack([runs[run][name].flatten() for run in (0, 2)])
            expected = rule.merged(original[name].flatten(), both, cuts, [None, None])
            torch.testing.assert_close(whole[name].flatten(), expected.float())
        monkeypatch.setattr(weights, "PIECE", 12)  # four values of each run at once
        in_pieces = filled(shelf, rule, [0, 2])
        monkeypatch.undo()
        assert all(torch.equal(in_pieces[name], whole[name]) for name in whole)


def test_a_fresh_head_is_averaged_and_what_nobody_changed_stays(shelf):
    shelf, runs = shelf
    assert not shelf.changed("kept.weight")
    for rule, shares in ((Dare(density=0.3), (0.5, 0.5)), (Soup(weights=[1, 3]), (0.25, 0.75))):
        merged = filled(shelf, rule, [1, 2])
        for name in ("head.weight", "head.bias"):
            torch.testing.assert_close(merged[name], shares[0] * runs[1][name] + shares[1] * runs[2][name])
        assert torch.equal(merged["kept.weight"], tensors(model(0))["kept.weight"])


def test_a_model_of_other_shapes_is_refused(shelf, monkeypatch):
    shelf, runs = shelf
    smaller = runs[0] | {"body.bias": torch.zeros(6)}
    monkeypatch.setattr(weights, "merged_weights", lambda run, labels: smaller)
    run = SimpleNamespace(folder=SimpleNamespace(path="sliced"))
    with pytest.raises(UserError, match=r"^sliced: its model is not made like the pretrained one.*body\.bias"):
        shelf.add(run, [])

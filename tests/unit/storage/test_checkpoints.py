from __future__ import annotations

import hashlib
import json
import logging
import os
import random
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file

from peftlab.errors import ConfigError
from peftlab.storage.checkpoints import (
    belongs,
    beside,
    damage_of,
    files,
    newest_whole,
    path_of,
    prune,
    put_in_place,
    step_of,
)
from peftlab.storage.trees import read, write
from peftlab.training.checkpointing import fault_of


def through_a_file(tree: Any, tmp_path: Path) -> Any:
    write(tree, tmp_path / "step-1.safetensors")
    return read(tmp_path / "step-1.safetensors")


def same(a: Any, b: Any) -> bool:
    """Return whether two trees are equal in values, types and order."""
    if type(a) is not type(b):
        return False
    if isinstance(a, dict):
        return list(a) == list(b) and all(same(a[key], b[key]) for key in a)
    if isinstance(a, list | tuple):
        return len(a) == len(b) and all(same(x, y) for x, y in zip(a, b, strict=True))
    if isinstance(a, torch.Tensor):
        layout = (a.dtype, a.shape, a.stride()) == (b.dtype, b.shape, b.stride())
        return layout and (a.contiguous().view(-1).view(torch.uint8) == b.contiguous().view(-1).view(torch.uint8)).all()
    if isinstance(a, np.ndarray):
        return a.dtype == b.dtype and a.shape == b.shape and a.tobytes() == b.tobytes()
    return a == b or (a != a and b != b)


# --- a tree in a file ------------------------------------------------------------------------------------------------

keys = st.one_of(st.text(), st.integers())
leaves = st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(), st.binary())
trees = st.recursive(
    leaves, lambda inner: st.one_of(st.lists(inner), st.tuples(inner, inner), st.dictionaries(keys, inner))
)


@pytest.mark.slow
@settings(max_examples=40, deadline=None, derandomize=True)
@given(trees)
def test_any_tree_of_plain_values_comes_back(tmp_path_factory, tree):
    assert same(through_a_file(tree, tmp_path_factory.mktemp("tree")), tree)


@pytest.mark.parametrize(
    "tensor",
    [
        torch.randn(3, 4),
        torch.randn(3, 4).T,
        torch.randn(4, 6)[1:3, ::2],
        torch.arange(5.0).expand(3, 5),
        torch.tensor(7),
        torch.empty(0, 3),
        torch.tensor([float("nan"), -0.0, float("inf")]),
        torch.randn(4, 3, 2, 2).to(memory_format=torch.channels_last),
        torch.nn.Parameter(torch.randn(2)).data,
        *(
            torch.randn(3).to(dtype)
            for dtype in (torch.bfloat16, torch.half, torch.double, torch.complex64, torch.float8_e5m2)
        ),
        torch.tensor([True, False]),
        torch.get_rng_state(),
    ],
    ids=lambda tensor: f"{tensor.dtype}-{list(tensor.shape)}-{tensor.stride()}",
)
def test_any_tensor_comes_back_with_its_layout(tmp_path, tensor):
    assert same(through_a_file({"a": [tensor]}, tmp_path), {"a": [tensor]})


def test_tensors_that_share_memory_still_do(tmp_path):
    whole = torch.zeros(2, 3)
    tree = through_a_file({"whole": whole, "turned": whole.T, "row": whole[1], "other": torch.zeros(2, 3)}, tmp_path)
    tree["whole"][1, 2] = 5
    assert tree["turned"][2, 1] == tree["row"][2] == 5
    assert tree["other"][1, 2] == 0
    assert len(load_file(tmp_path / "step-1.safetensors")) == 2


def test_random_states_come_back(tmp_path):
    tree = {"python": random.getstate(), "numpy": np.random.get_state(), "torch": torch.get_rng_state()}
    expected = random.random(), np.random.rand(), torch.rand(1)
    found = through_a_file(tree, tmp_path)
    random.setstate(found["python"])
    np.random.set_state(found["numpy"])
    torch.set_rng_state(found["torch"])
    assert (random.random(), np.random.rand(), torch.rand(1)) == expected


def test_an_optimiser_goes_on_from_its_state(tmp_path):
    def optimiser(weight):
        return torch.optim.AdamW([{"params": [weight], "betas": (0.8, 0.9)}], fused=True)

    def step(weight, optimiser):
        weight.grad = weight.detach() * 2 + 1
        optimiser.step()

    weight = torch.nn.Parameter(torch.randn(4, 3).T)
    first = optimiser(weight)
    step(weight, first)
    saved = through_a_file({"weight": weight, "optimiser": first.state_dict()}, tmp_path)
    again = torch.nn.Parameter(saved["weight"])
    second = optimiser(again)
    second.load_state_dict(saved["optimiser"])
    for _ in range(3):
        step(weight, first)
        step(again, second)
    assert torch.equal(weight, again)


@pytest.mark.parametrize(
    ("tree", "message"),
    [
        ({"states": [{"0": {1, 2}}]}, r"^tree\['states'\]\[0\]\['0'\]: a checkpoint cannot hold .* type set"),
        ({"f": print}, r"^tree\['f'\]: .* builtin_function_or_method"),
        ({"a": np.array([object()])}, r"^tree\['a'\]: .* ndarray"),
        ({"a": torch.zeros(2, 2).to_sparse()}, r"^tree\['a'\]: .* Tensor"),
        ({"a": {(1, 2): 3}}, r"^tree\['a'\]: .* key of type tuple, \(1, 2\)"),
    ],
)
def test_what_cannot_be_kept_is_named(tmp_path, tree, message):
    with pytest.raises(TypeError, match=message):
        write(tree, tmp_path / "step-1.safetensors")
    assert list(tmp_path.iterdir()) == []


# --- the files of a run ----------------------------------------------------------------------------------------------


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for step in (2, 4, 10):
        write({"step": step, "weights": torch.full((100,), float(step))}, path_of(tmp_path, step))
    return tmp_path


def test_the_digest_is_one_that_sha256sum_checks(folder):
    checked = subprocess.run(["sha256sum", "--check", "step-4.safetensors.sha256"], cwd=folder, check=True)
    assert checked.returncode == 0


def test_the_newest_is_the_one_of_most_steps(folder):
    (folder / "step-last.safetensors").touch()
    assert [step_of(path) for path in files(folder)] == [10, 4, 2]
    assert newest_whole(folder) == path_of(folder, 10)
    assert newest_whole(folder / "nowhere") is None


@pytest.mark.parametrize("keep", [0, 5, 100, -1])
def test_a_truncated_one_is_named_and_passed_over(folder, caplog, keep):
    newest = path_of(folder, 10)
    os.truncate(newest, keep if keep >= 0 else newest.stat().st_size - 1)
    with caplog.at_level(logging.WARNING, "peftlab"):
        logging.getLogger("peftlab").addHandler(caplog.handler)
        assert newest_whole(folder) == path_of(folder, 4)
        logging.getLogger("peftlab").removeHandler(caplog.handler)
    assert f"{newest} is damaged and passed over" in caplog.text
    assert read(path_of(folder, 4))["step"] == 4
    if keep == -1:
        assert "truncated" in (damage_of(newest) or "")


@pytest.mark.parametrize("place", [0, 3, 20, -1])
def test_a_flipped_bit_is_noticed(folder, place):
    newest = path_of(folder, 10)
    content = bytearray(newest.read_bytes())
    content[place] ^= 16
    newest.write_bytes(content)
    assert damage_of(newest) is not None
    assert newest_whole(folder) == path_of(folder, 4)


def test_one_without_a_digest_is_passed_over(folder):
    path_of(folder, 10).with_name("step-10.safetensors.sha256").unlink()
    assert "digest cannot be read" in (damage_of(path_of(folder, 10)) or "")
    assert newest_whole(folder) == path_of(folder, 4)


def test_the_last_and_every_kth_are_kept(folder):
    prune(folder, last=1, every=2)
    assert [step_of(path) for path in files(folder)] == [10, 4, 2]
    prune(folder, last=1, every=4)
    assert [step_of(path) for path in files(folder)] == [10, 4]
    prune(folder, last=0, every=None)
    assert list(folder.iterdir()) == []


def test_one_that_was_half_removed_is_removed_the_next_time(folder, monkeypatch):
    unlink = Path.unlink

    def killed(path, missing_ok=False):
        unlink(path, missing_ok)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Path, "unlink", killed)
        with pytest.raises(KeyboardInterrupt):
            prune(folder, last=1, every=None)
    prune(folder, last=1, every=None)
    assert sorted(path.name for path in folder.iterdir()) == ["step-10.safetensors", "step-10.safetensors.sha256"]


# --- the folders of a model that is shared out -----------------------------------------------------------------------


@pytest.fixture
def shares(tmp_path: Path) -> Path:
    """A folder with two checkpoints of two shares each."""
    for step in (2, 4):
        path = path_of(tmp_path, step, sharded=True)
        for rank in range(2):
            share = beside(path) / "shares" / f"{rank}.distcp"
            share.parent.mkdir(parents=True, exist_ok=True)
            share.write_bytes(bytes(100 * [step]))
        put_in_place(path)
    return tmp_path


def test_a_folder_appears_whole_and_replaces_one_of_its_step(shares):
    newest = path_of(shares, 4, sharded=True)
    assert newest_whole(shares, sharded=True) == newest
    assert sorted(path.name for path in shares.iterdir()) == ["step-2.sharded", "step-4.sharded"]
    assert subprocess.run(["sha256sum", "--check", "sha256"], cwd=newest, check=True).returncode == 0
    assert all(belongs(file) for file in shares.rglob("*"))
    (beside(newest)).mkdir()
    (beside(newest) / "other").write_text("other")
    put_in_place(newest)
    assert sorted(path.name for path in newest.iterdir()) == ["other", "sha256"]


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (lambda path: (path / "shares" / "1.distcp").unlink(), "1.distcp is missing"),
        (lambda path: (path / "shares" / "0.distcp").write_bytes(b"0"), "the sha256 of shares/0.distcp is not"),
        (lambda path: (path / "sha256").unlink(), "digests cannot be read"),
    ],
)
def test_a_damaged_share_is_named_and_the_folder_passed_over(shares, spoil, reason):
    newest = path_of(shares, 4, sharded=True)
    spoil(newest)
    assert reason in damage_of(newest)
    assert newest_whole(shares, sharded=True) == path_of(shares, 2, sharded=True)


def test_each_kind_of_strategy_reads_its_own(shares):
    with pytest.raises(ConfigError, match=r"step-4.sharded is of trainer.strategy=fsdp"):
        newest_whole(shares)
    write({"step": 5}, path_of(shares, 5))
    assert newest_whole(shares) == path_of(shares, 5)
    with pytest.raises(ConfigError, match=r"step-5.safetensors is not of trainer.strategy=fsdp"):
        newest_whole(shares, sharded=True)


def test_folders_are_removed_as_a_whole(shares):
    prune(shares, 1, None)
    assert [path.name for path in shares.iterdir()] == ["step-4.sharded"]


# --- trees that `write` has not written ------------------------------------------------------------------------------


def with_digest(path: Path, structure: str | None, **memory: torch.Tensor) -> None:
    """Write a file of another making to `path`, and the right digest beside it."""
    save_file(memory or {"a": torch.zeros(4)}, path, metadata=None if structure is None else {"tree": structure})
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    path.with_name(f"{path.name}.sha256").write_text(f"{digest}  {path.name}\n")


def tensor(**changed: Any) -> str:
    layout = {"tensor": "float32", "shape": [4], "strides": [1], "memory": "a", "offset": 0} | changed
    return json.dumps({"dict": [["x", layout]]})


@pytest.mark.parametrize(
    ("structure", "told"),
    [
        (None, "KeyError"),
        ("{", "JSONDecodeError"),
        ("[" * 10**5, "RecursionError"),
        (tensor(offset=10**9), "a tensor reaches beyond its memory"),
        (tensor(shape=[10**9]), "a tensor reaches beyond its memory"),
        (tensor(strides=[2]), "a tensor reaches beyond its memory"),
        (tensor(dtype="x", tensor="float64"), "a tensor reaches beyond its memory"),
        (tensor(offset=-1), "a layout that none can have"),
        (tensor(shape=[-1]), "a layout that none can have"),
        (tensor(shape=[2, 2]), "a layout that none can have"),
        (tensor(shape=[1.5]), "a layout that none can have"),
        (tensor(shape=4), "TypeError"),
        (tensor(tensor="load"), "'load' is no type of tensors"),
        (tensor(tensor="float33"), "AttributeError"),
        (tensor(memory="b"), "KeyError"),
        (json.dumps({"array": "O", "shape": [1], "memory": "a"}), "ValueError"),
        (json.dumps({"array": "<f4", "shape": [3], "memory": "a"}), "ValueError"),
        (json.dumps({"bytes": "?"}), "Error"),
        (json.dumps({"dict": [[[1], 2]]}), "a key is of type list"),
        (json.dumps({"dict": [[1, 2, 3]]}), "ValueError"),
        (json.dumps({"code": "print"}), "an object stands for nothing"),
    ],
)
def test_a_wrong_tree_under_a_right_digest_is_named_and_passed_over(folder, caplog, structure, told):
    newest = path_of(folder, 12)
    with_digest(newest, structure)
    assert damage_of(newest) is None
    logging.getLogger("peftlab").propagate = True
    assert newest_whole(folder, unfit=fault_of) == path_of(folder, 10)
    assert f"{newest} is damaged and passed over: it holds no checkpoint (" in caplog.text
    assert told in caplog.text


def test_a_tensor_within_its_memory_is_read(tmp_path):
    with_digest(tmp_path / "step-1.safetensors", tensor(shape=[2], strides=[2], offset=1), a=torch.arange(4.0))
    assert read(tmp_path / "step-1.safetensors")["x"].tolist() == [1, 3]


def test_links_among_the_checkpoints_are_passed_over(folder, tmp_path_factory):
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    for file in folder.glob("step-10.*"):
        file.rename(elsewhere / file.name)
        file.symlink_to(elsewhere / file.name)
    assert "it is a link to " in (damage_of(path_of(folder, 10)) or "")
    assert newest_whole(folder) == path_of(folder, 4)
    (folder.parent / "linked").symlink_to(elsewhere)
    prune(folder.parent / "linked", last=0, every=None)
    assert newest_whole(folder.parent / "linked") is None
    assert len(list(elsewhere.iterdir())) == 2

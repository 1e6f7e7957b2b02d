from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from peftlab.errors import NonFiniteError
from peftlab.storage import tensors as tensor_files
from peftlab.storage.tensors import load_into, save, sha256_of


def tensors(seed=0):
    torch.manual_seed(seed)
    return {
        "matrix": torch.randn(3, 4),
        "turned": torch.randn(4, 3).T,
        "half": torch.randn(5).bfloat16(),
        "parameter": torch.nn.Parameter(torch.randn(2)),
        "scalar": torch.tensor(7),
    }


def assert_equal(a, b):
    assert a.keys() == b.keys()
    assert all(torch.equal(a[name], b[name]) and a[name].dtype == b[name].dtype for name in a)


def test_what_is_saved_is_what_is_loaded(tmp_path: Path):
    path = tmp_path / "folder" / "x.safetensors"
    save(tensors(), path)
    target = tensors(1)
    places = {name: tensor.data_ptr() for name, tensor in target.items()}
    load_into(target, path)
    assert_equal(target, tensors())
    assert places == {name: tensor.data_ptr() for name, tensor in target.items()}  # copied into them
    assert target["parameter"].requires_grad
    assert [each.name for each in path.parent.iterdir()] == ["x.safetensors"]


@pytest.mark.parametrize("dtype", [torch.int64, torch.bool, torch.complex64, torch.float8_e5m2, torch.uint8])
def test_numbers_of_another_kind_are_not_taken(tmp_path: Path, dtype: torch.dtype):
    stored = tensors() | {"matrix": tensors()["matrix"].to(dtype)}
    save_file({name: tensor.detach().contiguous() for name, tensor in stored.items()}, tmp_path / "x")
    target = tensors(1)
    with pytest.raises(ValueError, match="matrix is of the type"):
        load_into(target, tmp_path / "x")
    assert_equal(target, tensors(1))


def test_rounded_ones_are(tmp_path: Path):
    save(tensors() | {"matrix": tensors()["matrix"].double(), "half": tensors()["half"].float()}, tmp_path / "x")
    target = tensors(1)
    load_into(target, tmp_path / "x")
    assert_equal(target, tensors())


def test_others_may_read_the_file(tmp_path: Path):
    save(tensors(), tmp_path / "x")
    assert (tmp_path / "x").stat().st_mode & 0o777 == 0o644


@pytest.mark.parametrize("step", ["save_file", "os.fsync", "Path.replace"])
def test_a_crash_leaves_the_old_file_whole(tmp_path: Path, monkeypatch, step):
    path = tmp_path / "x"
    save(tensors(), path)
    before = path.read_bytes()

    def crash(*_, **__):
        raise KeyboardInterrupt

    def half_written(_, target, **__):
        target.write_bytes(before[:10])
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        if step == "save_file":
            patch.setattr(tensor_files, "save_file", half_written)
        elif step == "os.fsync":
            patch.setattr(os, "fsync", crash)
        else:
            patch.setattr(Path, "replace", crash)
        with pytest.raises(KeyboardInterrupt):
            save(tensors(1), path)
    assert path.read_bytes() == before
    assert [each.name for each in tmp_path.iterdir()] == ["x"]
    save(tensors(1), path)
    assert_equal(load_file(path), tensors(1))


def test_bytes_reach_the_disk_before_the_name_does(tmp_path: Path, monkeypatch):
    steps = []
    fsync, replace = os.fsync, Path.replace
    monkeypatch.setattr(os, "fsync", lambda file: (steps.append("fsync"), fsync(file)))
    monkeypatch.setattr(Path, "replace", lambda a, b: (steps.append(f"replace {b.name}"), replace(a, b)))
    save(tensors(), tmp_path / "x")
    assert steps == ["fsync", "replace x", "fsync"]  # the last one of the folder


def test_tensors_that_share_memory_are_saved_each(tmp_path: Path):
    whole = torch.arange(6.0)
    shared = {"whole": whole, "same": whole, "part": whole[2:4], "turned": whole.view(2, 3).T}
    save(shared, tmp_path / "x")
    assert_equal(load_file(tmp_path / "x"), shared)


def test_names_that_differ_are_refused(tmp_path: Path):
    path = tmp_path / "x"
    save(tensors(), path)
    fewer = tensors(1)
    del fewer["half"]
    with pytest.raises(ValueError, match="x: 1 tensors are only in the file or only in the model, first half"):
        load_into(fewer, path)
    more = tensors(1) | {"another": torch.zeros(1), "more": torch.zeros(1)}
    with pytest.raises(ValueError, match="2 tensors are only in the file or only in the model, first another"):
        load_into(more, path)


def test_a_shape_that_differs_is_refused_and_nothing_is_copied(tmp_path: Path):
    path = tmp_path / "x"
    save(tensors(), path)
    wrong = tensors(1) | {"turned": torch.zeros(1, 3)}  # which could be broadcast, were it not refused
    with pytest.raises(ValueError, match=r"x: turned has shape \(3, 4\), the model \(1, 3\)"):
        load_into(wrong, path)
    assert_equal(wrong, tensors(1) | {"turned": torch.zeros(1, 3)})


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_what_is_not_finite_is_never_written(tmp_path: Path, value):
    save(tensors(), tmp_path / "a")
    with pytest.raises(NonFiniteError, match="matrix is not finite"):
        save(tensors() | {"matrix": torch.tensor([1.0, value])}, tmp_path / "a")
    assert_equal(load_file(tmp_path / "a"), tensors())


def test_numbers_whose_squares_are_too_large_are_finite(tmp_path: Path):
    save({"large": torch.tensor([1e30])}, tmp_path / "a")
    assert load_file(tmp_path / "a")["large"] == 1e30


def test_an_empty_array_has_a_digest():
    empty = torch.from_numpy(np.zeros(0, np.int32))
    digests = {sha256_of(each) for each in ({}, {"a": empty}, {"b": empty}, {"a": empty.long()})}
    assert len(digests) == 4

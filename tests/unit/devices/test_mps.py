"""Whether an MPS daemon is there, by the folder of its pipes."""

from __future__ import annotations

import os

import pytest

from peftlab.devices import mps


@pytest.fixture
def told(tmp_path):
    """Return what is told where the daemon's file has this text; None: there is none."""

    def told_(process=None):
        (tmp_path / "control").touch()  # stays when a daemon ends
        if process is not None:
            (tmp_path / "nvidia-cuda-mps-control.pid").write_text(process)
        return mps.told({"CUDA_MPS_PIPE_DIRECTORY": str(tmp_path)})

    return told_


def test_a_daemon_that_runs_is_told(told, tmp_path):
    assert told(f"{os.getpid()}\n") == f"side by side, through the MPS daemon in {tmp_path}"


def test_one_of_another_user_is_too(told, monkeypatch):
    def refuse(process, number):
        assert (process, number) == (4711, 0)  # no signal is sent
        raise PermissionError

    monkeypatch.setattr(mps.os, "kill", refuse)
    assert told("4711").startswith("side by side")


@pytest.mark.parametrize("content", [None, "", "no number"])
def test_without_one_it_is_said_how_to_start_it(told, tmp_path, content):
    text = told(content)
    assert text.startswith(f"in turns: there is no MPS daemon in {tmp_path}. 'nvidia-cuda-mps-control -d' starts one")


def test_one_that_died_or_is_outside_of_the_container_is_told_from_both(told, monkeypatch):
    def missing(process, number):
        raise ProcessLookupError

    monkeypatch.setattr(mps.os, "kill", missing)
    assert "process 4711, runs outside this container: here there is no such process" in told("4711")


def test_the_driver_has_a_folder_of_its_own(monkeypatch, tmp_path):
    monkeypatch.setattr(mps, "DEFAULT_PIPES", str(tmp_path / "pipes"))
    assert all(str(tmp_path / "pipes") in mps.told(environment) for environment in ({}, {mps.PIPES: ""}))

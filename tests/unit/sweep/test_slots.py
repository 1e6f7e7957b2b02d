"""Dividing a machine, by the list of its devices."""

from __future__ import annotations

import pytest

from peftlab.errors import ConfigError
from peftlab.sweep.slots import divide

GPUS = ["0", "1", "2", "3"]


def visible(slots):
    return [slot.environment().get("CUDA_VISIBLE_DEVICES") for slot in slots]


@pytest.mark.parametrize(
    ("gpus_per_trial", "expected"),
    [
        (1, ["0", "1", "2", "3"]),
        (2, ["0,1", "2,3"]),
        (3, ["0,1,2"]),
        (4, ["0,1,2,3"]),
        (0.5, ["0", "1", "2", "3", "0", "1", "2", "3"]),  # each gets one before any gets two
    ],
)
def test_every_trial_gets_its_gpus(gpus_per_trial, expected):
    slots = divide(GPUS, 16, gpus_per_trial)
    assert visible(slots) == expected
    assert {slot.share for slot in slots} == {gpus_per_trial}
    assert sum(slot.threads for slot in slots) <= 16


def test_devices_are_called_what_the_user_has_left_visible():
    assert visible(divide(["3", "GPU-8a7b"], 4)) == ["3", "GPU-8a7b"]


def test_fewer_at_once_leave_devices_alone_and_give_the_others_more_threads():
    slots = divide(GPUS, 16, trials_at_once=2)
    assert visible(slots) == ["0", "1"]
    assert [slot.threads for slot in slots] == [8, 8]


@pytest.mark.parametrize(("at_once", "threads", "expected"), [(None, None, [8]), (3, None, [2, 2, 2]), (2, 1, [1, 1])])
def test_a_cpu_is_shared_out(at_once, threads, expected):
    slots = divide([], 8, trials_at_once=at_once, threads_per_trial=threads)
    assert [slot.threads for slot in slots] == expected
    assert visible(slots) == [None] * len(expected)
    assert sum(slot.share for slot in slots) == pytest.approx(1)


def test_more_trials_than_cores_get_a_thread_each():
    assert [slot.threads for slot in divide([], 2, trials_at_once=3)] == [1, 1, 1]


@pytest.mark.parametrize(
    ("gpus_per_trial", "message"),
    [
        (0, "above 0"),
        (-1, "above 0"),
        ("two", "above 0"),
        (0.3, "must divide a GPU"),
        (1.5, "must be a whole number"),
        (5, "there are 4 GPUs here"),
    ],
)
def test_shares_that_cannot_be_are_refused(gpus_per_trial, message):
    with pytest.raises(ConfigError, match=message):
        divide(GPUS, 8, gpus_per_trial)


@pytest.mark.parametrize("count", [0, -1, 1.5, "many"])
@pytest.mark.parametrize("key", ["trials_at_once", "threads_per_trial"])
def test_counts_that_cannot_be_are_refused(key, count):
    with pytest.raises(ConfigError, match=rf"hydra.launcher.{key}={count}: must be a whole number"):
        divide(GPUS, 8, **{key: count})

"""The trail: hashes that see every bit, points where they are due, and where two trails part."""

from __future__ import annotations

import json
import logging
import struct
from pathlib import Path
from types import SimpleNamespace

import lightning as L
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from peftlab.training import trail
from peftlab.training.trail import Fork, Trail, TrailOf, fork, hashes, read
from peftlab.training.tuner import Tuner

LAST = 75
"""The last step of the budget."""


class Weights(Tuner):
    """Two tensors, and a loss that is told."""

    def __init__(self):
        L.LightningModule.__init__(self)
        self.tensors = {"a": torch.zeros(3), "b": torch.ones(2, 2)}
        self._step, self._unread = SimpleNamespace(loss=torch.tensor(0.5)), []

    def trained(self):
        return self.tensors


def at(step: int) -> SimpleNamespace:
    return SimpleNamespace(global_step=step, is_global_zero=True, estimated_stepping_batches=LAST)


def train(path: Path, first: int, last: int, every: int = 100, ends: bool = True) -> Weights:
    """Train from one step to another; the weights after a step depend on the step alone."""
    callback, tuner = Trail(path, every), Weights()
    tuner.tensors["a"].fill_(first)
    callback.on_train_start(at(first), tuner)
    for step in range(first + 1, last + 1):
        tuner.tensors["a"].fill_(step)
        tuner._step.loss = torch.tensor(1.0 / step)
        callback.on_train_batch_end(at(step), tuner, None, None, 0)
    if ends:
        callback.on_train_end(at(last), tuner)
    return tuner


def steps(path: Path) -> list[int]:
    return [point["step"] for point in read(path).points]


class TestHashes:
    @pytest.mark.slow
    @given(st.integers(0, 10**5), st.integers(0, 31))
    def test_any_bit_of_any_element_counts(self, place, bit):
        tensor = torch.arange(10**5 + 1, dtype=torch.float32)
        (before,) = hashes([tensor])
        tensor.view(torch.int32)[place] ^= -(2**31) if bit == 31 else 2**bit
        assert hashes([tensor]) != [before]

    @pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.int8])
    def test_every_type_has_one_of_16_digits(self, dtype):
        one, other = hashes([torch.tensor([1, 2], dtype=dtype), torch.tensor([2, 1], dtype=dtype)])
        assert one != other
        assert {len(one), len(other)} == {16}

    def test_signs_of_zero_and_kinds_of_nan_are_told_apart(self):
        nans = torch.tensor([0x7FC00000, 0x7FC00001], dtype=torch.int32).view(torch.float32)
        assert len({*hashes([torch.tensor(0.0), torch.tensor(-0.0), nans[0], nans[1]])}) == 4

    def test_values_count_however_they_lie_in_memory(self):
        tensor = torch.randn(5, 7)
        assert hashes([tensor]) == hashes([tensor.t().contiguous().t()])

    def test_pieces_may_not_change_places(self, monkeypatch):
        monkeypatch.setattr(trail, "_PIECE", 4)
        trail._factors.cache_clear()
        one, other = hashes([torch.tensor([1.0] * 4 + [2.0] * 4), torch.tensor([2.0] * 4 + [1.0] * 4)])
        trail._factors.cache_clear()
        assert one != other

    def test_nothing_trained_has_none(self):
        assert hashes([]) == []

    def test_they_are_sums_of_bits_times_odd_numbers(self):
        def signed(number: int) -> int:
            return (number + 2**63) % 2**64 - 2**63

        def factor(position: int) -> int:
            number = signed((position + 1) * 0x9E3779B97F4A7C15)
            number = signed((number ^ (number >> 30)) * 0xBF58476D1CE4E5B9)
            return signed((number ^ (number >> 27)) * 0x94D049BB133111EB) | 1

        values = [1.0, -2.5, 3.0]
        bits = struct.unpack("<3i", struct.pack("<3f", *values))
        expected = sum(bit * factor(position) for position, bit in enumerate(bits)) % 2**64
        assert hashes([torch.tensor(values)]) == [f"{expected:016x}"]


class TestTrail:
    def test_points_are_before_the_first_step_at_powers_of_two_at_every_so_many_and_after_the_last(self, tmp_path):
        train(tmp_path / "trail.jsonl", 0, 23, every=10)
        assert steps(tmp_path / "trail.jsonl") == [0, 1, 2, 4, 8, 10, 16, 20, 23]

    def test_the_point_after_the_last_step_is_there_before_the_validation(self, tmp_path):
        train(tmp_path / "trail.jsonl", 73, LAST, ends=False)
        assert steps(tmp_path / "trail.jsonl")[-1] == LAST

    def test_a_last_step_that_has_a_point_gets_no_second(self, tmp_path):
        train(tmp_path / "trail.jsonl", 0, 4)
        assert steps(tmp_path / "trail.jsonl") == [0, 1, 2, 4]

    def test_a_point_says_what_the_step_came_to_to_the_bit(self, tmp_path):
        tuner = train(tmp_path / "trail.jsonl", 0, 3)
        found = read(tmp_path / "trail.jsonl")
        assert found.tensors == ["a", "b"]
        assert found.points[0]["loss"] is None
        assert float(found.points[-1]["loss"]) == float(torch.tensor(1 / 3))
        assert found.points[-1]["hashes"] == hashes(tuner.tensors.values())

    def test_a_loss_that_is_no_number_is_kept_too(self, tmp_path):
        callback, tuner = Trail(tmp_path / "trail.jsonl", 1), Weights()
        callback.on_train_start(at(0), tuner)
        tuner._step.loss = torch.tensor(float("nan"))
        callback.on_train_batch_end(at(1), tuner, None, None, 0)
        assert read(tmp_path / "trail.jsonl").points[1]["loss"] == "nan"

    def test_parts_of_a_step_get_no_points(self, tmp_path):
        callback, tuner = Trail(tmp_path / "trail.jsonl", 1), Weights()
        callback.on_train_start(at(0), tuner)
        for _ in range(3):
            callback.on_train_batch_end(at(0), tuner, None, None, 0)
        assert steps(tmp_path / "trail.jsonl") == [0]

    @pytest.mark.parametrize("checkpoint", [0, 5, 8, 11])
    def test_a_resumed_run_leaves_the_trail_of_one_that_was_not_interrupted(self, tmp_path, checkpoint):
        train(tmp_path / "whole.jsonl", 0, 20)
        train(tmp_path / "resumed.jsonl", 0, 12, ends=False)
        with (tmp_path / "resumed.jsonl").open("a") as file:
            file.write('{"step": 12, "lo')  # it was killed here
        train(tmp_path / "resumed.jsonl", checkpoint, 20)
        assert (tmp_path / "resumed.jsonl").read_bytes() == (tmp_path / "whole.jsonl").read_bytes()

    @pytest.mark.parametrize(
        ("spoil", "told"),
        [
            (
                lambda lines: [*lines[:4], "garbage"],
                "line 5 of 5): it goes on behind its point of step 2",
            ),
            (
                lambda lines: [*lines[:4], "\0" * 50],
                "line 5 of 5): it goes on behind its point of step 2",
            ),
            (
                lambda lines: [*lines[:3], '{"step": 3}', *lines[3:]],
                "line 4 of 7): it goes on behind its point of",
            ),
            (
                lambda lines: [*lines[:3], "[1]", *lines[3:]],
                "line 4 of 7): it goes on behind its point of step 1",
            ),
            (
                lambda lines: [*lines[:3], lines[1], *lines[3:]],
                "line 4 of 7): it goes on behind its point of",
            ),
            (
                lambda lines: [*lines[:2], "[" * 10**5],
                "line 3 of 3): it goes on behind its point of step 0",
            ),
            (lambda lines: ["\0\0", *lines[1:]], "line 1 of 6): it begins anew"),
            (lambda lines: ['{"tensors": 3}', *lines[1:]], "line 1 of 6): it begins anew"),
            (lambda lines: ['{"tensors": ["c", "d"]}', *lines[1:]], "it is of other tensors): it begins anew"),
        ],
    )
    def test_a_damaged_trail_goes_on_behind_its_last_whole_point(self, tmp_path, caplog, spoil, told):
        path = tmp_path / "trail.jsonl"
        train(path, 0, 12, ends=False)
        before = path.read_bytes().decode().splitlines()
        path.write_text("\n".join(spoil(before)) + "\n")
        kept = [point["step"] for point in read(path).points] if read(path).tensors == ["a", "b"] else []
        logging.getLogger("peftlab").propagate = True
        train(path, 8, 20)
        assert f"{path} is damaged ({told}" in caplog.text
        assert steps(path) == [*kept, 16, 20]
        assert read(path).damage is None
        train(tmp_path / "whole.jsonl", 0, 20)
        assert fork(read(path), read(tmp_path / "whole.jsonl")) is None

    def test_zeros_in_place_of_the_last_line_as_after_a_power_cut(self, tmp_path):
        path = tmp_path / "trail.jsonl"
        train(path, 0, 12, ends=False)
        with path.open("ab") as file:
            file.write(bytes(100))
        assert read(path).damage == "line 7 of 7"
        assert steps(path) == [0, 1, 2, 4, 8]

    @pytest.mark.parametrize("lay", ["link", "nothing"])
    def test_a_link_laid_meanwhile_is_not_written_through(self, tmp_path, lay):
        path, outside = tmp_path / "trail.jsonl", tmp_path / "outside"
        outside.write_text("all my work")
        callback, tuner = Trail(path, 1), Weights()
        callback.on_train_start(at(0), tuner)
        path.unlink()
        if lay == "link":
            path.symlink_to(outside)
        callback.on_train_batch_end(at(1), tuner, None, None, 0)
        assert steps(path) == [0, 1]
        assert outside.read_text() == "all my work"

    def test_other_ranks_write_nothing(self, tmp_path):
        callback, tuner = Trail(tmp_path / "trail.jsonl", 1), Weights()
        other = SimpleNamespace(global_step=0, is_global_zero=False)
        callback.on_train_start(other, tuner)
        callback.on_train_end(SimpleNamespace(global_step=1, is_global_zero=False), tuner)
        assert not list(tmp_path.iterdir())

    def test_resumed_behind_its_points_every_rank_goes_on_with_the_same_step(self, tmp_path, monkeypatch):
        """Else one of them waits for ever for the other's part of a loss."""
        asked = []
        monkeypatch.setattr(trail, "over_ranks", lambda numbers, how: asked.append(how) or numbers)
        train(tmp_path / "trail.jsonl", 0, 11, every=8, ends=False)
        due = []
        for first in (True, False):
            asked.clear()
            path = tmp_path / "trail.jsonl" if first else tmp_path / "elsewhere" / "trail.jsonl"
            rank = SimpleNamespace(global_step=11, is_global_zero=first, estimated_stepping_batches=LAST)
            callback, tuner = Trail(path, 8), Weights()
            callback.on_train_start(rank, tuner)
            callback.on_train_end(rank, tuner)
            due.append(len(asked))
            rank.global_step = 12
            callback.on_train_end(rank, tuner)
            due.append(len(asked))
        assert due == [0, 1, 0, 1]

    def test_there_is_none_where_there_is_none(self, tmp_path):
        assert read(tmp_path / "trail.jsonl") is None
        (tmp_path / "trail.jsonl").write_text('{"tensors": ["a"')
        assert read(tmp_path / "trail.jsonl") is None


class TestFork:
    def made(self, *points: tuple[int, str | None, str, str]) -> TrailOf:
        return TrailOf(["a", "b"], [{"step": s, "loss": loss, "hashes": [a, b]} for s, loss, a, b in points])

    def test_equal_trails_do_not_part(self):
        one = self.made((0, None, "0", "0"), (1, "0.5", "1", "1"))
        assert fork(one, one) is None

    def test_the_first_step_and_tensor(self):
        one = self.made((0, None, "0", "0"), (1, "0.5", "1", "1"), (2, "0.4", "2", "2"))
        other = self.made((0, None, "0", "0"), (1, "0.5", "1", "x"), (2, "0.3", "x", "x"))
        assert fork(one, other) == Fork(step=1, same_until=0, tensor="b", loss=("0.5", "0.5"))

    def test_the_loss_alone(self):
        one, other = self.made((4, "0.5", "1", "1")), self.made((4, "0.25", "1", "1"))
        assert fork(one, other) == Fork(step=4, same_until=None, tensor=None, loss=("0.5", "0.25"))

    def test_only_steps_that_both_have_are_compared(self):
        one = self.made((0, None, "0", "0"), (3, "0.5", "1", "1"), (4, "0.4", "2", "2"))
        other = self.made((0, None, "0", "0"), (2, "0.1", "x", "x"), (4, "0.4", "2", "2"))
        assert fork(one, other) is None

    def test_another_set_of_tensors(self):
        one, other = TrailOf(["a"], [{"step": 0, "loss": None, "hashes": ["0"]}]), self.made((0, None, "0", "0"))
        assert fork(one, other).tensor == "b"

    def test_a_trail_on_disk_is_json(self, tmp_path):
        train(tmp_path / "trail.jsonl", 0, 2)
        lines = [json.loads(line) for line in (tmp_path / "trail.jsonl").read_text().splitlines()]
        assert [list(line) for line in lines] == [["tensors"], *[["step", "loss", "hashes"]] * 3]

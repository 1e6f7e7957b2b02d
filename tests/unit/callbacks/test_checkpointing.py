from __future__ import annotations

import pytest
import torch

from peftlab import checkpoints
from peftlab.callbacks import checkpointing
from peftlab.callbacks.checkpointing import Checkpointing
from peftlab.checkpoints import TreeFiles


@pytest.fixture
def steps(tmp_path, train, clock, monkeypatch):
    """Train for a number of steps of one second each; return after which steps a checkpoint was made."""
    monkeypatch.setattr(checkpointing.time, "perf_counter", clock)

    def run(count, seconds=0.0, **options):
        made = []
        callback = Checkpointing(tmp_path, **options)
        write = checkpoints.write

        def slowly(tree, path):
            clock.now += seconds
            made.append(checkpoints.step_of(path))
            write(tree, path)

        monkeypatch.setattr(checkpoints, "write", slowly)
        train(callback, *[2] * count, epochs=1, validation=(), plugins=[TreeFiles()])
        return made

    return run


def test_every_so_many_steps_and_at_the_end(steps, tmp_path):
    assert steps(11, every=4) == [4, 8, 11]
    assert [checkpoints.step_of(path) for path in checkpoints.files(tmp_path)] == [11, 8]


def test_by_time(steps):
    assert steps(100) == [30, 60, 90, 100]


def test_what_is_slow_to_write_is_written_more_rarely(steps):
    """The first one tells how long it takes: half a second in fifty are a hundredth."""
    assert steps(140, seconds=0.5) == [30, 80, 130, 140]


def test_some_are_kept(steps, tmp_path):
    assert steps(11, every=5, keep_every=3) == [3, 5, 6, 9, 10, 11]
    assert [checkpoints.step_of(path) for path in checkpoints.files(tmp_path)] == [11, 10, 9, 6, 3]


def test_random_numbers_go_on(tmp_path, train, clock):
    class Draw(train.one_layer):
        def training_step(self, batch, batch_idx):
            drawn.append(float(torch.rand(())))
            return super().training_step(batch, batch_idx)

    drawn = []
    train(Checkpointing(tmp_path, every=2), *[2] * 5, epochs=1, module=Draw(clock), plugins=[TreeFiles()])
    kept = checkpoints.read(checkpoints.path_of(tmp_path, 4))
    torch.set_rng_state(kept["generators"][0]["torch"])
    assert float(torch.rand(())) == drawn[4]

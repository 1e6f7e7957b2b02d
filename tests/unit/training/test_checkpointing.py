from __future__ import annotations

import pytest
import torch

from peftlab.storage import checkpoints, trees
from peftlab.training import checkpointing
from peftlab.training.checkpointing import Checkpointing, TreeFiles, generators, unfit


@pytest.fixture
def steps(tmp_path, train, clock, monkeypatch):
    """Train for a number of steps of one second each; return after which steps a checkpoint was made."""
    monkeypatch.setattr(checkpointing.time, "perf_counter", clock)

    def run(count, seconds=0.0, **options):
        made = []
        callback = Checkpointing(tmp_path, "3f9c", **options)
        write = trees.write

        def slowly(tree, path):
            clock.now += seconds
            made.append(checkpoints.step_of(path))
            write(tree, path)

        monkeypatch.setattr(trees, "write", slowly)
        train(callback, *[2] * count, epochs=1, validation=(), plugins=[TreeFiles()])
        return made

    return run


def test_every_so_many_steps_and_at_the_end(steps, tmp_path):
    assert steps(11, every=4) == [4, 8, 11]
    assert [checkpoints.step_of(path) for path in checkpoints.files(tmp_path)] == [11, 8]


@pytest.mark.slow
def test_by_time(steps):
    assert steps(100) == [30, 60, 90, 100]


@pytest.mark.slow
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
    train(Checkpointing(tmp_path, "3f9c", every=2), *[2] * 5, epochs=1, module=Draw(clock), plugins=[TreeFiles()])
    kept = trees.read(checkpoints.path_of(tmp_path, 4))
    torch.set_rng_state(kept["generators"][0]["torch"])
    assert float(torch.rand(())) == drawn[4]


WEIGHTS = {"a": torch.zeros(2, 3), "b": torch.zeros(4)}


def whole_tree() -> dict:
    state = {f"model.{name}": tensor for name, tensor in WEIGHTS.items()}
    progress = {"total": {}, "current": {}}
    return {
        "epoch": 0,
        "global_step": 4,
        "state_dict": state,
        "loops": {"fit_loop": {"epoch_loop.batch_progress": progress}},
        "callbacks": {},
        "optimizer_states": [{}],
        "lr_schedulers": [],
        "validated": True,
        "accumulate": 1,
        "should_stop": False,
        "generators": [],
        "loggers": {},
    }


def test_a_tree_of_this_run_fits():
    assert unfit(whole_tree(), 4, "3f9c", WEIGHTS) is None
    assert unfit(whole_tree() | {"run": "3f9c", "of a later version": 1}, 4, "3f9c", WEIGHTS) is None


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"epoch": "0"}, "tree['epoch'] is no int"),
        ({"global_step": True}, "tree['global_step'] is no int"),
        ({"global_step": 5}, "it was made after 5 steps"),
        ({"state_dict": []}, "tree['state_dict'] is no dict"),
        ({"state_dict": {}}, "model.a is not as in the model that is trained"),
        ({"state_dict": {"model.a": torch.zeros(3, 2), "model.b": torch.zeros(4)}}, "model.a is not as in"),
        ({"state_dict": {"model.a": torch.zeros(2, 3), "model.b": torch.zeros(4).half()}}, "model.b is not as in"),
        ({"state_dict": {"model.a": torch.zeros(2, 3), "model.b": 3}}, "model.b is not as in"),
        ({"loops": {}}, "tree['loops']['fit_loop'] is no dict"),
        ({"loops": {"fit_loop": {"epoch_loop.batch_progress": {"total": {}}}}}, "['current'] is no dict"),
        ({"optimizer_states": []}, "it has not the state of one optimiser"),
        ({"generators": None}, "tree['generators'] is no list"),
        ({"validated": None}, "tree['validated'] is no bool"),
        ({"run": "8b1e"}, "it is another run's"),
    ],
)
def test_a_tree_of_another_making_does_not(change, told):
    assert told in (unfit(whole_tree() | change, 4, "3f9c", WEIGHTS) or "")


@pytest.mark.parametrize("tree", [[], None, {}, "tree"])
def test_nor_does_what_is_no_tree(tree):
    assert unfit(tree, 4, "3f9c", WEIGHTS)


def test_a_run_on_the_cpu_leaves_a_gpu_alone(monkeypatch):
    """It would get a context there, and on one that other processes have for themselves, an error."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: False)
    assert generators()["cuda"] is None

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from peftlab.devices import openmp
from peftlab.devices.peak_memory import peak_memory
from peftlab.devices.spec import TrainerSpec
from peftlab.runs.start import Unwritten
from peftlab.training import outlook as outlook_module
from peftlab.training.outlook import Outlook, ahead, memory_text

CPU = TrainerSpec(accelerator="cpu", precision="32-true", threads=1)
GIB = 2**30


def data_of(steps: int, batch_tokens: int | None = None) -> SimpleNamespace:
    """Return examples of 3, 5 and 10 tokens, in so many steps an epoch."""
    encoded = SimpleNamespace(lengths=np.array([3, 5, 10]))
    spec = SimpleNamespace(batch_size=16, batch_tokens=batch_tokens)
    train = SimpleNamespace(encoded=encoded)
    own = {"steps_of_epoch": lambda: steps, "clients": {}, "task": SimpleNamespace(packs=False)}
    own |= {"augmenter": None, "keeps_rest": False}
    return SimpleNamespace(splits={"train": train}, spec=spec, **own)


@pytest.fixture(autouse=True)
def shapes(monkeypatch):
    """Two shapes of batches."""
    monkeypatch.setattr(outlook_module, "training_shapes", lambda data: {(16, 8): 3, (16, 24): 1})


@pytest.fixture
def outlook(monkeypatch, clock, tmp_path, caplog):
    """Return a maker of the callback for so many steps an epoch; it takes the time from `clock`."""
    monkeypatch.setattr(outlook_module, "time", SimpleNamespace(perf_counter=clock))
    monkeypatch.setattr(outlook_module.log, "propagate", True)
    caplog.set_level("INFO", "peftlab")
    record = Unwritten.start(tmp_path, run_id="", name="", command=[], overrides=[], identity={})
    return lambda steps, counts=True: Outlook(CPU, data_of(steps), record, counts)


def test_the_shapes_of_batches_are_said_where_the_plan_tells_them():
    (_, line, _) = ahead(CPU, data_of(4), 0, 4)
    assert line == "shapes: 2 of 16 rows and 8 to 24 tokens, in the first epoch"
    data = data_of(4)
    data.task.packs = True
    assert not any(line.startswith("shapes") for line in ahead(CPU, data, 0, 4))


def test_what_is_said_before_the_first_step(monkeypatch):
    (training, _, device) = ahead(CPU, data_of(878), 0, 3512)
    assert training == ("training: 3,512 steps of 16 examples, 4 epochs of 878; rows of 3 to 10 tokens, 6 on average")
    assert device == "device: CPU, 1 thread; precision 32-true"
    (training, *_) = ahead(CPU, data_of(878, batch_tokens=4096), 1000, 1317)
    assert training.startswith("training: 317 steps after step 1,000 of at most 4,096 tokens, 1.5 epochs of 878;")
    for name in openmp.WAITING:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("OMP_WAIT_POLICY", "PASSIVE")
    two = TrainerSpec(accelerator="cpu", precision="32-true", threads=2, devices=2, strategy="ddp")
    (*_, device) = ahead(two, data_of(1), 0, 1)
    assert device == "device: CPU, 2 threads in each of 2 processes (OMP_WAIT_POLICY=PASSIVE); precision 32-true"
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda i: "NVIDIA H200")
    gpus = TrainerSpec(accelerator="gpu", precision="bf16-mixed", devices=2, strategy="ddp")
    (*_, device) = ahead(gpus, data_of(1), 0, 1)
    assert device == "device: 2 x NVIDIA H200; precision bf16-mixed"


def test_the_time_is_that_of_the_first_steps_by_their_tokens(outlook, train, caplog):
    """A step takes a second; the callback takes three of its four rows' tokens from each, and 18 tokens an epoch."""
    train(outlook(5), 4, 4, 4, 4, 4, epochs=4, validation=None)
    (line,) = [text for text in caplog.messages if text.startswith("expected")]
    # steps 2 to 4 have 12 tokens each: 36 in 3 seconds, and 4 epochs have 72
    assert line.startswith("expected: 0:06 of training at 4 samples/s, and the validations; memory: weights 0.00 GiB")


def test_the_time_of_rounds_is_that_of_the_first_ones(outlook, train, caplog):
    """What a round takes is no epoch: some clients train, and several epochs of their own."""
    callback = outlook(1)
    callback.data.clients = {"0": np.arange(3)}
    train(callback, 4, 4, 4, 4, 4, epochs=4, validation=None)
    (line,) = [text for text in caplog.messages if text.startswith("expected")]
    assert line.startswith("expected: 0:20 of training")  # 20 rounds of a second


def test_a_short_run_says_nothing_more(outlook, train, caplog):
    train(outlook(3), 4, 4, 4, epochs=1, validation=None)
    ours = [record.getMessage() for record in caplog.records if record.name == "peftlab"]
    assert [text.partition(":")[0] for text in ours] == ["training", "shapes", "device", "memory"]


def test_a_validation_is_not_taken_for_training(outlook, train, caplog):
    train(outlook(3), 4, 4, 4, epochs=3)
    assert not any(text.startswith("expected") for text in caplog.messages)


def test_the_record_has_the_memory_by_purpose(outlook, train):
    callback = outlook(2)
    train(callback, 4, 4, epochs=1)
    memory = callback.record.data["cost"]["memory"]
    # the layer keeps its input, 4 rows of 8 numbers, which SGD needs no state for
    expected = {"weights_gib": 128, "gradients_gib": 128, "optimizer_gib": 0, "activations_gib": 128}
    assert memory.pop("expected_is") == "lower bound"  # of a model of another kind, little is known before
    assert memory.pop("expected_gib") == pytest.approx(peak_memory() / GIB, rel=0.1)
    assert memory == {name: round(size / GIB, 6) for name, size in expected.items()}
    assert callback._memory == {name: size / GIB for name, size in expected.items()}


def test_activations_that_cannot_be_counted_are_left_out(outlook, train):
    callback = outlook(2, counts=False)
    train(callback, 4, 4, epochs=1)
    counted = [name for name in callback.record.data["cost"]["memory"] if not name.startswith("expected")]
    assert counted == ["weights_gib", "gradients_gib", "optimizer_gib"]


def test_what_is_not_known_of_the_memory_is_said(outlook, train, caplog):
    callback = outlook(2)
    callback.data.augmenter, callback.spec = "synonyms", replace(CPU, precision="bf16-mixed")
    train(callback, 4, 4, epochs=1)
    (line,) = [text for text in caplog.messages if text.startswith("memory: at least ")]
    assert line.endswith(
        ". On top come: activations, changed and further texts, kernels for each new shape, which a CPU keeps in low "
        "precision"
    )


def test_a_step_that_fails_ends_the_counting(outlook, train, clock):
    module = train.one_layer(clock)
    module.training_step = lambda batch, batch_idx: 1 / 0
    with pytest.raises(ZeroDivisionError):
        train(outlook(2), 4, module=module)
    assert torch._C._autograd._top_saved_tensors_default_hooks(True) is None


def test_memory_as_text():
    assert memory_text({"weights_gib": 0.084, "optimizer_gib": 1.5}) == "weights 0.08 GiB, optimizer 1.50 GiB"

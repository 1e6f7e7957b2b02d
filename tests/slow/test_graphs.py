"""CUDA graphs on a GPU: what is recorded is what is done without, and a run is repeated and resumed exactly."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from peftlab.devices.graphs import Graphs, NotRecordedError
from peftlab.errors import NonFiniteError
from peftlab.one_run import run
from peftlab.tasks.ner import Ner
from peftlab.terminal.signals import Interrupted
from peftlab.use.reproduce import reproduce

pytestmark = [
    pytest.mark.slow,
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device is visible here"),
]


def left(folder):
    names = ("metrics.csv", "trail.jsonl", "checkpoints/best.safetensors", "predictions/test.jsonl")
    return {name: Path(folder, name).read_bytes() for name in names}


class TestRecording:
    @pytest.fixture
    def graphs(self):
        return Graphs(torch.device("cuda", torch.cuda.current_device()))

    @pytest.fixture
    def drawn(self, graphs):
        return torch.zeros(1000, device=graphs.device)

    def test_each_repetition_draws_the_random_numbers_that_come_next(self, graphs, drawn):
        torch.manual_seed(0)
        repeat = graphs.record(lambda: drawn.copy_(torch.rand(1000, device=graphs.device)))
        found = []
        for _ in range(3):
            repeat()
            found.append(drawn.clone())
        state = torch.cuda.get_rng_state()
        torch.manual_seed(0)
        expected = [torch.rand(1000, device=graphs.device) for _ in range(3)]
        assert all(map(torch.equal, found, expected))
        assert not torch.equal(found[0], found[1])
        assert torch.equal(state, torch.cuda.get_rng_state())

    def test_a_state_that_is_restored_is_gone_on_from(self, graphs, drawn):
        repeat = graphs.record(lambda: drawn.copy_(torch.rand(1000, device=graphs.device)))
        state = torch.cuda.get_rng_state()
        repeat()
        first = drawn.clone()
        repeat()
        torch.cuda.set_rng_state(state)
        repeat()
        assert torch.equal(drawn, first)

    def test_graphs_that_share_memory_take_turns(self, graphs):
        source, results = torch.zeros(1000, device=graphs.device), torch.zeros(2, device=graphs.device)

        def work(place):
            results[place].copy_((source * (place + 1)).sin().exp().sum())

        repeats = [graphs.record(lambda place=place: work(place)) for place in range(2)]
        for value in (0.5, 2.0):
            source.fill_(value)
            expected = torch.stack([(source * (place + 1)).sin().exp().sum() for place in range(2)])
            for place in (1, 0):
                repeats[place]()
            assert torch.equal(results, expected)

    @pytest.mark.parametrize("wait", [lambda x: x.sum().item(), lambda x: x.nonzero(), lambda x: x.cpu()])
    def test_work_that_waits_for_the_device_is_refused_before_it_is_recorded(self, graphs, drawn, wait):
        graphs.record(lambda: drawn.add_(0))  # what is done once may wait
        with pytest.raises(NotRecordedError, match="synchroniz"):
            graphs.record(lambda: wait(drawn))
        assert torch.cuda.get_sync_debug_mode() == 0

    def test_random_numbers_of_the_host_are_noticed(self, graphs, drawn):
        with pytest.raises(NotRecordedError, match="on the host"):
            graphs.record(lambda: drawn.mul_(float(torch.rand(()))))

    def test_a_recording_that_fails_leaves_all_as_it_was(self, graphs, drawn):
        def work():
            drawn.copy_(torch.rand(1000, device=graphs.device))
            if torch.cuda.is_current_stream_capturing():
                raise RuntimeError("only when recorded")

        torch.manual_seed(0)
        stream = torch.cuda.current_stream()
        with pytest.raises(NotRecordedError, match="only when recorded"):
            graphs.record(work)
        assert torch.cuda.current_stream() == stream
        expected = torch.rand(1000, device=graphs.device)
        torch.manual_seed(0)
        assert torch.equal(torch.rand(1000, device=graphs.device), expected)
        torch.manual_seed(0)
        graphs.record(lambda: drawn.copy_(torch.rand(1000, device=graphs.device)))()
        assert torch.equal(drawn, expected)


@pytest.fixture
def run_on_gpu(compose_config, tiny_overrides):
    def run_(*overrides):
        options = ["trainer=gpu", "budget.max_steps=24", "trainer.log_every=5", "callbacks=[]", *overrides]
        return run(compose_config(*tiny_overrides, *options))

    return run_


def losses(record):
    return [event["loss"] for event in record.data["history"] if event["event"] == "validated"]


@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed"])
@pytest.mark.parametrize("peft", ["lora", "full", "prefix_tuning", "houlsby"])
def test_a_run_learns_the_same_with_and_without(run_on_gpu, asked_of_recordings, precision, peft):
    options = [f"peft={peft}", f"trainer.precision={precision}", "optimizer.lr=1e-3"]
    without = run_on_gpu(*options, "trainer.cuda_graphs=false", "run_dir=without")
    assert asked_of_recordings == []
    with_them = run_on_gpu(*options, "trainer.cuda_graphs=true", "run_dir=with")
    assert asked_of_recordings == [True] * 23  # all but the first
    assert losses(with_them) == pytest.approx(losses(without), rel=1e-3 if precision == "32-true" else 2e-2)
    assert with_them.data["run_id"] == without.data["run_id"]


@pytest.mark.parametrize("options", [["peft=lora"], ["peft=full", "optimizer=sgd"], ["regularizer=[rdrop,l2_sp]"]])
def test_it_is_repeated_bit_for_bit(run_on_gpu, asked_of_recordings, options):
    record = run_on_gpu("trainer.cuda_graphs=true", *options)
    assert all(asked_of_recordings)
    assert record.data["environment"]["deterministic"]
    assert reproduce(record.folder).verdict == "identical"


def test_it_is_resumed_bit_for_bit(run_on_gpu, asked_of_recordings, signalled_at):
    options = ["trainer.cuda_graphs=true", "model.dropout=0.2"]
    run_on_gpu(*options, "run_dir=whole")
    signalled_at(13)
    with pytest.raises(Interrupted):
        run_on_gpu(*options, "run_dir=parts")
    run_on_gpu(*options, "run_dir=parts")
    assert all(asked_of_recordings)
    assert left("parts") == left("whole")


def test_a_step_that_is_not_finite_is_named_and_left_out(run_on_gpu, asked_of_recordings, monkeypatch):
    losses_of, sums = Ner.losses, []

    def seen(self, outputs, batch):
        if torch.is_grad_enabled():
            sums.append(int(batch.inputs["input_ids"].sum()))
        return losses_of(self, outputs, batch)

    monkeypatch.setattr(Ner, "losses", seen)
    run_on_gpu("trainer.cuda_graphs=false", "run_dir=clean")
    bad = sums[7]

    def spoilt(self, outputs, batch):
        return losses_of(self, outputs, batch) * torch.where(batch.inputs["input_ids"].sum() == bad, torch.nan, 1.0)

    monkeypatch.setattr(Ner, "losses", spoilt)
    with pytest.raises(NonFiniteError, match=r"step 8.*train:"):
        run_on_gpu("trainer.cuda_graphs=true", "run_dir=stopped")
    record = run_on_gpu("trainer.cuda_graphs=true", "trainer.on_nan=skip_batch", "run_dir=skipped")
    assert next(event["step"] for event in record.data["history"] if event["event"] == "step left out") == 8
    assert all(asked_of_recordings)


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        (["peft=adalora"], "peft=adalora"),
        (["trainer.accumulate=2"], "trainer.accumulate=2"),
        (["regularizer=[ema]"], "regularizer.ema"),
        (["optimizer=adafactor"], "Adafactor"),
        (["trainer.precision=16-mixed"], "16-mixed"),
    ],
)
def test_what_cannot_be_recorded_is_done_without_and_says_why(run_on_gpu, asked_of_recordings, options, reason):
    record = run_on_gpu(*options)
    assert asked_of_recordings == []
    (event,) = [event for event in record.data["history"] if event["event"] == "steps not recorded"]
    assert reason in event["reason"]

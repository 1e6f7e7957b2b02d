"""What needs CUDA: precision on one GPU, and the strategies on two, each against one device in fp32."""

from __future__ import annotations

import importlib.util
from typing import Any

import pytest
import torch
from omegaconf import DictConfig
from transformers import BertConfig, BertModel

from peftlab.models.quantizing import CLASSES
from peftlab.one_run import run
from peftlab.packing.pack import Pack
from peftlab.runs.folder import RunFolder
from peftlab.speed.attention import attention_kernels
from peftlab.terminal.signals import Interrupted
from peftlab.use.check import check
from peftlab.use.finished import load
from peftlab.use.reproduce import reproduce

GPUS = torch.cuda.device_count() if torch.cuda.is_available() else 0

pytestmark = [
    pytest.mark.slow,
    pytest.mark.gpu,
    pytest.mark.skipif(GPUS == 0, reason="no CUDA device is visible here"),
]

two_gpus = pytest.mark.skipif(GPUS < 2, reason=f"wants two CUDA devices, {GPUS} are visible here")
deepspeed = pytest.mark.skipif(importlib.util.find_spec("deepspeed") is None, reason="deepspeed is not installed")


@pytest.fixture
def trained(compose_config, tiny_overrides):
    """Return the validation losses of a run with further overrides."""

    def losses(*overrides: str, world_size: int = 1) -> list[float]:
        same = [
            "model.dropout=0",
            "model.attention_dropout=0",
            "optimizer.lr=1e-2",
            "budget.max_steps=24",
            "task.selection.metric=loss",
        ]
        record = run(compose_config(*tiny_overrides, *same, "task.selection.mode=min", *overrides)).data
        assert record["environment"]["world_size"] == world_size
        assert len(record["environment"]["accelerators"]) == (world_size if "trainer=cpu" not in overrides else 0)
        return [event["loss"] for event in record["history"] if event["event"] == "validated"]

    return losses


@pytest.mark.parametrize(("precision", "tolerance"), [("32-true", 1e-2), ("bf16-mixed", 0.1), ("16-mixed", 0.1)])
def test_a_gpu_learns_what_a_cpu_learns(trained, precision, tolerance):
    expected = trained("trainer=cpu", "trainer.precision=32-true")
    found = trained("trainer=gpu", f"trainer.precision={precision}")
    assert found == pytest.approx(expected, rel=tolerance)
    assert found[-1] < found[0]


def test_compiling_changes_roundings_only(trained):
    plain, compiled = (trained("trainer=gpu", "trainer.precision=32-true", f"trainer.compile={c}") for c in (0, 1))
    assert compiled == pytest.approx(plain, rel=1e-2)


@pytest.mark.parametrize("kind", sorted(CLASSES))
def test_quantised_layers_have_the_bits_of_the_cpu_there(trained, kind):
    """They are quantised before they are moved, so that both train from the same rounded weights."""
    quantized = [f"model.quantize={kind}", "trainer.precision=32-true"]
    expected, found = (trained(f"trainer={device}", *quantized) for device in ("cpu", "gpu"))
    assert found == pytest.approx(expected, rel=1e-2)
    assert found[-1] < found[0]
    mixed = trained("trainer=gpu", f"model.quantize={kind}", "trainer.precision=bf16-mixed")
    assert mixed == pytest.approx(expected, rel=0.1)


@pytest.mark.parametrize("kind", sorted(CLASSES))
def test_a_quantised_layer_dequantises_as_on_the_cpu(kind):
    layer = CLASSES[kind](torch.nn.Linear(128, 64))
    expected = layer.weight
    assert torch.equal(layer.to("cuda").weight.cpu(), expected)


def test_tf32_multiplies_with_less_precision(trained):
    if torch.cuda.get_device_capability() < (8, 0):
        pytest.skip("this GPU has no TF32")
    fp32, tf32 = (trained("trainer=gpu", "trainer.precision=32-true", f"trainer.tf32={on}") for on in ("false", "true"))
    assert tf32 == pytest.approx(fp32, rel=1e-2)
    assert tf32 != fp32


def test_the_memory_by_purpose_is_less_than_the_peak(compose_config, tiny_overrides):
    cost = run(compose_config(*tiny_overrides, "trainer=gpu", "peft=full", "budget.max_steps=3")).data["cost"]
    memory = cost["memory"]
    assert list(memory) == ["weights_gib", "gradients_gib", "optimizer_gib", "activations_gib"]
    assert all(gib > 0 for gib in memory.values())
    for purpose in ("gradients_gib", "optimizer_gib", "activations_gib"):  # not all are there at the same time
        assert memory["weights_gib"] + memory[purpose] <= cost["peak_memory_gib"] + 1e-3  # which is rounded


def test_static_shapes_change_roundings_only(trained):
    """The last batch of an epoch is filled up, and rows are longer."""
    options = ["trainer=gpu", "trainer.precision=32-true", "data.batch_size=10"]
    plain, static = (trained(*options, f"trainer.static_shapes={static}") for static in ("false", "auto"))
    assert static == pytest.approx(plain, rel=1e-3)


def test_attention_takes_no_kernel_of_cudnn_and_waits_for_nothing():
    config = BertConfig(vocab_size=8, hidden_size=64, num_hidden_layers=2, num_attention_heads=2, intermediate_size=64)
    config._attn_implementation = "sdpa"
    model = BertModel(config).cuda().train()
    ids = torch.ones(4, 16, dtype=torch.int64, device="cuda")
    torch.cuda.synchronize()
    with (
        attention_kernels(cudnn=False, one_for_all=True),
        torch.autocast("cuda", torch.bfloat16),
        torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as profile,
    ):
        torch.cuda.set_sync_debug_mode("error")
        try:
            states = model(ids, attention_mask=ids)[0]
        finally:
            torch.cuda.set_sync_debug_mode("default")
        states.sum().backward()
    names = [event.key for event in profile.key_averages() if "_scaled_dot_product" in event.key]
    assert any("_scaled_dot_product_efficient_attention" in name for name in names)
    assert not any("cudnn" in name for name in names)


@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed"])
@pytest.mark.parametrize("attention", ["eager", "sdpa"])
def test_a_run_repeats_bit_for_bit(compose_config, tiny_overrides, precision, attention):
    same = ["trainer=gpu", f"trainer.precision={precision}", f"model.attention={attention}", "peft=full"]
    record = run(compose_config(*tiny_overrides, *same, "budget.max_steps=24"))
    assert record.data["environment"]["deterministic"]
    assert reproduce(record.folder).verdict == "identical"


@pytest.mark.parametrize("peft", ["lora", "full"])
def test_an_interrupted_run_goes_on_to_the_same_bits(compose_config, tiny_overrides, disturb, peft):
    same = [*tiny_overrides, "trainer=gpu", f"peft={peft}", "model.dropout=0.2", "trainer.checkpoint_every=1"]
    same += ["budget.max_steps=12", "callbacks=[]"]
    # in the place of a callback that is no part of the identity
    signalled = [override.replace("callbacks.disturb", "callbacks.progress") for override in disturb(0, "SIGTERM")]
    with pytest.raises(Interrupted):
        run(compose_config(*same, *signalled, "run_dir=parts"))
    resumed = run(compose_config(*same, "run_dir=parts"))
    assert "resumed" in [event["event"] for event in resumed.data["history"]]
    whole = run(compose_config(*same, "run_dir=whole"))
    assert resumed.data["metrics"] == whole.data["metrics"]
    for file in ("metrics.csv", "trail.jsonl", "checkpoints/best.safetensors"):
        assert (resumed.folder / file).read_bytes() == (whole.folder / file).read_bytes(), file


def test_a_run_of_a_gpu_is_used_there_and_on_a_cpu(compose_config, tiny_overrides, monkeypatch):
    options = ["trainer=gpu", "trainer.precision=32-true", "optimizer.lr=1e-2", "budget.max_steps=60", "callbacks=[]"]
    record = run(compose_config(*tiny_overrides, *options))
    assert record.data["cost"]["peak_memory_gib"] > 0
    assert check(RunFolder(record)).causes == []
    texts = ["marie curie moved from paris to new york .", "unesco hired noether in rome yesterday"] * 20

    def entities(device: str) -> list[list[tuple[str, int, int]]]:
        finished = load(record.folder)
        assert next(finished.model.parameters()).device.type == device
        return [[(e["type"], e["start"], e["end"]) for e in answer["entities"]] for answer in finished.predict(texts)]

    on_gpu = entities("cuda")
    assert any(on_gpu)
    with monkeypatch.context() as patch:
        patch.setattr(torch.cuda, "is_available", lambda: False)
        assert entities("cpu") == on_gpu


@pytest.mark.parametrize(("precision", "tolerance"), [("32-true", 1e-3), ("bf16-mixed", 0.05)])
def test_a_pack_learns_what_its_runs_learn_alone(compose_config, tiny_overrides, tmp_path, precision, tolerance):
    """With dropout, whose masks each run draws from its own generator, and frozen weights that exist once."""
    same = [*tiny_overrides, "trainer=gpu", f"trainer.precision={precision}", "budget.max_steps=12", "callbacks=[]"]
    same += ["task.selection.metric=loss", "task.selection.mode=min"]
    own = [["seed=1"], ["seed=2", "peft.r=4"], ["seed=3", "optimizer.lr=1e-2"]]

    def configured(folder: str) -> list[DictConfig]:
        folders = [f"run_dir={tmp_path / folder / str(number)}" for number in range(len(own))]
        return [compose_config(*same, *each, place) for each, place in zip(own, folders, strict=True)]

    def losses(record: Any) -> list[float]:
        return [event["loss"] for event in record.data["history"] if event["event"] == "validated"]

    expected = [losses(run(config)) for config in configured("alone")]
    pack = Pack([lambda seat, config=config: run(config, seat=seat) for config in configured("packed")])
    for seat, alone in zip(pack.run(), expected, strict=True):
        assert seat.turns.error is None
        assert (seat.alone, seat.joint_steps) == (None, 10)
        assert losses(seat.turns.result) == pytest.approx(alone, rel=tolerance)


@two_gpus
@pytest.mark.parametrize(
    ("strategy", "precision", "tolerance"),
    [
        ("ddp", "32-true", 1e-2),
        ("ddp", "bf16-mixed", 0.1),
        ("fsdp", "32-true", 1e-2),
        ("fsdp", "bf16-mixed", 0.1),
        pytest.param("deepspeed", "bf16-mixed", 0.1, marks=deepspeed),
    ],
)
@pytest.mark.parametrize("peft", ["lora", "full"])
def test_two_gpus_learn_what_one_learns(trained, strategy, precision, tolerance, peft):
    options = [f"peft={peft}", "optimizer.lr=1e-3", f"trainer.precision={precision}"]
    one = trained("trainer=gpu", *options)
    two = trained(f"trainer={strategy}", "trainer.accelerator=gpu", "trainer.devices=2", *options, world_size=2)
    assert two == pytest.approx(one, rel=tolerance)


@pytest.mark.parametrize("stage", ["training", "evaluation"])
def test_a_batch_that_a_gpu_refuses_is_computed_in_pieces(compose_config, tiny_overrides, tiny_data, tmp_path, stage):
    """The allocator itself refuses: this process may have three quarters of what it has just needed."""
    text = (tiny_data / "train.txt").read_text(encoding="utf-8")
    for name, times in {"train": 128 if stage == "training" else 1, "dev": 128, "test": 1}.items():
        (tmp_path / f"{name}.txt").write_text(text * times, encoding="utf-8")
    sizes = {"training": (4096, 64), "evaluation": (8, 4096)}[stage]
    options = [*tiny_overrides, "trainer=gpu", "trainer.precision=32-true", "trainer.cache_activations=false"]
    options += [f"data.path={tmp_path}", f"data.batch_size={sizes[0]}", f"data.eval_batch_size={sizes[1]}"]
    options += ["budget.train_examples=null", "budget.eval_examples=null", "optimizer=sgd"]
    options += ["model.dropout=0", "model.attention_dropout=0", "model.attention=eager", "task.selection.metric=loss"]

    def losses(name: str) -> list[float]:
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
        record = run(compose_config(*options, "task.selection.mode=min", f"run_dir={name}")).data
        noted = [event["stage"] for event in record["history"] if event["event"] == "out of memory"]
        assert (stage in noted) == (name == "pieces")
        return [event["loss"] for event in record["history"] if event["event"] == "validated"]

    expected = losses("whole")
    share = 0.75 * torch.cuda.max_memory_reserved() / torch.cuda.get_device_properties(0).total_memory
    torch.cuda.set_per_process_memory_fraction(share)
    try:
        assert losses("pieces") == pytest.approx(expected, rel=1e-3)
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)

"""The scripts of ``experiments/throughput/`` still measure what they say."""

from __future__ import annotations

from pathlib import Path

import pytest
from hydra.utils import get_object

THROUGHPUT = Path(__file__).parents[2] / "experiments" / "throughput"

pytestmark = pytest.mark.slow


@pytest.fixture(autouse=True)
def _as_a_script_there(monkeypatch):
    monkeypatch.syspath_prepend(THROUGHPUT)


@pytest.mark.exhaustive
def test_every_contender_trains_two_epochs_and_tells_the_last(tmp_path):
    contenders = get_object("contenders")
    made = contenders.TEXTS["tiny"].made.overrides(tmp_path / "made", 32)
    for name, contender in contenders.CONTENDERS.items():
        work = contenders.Work("tiny", "lora", "cpu", 32, 2, 0, [*made, "trainer.precision=32-true"])
        figures = contender(work)
        assert (figures["samples"], figures["epochs"]) == (64, 2), name
        assert 0 < figures["last_epoch_seconds"] < figures["seconds"], name
        assert 0 <= figures["f1"] <= 1, name


@pytest.mark.exhaustive
def test_late_steps_are_profiled(tmp_path):
    contenders, kernels = get_object("contenders"), get_object("kernels")
    made = contenders.TEXTS["tiny"].made.overrides(tmp_path / "made", 64)
    work = contenders.Work("tiny", "lora", "cpu", 64, 2, 0, made, kernels.Window)
    figures = contenders.CONTENDERS["peftlab"](work)
    assert figures["profiled_ms"] > 0
    assert figures["kernels"] == 0  # those of a GPU


def test_the_clock_of_a_decoder_tells_what_it_has_reached():
    decoders = get_object("decoders")
    clock = decoders.Clock("cpu")
    for step in range(decoders.WARM_UP + 2):
        clock.tokens.append(10 * step)
        clock.after_step()
    clock.losses.append(0.5)
    reached = clock.reached()
    assert (reached.tokens_per_step, reached.loss) == (35, 0.5)
    assert reached.tokens_per_second > 0
    assert reached.gib > 0

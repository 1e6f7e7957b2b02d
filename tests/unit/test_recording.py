"""Why the steps of a run are not recorded: what its configuration shows, in the log and the record, or as an error."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import pytest

from peftlab.assembly import recording
from peftlab.devices.spec import TrainerSpec
from peftlab.errors import ConfigError
from peftlab.methods.selection import Full
from peftlab.regularizers.ema import Ema
from peftlab.regularizers.rdrop import RDrop

ON_A_GPU = TrainerSpec(
    accelerator="gpu", precision="bf16-mixed", static_shapes=True, cheap_dropout=False, cuda_graphs="auto"
)


@pytest.fixture
def spec_of(ner):
    def make(regularizers=None, **hardware):
        method = Full(name="full", learning_rate=1e-4)
        return SimpleNamespace(
            trainer=replace(ON_A_GPU, **hardware),
            model=SimpleNamespace(quantize="none"),
            peft=method,
            task=ner(),
            acting=regularizers or {},
            privacy=None,
            in_rounds=False,
        )

    return make


@pytest.mark.parametrize(
    ("hardware", "reason"),
    [
        ({"devices": 2}, "several devices"),
        ({"accumulate": 2}, "trainer.accumulate=2"),
        ({"precision": "16-mixed"}, "16-mixed"),
        ({"gradient_checkpointing": True}, "gradient_checkpointing"),
        ({"compile": True}, "compile"),
        ({"cheap_dropout": True}, "cheap_dropout"),
        ({"static_shapes": False}, "static_shapes"),
        ({"regularizers": {"mine": Ema()}}, "regularizer.mine: by how far the average moves"),
    ],
)
def test_what_is_in_the_way_is_said(spec_of, hardware, reason):
    noted = []
    found = recording(spec_of(**hardware), lambda event, **details: noted.append((event, details)))
    assert found.tell is None  # no step of it is recorded
    ((event, details),) = noted
    assert event == "steps not recorded"
    assert reason in details["reason"]
    with pytest.raises(ConfigError, match=rf"trainer.cuda_graphs=true: .*{reason.split(':')[0]}"):
        recording(spec_of(**hardware, cuda_graphs=True), print)


def test_what_is_seen_only_later_is_said_then(spec_of):
    noted = []
    found = recording(spec_of({"rdrop": RDrop()}), lambda event, **details: noted.append(details))
    assert noted == []
    found.tell("a callback")
    assert noted == [{"reason": "a callback"}]


def test_switched_off_nothing_is_said(spec_of):
    assert recording(spec_of(cuda_graphs=False, accumulate=2), print).tell is None

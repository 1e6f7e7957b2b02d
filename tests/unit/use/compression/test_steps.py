"""The steps of a ladder, as they are written on the command line."""

from __future__ import annotations

import pytest

from peftlab.errors import ConfigError
from peftlab.use.compression.steps import STEPS, parse


def test_steps_keep_their_order_and_values():
    text = "merge,drop_layers=2,prune_heads=.3,prune_ffn=0.25,distil=2,distil,onnx,openvino,int8"
    steps = parse(text)
    assert [step.value for step in steps] == [None, 2, 0.3, 0.25, 2, 0, None, None, "all"]
    assert ",".join(map(str, steps)) == text.replace("=.3", "=0.3")
    assert str(parse("int8=products")[0]) == "int8=products"
    assert {step.step.name for step in steps} == STEPS.keys()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("merge,drop_layer=2", "there is no such step. Did you mean 'drop_layers'? Allowed: merge, drop_layers=COUNT,"),
        ("", "there is no such step. Allowed:"),
        ("merge=1", "merge takes no value"),
        ("drop_layers", "expected drop_layers=COUNT"),
        ("drop_layers=0", "expected drop_layers=COUNT"),
        ("prune_heads=1", "expected prune_heads=SHARE"),
        ("prune_ffn=nan", "expected prune_ffn=SHARE"),
        ("distil=inf", "expected distil=EPOCHS"),
        ("int8=4", "expected int8=all|products"),
        ("int8,merge", "int8 makes a file outside torch, which merge cannot work on; put merge before it"),
        ("onnx,int8,onnx", "put onnx before it"),
        ("int8,int8", "put int8 before it"),
        ("onnx,distil", "put distil before it"),
        ("int8,openvino", "the file of int8 is for ONNX Runtime alone; put openvino before it"),
    ],
)
def test_what_cannot_be_done_is_said(text, message):
    with pytest.raises(ConfigError) as caught:
        parse(text)
    assert message in str(caught.value)

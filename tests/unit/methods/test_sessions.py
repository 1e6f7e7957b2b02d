"""A model that a session computes: what it takes and returns, how it is kept, and what it refuses."""

from __future__ import annotations

import ctypes
import gc
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn

from peftlab.errors import ConfigError, UserError
from peftlab.methods.method import MethodContext
from peftlab.methods.sessions import MODEL, Session, SessionModel
from peftlab.models.positions import positions

onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")

CONTEXT = MethodContext((), None, "here")
ABOUT = {"inputs": ["input_ids", "attention_mask"], "parameters": 9}


@pytest.fixture(scope="module")
def file(tmp_path_factory) -> Path:
    """A model of one table: two logits a token, those of its id."""
    helper, int64 = onnx.helper, onnx.TensorProto.INT64
    table = onnx.numpy_helper.from_array(np.arange(12, dtype=np.float32).reshape(6, 2), "table")
    graph = helper.make_graph(
        [helper.make_node("Gather", ["table", "input_ids"], ["logits"])],
        "tiny",
        [helper.make_tensor_value_info("input_ids", int64, ["rows", "tokens"])],
        [helper.make_tensor_value_info("logits", onnx.TensorProto.FLOAT, ["rows", "tokens", 2])],
        [table],
    )
    path = tmp_path_factory.mktemp("onnx") / MODEL
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10), path)
    return path


class SignalStack(ctypes.Structure):
    """The C library's ``stack_t``."""

    _fields_ = (("start", ctypes.c_void_p), ("flags", ctypes.c_int), ("size", ctypes.c_size_t))


def backbone() -> nn.Module:
    model = nn.Module()
    model.config = SimpleNamespace(model_type="bert", is_encoder_decoder=False)
    model.position_embeddings = nn.Embedding(40, 2)
    return model


@pytest.fixture(params=["onnxruntime", "openvino"])
def method(request) -> Session:
    if request.param == "openvino":
        pytest.importorskip("openvino")
    return Session(name="int8", learning_rate=1e-3, engine=request.param)


@pytest.fixture
def model(method, file) -> SessionModel:
    model = method.apply(backbone(), CONTEXT)
    model.open(file, ABOUT)
    return model


@pytest.mark.slow
def test_any_number_of_rows_and_tokens(model):
    for shape in ((1, 1), (3, 5), (2, 7)):
        ids = torch.randint(6, shape)
        outputs = model(input_ids=ids, attention_mask=torch.ones_like(ids))  # which this file has no use for
        assert torch.equal(outputs.logits, torch.arange(12.0).reshape(6, 2)[ids])
        assert list(outputs) == ["logits"]


@pytest.mark.slow
def test_it_follows_torchs_threads(model):
    ids, before = torch.zeros(1, 2, dtype=torch.long), torch.get_num_threads()
    model(input_ids=ids)
    first = model._session
    model(input_ids=ids)
    assert model._session is first
    torch.set_num_threads(before + 1)
    try:
        model(input_ids=ids)
        assert model._session[0] == before + 1
    finally:
        torch.set_num_threads(before)


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/maps").exists(), reason="says where memory is mapped on Linux alone")
def test_the_stack_for_signals_outlives_sessions(method, file):
    """OpenVINO replaces it: had it gone with the second session, the next signal would end the process."""
    sessions = []
    for _ in range(2):
        sessions.append(model := method.apply(backbone(), CONTEXT))
        model.open(file, ABOUT)
        model(input_ids=torch.tensor([[1, 2]]), attention_mask=torch.ones(1, 2, dtype=torch.long))
    del model
    while sessions:
        sessions.pop(0)
        gc.collect()
    stack = SignalStack()
    assert ctypes.CDLL(None).sigaltstack(None, ctypes.byref(stack)) == 0
    mapped = [line.split()[0].split("-") for line in Path("/proc/self/maps").read_text().splitlines()]
    assert not stack.start or any(int(low, 16) <= stack.start < int(high, 16) for low, high in mapped)


def test_there_and_back(model, method, file, tmp_path):
    size = method.save(model, tmp_path, CONTEXT)
    assert size == file.stat().st_size + (tmp_path / "adapter_model.safetensors").stat().st_size
    again = method.apply(backbone(), CONTEXT)
    method.load(again, tmp_path)
    ids = torch.tensor([[1, 5]])
    assert torch.equal(again(input_ids=ids).logits, model(input_ids=ids).logits)
    assert method.count(again) == {"trainable_parameters": 0, "total_parameters": 9}
    assert positions(again) == 40  # longer rows would be beyond the positions in the file
    (tmp_path / MODEL).write_bytes(b"no model")
    with pytest.raises(ValueError, match=f"{MODEL}: {method.engine} cannot open it"):
        method.load(again, tmp_path)


def test_what_it_cannot_do_it_refuses(model, method):
    ids = torch.zeros(1, 2, dtype=torch.long)
    refused = [
        (lambda: model.train()(input_ids=ids), "cannot be trained"),
        (lambda: model.eval()(inputs_embeds=ids), "takes input_ids, attention_mask, and no inputs_embeds"),
        (model.get_input_embeddings, "no gradients"),
        (lambda: method.merge(model), "cannot become one of transformers again"),
    ]
    for act, message in refused:
        with pytest.raises(UserError, match=message):
            act()
    with pytest.raises(ConfigError, match="predicts tokens of a vocabulary"):
        method.apply(backbone(), MethodContext((), None, "here", outputs="vocabulary"))

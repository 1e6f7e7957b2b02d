"""The format onnx_dinov2: the encoder in an ONNX file becomes a DINOv2 that transformers loads."""

from __future__ import annotations

import functools
import json

import numpy as np
import pytest
import torch
from tests.unit.converting.test_onnx_t5 import field, tensor
from transformers import AutoImageProcessor, AutoModel, Dinov2Config, Dinov2Model

from peftlab.converting.find import convert
from peftlab.errors import SourceError

NODE, WEIGHT, GRAPH = 1, 5, 7
"""Numbers of the fields of a graph and of a file."""


def node(name, kind, *inputs):
    return field(NODE, b"".join(field(1, one) for one in inputs) + field(3, name) + field(4, kind))


@pytest.fixture(scope="module")
def model():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        config = Dinov2Config(
            hidden_size=64, num_hidden_layers=2, num_attention_heads=1, mlp_ratio=2, patch_size=4, image_size=12
        )
        return Dinov2Model(config).eval()


def exported(model, **changes):
    """Return what torch's exporter writes of the encoder in a larger model, as far as it matters."""
    fields = []
    names = {"attention.o_proj": "attention.output.dense"}
    names |= {f"attention.{name[0]}_proj": f"attention.attention.{name}" for name in ("query", "key", "value")}
    for ours, parameter in model.state_dict().items():
        name = functools.reduce(lambda name, pair: name.replace(*pair), names.items(), ours)
        values = changes.get(name, parameter.numpy())
        if name == "embeddings.mask_token":
            continue
        if name == "embeddings.position_embeddings":
            fields += [
                field(WEIGHT, tensor("onnx::Concat_1", values[:, :1], 1)),
                field(WEIGHT, tensor("onnx::Reshape_2", values[:, 1:], 1)),
                node("/backbone/embeddings/Reshape_1", "Reshape", "onnx::Reshape_2", "shape"),
                node("/backbone/embeddings/Concat_4", "Concat", "onnx::Concat_1", "resized"),
                node("/backbone/embeddings/Concat_1", "Concat", "backbone.embeddings.cls_token", "patches"),
            ]
        elif values.ndim == 2:
            layer = name.removesuffix(".weight")
            stored = f"onnx::MatMul_{len(fields)}"
            fields.append(field(WEIGHT, tensor(stored, np.ascontiguousarray(values.T), 1)))
            fields.append(node(f"/backbone/{layer.replace('.', '/')}/MatMul", "MatMul", "x", stored))
            continue
        if name != "embeddings.position_embeddings":
            fields.append(field(WEIGHT, tensor(f"backbone.{name}", values, 1)))
    fields.append(field(WEIGHT, tensor("decoder.conv.weight", np.zeros((1, 2), np.float32), 1)))
    fields.append(node("/backbone/encoder/layer.0/attention/MatMul_1", "MatMul", "scores", "values"))
    return field(GRAPH, b"".join(fields))


@pytest.mark.slow
def test_it_is_the_model(model, tmp_path):
    (tmp_path / "x.onnx").write_bytes(exported(model))
    convert("onnx_dinov2", [tmp_path / "x.onnx"], tmp_path / "made")
    made, report = AutoModel.from_pretrained(tmp_path / "made", output_loading_info=True)
    assert not any(report.values())
    pixels = torch.linspace(-1, 1, 3 * 16 * 16).reshape(1, 3, 16, 16)
    with torch.no_grad():
        assert torch.equal(made.eval()(pixels).last_hidden_state, model(pixels).last_hidden_state)
    config = json.loads((tmp_path / "made" / "config.json").read_text())
    assert (config["image_size"], config["patch_size"], config["num_hidden_layers"]) == (12, 4, 2)
    assert AutoImageProcessor.from_pretrained(tmp_path / "made").crop_size["height"] == 224


def test_what_is_no_dinov2_says_so(model, tmp_path):
    other = {"layernorm.weight": np.zeros(63, np.float32)}
    for content, reason in (
        (b"", "it is empty"),
        (field(GRAPH, b""), "is not a model in the format onnx_dinov2"),
        (exported(model, **other), r"layernorm\.weight has the shape \(63,\), not \(64,\)"),
    ):
        path = tmp_path / f"{len(content)}.onnx"
        path.write_bytes(content)
        with pytest.raises(SourceError, match=reason):
            convert("onnx_dinov2", [path], tmp_path / f"made{len(content)}")
    with pytest.raises(SourceError, match="from one file, not from 2"):
        convert("onnx_dinov2", [path, path], tmp_path / "made")

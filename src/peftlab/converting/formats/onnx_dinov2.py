"""A DINOv2 (Oquab et al. 2023) in an ONNX file of PyTorch, below any head: the encoder.

The export keeps the names of all weights but the matrices of linear layers and the positions. A matrix is the second
input of the multiplication that is named for its layer, transposed. Of the positions, that of the class token is the
first input of their concatenation, and those of the patches are reshaped to be resized. The head is left out.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from peftlab.converting.files import mapped, write_json
from peftlab.converting.onnx_file import Graph, Node, read
from peftlab.converting.weights import Weight, write
from peftlab.errors import SourceError

_REMEDY = "Name the ONNX file of a DINOv2 in fp32, with or without a head"
_ENCODER = "backbone."
"""How the names of the encoder's weights begin."""
_POSITIONS = "embeddings.position_embeddings"
_HEAD_SIZE = 64
"""The size of an attention head, the same in all DINOv2."""


def convert(inputs: Sequence[Path], folder: Path) -> None:
    """Write the encoder in the only file of `inputs` to `folder`; see `peftlab.converting.find.convert`.

    Raises:
        SourceError: there are several files, or it is no such model.
    """
    if len(inputs) != 1:
        raise SourceError(f"The format onnx_dinov2 is converted from one file, not from {len(inputs)}")
    with mapped(inputs[0], "onnx_dinov2", _REMEDY) as data:
        weights = _weights(read(data))
        config = _config(weights)
        write(_checked(weights, config), folder / "model.safetensors")
    write_json(folder / "config.json", config)
    write_json(folder / "preprocessor_config.json", _PICTURES)


def _weights(graph: Graph) -> dict[str, Weight]:
    """Return the weights of the encoder by their names in transformers."""
    named = {name.removeprefix(_ENCODER): array for name, array in graph.weights.items() if name.startswith(_ENCODER)}
    for node in graph.nodes:
        if node.kind == "MatMul" and node.inputs[1] in graph.weights:  # a matrix of weights, and not of attention
            layer = node.name.removeprefix("/").removesuffix("/MatMul").replace("/", ".")
            named[f"{layer.removeprefix(_ENCODER)}.weight"] = graph.weights[node.inputs[1]].T
    named[_POSITIONS] = np.concatenate(list(_positions(graph)), axis=1)
    return {name: Weight(array.shape, partial(_rows, array)) for name, array in named.items()}


def _positions(graph: Graph) -> tuple[np.ndarray, np.ndarray]:
    """Return the positions of the class token and of the patches, (1, tokens, hidden)."""
    of_embeddings = [node for node in graph.nodes if node.name.startswith("/backbone/embeddings/")]

    def found(kind: str) -> np.ndarray:
        (node,) = (node for node in of_embeddings if node.kind == kind and _weight_in(node, graph) is not None)
        array = _weight_in(node, graph)
        assert array is not None
        return array

    return found("Concat"), found("Reshape")


def _weight_in(node: Node, graph: Graph) -> np.ndarray | None:
    """Return the first input of a node if it is a weight of three dimensions that has no name of its own."""
    name = node.inputs[0] if node.inputs else ""
    array = graph.weights.get(name)
    return None if array is None or array.ndim != 3 or name.startswith(_ENCODER) else array


def _rows(array: np.ndarray, first: int, last: int) -> np.ndarray:
    return array[first:last]


def _config(weights: Mapping[str, Weight]) -> dict[str, Any]:
    hidden, channels, patch, _ = weights["embeddings.patch_embeddings.projection.weight"].shape
    side = round((weights[_POSITIONS].shape[1] - 1) ** 0.5)
    return {
        "architectures": ["Dinov2Model"],
        "model_type": "dinov2",
        "hidden_size": hidden,
        "num_channels": channels,
        "patch_size": patch,
        "image_size": side * patch,
        "num_hidden_layers": _blocks(weights),
        "num_attention_heads": hidden // _HEAD_SIZE,
        "mlp_ratio": weights["encoder.layer.0.mlp.fc1.weight"].shape[0] // hidden,
        "layer_norm_eps": 1e-6,
        "use_mask_token": False,
    }


def _blocks(weights: Mapping[str, Weight]) -> int:
    return len({name.split(".")[2] for name in weights if name.startswith("encoder.layer.")})


def _checked(weights: Mapping[str, Weight], config: Mapping[str, Any]) -> Mapping[str, Weight]:
    """Return the weights of a DINOv2.

    Raises:
        KeyError, ValueError: one is missing, too many, or has another shape.
    """
    hidden, patch, wide = config["hidden_size"], config["patch_size"], config["hidden_size"] * config["mlp_ratio"]
    side = config["image_size"] // patch
    shapes: dict[str, tuple[int, ...]] = {
        "embeddings.cls_token": (1, 1, hidden),
        "embeddings.patch_embeddings.projection.weight": (hidden, config["num_channels"], patch, patch),
        "embeddings.patch_embeddings.projection.bias": (hidden,),
        _POSITIONS: (1, side * side + 1, hidden),
        "layernorm.weight": (hidden,),
        "layernorm.bias": (hidden,),
    }
    linear: dict[str, tuple[int, ...]] = {
        f"attention.attention.{name}": (hidden, hidden) for name in ("query", "key", "value")
    }
    linear |= {"attention.output.dense": (hidden, hidden), "mlp.fc1": (wide, hidden), "mlp.fc2": (hidden, wide)}
    for block in range(config["num_hidden_layers"]):
        layer = f"encoder.layer.{block}"
        for name, shape in linear.items():
            shapes |= {f"{layer}.{name}.weight": shape, f"{layer}.{name}.bias": shape[:1]}
        for n in (1, 2):
            shapes |= {f"{layer}.norm{n}.{kind}": (hidden,) for kind in ("weight", "bias")}
            shapes[f"{layer}.layer_scale{n}.lambda1"] = (hidden,)
    if odd := sorted(weights.keys() - shapes.keys()):
        raise ValueError(f"{odd[0]} is no weight of a DINOv2")
    for name, shape in shapes.items():
        if weights[name].shape != shape:
            raise ValueError(f"{name} has the shape {weights[name].shape}, not {shape}")
    return weights


_PICTURES: dict[str, Any] = {
    "image_processor_type": "BitImageProcessor",
    "do_convert_rgb": True,
    "do_resize": True,
    "size": {"shortest_edge": 256},
    "resample": 3,
    "do_center_crop": True,
    "crop_size": {"height": 224, "width": 224},
    "do_rescale": True,
    "rescale_factor": 1 / 255,
    "do_normalize": True,
    "image_mean": [0.485, 0.456, 0.406],
    "image_std": [0.229, 0.224, 0.225],
}
"""How all DINOv2 want their pictures."""

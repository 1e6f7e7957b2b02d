"""Vision models of a few thousand weights, randomly initialised, with their image processors; and pictures."""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

SIZE = 16
"""Height and width of their input."""

_SMALL = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "num_labels": 3}


def _config(name: str, **options: Any) -> Any:
    import transformers

    return getattr(transformers, name)(**options)


def _siglip() -> Any:
    sizes = {**_SMALL, "intermediate_size": 64}
    text = {**sizes, "num_hidden_layers": 1, "vocab_size": 10, "bos_token_id": 0, "eos_token_id": 1}
    return _config(
        "SiglipConfig",
        text_config=text,
        vision_config={**sizes, "image_size": SIZE, "patch_size": 4},
        num_labels=3,
    )


CONFIGS: dict[str, Callable[[], Any]] = {
    "vit": functools.partial(_config, "ViTConfig", image_size=SIZE, patch_size=4, intermediate_size=64, **_SMALL),
    "dinov2": functools.partial(_config, "Dinov2Config", image_size=28, patch_size=4, mlp_ratio=2, **_SMALL),
    "siglip": _siglip,
    "convnext": functools.partial(
        _config,
        "ConvNextConfig",
        num_stages=2,
        hidden_sizes=[32, 64],
        depths=[1, 2],
        patch_size=2,
        image_size=SIZE,
        num_labels=3,
    ),
}
"""The configuration of a model of each family; DINOv2's was trained on larger pictures."""

PROCESSORS: dict[str, tuple[str, dict[str, Any]]] = {
    "vit": ("ViTImageProcessor", {"size": {"height": SIZE, "width": SIZE}}),
    "dinov2": (
        "BitImageProcessor",
        {
            "size": {"shortest_edge": 18},
            "crop_size": {"height": SIZE, "width": SIZE},
            "image_mean": [0.485, 0.456, 0.406],
            "image_std": [0.229, 0.224, 0.225],
        },
    ),
    "siglip": ("SiglipImageProcessor", {"size": {"height": SIZE, "width": SIZE}}),
    "convnext": ("ConvNextImageProcessor", {"size": {"shortest_edge": SIZE}, "crop_pct": 0.875}),
}
"""The image processor of each family: its class and its settings."""


FAMILIES = tuple(CONFIGS)


def draw_pictures(folder: Path, count: int = 10) -> Path:
    """Draw folders train, dev and test with pictures of the classes green and red, `count` each, into `folder`."""
    import numpy as np
    from PIL import Image

    draw = np.random.default_rng(0)
    for split in ("train", "dev", "test"):
        for label, channel in (("green", 1), ("red", 0)):
            inside = folder / split / label
            inside.mkdir(parents=True)
            for n in range(count):
                pixels = draw.integers(0, 60, (20, 24, 3), dtype=np.uint8)
                pixels[..., channel] += 150
                Image.fromarray(pixels).save(inside / f"{n}.png")
    return folder


def make_vision_model(family: str, folder: Path) -> Path:
    """Make a model of `family` without a head in `folder`, with its image processor."""
    import torch
    import transformers

    name, settings = PROCESSORS[family]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        transformers.AutoModel.from_config(CONFIGS[family]()).save_pretrained(folder)
    getattr(transformers, name)(**settings).save_pretrained(folder)
    return folder

"""Classification of pictures: one label each, by a vision transformer (Dosovitskiy et al. 2021)."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from io import BytesIO
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from PIL import Image
from pydantic import ConfigDict
from pydantic.dataclasses import dataclass

from peftlab.errors import DataError
from peftlab.tasks.batch import Batch
from peftlab.tasks.classification import Classification
from peftlab.tasks.heads import Head
from peftlab.tasks.limits import Limits
from peftlab.tasks.processor import Processor
from peftlab.tasks.task import Encoded, Random, spec


@dataclass(frozen=True)
class Picture:
    """A picture, as its file holds it."""

    id: str
    file: str
    content: bytes
    label: str | None = None

    @property
    def place(self) -> str:
        """The file, for messages."""
        return self.file


@dataclass(kw_only=True, frozen=True, config=ConfigDict(extra="forbid"))
class PictureFolders:
    """Reads a folder for each split with a folder for each class, which holds PNG files."""

    takes_folders: ClassVar[bool] = True

    def read(self, files: Mapping[str, Path]) -> dict[str, list[Picture]]:
        """Return the pictures of each split, sorted by class and file.

        Raises:
            DataError: a split has none.
        """
        splits = {}
        for split, folder in files.items():
            paths = sorted(folder.glob("*/*.png"))
            if not paths:
                raise DataError(f"{folder}: no picture; expected a folder for each class that holds *.png")
            splits[split] = [
                Picture(f"{split}:{n}", str(path), path.read_bytes(), path.parent.name) for n, path in enumerate(paths)
            ]
        return splits


@spec
class PictureClassification(Classification):
    """One label a picture, with all that classification of texts has."""

    head: ClassVar[Head] = Head(
        "AutoModelForImageClassification", None, "image-classification", problem_type="single_label_classification"
    )
    example: ClassVar[type] = Picture
    processor = "image_processor"
    limited_by: ClassVar[frozenset[str]] = frozenset()

    def from_input(self, fields: Mapping[str, Any], id: str) -> Picture:
        """Return the picture in the file ``path``."""
        path = fields.get("path")
        if not isinstance(path, str) or not Path(path).is_file():
            raise DataError("expected `path`, the file of a picture")
        return Picture(id, path, Path(path).read_bytes())

    def all_lost(self, encoded: Encoded) -> dict[str, int]:
        """Return nothing: a picture is seen whole."""
        return {}

    def lost(self, encoded: Encoded, index: int) -> dict[str, Any]:
        """Return nothing: a picture is seen whole."""
        return {}

    def encode(self, examples: Sequence[Picture], processor: Processor, limits: Limits) -> Encoded:
        """Return an array ``pixels`` of shape (pictures, channels, height, width)."""
        pictures = [Image.open(BytesIO(one.content)).convert("RGB") for one in examples]
        pixels = processor.transform(images=pictures, return_tensors="np")["pixel_values"]
        return Encoded({"pixels": pixels}, np.ones(len(examples), dtype=np.int64), 0, {})

    def collate(
        self, examples: Sequence[Picture], encoded: Encoded, indices: Sequence[int], random: Random | None = None
    ) -> Batch:
        """Return ``pixel_values`` of shape (pictures, channels, height, width); a picture counts as one token."""
        chosen = [examples[i] for i in indices]
        return Batch(
            inputs={"pixel_values": torch.from_numpy(encoded.arrays["pixels"][list(indices)])},
            targets={"labels": self.targets(chosen)},
            weights=torch.from_numpy(self.weights(examples, encoded, indices)),
            rows=torch.arange(len(chosen)),
            examples=chosen,
            tokens=len(chosen),
        )

    def input_of(self, example: Picture) -> str:
        """Return the name of the file."""
        return Path(example.file).name

    def text_key(self, example: Picture) -> str:
        """Return a digest of the picture."""
        return hashlib.sha256(example.content).hexdigest()

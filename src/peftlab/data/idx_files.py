"""Pictures of the MNIST family: files in the IDX format, which hold one array each."""

from __future__ import annotations

import gzip
import hashlib
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar

import numpy as np
from pydantic import ConfigDict, Field
from pydantic.dataclasses import dataclass

from peftlab.data.media_files import Listed
from peftlab.errors import DataError
from peftlab.storage.digests import file_sha256, sha256_of
from peftlab.tasks.image_classification import Picture
from peftlab.tasks.inputs.media_files import MediaFile

_UINT8 = 8
"""The number of the only type that is read, bytes."""


@dataclass(kw_only=True, frozen=True, config=ConfigDict(extra="forbid"))
class IdxPictures:
    """How to read grey pictures from files such as ``train-images-idx3-ubyte.gz``, and their labels from those called
    ``train-labels-idx1-ubyte.gz`` beside them (LeCun et al. 1998)."""

    example: ClassVar[type[MediaFile]] = Picture

    names: list[str] = Field(min_length=2)
    """The names of the labels 0, 1, ..."""

    def read(self, files: Mapping[str, Path]) -> dict[str, Listed]:
        """Return the pictures of each split, with the ids ``split:0``, ``split:1``, ...

        Args:
            files: the file of the pictures of each split.

        Raises:
            DataError: a file is missing or malformed, or there are not as many labels as pictures.
        """
        return {split: self._read_file(split, path) for split, path in files.items()}

    def digest(self, path: Path) -> str:
        """Return the digest of a file of pictures and of that of their labels."""
        return sha256_of([file_sha256(path), file_sha256(_labels_of(path))])

    def _read_file(self, split: str, path: Path) -> Listed:
        pictures, labels = _array(path, 3), _array(_labels_of(path), 1)
        if len(pictures) != len(labels) or not len(labels):
            raise DataError(f"{path}: {len(pictures)} pictures, and {len(labels)} labels in {_labels_of(path).name}")
        if (most := int(labels.max())) >= len(self.names):
            raise DataError(f"{_labels_of(path)}: has the label {most}; data.format.names has {len(self.names)} names")
        height, width = pictures.shape[1:]
        head = f"P5 {width} {height} 255\n".encode()  # a portable grey map: no pixel need be encoded
        examples = []
        for n, (picture, label) in enumerate(zip(pictures, labels.tolist(), strict=True)):
            content = head + picture.tobytes()
            digest, name = hashlib.sha256(content).hexdigest(), f"{path.name}#{n}"
            examples.append(Picture(f"{split}:{n}", name, digest, self.names[label], content=content))
        listed = Listed(examples, {})
        listed.sha256 = self.digest(path)
        return listed


def _labels_of(path: Path) -> Path:
    return path.with_name(path.name.replace("images", "labels").replace("idx3", "idx1"))


def _array(path: Path, dimensions: int) -> np.ndarray:
    """Return the array of bytes in an IDX file, which may be compressed.

    Raises:
        DataError: it is none of these dimensions.
    """
    try:
        content = path.read_bytes()
        content = gzip.decompress(content) if content.startswith(b"\x1f\x8b") else content
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"{path}: cannot be read ({error}). Name the four original files") from error
    start = 4 + 4 * dimensions
    if content[:4] != bytes([0, 0, _UINT8, dimensions]) or len(content) < start:
        raise DataError(f"{path}: is no IDX file of bytes in {dimensions} dimension{'s' * (dimensions > 1)}")
    shape = tuple(int(size) for size in np.frombuffer(content, ">u4", dimensions, 4))
    if len(content) - start != int(np.prod(shape)):
        raise DataError(f"{path}: {len(content) - start:,} values, and {shape} are announced. Fetch the file again")
    return np.frombuffer(content, np.uint8, offset=start).reshape(shape)

"""Pictures in folders named by their labels, or in a table with their paths."""

from __future__ import annotations

from typing import ClassVar

from pydantic import ConfigDict, Field
from pydantic.dataclasses import dataclass

from peftlab.data.media_files import MediaFolders, MediaRows
from peftlab.images.pictures import SUFFIXES
from peftlab.tasks.image_classification import Picture
from peftlab.tasks.inputs.media_files import MediaFile


@dataclass(kw_only=True, frozen=True, config=ConfigDict(extra="forbid"))
class PictureFolders(MediaFolders):
    """How to read folders of pictures, see `MediaFolders`."""

    example: ClassVar[type[MediaFile]] = Picture

    suffixes: list[str] = Field(default=list(SUFFIXES), min_length=1)


@dataclass(kw_only=True, frozen=True, config=ConfigDict(extra="forbid"))
class PictureRows(MediaRows):
    """How to read rows with the path of a picture, see `MediaRows`."""

    example: ClassVar[type[MediaFile]] = Picture

"""Recordings in folders named by their labels, or in a table with their paths, labels, transcripts and speakers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, ClassVar

from pydantic import ConfigDict, Field
from pydantic.dataclasses import dataclass

from peftlab.audio.reading import SUFFIXES
from peftlab.data.media_files import MediaFolders, MediaRows
from peftlab.data.rows import cells
from peftlab.data.rows.row_reader import Place
from peftlab.errors import DataError
from peftlab.tasks.inputs.media_files import MediaFile
from peftlab.tasks.inputs.recordings import Recording
from peftlab.tasks.speech_recognition import Transcribed

_STRICT = ConfigDict(extra="forbid")


@dataclass(kw_only=True, frozen=True, config=_STRICT)
class RecordingFolders(MediaFolders):
    """How to read folders of recordings, see `MediaFolders`."""

    example: ClassVar[type[MediaFile]] = Recording

    suffixes: list[str] = Field(default=list(SUFFIXES), min_length=1)


@dataclass(kw_only=True, frozen=True, config=_STRICT)
class RecordingRows(MediaRows):
    """How to read rows with the path of a recording, see `MediaRows`, or of one with several parts."""

    example: ClassVar[type[MediaFile]] = Recording

    start: str | None = None
    """The column of the second at which the recording begins in its file; None: at the beginning."""
    end: str | None = None
    """The column of the second at which it ends; None: at the end."""

    def example_of(self, row: Mapping[str, Any], id: str, place: Place) -> MediaFile:
        """Return the recording that a row names, without its digest; raises DataError."""
        times = {name: self._seconds(row, name, place) for name in ("start", "end") if getattr(self, name) is not None}
        made: Any = super().example_of(row, id, place)
        recording: MediaFile = replace(made, **times)
        return recording

    def asked(self, fields: Mapping[str, Any]) -> Mapping[str, Any]:
        """Return an object that is to be answered, with the data's own columns as ``path``, ``start`` and ``end``."""
        own = {name: column for name in ("start", "end") if (column := getattr(self, name)) in fields}
        return {**super().asked(fields), **{name: fields[column] for name, column in own.items()}}

    def _seconds(self, row: Mapping[str, Any], name: str, place: Place) -> float:
        column = getattr(self, name)
        value = cells.value(row, column, name, place)
        try:
            seconds = float(value)
        except (TypeError, ValueError):
            seconds = -1.0
        if not 0 <= seconds < float("inf"):
            raise DataError(f"{place}: '{column}' is {value!r}; expected seconds from the beginning of the recording.")
        return seconds


@dataclass(kw_only=True, frozen=True, config=_STRICT)
class TranscriptRows(RecordingRows):
    """How to read rows with the path of a recording, and what is said in it."""

    example: ClassVar[type[MediaFile]] = Transcribed

    label: str = "text"
    """The column of what is said."""
